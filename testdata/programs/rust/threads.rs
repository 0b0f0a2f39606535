// Threads, channels, scoped threads, thread-local state, a panic in a thread.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{mpsc, Arc, Mutex, RwLock};
thread_local!(static LOCAL: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) });
fn run() -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::new(Mutex::new(BTreeMap::new()));
    let workers: Vec<_> = (0..4u32)
        .map(|id| {
            let (sender, shared) = (sender.clone(), Arc::clone(&shared));
            std::thread::spawn(move || {
                for k in 0..id * 3 {
                    LOCAL.with(|l| l.borrow_mut().push(k * id));
                }
                shared.lock().unwrap().insert(id, LOCAL.with(|l| l.borrow().iter().sum::<u32>()));
                sender.send(id).unwrap();
                assert!(id != 2, "two");
                id * 10
            })
        })
        .collect();
    drop(sender);
    let results: Vec<_> = workers.into_iter().map(|w| w.join().map_err(|p| p.downcast_ref::<&str>().map(|s| s.to_string()))).collect();
    let mut received: Vec<_> = receiver.iter().collect();
    received.sort();
    println!("{results:?} {received:?} {:?}", shared.lock().unwrap());
    let numbers: Vec<u64> = (1..=1000).collect();
    let total = RwLock::new(0u64);
    std::thread::scope(|s| {
        for chunk in numbers.chunks(300) {
            let total = &total;
            s.spawn(move || *total.write().unwrap() += chunk.iter().map(|x| x * x % 17).sum::<u64>());
        }
    });
    println!("{}", total.read().unwrap());
    0
}

#[no_mangle]
pub extern "C" fn program_main() -> i32 {
    run()
}

#[cfg(not(so))]
fn main() {
    std::process::exit(program_main());
}

// Panics caught: destructors in order, payloads, resume_unwind, panics in destructors' neighbours, overflow and bounds checks.
use std::panic::{self, AssertUnwindSafe};
struct Loud(&'static str);
impl Drop for Loud {
    fn drop(&mut self) {
        println!("drop {} {}", self.0, std::thread::panicking());
    }
}
#[inline(never)]
fn risky(n: usize, data: &[i32]) -> i32 {
    let _a = Loud("a");
    match n {
        0 => data[n],
        1 => data[std::hint::black_box(10)],
        2 => std::hint::black_box(1) / std::hint::black_box(0),
        3 => panic!("formatted {}", n),
        4 => panic::panic_any(17u8),
        5 => None.expect("nothing there"),
        6 => {
            let _b = Loud("b");
            let r: Result<i32, String> = Err("bad".into());
            r.unwrap()
        }
        _ => n as i32,
    }
}
#[inline(never)]
fn middle(n: usize) -> i32 {
    let _m = Loud("m");
    let caught = panic::catch_unwind(|| risky(n, &[5, 6]));
    match caught {
        Ok(v) => v,
        Err(payload) if payload.is::<u8>() => panic::resume_unwind(payload),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned().or(payload.downcast_ref::<&str>().map(|s| s.to_string()));
            println!("caught {}", text.unwrap_or_default());
            -1
        }
    }
}
fn run() -> i32 {
    panic::set_hook(Box::new(|_| {}));
    for n in 0..8 {
        let result = panic::catch_unwind(AssertUnwindSafe(|| middle(n)));
        println!("{n}: {:?}", result.map_err(|p| p.downcast_ref::<u8>().copied()));
    }
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

// Panics through extern "C-unwind" frames and through qsort of the C library; callbacks from C.
use std::ffi::{c_int, c_void};
extern "C-unwind" {
    fn qsort(base: *mut c_void, count: usize, size: usize, compare: extern "C-unwind" fn(*const c_void, *const c_void) -> c_int);
}
static LIMIT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
extern "C-unwind" fn compare(a: *const c_void, b: *const c_void) -> c_int {
    use std::sync::atomic::Ordering::Relaxed;
    if LIMIT.fetch_sub(1, Relaxed) == 1 {
        panic!("compared enough");
    }
    let (a, b) = unsafe { (*a.cast::<i32>(), *b.cast::<i32>()) };
    a.cmp(&b) as c_int
}
#[inline(never)]
extern "C-unwind" fn frame(n: i32) -> i32 {
    let text = format!("frame {n}");
    if n == 0 { std::panic::panic_any(text.len()); }
    frame(n - 1) + text.len() as i32
}
fn run() -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    for limit in [1000, 5] {
        LIMIT.store(limit, std::sync::atomic::Ordering::Relaxed);
        let mut data = [5, 2, 9, 1, 7, 3, 8];
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unsafe { qsort(data.as_mut_ptr().cast(), data.len(), 4, compare) }));
        if result.is_ok() { println!("{data:?}"); } else { println!("stopped"); }
    }
    println!("{:?}", std::panic::catch_unwind(|| frame(5)).map_err(|p| p.downcast_ref::<usize>().copied()));
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

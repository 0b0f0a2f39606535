// Formatting of all kinds.
fn run() -> i32 {
    let name = std::hint::black_box("world");
    println!("hello, {name}");
    println!("{:>8} {:<8}| {:^9} {:+} {:#x} {:08.3} {:e}", 42, "left", "mid", 7, 255, 3.14159, 1234.5);
    println!("{:?} {:#?}", Some((1, "two")), vec![Some(1), None]);
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

// Trait objects, closures in boxes, function pointers compared, dynamic dispatch with generics, Any.
use std::any::Any;
use std::collections::HashMap;
use std::fmt::{Debug, Display};
trait Shape: Debug {
    fn area(&self) -> f64;
    fn scale(&mut self, by: f64);
    fn name(&self) -> String {
        format!("{self:?}")
    }
    fn as_any(&self) -> &dyn Any;
}
#[derive(Debug)]
struct Square(f64);
#[derive(Debug)]
struct Disc {
    radius: f64,
}
impl Shape for Square {
    fn area(&self) -> f64 { self.0 * self.0 }
    fn scale(&mut self, by: f64) { self.0 *= by; }
    fn as_any(&self) -> &dyn Any { self }
}
impl Shape for Disc {
    fn area(&self) -> f64 { 3.0 * self.radius * self.radius }
    fn scale(&mut self, by: f64) { self.radius *= by; }
    fn name(&self) -> String { "disc".into() }
    fn as_any(&self) -> &dyn Any { self }
}
fn double(x: i64) -> i64 { x * 2 }
fn square(x: i64) -> i64 { x * x }
static OPERATIONS: [(&str, fn(i64) -> i64); 3] = [("double", double), ("square", square), ("again", double)];
#[inline(never)]
fn show(items: &[&dyn Display]) -> String {
    items.iter().map(|i| i.to_string()).collect::<Vec<_>>().join(",")
}
fn run() -> i32 {
    let mut shapes: Vec<Box<dyn Shape>> = vec![Box::new(Square(2.0)), Box::new(Disc { radius: 1.0 })];
    for s in &mut shapes {
        s.scale(1.5);
        println!("{} {:.2} {}", s.name(), s.area(), s.as_any().is::<Disc>());
    }
    let mut handlers: HashMap<&str, Box<dyn Fn(i64) -> i64>> = HashMap::new();
    for (name, f) in OPERATIONS {
        let extra = name.len() as i64;
        handlers.insert(name, Box::new(move |x| f(x) + extra));
    }
    for (name, f) in OPERATIONS {
        println!("{name} {} {}", handlers[name](7), f as usize == double as usize);
    }
    println!("{}", show(&[&1, &"two", &3.5, &'4', &true]));
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

//! Tests of the unwind writer: by hand, random programs against gimli, and real programs that unwind
//! through rewritten tables.

mod compare;
mod elf;
mod handmade;
mod programs;
mod random;

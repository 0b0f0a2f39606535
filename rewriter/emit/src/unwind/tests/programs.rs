//! Real programs: compiled here, their tables rewritten.
//!
//! The runs leave the code where it is and cut each function into fragments in place: then nothing but
//! the unwind tables changes, and a program that throws through them says whether they are right.

use std::path::Path;
use std::process::Command;

use arbtest::arbitrary::Unstructured;
use postlink_base::{AddressMap, MapKind, MapRange, NewAddr, OldAddr};
use postlink_image::{EhFrame, Fde, Image, Lsda, elf};

use super::super::{MovedFragment, MovedFunction, Piece, UnwindAddrs, UnwindPlan};
use super::compare::{check_lsdas, check_rows, gimli_rows};
use super::elf::elf_with;
use super::random::shuffle;

/// Throws, catches, cleans up, rethrows, obeys exception specifications; keeps room for new tables.
const SOURCE: &str = r#"
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>
extern "C" { extern const char postlink_test_room[1 << 20]; const char postlink_test_room[1 << 20] __attribute__((aligned(64))) = {1}; }
struct Base { virtual ~Base() {} int n = 1; };
struct Derived : Base { Derived() { n = 2; } };
struct Noisy { const char *name; Noisy(const char *n) : name(n) {} ~Noisy() { std::printf("~%s\n", name); } };
__attribute__((noinline)) int thrower(int k) {
  Noisy noisy("thrower");
  switch (k) {
  case 0: throw 42;
  case 1: throw Derived();
  case 2: throw std::runtime_error("runtime");
  case 3: throw std::string("text");
  case 4: { std::vector<int> v(3); return v.at(k); }
  default: return k;
  }
}
__attribute__((noinline)) int specified(int k) throw(int, Base) { Noisy noisy("specified"); return thrower(k) + 1; }
__attribute__((noinline)) int middle(int k, std::string text) {
  Noisy first("first");
  std::string copy = text + "!";
  try {
    Noisy second("second");
    return thrower(k) + (int)copy.size();
  } catch (const std::runtime_error &error) {
    std::printf("runtime_error %s\n", error.what());
    if (copy.size() > 5) throw;
    return -1;
  } catch (Base &base) {
    std::printf("base %d\n", base.n);
    try { throw; } catch (Derived &) { std::printf("derived again\n"); }
    return -2;
  }
}
static void unexpected() { std::printf("unexpected\n"); throw 7; }
int main(int argc, char **argv) {
  std::set_unexpected(unexpected);
  std::printf("room %d\n", postlink_test_room[argc & 1 ? 0 : 1]);
  for (int k = 0; k < 7; k++) {
    for (const char *text : {"short", "ab"}) {
      try { std::printf("middle %d\n", middle(k, text)); }
      catch (int n) { std::printf("int %d\n", n); }
      catch (const std::exception &error) { std::printf("exception %s\n", error.what()); }
      catch (...) { std::printf("anything\n"); }
    }
    try { std::printf("specified %d\n", specified(k)); }
    catch (int n) { std::printf("int %d\n", n); }
    catch (Base &) { std::printf("base\n"); }
    catch (...) { std::printf("anything\n"); }
  }
  std::set_terminate([] { std::printf("terminate\n"); std::fflush(stdout); std::_Exit(3); });
  if (argc > 1) [](int k) noexcept { Noisy noisy("noexcept"); thrower(k); }(std::atoi(argv[1]));
  return 0;
}
"#;

/// The same idea for Rust's personality: panics through drops, a catch, and a drop that runs on the way.
const RUST_SOURCE: &str = r#"
#[used] #[unsafe(no_mangle)]
pub static postlink_test_room: [u8; 1 << 21] = { let mut room = [0; 1 << 21]; room[0] = 1; room };
struct Noisy(&'static str);
impl Drop for Noisy { fn drop(&mut self) { println!("drop {}", self.0); } }
#[inline(never)] fn thrower(k: u32, v: &[u32]) -> u32 {
    let _noisy = Noisy("thrower");
    if k == 3 { std::panic::resume_unwind(Box::new("resumed")) }
    v[k as usize] + k.checked_sub(1).expect("nothing below 0")
}
#[inline(never)] fn middle(k: u32) -> u32 {
    let text = Noisy("text");
    let caught = std::panic::catch_unwind(|| { let _inner = Noisy("inner"); thrower(k, &[5, 6]) });
    drop(text);
    match caught {
        Ok(n) => n,
        Err(error) if error.is::<&str>() => std::panic::resume_unwind(error),
        Err(_) => { let _after = Noisy("after"); 99 }
    }
}
extern "C" fn stops(k: u32) { println!("derived again"); thrower(k, &[]); }
fn main() {
    std::panic::set_hook(Box::new(|_| println!("unexpected")));
    for k in 0..4 {
        println!("{:?}", std::panic::catch_unwind(|| middle(k)).map_err(|_| "error"));
    }
    println!("derived again");
    if let Some(k) = std::env::args().nth(1) { stops(k.parse().unwrap()); }
}
"#;

/// A compiled program, or `None` (with a word about it) where the compiler is missing.
fn compile(dir: &Path, compiler: &str, flags: &[&str]) -> Option<Vec<u8>> {
    let (name, text, fixed): (_, _, &[&str]) = match compiler {
        "rustc" => ("program.rs", RUST_SOURCE, &["--edition=2024", "-Anon_upper_case_globals", "-o"]),
        _ => ("program.cpp", SOURCE, &["-std=c++14", "-w", "-o"]),
    };
    let source = dir.join(name);
    std::fs::write(&source, text).unwrap();
    let out = dir.join("program");
    let run = Command::new(compiler).args(fixed).arg(&out).arg(&source).args(flags).output();
    match run {
        Ok(run) => {
            assert!(run.status.success(), "{compiler} {flags:?}: {}", String::from_utf8_lossy(&run.stderr));
            Some(std::fs::read(out).unwrap())
        }
        Err(error) => {
            assert!(std::env::var_os("POSTLINK_REQUIRE_TOOLS").is_none(), "{compiler}: {error}");
            println!("SKIPPED: {compiler}: {error}");
            None
        }
    }
}

const BUILDS: [(&str, &[&str]); 7] = [
    ("g++", &["-O2"]),
    ("g++", &["-O0", "-no-pie"]),
    ("g++", &["-O2", "-static"]),
    ("g++", &["-Os", "-fomit-frame-pointer", "-static-pie"]),
    ("clang++-19", &["-O2"]),
    ("clang++-19", &["-O1", "-no-pie"]),
    ("rustc", &["-O"]),
];

/// Functions to take apart: one per FDE of `.text`, as the recovery would give them.
fn functions(image: &Image<'_>, eh: &EhFrame) -> Vec<Fde> {
    let (_, text) = image.section(".text").unwrap();
    let mut last_end = 0;
    eh.by_pc()
        .iter()
        .map(|&index| eh.fdes[index as usize])
        .filter(|fde| text.contains(fde.pc_begin) && fde.pc_begin < fde.pc_end)
        // glibc has assembly whose FDEs begin early or overlap: rigid, for the recovery.
        .filter(|fde| fde.pc_begin >= std::mem::replace(&mut last_end, fde.pc_end))
        .filter(|fde| image.symtab().unwrap().iter().any(|symbol| symbol.value == fde.pc_begin && symbol.is_defined()))
        .collect()
}

/// Seeds that are long enough for any function, from a fixed generator.
fn random_bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..600)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

#[test]
fn shuffled_functions_keep_rows_and_call_sites() {
    let dir = tempfile::tempdir().unwrap();
    for (compiler, flags) in BUILDS {
        let Some(file) = compile(dir.path(), compiler, flags) else { continue };
        let image = Image::parse(&file).unwrap();
        let eh = EhFrame::parse(&image).unwrap().unwrap();
        let mut at = 0x1000_0000;
        let (mut moved, mut ranges) = (Vec::new(), Vec::new());
        for fde in functions(&image, &eh) {
            let bytes = random_bytes(fde.pc_begin);
            let mut u = Unstructured::new(&bytes);
            let pad = fde.lsda.and_then(|addr| {
                let lsda = Lsda::parse(&image, addr, fde.pc_begin).unwrap();
                lsda.call_sites.iter().find_map(|site| site.landing_pad)
            });
            let (function, pieces) = shuffle(&mut u, fde.pc_begin, fde.pc_end, pad, at).unwrap();
            at = function.fragments.last().unwrap().new_end.next_multiple_of(16);
            moved.push(function);
            ranges.extend(pieces);
        }
        let map = AddressMap::from_ranges(ranges).unwrap();
        let plan = UnwindPlan::build(&image, &eh, &moved, &map).unwrap();
        let addrs = UnwindAddrs { eh_frame: 0x2000_0000, hdr: Some(0x1ff0_0000), lsda: 0x2800_0000 };
        let new = plan.write(addrs).unwrap();

        let old_rows = gimli_rows(image.section_data(&image.sections()[eh.section]), eh.addr);
        let new_rows = gimli_rows(&new.eh_frame, addrs.eh_frame);
        let checked = check_rows(&old_rows, &new_rows, &moved);
        assert!(checked > 1000 && moved.len() >= 8, "{compiler} {flags:?}: {checked} bytes of {}", moved.len());

        // The moved code need not exist for a check of its tables, but must be executable.
        let text = vec![0; usize::try_from(at - 0x1000_0000).unwrap()];
        let mut sections = vec![
            (".text", 0x1000_0000, text.as_slice()),
            (".eh_frame", addrs.eh_frame, &new.eh_frame),
            (".gcc_except_table.postlink", addrs.lsda, &new.lsda),
        ];
        let (_, old_text) = image.section(".text").unwrap();
        sections.push((".text.old", old_text.addr, image.section_data(old_text)));
        let new_file = elf_with(&sections);
        let new_image = Image::parse(&new_file).unwrap();
        let pads = check_lsdas(&image, &new_image, &moved, &|pad| map.to_new(OldAddr::new(pad)).raw());
        assert!(pads > 100, "{compiler} {flags:?}: {pads} bytes with landing pads");
    }
}

#[test]
fn programs_throw_through_fragments() {
    let dir = tempfile::tempdir().unwrap();
    for (compiler, flags) in BUILDS {
        let Some(mut file) = compile(dir.path(), compiler, flags) else { continue };
        let path = dir.path().join("program");
        let expected = run(&path);
        assert!(expected.iter().any(|(_, stdout)| stdout.contains("unexpected") && stdout.contains("derived again")));
        let dies = |(status, stdout): &(Option<i32>, String)| match compiler {
            "rustc" => status.is_none() && stdout.ends_with("drop thrower\nunexpected\n"),
            _ => *status == Some(3) && stdout.ends_with("terminate\n"),
        };
        assert!(expected.iter().any(dies), "{expected:?}");

        rewrite_in_place(&mut file);
        std::fs::write(&path, &file).unwrap();
        assert_eq!(run(&path), expected, "{compiler} {flags:?}");
    }
}

/// Exit status and output, without arguments and with those that end in `std::terminate`.
fn run(program: &Path) -> Vec<(Option<i32>, String)> {
    let run = |arguments: &[&str]| {
        let run = Command::new(program).args(arguments).output().unwrap();
        (run.status.code(), String::from_utf8(run.stdout).unwrap())
    };
    vec![run(&[]), run(&["0"]), run(&["6"])]
}

/// Describes each function by several fragments where it is, one of them beginning at a landing pad,
/// and points the program at the new tables, in the room it keeps for them.
fn rewrite_in_place(file: &mut [u8]) {
    let old = file.to_vec();
    let image = Image::parse(&old).unwrap();
    let eh = EhFrame::parse(&image).unwrap().unwrap();
    let (mut moved, mut ranges) = (Vec::new(), Vec::new());
    for fde in functions(&image, &eh) {
        let mut cuts = vec![fde.pc_begin, fde.pc_begin + (fde.pc_end - fde.pc_begin) / 3, fde.pc_end];
        if let Some(addr) = fde.lsda {
            let lsda = Lsda::parse(&image, addr, fde.pc_begin).unwrap();
            cuts.extend(lsda.call_sites.iter().filter_map(|site| site.landing_pad).take(2));
            // In the middle of a call: the return address belongs to another fragment.
            cuts.extend(lsda.call_sites.iter().map(CallEnd::of).take(2));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let fragments = cuts.windows(2).map(|cut| {
            let len = (cut[1] - cut[0]) as u32;
            let piece = Piece { old: cut[0], old_len: len, new: cut[0], new_len: len };
            MovedFragment { new_start: cut[0], new_end: cut[1], pieces: vec![piece] }
        });
        let fragments = fragments.collect();
        moved.push(MovedFunction { old_start: fde.pc_begin, old_end: fde.pc_end, fragments });
        let (old, new) = (OldAddr::new(fde.pc_begin), NewAddr::new(fde.pc_begin));
        ranges.push(MapRange { old, new, len: (fde.pc_end - fde.pc_begin) as u32, kind: MapKind::Linear });
    }
    let map = AddressMap::from_ranges(ranges).unwrap();
    let plan = UnwindPlan::build(&image, &eh, &moved, &map).unwrap();

    let symbols = image.symtab().unwrap();
    let room = symbols.iter().find(|symbol| symbols.name(symbol) == b"postlink_test_room").unwrap();
    let hdr = room.value + 64;
    let eh_frame = (hdr + plan.hdr_size()).next_multiple_of(8);
    let lsda = (eh_frame + plan.eh_frame_size()).next_multiple_of(8);
    assert!(lsda + plan.lsda_size() <= room.value + room.size, "the program keeps too little room");
    let new = plan.write(UnwindAddrs { eh_frame, hdr: Some(hdr), lsda }).unwrap();
    for (addr, bytes) in [(hdr, &new.hdr), (eh_frame, &new.eh_frame), (lsda, &new.lsda)] {
        let offset = usize::try_from(image.offset_of(addr).unwrap()).unwrap();
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    let old_section = &image.sections()[eh.section];
    let old_bytes = old_section.offset as usize..(old_section.offset + old_section.size) as usize;
    // Whoever still reads the old records shall notice.
    file[old_bytes].fill(0xee);
    match image.segments().iter().position(|segment| segment.kind == elf::PT_GNU_EH_FRAME) {
        Some(index) => {
            let header = image.header().phoff as usize + 56 * index;
            let offset = image.offset_of(hdr).unwrap();
            let size = new.hdr.len() as u64;
            for (field, value) in [(8, offset), (16, hdr), (24, hdr), (32, size), (40, size)] {
                file[header + field..][..8].copy_from_slice(&value.to_le_bytes());
            }
        }
        None => {
            // Without a header the C runtime registers the records, from where its own begin; in a
            // program that is not position-independent the address is an operand.
            assert!(new.hdr.is_empty());
            let begin = symbols.iter().find(|symbol| symbols.name(symbol) == b"__EH_FRAME_BEGIN__").unwrap().value;
            let &(_, moved_begin) = new.record_map.iter().find(|(old, _)| *old == begin).unwrap();
            let (_, text) = image.section(".text").unwrap();
            let text = text.offset as usize..(text.offset + text.size) as usize;
            let operand = (begin as u32).to_le_bytes();
            let places: Vec<usize> = text.filter(|&at| file[at..].starts_with(&operand)).collect();
            assert!((1..=3).contains(&places.len()), "register and deregister: {places:x?}");
            for at in places {
                file[at..at + 4].copy_from_slice(&(moved_begin as u32).to_le_bytes());
            }
        }
    }
}

/// An address inside of the instruction that a call site ends with.
struct CallEnd;

impl CallEnd {
    fn of(site: &postlink_image::CallSite) -> u64 {
        site.end().saturating_sub(2)
    }
}

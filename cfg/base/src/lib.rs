//! Words that every stage shares: typed addresses, dense ids, the address map, hashes, memory for files.
//!
//! **Invariant:** knows neither ELF nor instructions.

mod addr;
mod hash;
mod id;
mod index;
mod lists;
mod map;
mod pages;

pub use addr::{Addr, FileOffset, New, NewAddr, Old, OldAddr, SectionIndex};
pub use hash::{Digest, digest};
pub use id::{Id, IndexVec};
pub use index::AddressIndex;
pub use lists::{IndexLists, ListPlace};
pub use map::{AddressMap, MapError, MapKind, MapRange};
pub use pages::Pages;

//! Content digests.

use std::fmt;

/// A blake3 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// The blake3 digest of `bytes`, worked out on all threads if there are many.
pub fn digest(bytes: &[u8]) -> Digest {
    /// Below this, threads cost more than they save (the crate's documentation measures 128 KiB).
    const PARALLEL: usize = 1 << 18;
    if bytes.len() < PARALLEL {
        return Digest(*blake3::hash(bytes).as_bytes());
    }
    Digest(*blake3::Hasher::new().update_rayon(bytes).finalize().as_bytes())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

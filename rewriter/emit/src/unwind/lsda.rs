//! Writing the LSDA of one fragment.

use postlink_image::{CallSite, Image, Lsda, LsdaTables, UnwindCursor, UnwindError, eh_pe};

use super::bytes::{put_pointer, put_uleb, put_uleb_padded, uleb_len};
use super::{MovedFragment, UnwindFault};

/// An LSDA with its pointers left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LsdaBlob {
    /// The bytes; pointers are 0.
    pub(crate) bytes: Vec<u8>,
    /// Pointers to write when the LSDA's address is known.
    pub(crate) pointers: Vec<LsdaPointer>,
}

/// One pointer of an LSDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LsdaPointer {
    /// Distance from the start of the LSDA.
    pub(crate) at: usize,
    pub(crate) encoding: u8,
    pub(crate) target: u64,
}

impl LsdaBlob {
    /// Appends the LSDA, which will stand at address `addr`, to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, addr: u64) -> Result<(), UnwindFault> {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let mut field = Vec::with_capacity(8);
        for pointer in &self.pointers {
            field.clear();
            let at = addr.wrapping_add(pointer.at as u64);
            put_pointer(&mut field, at, pointer.encoding, Some(pointer.target))?;
            let from = start + pointer.at;
            if let Some(slot) = out.get_mut(from..from + field.len()) {
                slot.copy_from_slice(&field);
            }
        }
        Ok(())
    }
}

/// A parsed LSDA and what is copied from it.
pub(crate) struct LsdaSource {
    lsda: Lsda,
    actions: Vec<u8>,
    /// Type table entries in memory order (highest number first): raw bytes and, if they have to be
    /// written anew, what they point to.
    types: Vec<(Vec<u8>, Option<u64>)>,
    specifications: Vec<u8>,
}

/// A call site in new addresses: start, end, landing pad, action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Site {
    start: u64,
    end: u64,
    landing_pad: Option<u64>,
    action: u64,
}

/// How @LPStart is encoded where it is not the fragment's start.
const LP_START_ENCODING: u8 = eh_pe::PCREL | eh_pe::SDATA4;

impl LsdaSource {
    /// Takes what has to be copied out of `lsda`. `relocated`: sorted addresses of dynamic relocations.
    pub(crate) fn new(image: &Image<'_>, lsda: Lsda, relocated: &[u64]) -> Result<Self, UnwindFault> {
        let mut end = 0;
        for site in &lsda.call_sites {
            // Personality routines stop at the first call site behind the address they look for.
            if site.start < end {
                return Err(UnwindFault::CallSiteOrder { at: site.start });
            }
            end = site.end();
        }
        let tables = lsda.tables(image)?;
        let LsdaTables { actions, type_count, specifications } = &tables;
        let lsda_end = specifications.end.max(actions.end);
        let first = relocated.partition_point(|&at| at < lsda.addr);
        if let Some(&at) = relocated.get(first).filter(|&&at| at < lsda_end) {
            return Err(UnwindFault::DynamicRelocation { at });
        }
        let actions = content(image, actions.start, actions.end)?.to_vec();
        let specifications = content(image, specifications.start, specifications.end)?.to_vec();
        let mut types = Vec::new();
        for number in (1..=*type_count).rev() {
            let at = lsda.type_entry_addr(number)?;
            let size = u64::from(eh_pe::size(lsda.ttype_encoding).unwrap_or(0));
            let raw = content(image, at, at + size)?;
            let target = UnwindCursor::new(raw, at).pointer(lsda.ttype_encoding, None, "type table entry")?;
            let moves_along = lsda.ttype_encoding & eh_pe::APPLICATION == eh_pe::PCREL;
            types.push((raw.to_vec(), target.filter(|_| moves_along)));
        }
        Ok(Self { lsda, actions, types, specifications })
    }

    /// The LSDA of one fragment; `target` gives new addresses of landing pads.
    pub(crate) fn fragment(
        &self,
        fragment: &MovedFragment,
        target: &dyn Fn(u64) -> u64,
    ) -> Result<LsdaBlob, UnwindFault> {
        let sites = self.sites(fragment, target);
        let mut blob = LsdaBlob::default();

        let pads = sites.iter().filter_map(|site| site.landing_pad);
        let lowest_pad = pads.clone().min();
        let outside = |pad: u64| pad <= fragment.new_start || pad >= fragment.new_end;
        let lp_start = match lowest_pad {
            // No landing pad may be at distance 0, that means none.
            Some(lowest) if pads.clone().any(outside) => {
                blob.bytes.push(LP_START_ENCODING);
                blob.pointers.push(LsdaPointer { at: 1, encoding: LP_START_ENCODING, target: lowest.wrapping_sub(1) });
                blob.bytes.extend([0; 4]);
                lowest.wrapping_sub(1)
            }
            _ => {
                blob.bytes.push(eh_pe::OMIT);
                fragment.new_start
            }
        };

        let mut table = Vec::new();
        for site in &sites {
            put_uleb(&mut table, site.start - fragment.new_start);
            put_uleb(&mut table, site.end - site.start);
            put_uleb(&mut table, site.landing_pad.map_or(0, |pad| pad.wrapping_sub(lp_start)));
            put_uleb(&mut table, site.action);
        }
        // Cleanups alone need no actions and no types.
        let has_actions = sites.iter().any(|site| site.action != 0);
        let actions = if has_actions { self.actions.as_slice() } else { &[] };
        let has_types = has_actions && !(self.types.is_empty() && self.specifications.is_empty());

        if !has_types {
            blob.bytes.extend([eh_pe::OMIT, eh_pe::ULEB128]);
            put_uleb(&mut blob.bytes, table.len() as u64);
            blob.bytes.extend(table);
            blob.bytes.extend_from_slice(actions);
            return Ok(blob);
        }
        blob.bytes.push(self.lsda.ttype_encoding);
        self.put_types(&mut blob, &table, actions);
        Ok(blob)
    }

    /// Appends everything from the type table's offset on. The table is aligned to 4 bytes from the
    /// start of the LSDA, which makes its offset depend on the offset's own width.
    fn put_types(&self, blob: &mut LsdaBlob, table: &[u8], actions: &[u8]) {
        let types_size: usize = self.types.iter().map(|entry| entry.0.len()).sum();
        // Call-site encoding, the table with its length, the actions.
        let middle = 1 + uleb_len(table.len() as u64) + table.len() + actions.len();
        let layout = |width: usize| {
            let pad = (blob.bytes.len() + width + middle).wrapping_neg() & 3;
            (pad, (middle + pad + types_size) as u64)
        };
        let width = (1..10).find(|&width| uleb_len(layout(width).1) <= width).unwrap_or(10);
        let (pad, offset) = layout(width);
        put_uleb_padded(&mut blob.bytes, offset, width);
        blob.bytes.push(eh_pe::ULEB128);
        put_uleb(&mut blob.bytes, table.len() as u64);
        blob.bytes.extend_from_slice(table);
        blob.bytes.extend_from_slice(actions);
        blob.bytes.extend(std::iter::repeat_n(0, pad));
        for (raw, target) in &self.types {
            if let Some(target) = *target {
                let encoding = self.lsda.ttype_encoding;
                blob.pointers.push(LsdaPointer { at: blob.bytes.len(), encoding, target });
            }
            blob.bytes.extend_from_slice(raw);
        }
        blob.bytes.extend_from_slice(&self.specifications);
    }

    /// The call sites of a fragment: sorted, disjoint, neighbours with the same answer joined.
    ///
    /// An address that no call site holds means "terminate" to a C++ personality routine, so gaps
    /// stay gaps. Only what cannot throw may be bridged: jumps that were added, and alignment.
    fn sites(&self, fragment: &MovedFragment, target: &dyn Fn(u64) -> u64) -> Vec<Site> {
        let mut sites: Vec<Site> = Vec::new();
        // Where the last piece of old code ended: nothing between there and the next one can throw.
        let mut free_from = fragment.new_start;
        for piece in fragment.pieces.iter().filter(|piece| piece.new_len > 0 && piece.old_len > 0) {
            let new_end = piece.new + u64::from(piece.new_len);
            let old_end = if piece.is_linear() { piece.old + u64::from(piece.old_len) } else { piece.old + 1 };
            let all = &self.lsda.call_sites;
            let first = all.partition_point(|site| site.end() <= piece.old);
            let inside = all.get(first..).unwrap_or(&[]).iter().take_while(|site| site.start < old_end);
            for site in inside.filter(|site| site.len > 0) {
                let (start, end) = if piece.is_linear() {
                    let start = site.start.max(piece.old) - piece.old;
                    (piece.new + start, piece.new + (site.end().min(old_end) - piece.old))
                } else {
                    (piece.new, new_end)
                };
                let CallSite { landing_pad, action, .. } = *site;
                let site = Site { start, end, landing_pad: landing_pad.map(target), action };
                match sites.last_mut() {
                    Some(last)
                        if (last.landing_pad, last.action) == (site.landing_pad, action)
                            && (last.end == start || (last.end == free_from && start == piece.new)) =>
                    {
                        last.end = end;
                    }
                    _ => sites.push(site),
                }
            }
            free_from = new_end;
        }
        sites
    }
}

fn content<'d>(image: &Image<'d>, start: u64, end: u64) -> Result<&'d [u8], UnwindFault> {
    if end <= start {
        return Ok(&[]);
    }
    let missing = UnwindError::NoContent { what: "LSDA", at: start };
    Ok(image.bytes_at(start, end - start).ok_or(missing)?)
}

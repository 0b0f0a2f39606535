//! The language-specific data area: which calls of a function may throw, and where that lands.
//!
//! Source: the Itanium C++ ABI's "Exception Handling Tables" as GCC and LLVM write them. The format
//! belongs to the personality routine; all that postlink meets (C++, C with cleanups, Rust) share it.

use std::ops::Range;

use crate::eh_frame::content_from;
use crate::{Image, UnwindCursor, UnwindError, eh_pe};

mod tables;
#[cfg(test)]
mod tests;

pub use tables::{Action, LsdaTables};

/// One parsed LSDA: header and call-site table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lsda {
    /// Its address.
    pub addr: u64,
    /// Encoding of `@LPStart`, `DW_EH_PE_omit` if it is the function's start.
    pub lp_start_encoding: u8,
    /// What landing pads are relative to.
    pub lp_start: u64,
    /// Encoding of the type table's entries, `DW_EH_PE_omit` if there is no type table.
    pub ttype_encoding: u8,
    /// Address after the type table: entry `n` (from 1) ends `n - 1` entries before it, exception
    /// specifications start at it.
    pub ttype_base: Option<u64>,
    /// Encoding of the call-site table's fields.
    pub call_site_encoding: u8,
    /// Addresses of the call-site table.
    pub call_site_table: Range<u64>,
    /// The call sites in file order.
    pub call_sites: Vec<CallSite>,
    /// Address of the action table, and the end of what it can take: the type table's end if there is
    /// one, else the section's. [`Lsda::tables`] finds the true extents.
    pub action_table: Range<u64>,
}

/// One entry of the call-site table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Address of the landing pad; `None`: nothing to do in this function, keep unwinding.
    pub landing_pad: Option<u64>,
    /// Offset of the first action in the action table plus 1; 0: no action, only cleanup.
    pub action: u64,
}

impl CallSite {
    /// First address after it.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

impl Lsda {
    /// Reads the LSDA at `lsda_addr` of the function whose FDE begins at `function_start`.
    ///
    /// # Errors
    /// [`UnwindError`] for the first field that is malformed.
    pub fn parse(image: &Image<'_>, lsda_addr: u64, function_start: u64) -> Result<Self, UnwindError> {
        let data = content_from(image, lsda_addr, "LSDA")?;
        Self::parse_bytes(data, lsda_addr, function_start)
    }

    /// As [`Lsda::parse`], of `data` at `lsda_addr`; bytes behind the LSDA are ignored.
    ///
    /// # Errors
    /// As [`Lsda::parse`].
    pub fn parse_bytes(data: &[u8], lsda_addr: u64, function_start: u64) -> Result<Self, UnwindError> {
        let mut cursor = UnwindCursor::new(data, lsda_addr);
        let lp_start_encoding = cursor.u8("@LPStart encoding")?;
        let lp_start = match lp_start_encoding {
            eh_pe::OMIT => function_start,
            encoding if encoding & eh_pe::INDIRECT != 0 => {
                return Err(UnwindError::Encoding { what: "@LPStart", at: lsda_addr, encoding });
            }
            encoding => cursor.pointer(encoding, None, "@LPStart")?.unwrap_or(0),
        };
        let ttype_encoding = cursor.u8("@TType encoding")?;
        let ttype_base = if ttype_encoding == eh_pe::OMIT {
            None
        } else {
            let at = cursor.addr();
            let offset = cursor.uleb("@TType base offset")?;
            let base = cursor.addr().checked_add(offset).filter(|&base| base <= cursor.end());
            let expected = "an offset inside the section";
            let wrong = UnwindError::Value { what: "@TType base offset", at, value: offset, expected };
            Some(base.ok_or(wrong)?)
        };
        let call_site_encoding_at = cursor.addr();
        let call_site_encoding = cursor.u8("call-site encoding")?;
        if call_site_encoding & !eh_pe::FORMAT != 0 {
            let (what, at) = ("call-site encoding", call_site_encoding_at);
            return Err(UnwindError::Encoding { what, at, encoding: call_site_encoding });
        }
        let length = cursor.uleb("call-site table length")?;
        let table_start = cursor.addr();
        let table = cursor.take(length, "call-site table")?;
        let call_site_table = table_start..cursor.addr();
        let call_sites =
            read_call_sites(UnwindCursor::new(table, table_start), call_site_encoding, function_start, lp_start)?;
        let action_end = ttype_base.unwrap_or(cursor.end()).max(cursor.addr());
        Ok(Self {
            addr: lsda_addr,
            lp_start_encoding,
            lp_start,
            ttype_encoding,
            ttype_base,
            call_site_encoding,
            action_table: call_site_table.end..action_end,
            call_site_table,
            call_sites,
        })
    }
}

fn read_call_sites(
    mut cursor: UnwindCursor<'_>,
    encoding: u8,
    function_start: u64,
    lp_start: u64,
) -> Result<Vec<CallSite>, UnwindError> {
    let mut call_sites = Vec::new();
    while !cursor.is_empty() {
        let at = cursor.addr();
        let start = cursor.raw_value(encoding, "call-site start")?;
        let len = cursor.raw_value(encoding, "call-site length")?;
        let landing_pad = cursor.raw_value(encoding, "call-site landing pad")?;
        let action = cursor.uleb("call-site action")?;
        let range = function_start.checked_add(start).filter(|start| start.checked_add(len).is_some());
        let expected = "a range inside the address space";
        let start = range.ok_or(UnwindError::Value { what: "call-site start", at, value: start, expected })?;
        // 0 means none, whatever @LPStart is: that is how the personality routines read it.
        let landing_pad = (landing_pad != 0).then(|| lp_start.wrapping_add(landing_pad));
        call_sites.push(CallSite { start, len, landing_pad, action });
    }
    Ok(call_sites)
}

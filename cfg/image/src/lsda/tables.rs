//! What lies behind the call-site table: actions, types, exception specifications.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Lsda;
use crate::eh_frame::content_from;
use crate::{Image, UnwindCursor, UnwindError, eh_pe};

/// Most actions that one chain may have; longer ones are taken for a loop that was missed.
const CHAIN_LENGTH_MAX: usize = 1 << 16;
/// Most types that one exception specification may have. Lists may overlap, so this bounds the work.
const SPECIFICATION_LENGTH_MAX: usize = 1 << 10;

/// One record of the action table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What is caught: > 0 the type with that number, 0 cleanup, < 0 the exception specification at
    /// byte `-filter - 1` from the type table's base.
    pub filter: i64,
    /// Address of the next record of the chain.
    pub next: Option<u64>,
}

/// The extents of the tables that the call sites reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LsdaTables {
    /// Addresses of the action table, from its start to the end of the last record that is reached.
    /// Empty if no call site has an action.
    pub actions: Range<u64>,
    /// Number of type table entries, from 1 to the highest number that is reached.
    pub type_count: u64,
    /// Addresses of exception specification lists from the type table's base on; empty if there are
    /// none.
    pub specifications: Range<u64>,
}

impl Lsda {
    /// The chain of actions that starts at `action` (as in [`super::CallSite::action`]; 0 gives an
    /// empty chain).
    ///
    /// # Errors
    /// [`UnwindError`] if a record lies outside of the table, or the chain does not end.
    pub fn action_chain(&self, image: &Image<'_>, action: u64) -> Result<Vec<Action>, UnwindError> {
        let mut chain = Vec::new();
        let mut at = self.first_action(action)?;
        while let Some(addr) = at {
            if chain.len() >= CHAIN_LENGTH_MAX {
                return Err(endless(addr));
            }
            let (record, _) = self.action_at(image, addr)?;
            at = record.next;
            chain.push(record);
        }
        Ok(chain)
    }

    /// The address that entry `number` (from 1) of the type table designates, before indirection;
    /// `None` for null, which catches everything.
    ///
    /// # Errors
    /// [`UnwindError`] if there is no such entry.
    pub fn type_entry(&self, image: &Image<'_>, number: u64) -> Result<Option<u64>, UnwindError> {
        let at = self.type_entry_addr(number)?;
        let data = content_from(image, at, "type table entry")?;
        UnwindCursor::new(data, at).pointer(self.ttype_encoding, None, "type table entry")
    }

    /// Address of entry `number` (from 1) of the type table. Entry 1 is the last one in memory.
    ///
    /// # Errors
    /// [`UnwindError::Value`] if it would lie before the table can start.
    pub fn type_entry_addr(&self, number: u64) -> Result<u64, UnwindError> {
        let size = eh_pe::size(self.ttype_encoding).filter(|&size| size > 0);
        let addr = self.ttype_base.zip(size).and_then(|(base, size)| {
            let distance = number.checked_mul(u64::from(size))?;
            base.checked_sub(distance).filter(|&addr| number > 0 && addr >= self.action_table.start)
        });
        let (what, expected) = ("type number", "an entry of the type table");
        addr.ok_or(UnwindError::Value { what, at: self.action_table.start, value: number, expected })
    }

    /// The type numbers of the exception specification that `filter` (below 0) names, without the
    /// terminating 0, and the address after it.
    ///
    /// # Errors
    /// [`UnwindError`] if there is no such list or it does not end.
    pub fn specification(&self, image: &Image<'_>, filter: i64) -> Result<(Vec<u64>, u64), UnwindError> {
        let (what, expected) = ("exception specification", "a list behind the type table");
        let offset = filter.checked_add(1).map(i64::unsigned_abs).filter(|_| filter < 0);
        let at = self.ttype_base.zip(offset).and_then(|(base, offset)| base.checked_add(offset));
        let wrong =
            UnwindError::Value { what, at: self.action_table.start, value: filter.cast_unsigned(), expected };
        let at = at.ok_or(wrong)?;
        let mut cursor = UnwindCursor::new(content_from(image, at, what)?, at);
        let mut types = Vec::new();
        loop {
            match cursor.uleb(what)? {
                0 => return Ok((types, cursor.addr())),
                _ if types.len() >= SPECIFICATION_LENGTH_MAX => {
                    let expected = "a list of at most 1024 types";
                    return Err(UnwindError::Value { what, at, value: filter.cast_unsigned(), expected });
                }
                number => types.push(number),
            }
        }
    }

    /// Walks all actions that call sites reach, and what those reach.
    ///
    /// # Errors
    /// [`UnwindError`] for the first record that is malformed.
    pub fn tables(&self, image: &Image<'_>) -> Result<LsdaTables, UnwindError> {
        let base = self.ttype_base.unwrap_or(0);
        let start = self.action_table.start;
        let mut tables = LsdaTables { actions: start..start, type_count: 0, specifications: base..base };
        let mut seen = BTreeSet::new();
        let mut filters = BTreeMap::new();
        for site in &self.call_sites {
            let mut at = self.first_action(site.action)?;
            // A record that was seen has had its whole chain walked, so loops end here too.
            while let Some(addr) = at.filter(|&addr| seen.insert(addr)) {
                let (record, end) = self.action_at(image, addr)?;
                tables.actions.end = tables.actions.end.max(end);
                filters.entry(record.filter).or_insert(());
                at = record.next;
            }
        }
        for &filter in filters.keys() {
            if filter > 0 {
                tables.type_count = tables.type_count.max(filter.unsigned_abs());
            } else if filter < 0 {
                let (types, end) = self.specification(image, filter)?;
                tables.specifications.end = tables.specifications.end.max(end);
                tables.type_count = types.into_iter().fold(tables.type_count, u64::max);
            }
        }
        if tables.type_count > 0 {
            let lowest = self.type_entry_addr(tables.type_count)?;
            if lowest < tables.actions.end {
                let (what, expected) = ("type number", "types behind the action table");
                return Err(UnwindError::Value { what, at: lowest, value: tables.type_count, expected });
            }
        }
        Ok(tables)
    }

    fn first_action(&self, action: u64) -> Result<Option<u64>, UnwindError> {
        let Some(offset) = action.checked_sub(1) else { return Ok(None) };
        let addr = self.action_table.start.checked_add(offset).filter(|&addr| addr < self.action_table.end);
        let (what, expected) = ("call-site action", "a record of the action table");
        let wrong = UnwindError::Value { what, at: self.action_table.start, value: action, expected };
        addr.map(Some).ok_or(wrong)
    }

    /// The record at `addr` and the address after it.
    fn action_at(&self, image: &Image<'_>, addr: u64) -> Result<(Action, u64), UnwindError> {
        let mut cursor = UnwindCursor::new(content_from(image, addr, "action")?, addr);
        let filter = cursor.sleb("action filter")?;
        let next_at = cursor.addr();
        let distance = cursor.sleb("next action")?;
        let next = next_at.wrapping_add_signed(distance);
        if distance != 0 && !self.action_table.contains(&next) {
            let (what, expected) = ("next action", "a record of the action table");
            let value = distance.cast_unsigned();
            return Err(UnwindError::Value { what, at: next_at, value, expected });
        }
        Ok((Action { filter, next: (distance != 0).then_some(next) }, cursor.addr()))
    }
}

const fn endless(at: u64) -> UnwindError {
    UnwindError::Value { what: "next action", at, value: 0, expected: "a chain that ends" }
}

//! Rows as digests: the CFA rule, the rules of all registers, and what the CIE says.

use gimli::RegisterRule;

/// A digest that stands for the rows of the old file at the same addresses.
pub(super) const AS_OLD: u64 = u64::MAX;

/// Takes the rows of one frame, and makes digests of them.
pub(super) struct RowDigests<'r> {
    cie_digest: u64,
    rows: &'r mut Vec<(u64, u64)>,
    /// Where the frame's rows begin.
    first: usize,
}

impl<'r> RowDigests<'r> {
    /// What is added goes behind `rows`. `cie_digest`: what the CIE says about all of its frames.
    pub(super) const fn new(cie_digest: u64, rows: &'r mut Vec<(u64, u64)>) -> Self {
        let first = rows.len();
        Self { cie_digest, rows, first }
    }

    /// The row of `start..end`, which may be empty. `rules`: the sum of [`rule_digest`].
    #[inline]
    pub(super) fn add(&mut self, start: u64, end: u64, args_size: u64, (register, offset): (u16, i64), rules: u64) {
        if start < end {
            self.add_rule(start, args_size, (rule_kind(0, register), offset.cast_unsigned()), rules);
        }
    }

    /// The row from `start` on, whose CFA rule is told by two numbers.
    #[inline]
    pub(super) fn add_rule(&mut self, start: u64, args_size: u64, (kind, value): (u64, u64), rules: u64) {
        let head = mix(mix(self.cie_digest, args_size), mix(kind, value));
        let digest = mix(head, rules).clamp(1, AS_OLD - 1);
        if self.rows.get(self.first..).and_then(<[_]>::last).is_none_or(|last| last.1 != digest) {
            self.rows.push((start, digest));
        }
    }
}

/// What a register's rule counts in the digest of a row; `None` for one with an expression.
pub(super) fn rule_digest(register: u16, rule: &RegisterRule<usize>) -> Option<u64> {
    let (kind, value) = match rule {
        // No rule at all means the same to every unwinder.
        RegisterRule::SameValue => return Some(0),
        RegisterRule::Undefined => (1, 0),
        RegisterRule::Offset(offset) => (2, offset.cast_unsigned()),
        RegisterRule::ValOffset(offset) => (3, offset.cast_unsigned()),
        RegisterRule::Register(other) => (4, u64::from(other.0)),
        RegisterRule::Expression(_) | RegisterRule::ValExpression(_) => return None,
        RegisterRule::Constant(value) => (7, *value),
        _ => (8, 0),
    };
    Some(mix(rule_kind(kind, register), value))
}

/// The kind of a rule and the register that it is about.
pub(super) const fn rule_kind(kind: u64, register: u16) -> u64 {
    kind << 16 | register as u64
}

/// A digest of two numbers: both halves of a product, twice, so that each bit of the result depends
/// on all bits of both. There are millions of rows, and a few hundred different ones.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        wide as u64 ^ (wide >> 64) as u64
    };
    // Digits of pi.
    let once = fold(a ^ 0x243f_6a88_85a3_08d3, b ^ 0x1319_8a2e_0370_7344);
    fold(once ^ 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89)
}

//! Old and new tables must say the same about each byte of code. gimli evaluates both.

use std::collections::BTreeMap;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EndianSlice, LittleEndian, RegisterRule, UnwindContext, UnwindSection,
    UnwindTableRow,
};
use postlink_image::{EhFrame, Image, Lsda};

use super::super::{MovedFunction, Piece};

/// Rows as text: first address, end, row.
pub(super) type TextRows = Vec<(u64, u64, String)>;

/// The rows of all FDEs in `data`, an `.eh_frame` at `addr`, sorted by address.
pub(super) fn gimli_rows(data: &[u8], addr: u64) -> TextRows {
    let section = gimli::EhFrame::new(data, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(addr);
    let mut rows = Vec::new();
    let mut entries = section.entries(&bases);
    let mut context = UnwindContext::new();
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(gimli::EhFrame::cie_from_offset).unwrap();
        let mut table = fde.rows(&section, &bases, &mut context).unwrap();
        while let Some(row) = table.next_row().unwrap() {
            rows.push((row.start_address(), row.end_address(), text(&section, row)));
        }
    }
    rows.sort();
    rows
}

fn text(section: &gimli::EhFrame<EndianSlice<'_, LittleEndian>>, row: &UnwindTableRow<usize>) -> String {
    let bytes = |expression: &gimli::UnwindExpression<usize>| format!("{:x?}", expression.get(section).unwrap().0.slice());
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => format!("r{}{offset:+}", register.0),
        CfaRule::Expression(expression) => bytes(expression),
    };
    let rules: BTreeMap<u16, String> = row
        .registers()
        .map(|(register, rule)| {
            let rule = match rule {
                RegisterRule::Expression(expression) => format!("at {}", bytes(expression)),
                RegisterRule::ValExpression(expression) => format!("is {}", bytes(expression)),
                rule => format!("{rule:?}"),
            };
            (register.0, rule)
        })
        .collect();
    format!("cfa {cfa} args {} {rules:?}", row.saved_args_size())
}

/// The row at `pc`.
pub(super) fn row_at(rows: &TextRows, pc: u64) -> Option<&str> {
    let index = rows.partition_point(|row| row.0 <= pc).checked_sub(1)?;
    rows.get(index).filter(|row| pc < row.1).map(|row| row.2.as_str())
}

/// Checks each byte of copied code, and the first one of all other pieces.
pub(super) fn check_rows(old: &TextRows, new: &TextRows, moved: &[MovedFunction]) -> usize {
    let mut checked = 0;
    for function in moved {
        for piece in function.fragments.iter().flat_map(|fragment| &fragment.pieces) {
            for (old_pc, new_pc) in pairs(piece) {
                let expected = row_at(old, old_pc);
                assert_eq!(row_at(new, new_pc), expected, "{old_pc:#x} -> {new_pc:#x} of {:#x}", function.old_start);
                checked += 1;
            }
        }
    }
    checked
}

/// Pairs of old and new addresses that mean the same instruction.
pub(super) fn pairs(piece: &Piece) -> impl Iterator<Item = (u64, u64)> + use<> {
    let count = if piece.is_linear() { piece.new_len } else { piece.new_len.min(1) };
    let piece = *piece;
    (0..u64::from(count)).map(move |at| (piece.old + at, piece.new + at))
}

/// What an LSDA says about one address: `None` outside of all call sites, else the landing pad (mapped
/// by `target`) and the meaning of its actions.
pub(super) fn lsda_at(
    image: &Image<'_>,
    lsda: &Lsda,
    pc: u64,
    target: &dyn Fn(u64) -> u64,
) -> Option<(Option<u64>, Vec<String>)> {
    let site = lsda.call_sites.iter().find(|site| site.start <= pc && pc < site.end())?;
    let type_text = |number: u64| format!("{:x?}", lsda.type_entry(image, number).unwrap());
    let actions = lsda.action_chain(image, site.action).unwrap();
    let actions = actions.iter().map(|action| match action.filter {
        0 => "cleanup".to_owned(),
        number @ 1.. => format!("catch {}", type_text(number.unsigned_abs())),
        filter => {
            let (types, _) = lsda.specification(image, filter).unwrap();
            format!("only {:?}", types.into_iter().map(type_text).collect::<Vec<_>>())
        }
    });
    Some((site.landing_pad.map(target), actions.collect()))
}

/// Checks call sites of each byte of copied code; returns how many bytes had a landing pad.
pub(super) fn check_lsdas(
    old: &Image<'_>,
    new: &Image<'_>,
    moved: &[MovedFunction],
    target: &dyn Fn(u64) -> u64,
) -> usize {
    let (old_eh, new_eh) = (EhFrame::parse(old).unwrap().unwrap(), EhFrame::parse(new).unwrap().unwrap());
    let mut pads = 0;
    for function in moved {
        let inside = |fde: &&postlink_image::Fde| fde.pc_begin >= function.old_start && fde.pc_end <= function.old_end;
        let Some(old_fde) = old_eh.fdes.iter().filter(inside).find(|fde| !fde.dead) else { continue };
        let old_lsda = old_fde.lsda.map(|addr| Lsda::parse(old, addr, old_fde.pc_begin).unwrap());
        for fragment in function.fragments.iter().filter(|fragment| fragment.new_start < fragment.new_end) {
            let new_fde = new_eh.fdes.iter().find(|fde| fde.pc_begin == fragment.new_start).unwrap();
            assert_eq!(new_fde.pc_end, fragment.new_end);
            assert_eq!(new_fde.lsda.is_some(), old_lsda.is_some());
            let (Some(old_lsda), Some(addr)) = (&old_lsda, new_fde.lsda) else { continue };
            let new_lsda = Lsda::parse(new, addr, new_fde.pc_begin).unwrap();
            for (old_pc, new_pc) in fragment.pieces.iter().filter(|piece| piece.old_len > 0).flat_map(pairs) {
                let expected = lsda_at(old, old_lsda, old_pc, target);
                let found = lsda_at(new, &new_lsda, new_pc, &|pad| pad);
                assert_eq!(found, expected, "{old_pc:#x} -> {new_pc:#x}");
                pads += usize::from(expected.is_some_and(|site| site.0.is_some()));
            }
        }
    }
    pads
}

//! Functions whose address is a value somewhere, and not only where a branch leads.

use postlink_base::Id;
use rayon::prelude::*;

use crate::{FixupKind, FunctionId, Program};

impl Program<'_> {
    /// For each function, whether its address is a value: a word of data holds it, code takes it, it is exported, or the
    /// program starts there. Addresses of labels inside do not count.
    pub fn address_taken(&self) -> Vec<bool> {
        let entry = |target: u64| self.place_of(target).filter(|&(_, is_entry)| is_entry).map(|(id, _)| id);
        let in_code = (0..self.fixups.len()).into_par_iter().flat_map_iter(|index| {
            let is_value = |kind| !matches!(kind, FixupKind::Call | FixupKind::Branch32 | FixupKind::Branch8 | FixupKind::Memory);
            self.fixups.at(index).iter().filter(move |fixup| is_value(fixup.kind)).filter_map(|fixup| entry(fixup.target))
        });
        let in_data = self.data_refs.par_iter().filter_map(|data_ref| entry(data_ref.target));
        let mut taken = vec![false; self.functions.len()];
        let mut mark = |id: FunctionId| {
            if let Some(flag) = taken.get_mut(id.index()) {
                *flag = true;
            }
        };
        in_code.chain(in_data).collect::<Vec<FunctionId>>().into_iter().for_each(&mut mark);
        let exported = self.image.dynsym().into_iter().flat_map(|table| table.iter().filter(|symbol| symbol.is_defined()));
        exported.filter_map(|symbol| entry(symbol.value)).for_each(&mut mark);
        entry(self.image.header().entry).into_iter().for_each(&mut mark);
        taken
    }
}

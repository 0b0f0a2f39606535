//! Where the unwind tables go, and what else is put into the appended read-only segment.

use postlink_cfg::Program;

use crate::UnwindPlan;

/// Where the unwind tables go.
pub(super) struct UnwindPlaces {
    pub(super) eh_frame: Option<Place>,
    pub(super) hdr: Option<Place>,
    pub(super) lsda: Option<Place>,
}

/// One table's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) addr: u64,
    pub(super) size: u64,
    /// In the appended read-only segment.
    pub(super) appended: bool,
}

/// Grows while things are put into the appended read-only segment.
pub(super) struct ReadOnly {
    pub(super) start: u64,
    pub(super) end: u64,
    /// What a shorter `.eh_frame` leaves free of its old range: used first, it needs no segment.
    pub(super) slack: (u64, u64),
}

impl ReadOnly {
    pub(super) fn new(start: u64) -> Self {
        Self { start, end: start, slack: (0, 0) }
    }
    /// Takes bytes from the slack if they fit there, else from the segment.
    pub(super) fn take_slack(&mut self, size: u64, align: u64, residue: u64) -> u64 {
        let align = align.max(1);
        let addr = self.slack.0 + (residue % align + align - self.slack.0 % align) % align;
        if addr + size <= self.slack.1 {
            self.slack.0 = addr + size;
            return addr;
        }
        self.take(size, align, residue)
    }
    /// Whether that much fits into the slack, whatever its alignment.
    pub(super) const fn has_slack(&self, size: u64) -> bool {
        self.slack.1 >= self.slack.0 + size + 16
    }
    /// Takes `size` bytes whose address is `residue` modulo `align`.
    pub(super) fn take(&mut self, size: u64, align: u64, residue: u64) -> u64 {
        let align = align.max(1);
        let base = self.end;
        let addr = base + (residue % align + align - base % align) % align;
        self.end = addr + size;
        addr
    }
    pub(super) const fn is_used(&self) -> bool {
        self.end > self.start
    }
}

/// Chooses places: in place if the new table fits there, the header table's bytes as well if that
/// helps, else the appended segment.
pub(super) fn unwind_places(program: &Program<'_>, unwind: Option<&UnwindPlan<'_>>, read_only: &mut ReadOnly) -> UnwindPlaces {
    let none = UnwindPlaces { eh_frame: None, hdr: None, lsda: None };
    let (Some(unwind), Some(eh_frame)) = (unwind, &program.eh_frame) else { return none };
    let image = program.image;
    let header = image.section(".eh_frame_hdr").map(|(_, section)| (section.addr, section.size));
    let (need, align) = (unwind.eh_frame_size(), unwind.eh_frame_align());
    let mut hdr_place = header.filter(|_| unwind.hdr_size() > 0).map(|(addr, size)| {
        let fits = unwind.hdr_size() <= size;
        let addr = if fits { addr } else { 0 };
        Place { addr, size: unwind.hdr_size(), appended: !fits }
    });
    let mut eh_place = Place { addr: eh_frame.addr, size: need, appended: false };
    if need > eh_frame.size || eh_frame.addr % align != 0 {
        let joined = header.filter(|&(addr, size)| {
            let start = addr.next_multiple_of(align);
            let adjacent = addr + size <= eh_frame.addr && eh_frame.addr - (addr + size) < 16;
            adjacent && start + need <= eh_frame.addr + eh_frame.size
        });
        match (joined, &mut hdr_place) {
            (Some((addr, _)), Some(hdr)) => {
                eh_place.addr = addr.next_multiple_of(align);
                hdr.appended = true;
            }
            _ => eh_place = Place { addr: 0, size: need, appended: true },
        }
    }
    if eh_place.appended {
        eh_place.addr = read_only.take(need, align.max(8), 0);
    } else {
        let free = (eh_place.addr + need).next_multiple_of(16);
        read_only.slack = (free, (eh_frame.addr + eh_frame.size).max(free));
    }
    if let Some(hdr) = &mut hdr_place
        && hdr.appended
    {
        hdr.addr = read_only.take(hdr.size, 4, 0);
    }
    let lsda = (unwind.lsda_size() > 0).then(|| Place {
        addr: read_only.take_slack(unwind.lsda_size(), unwind.lsda_align(), 0),
        size: unwind.lsda_size(),
        appended: true,
    });
    UnwindPlaces { eh_frame: Some(eh_place), hdr: hdr_place, lsda }
}

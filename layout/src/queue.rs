//! A priority queue whose entries can change their priority.

use std::cmp::{Ordering, Reverse};

/// An entry: the greater in its order, the sooner it is popped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// What is wanted most.
    pub(crate) gain: f64,
    /// Decides between equal gains: the smaller, the sooner. Then the id does.
    pub(crate) tie: (u32, u32),
    /// Who it is; at most one entry has it.
    pub(crate) id: u32,
}

impl Entry {
    fn order(&self, other: &Self) -> Ordering {
        let ties = |it: &Self| Reverse((it.tie, it.id));
        (self.gain.total_cmp(&other.gain)).then_with(|| ties(self).cmp(&ties(other)))
    }
}

/// A binary max-heap that knows where each id is.
///
/// The standard heap cannot change an entry; leaving outdated ones in it makes it grow by an order
/// of magnitude on call graphs, and every pop miss the cache.
///
/// # Invariant
/// `heap[position[id]].id == id` for each id in the queue; `position` is [`ABSENT`] for the others.
#[derive(Debug)]
pub(crate) struct Queue {
    heap: Vec<Entry>,
    position: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl Queue {
    /// An empty queue for the ids below `ids`.
    pub(crate) fn new(ids: usize) -> Self {
        Self {
            heap: Vec::new(),
            position: vec![ABSENT; ids],
        }
    }

    /// Takes the greatest entry out.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = *self.heap.first()?;
        self.remove(entry.id);
        Some(entry)
    }

    /// Puts `entry` in, in the place of the one with its id if there is one.
    pub(crate) fn set(&mut self, entry: Entry) {
        let mut index = self.position[entry.id as usize] as usize;
        if index == ABSENT as usize {
            index = self.heap.len();
            self.heap.push(entry);
        }
        self.settle(index, entry);
    }

    /// Takes the entry with this id out, if there is one.
    pub(crate) fn remove(&mut self, id: u32) {
        let index = self.position[id as usize] as usize;
        if index == ABSENT as usize {
            return;
        }
        self.position[id as usize] = ABSENT;
        if let Some(last) = self.heap.pop()
            && index < self.heap.len()
        {
            self.settle(index, last);
        }
    }

    /// Puts `entry` where it belongs, given that `index` is free.
    fn settle(&mut self, mut index: usize, entry: Entry) {
        while index > 0 {
            let above = self.heap[(index - 1) / 2];
            if entry.order(&above) != Ordering::Greater {
                break;
            }
            self.place(index, above);
            index = (index - 1) / 2;
        }
        while let Some(&left) = self.heap.get(2 * index + 1) {
            let (mut below, mut child) = (left, 2 * index + 1);
            if let Some(&right) = self.heap.get(child + 1)
                && right.order(&left) == Ordering::Greater
            {
                (below, child) = (right, child + 1);
            }
            if below.order(&entry) != Ordering::Greater {
                break;
            }
            self.place(index, below);
            index = child;
        }
        self.place(index, entry);
    }

    fn place(&mut self, index: usize, entry: Entry) {
        self.heap[index] = entry;
        self.position[entry.id as usize] = index as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    #[test]
    fn pops_what_a_search_through_all_entries_finds() {
        const IDS: u32 = 50;
        let mut random = SplitMix64::new(4);
        let mut queue = Queue::new(IDS as usize);
        let mut model: Vec<Option<Entry>> = vec![None; IDS as usize];
        for step in 0..20_000 {
            let id = (random.next() % u64::from(IDS)) as u32;
            match random.next() % 4 {
                0 => {
                    queue.remove(id);
                    model[id as usize] = None;
                }
                1 => {
                    let popped = queue.pop().map(|entry| entry.id);
                    let best = model
                        .iter()
                        .flatten()
                        .max_by(|left, right| left.order(right));
                    let best = best.map(|entry| entry.id);
                    assert_eq!(popped, best, "step {step}");
                    if let Some(best) = best {
                        model[best as usize] = None;
                    }
                }
                _ => {
                    // Few different gains, so that ties are common.
                    let entry = Entry {
                        gain: (random.next() % 8) as f64,
                        tie: ((random.next() % 3) as u32, (random.next() % 3) as u32),
                        id,
                    };
                    queue.set(entry);
                    model[id as usize] = Some(entry);
                }
            }
        }
        assert!(queue.pop().is_some());
    }
}

//! A list per id, all in one vector.

use std::marker::PhantomData;

use crate::Id;

/// For each id a list of its own. One allocation holds them all, so that millions of elements in hundreds of thousands
/// of lists go back to the system when they are freed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexLists<I, T> {
    items: Vec<T>,
    /// Where each list ends.
    ends: Vec<usize>,
    marker: PhantomData<I>,
}

impl<I: Id, T> IndexLists<I, T> {
    /// Room for `lists` lists with `items` elements in all.
    pub fn with_capacity(lists: usize, items: usize) -> Self {
        Self { items: Vec::with_capacity(items), ends: Vec::with_capacity(lists), marker: PhantomData }
    }

    /// Appends the list of the next id.
    pub fn push(&mut self, list: impl IntoIterator<Item = T>) {
        self.items.extend(list);
        self.ends.push(self.items.len());
    }

    /// Number of lists.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no list.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The list at `index`, empty for an id of another table.
    pub fn at(&self, index: usize) -> &[T] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.items.get(start..end).unwrap_or(&[])
    }

    /// All lists in id order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[T]> {
        (0..self.len()).map(|index| self.at(index))
    }

    /// Pairs of id and list, in id order.
    pub fn iter_enumerated(&self) -> impl ExactSizeIterator<Item = (I, &[T])> {
        (0..self.len()).map(|index| (I::from_index(index), self.at(index)))
    }
}

impl<I: Id, T> Default for IndexLists<I, T> {
    fn default() -> Self {
        Self::with_capacity(0, 0)
    }
}

impl<I: Id, T> std::ops::Index<I> for IndexLists<I, T> {
    type Output = [T];
    fn index(&self, id: I) -> &[T] {
        self.at(id.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::define_id!(
        /// For the test.
        TestId,
        "t"
    );

    #[test]
    fn keeps_lists_apart() {
        let mut lists: IndexLists<TestId, u8> = IndexLists::default();
        lists.push([1, 2]);
        lists.push([]);
        lists.push([3]);
        assert_eq!((&lists[TestId(0)], &lists[TestId(1)], &lists[TestId(2)]), (&[1, 2][..], &[][..], &[3][..]));
        assert_eq!(lists.iter().map(<[u8]>::len).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(lists[TestId(9)], []);
    }
}

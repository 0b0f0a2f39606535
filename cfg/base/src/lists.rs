//! A list per id, all in a few vectors.

use std::marker::PhantomData;

use crate::Id;

/// For each id a list of its own. Few allocations hold them all, so that millions of elements in hundreds of thousands
/// of lists go back to the system when they are freed; there may be several, so that threads can fill them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexLists<I, T> {
    parts: Vec<Vec<T>>,
    lists: Vec<ListPlace>,
    marker: PhantomData<I>,
}

/// Where a list is: part, first element, number of elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListPlace {
    /// Which of the parts.
    pub part: u32,
    /// Position of the first element in its part.
    pub start: u32,
    /// Number of elements.
    pub len: u32,
}

impl<I: Id, T> IndexLists<I, T> {
    /// The lists at `lists` in `parts`, in id order. A place outside of its part is an empty list.
    pub const fn from_parts(parts: Vec<Vec<T>>, lists: Vec<ListPlace>) -> Self {
        Self { parts, lists, marker: PhantomData }
    }

    /// Number of lists.
    pub const fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there is no list.
    pub const fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// The list at `index`, empty for an id of another table.
    #[inline]
    pub fn at(&self, index: usize) -> &[T] {
        let place = self.lists.get(index).copied().unwrap_or_default();
        let (start, len) = (place.start as usize, place.len as usize);
        self.parts.get(place.part as usize).and_then(|part| part.get(start..start + len)).unwrap_or(&[])
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
        Self::from_parts(Vec::new(), Vec::new())
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
        let place = |part, start, len| ListPlace { part, start, len };
        let places = vec![place(1, 0, 2), place(0, 1, 0), place(0, 0, 1), place(0, 0, 2)];
        let lists: IndexLists<TestId, u8> = IndexLists::from_parts(vec![vec![3], vec![1, 2]], places);
        assert_eq!((&lists[TestId(0)], &lists[TestId(1)], &lists[TestId(2)]), (&[1, 2][..], &[][..], &[3][..]));
        assert_eq!(lists.iter().map(<[u8]>::len).collect::<Vec<_>>(), [2, 0, 1, 0]);
        assert_eq!(lists[TestId(9)], []);
    }
}

//! Which chains are next to a chain.

use std::collections::BTreeMap;

use smallvec::SmallVec;

/// More neighbours than this are kept in a tree: a list takes time for each of them whenever one comes or goes.
const FEW_MAX: usize = 32;

/// Adjacent chain -> index of the pair, in the order of the chains' ids.
#[derive(Clone, Debug)]
pub(super) enum Neighbors {
    Few(SmallVec<[(u32, u32); 4]>),
    Many(BTreeMap<u32, u32>),
}

impl Default for Neighbors {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Neighbors {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(tree) => tree.len(),
        }
    }

    pub(super) fn get(&self, chain: u32) -> Option<u32> {
        match self {
            Self::Few(list) => list.iter().find(|entry| entry.0 == chain).map(|entry| entry.1),
            Self::Many(tree) => tree.get(&chain).copied(),
        }
    }

    /// Adds a neighbour, or gives it another pair.
    pub(super) fn insert(&mut self, chain: u32, pair: u32) {
        match self {
            Self::Few(list) => {
                let place = list.iter().position(|entry| entry.0 >= chain).unwrap_or(list.len());
                match list.get_mut(place) {
                    Some(entry) if entry.0 == chain => entry.1 = pair,
                    _ => list.insert(place, (chain, pair)),
                }
                if list.len() > FEW_MAX {
                    *self = Self::Many(list.iter().copied().collect());
                }
            }
            Self::Many(tree) => {
                tree.insert(chain, pair);
            }
        }
    }

    pub(super) fn remove(&mut self, chain: u32) {
        match self {
            Self::Few(list) => {
                if let Some(place) = list.iter().position(|entry| entry.0 == chain) {
                    list.remove(place);
                }
            }
            Self::Many(tree) => {
                tree.remove(&chain);
            }
        }
    }

    /// Chains and pairs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        let (list, tree) = match self {
            Self::Few(list) => (Some(list.iter().copied()), None),
            Self::Many(tree) => (None, Some(tree.iter().map(|(&chain, &pair)| (chain, pair)))),
        };
        list.into_iter().flatten().chain(tree.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    #[test]
    fn is_a_map_in_order_however_many_there_are() {
        for most in [6, 40, 400] {
            let mut random = SplitMix64::new(most);
            let (mut neighbors, mut model) = (Neighbors::default(), BTreeMap::new());
            for _ in 0..2000 {
                let (chain, pair) = ((random.next() % most) as u32, random.next() as u32);
                if random.next().is_multiple_of(3) {
                    neighbors.remove(chain);
                    model.remove(&chain);
                } else {
                    neighbors.insert(chain, pair);
                    model.insert(chain, pair);
                }
                assert_eq!(neighbors.get(chain), model.get(&chain).copied());
                assert_eq!(neighbors.len(), model.len());
            }
            let expected: Vec<(u32, u32)> = model.into_iter().collect();
            assert_eq!(neighbors.iter().collect::<Vec<_>>(), expected);
            assert!(most == 40 || matches!(neighbors, Neighbors::Many(_)) == (most > 40));
        }
    }
}

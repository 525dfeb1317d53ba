//! The permutations that a puzzle may have: as far from each other as can be, so that a network can tell them apart.
//!
//! Distance is Hamming's: the number of places that show different tiles. The set grows greedily: next comes the permutation with
//! the largest distance to its nearest in the set, and among such the one with the largest sum of distances to all of it.
//! Distances to the nearest and sums are kept for all candidates and updated with each choice, so that 701 of all 9! take a
//! fraction of a second (the original scripts compute all distances anew). Deterministic: no seed enters.

use std::collections::HashSet;

use crate::random::Draw;

/// Up to so many tiles, all permutations are candidates.
const ALL_OF: usize = 9;
/// The number of candidates, drawn at random, where there are more tiles.
const CANDIDATES: usize = 1 << 17;
/// Candidates that pass through the cache together.
const BLOCK: usize = 4096;

/// An upper bound for the size of a set of permutations of `tiles` with that minimum distance: `tiles! / (distance - 1)!`.
///
/// (Take those that agree in `tiles - distance + 1` places: no two may. The bound is met for all of distance 2 and 3 and of
/// distance `tiles`.)
pub fn most(tiles: usize, distance: usize) -> u128 {
    (distance.max(1)..=tiles).map(|factor| factor as u128).product()
}

/// `count` permutations of `tiles` tiles, no two nearer than `distance`; tile by place.
///
/// # Errors
/// The search reached fewer, so many.
pub fn choose(tiles: usize, count: usize, distance: usize) -> Result<Vec<Vec<u8>>, usize> {
    let candidates = Candidates::new(tiles);
    let size = candidates.count();
    let mut nearest = vec![u8::MAX; size];
    let mut sums = vec![0u32; size];
    let mut chosen = Vec::with_capacity(count);
    let mut next = 0;
    loop {
        let permutation = candidates.get(next);
        let mut best = (0, 0);
        for (block, (nearest, sums)) in nearest.chunks_mut(BLOCK).zip(sums.chunks_mut(BLOCK)).enumerate() {
            let distances = candidates.distances(&permutation, block * BLOCK..block * BLOCK + nearest.len());
            let mut top = 0;
            for ((nearest, sum), distance) in nearest.iter_mut().zip(sums.iter_mut()).zip(distances) {
                *nearest = distance.min(*nearest);
                *sum += u32::from(distance);
                top = top.max(rank(*nearest, *sum));
            }
            if top > best.0 {
                best = (top, block * BLOCK);
            }
        }
        chosen.push(permutation);
        if chosen.len() == count {
            return Ok(chosen);
        }
        next = (best.1..size).find(|&candidate| rank(nearest[candidate], sums[candidate]) == best.0).unwrap_or(0);
        if usize::from(nearest[next]) < distance.max(1) {
            return Err(chosen.len());
        }
    }
}

/// Orders candidates: by distance to the nearest, then by the sum of distances (24 bits hold those to 500,000 permutations).
fn rank(nearest: u8, sum: u32) -> u32 {
    (u32::from(nearest) << 24) | sum
}

/// Permutations, place by place, in a fixed random order: ties then fall without pattern.
struct Candidates {
    places: Vec<Vec<u8>>,
}

impl Candidates {
    fn new(tiles: usize) -> Self {
        let mut draw = Draw::new(0, "jigsaw", "candidates", "", 0);
        let mut places = vec![Vec::new(); tiles];
        let mut add = |permutation: &[u8]| places.iter_mut().zip(permutation).for_each(|(place, tile)| place.push(*tile));
        if tiles <= ALL_OF {
            let count = (1..=tiles).product();
            draw.distinct(count, count).into_iter().for_each(|number| add(&permutation(number, tiles)));
        } else {
            let mut seen = HashSet::new();
            while seen.len() < CANDIDATES {
                let drawn: Vec<u8> = draw.distinct(tiles, tiles).into_iter().map(|tile| tile as u8).collect();
                if seen.insert(drawn.clone()) {
                    add(&drawn);
                }
            }
        }
        Self { places }
    }

    fn count(&self) -> usize {
        self.places[0].len()
    }

    fn get(&self, candidate: usize) -> Vec<u8> {
        self.places.iter().map(|place| place[candidate]).collect()
    }

    /// Distances of a permutation to a block of candidates.
    fn distances(&self, permutation: &[u8], block: std::ops::Range<usize>) -> [u8; BLOCK] {
        let mut distances = [0; BLOCK];
        for (place, tile) in self.places.iter().zip(permutation) {
            for (distance, other) in distances.iter_mut().zip(&place[block.clone()]) {
                *distance += u8::from(other != tile);
            }
        }
        distances
    }
}

/// The permutation of that number in lexicographic order.
fn permutation(mut number: usize, tiles: usize) -> Vec<u8> {
    let mut left: Vec<u8> = (0..tiles as u8).collect();
    let mut digit = |places: usize| {
        let block: usize = (1..places).product();
        let tile = left.remove(number / block);
        number %= block;
        tile
    };
    (1..=tiles).rev().map(&mut digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: &[u8], b: &[u8]) -> usize {
        a.iter().zip(b).filter(|(a, b)| a != b).count()
    }

    /// Minimum and mean of all pairs' distances.
    fn spread(set: &[Vec<u8>]) -> (usize, f64) {
        let pairs = set.iter().enumerate().flat_map(|(i, a)| set[..i].iter().map(|b| distance(a, b)));
        let all: Vec<_> = pairs.collect();
        (*all.iter().min().unwrap(), all.iter().sum::<usize>() as f64 / all.len() as f64)
    }

    #[test]
    fn permutations_come_by_number() {
        let all: Vec<_> = (0..6).map(|number| permutation(number, 3)).collect();
        assert_eq!(all, [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]);
    }

    #[test]
    fn the_papers_set_is_far_apart() {
        let set = choose(9, 701, 3).unwrap();
        let (min, mean) = spread(&set);
        assert_eq!(set.len(), 701);
        assert!(min >= 5 && mean > 7.99, "{min} {mean}");
        assert!(set.iter().all(|permutation| permutation.iter().collect::<HashSet<_>>().len() == 9));
        assert_eq!(choose(9, 20, 3).unwrap(), set[..20]);
    }

    #[test]
    fn four_tiles_have_all_their_permutations() {
        assert_eq!(choose(4, 24, 2).map(|set| spread(&set).0), Ok(2));
        assert_eq!(choose(4, 4, 4).map(|set| spread(&set).0), Ok(4));
        assert_eq!(choose(4, 25, 1), Err(24));
    }

    #[test]
    fn more_tiles_than_can_be_listed_work() {
        let set = choose(16, 50, 10).unwrap();
        assert!(spread(&set).0 >= 10);
    }

    #[test]
    fn bounds_hold() {
        assert_eq!([most(4, 1), most(4, 2), most(4, 3), most(4, 4)], [24, 24, 12, 4]);
        assert_eq!([most(9, 9), most(9, 8), most(9, 3)], [9, 72, 181_440]);
        let reached = choose(9, 100, 8).unwrap_err();
        assert!(reached as u128 <= most(9, 8), "{reached}");
    }
}

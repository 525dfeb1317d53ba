//! The permutations that a puzzle may have: as far from each other as can be, so that a network can tell them apart.
//!
//! Distance is Hamming's: the number of places that show different tiles. The set grows greedily: next comes the permutation with
//! the largest distance to its nearest in the set, and among such the one with the largest sum of distances to all of it.
//! Distances to the nearest and sums are kept for all candidates and updated with each choice, so that 701 of all 9! take a
//! fraction of a second and 10,000 take seconds (the original scripts compute all distances anew). Deterministic: no seed enters,
//! and a smaller set is the beginning of a larger one.

use std::collections::HashSet;

use crate::random::Draw;

/// Up to so many tiles, all permutations are candidates.
const ALL_OF: usize = 9;
/// The number of candidates, drawn at random, where there are more tiles.
const CANDIDATES: usize = 1 << 17;
/// Tiles, distance, and how many permutations the search finds.
const REACH: &[(usize, usize, usize)] = &[
    (4, 3, 12),
    (4, 4, 4),
    (9, 5, 1887),
    (9, 6, 419),
    (9, 7, 98),
    (9, 8, 19),
    (9, 9, 9),
    (16, 13, 354),
    (16, 14, 83),
    (16, 15, 19),
    (16, 16, 16),
    (25, 22, 373),
    (25, 23, 92),
    (25, 24, 25),
    (25, 25, 25),
];
/// Candidates that pass through the cache together.
const BLOCK: usize = 4096;

/// An upper bound for the size of a set of permutations of `tiles` with that minimum distance: `tiles! / (distance - 1)!`.
///
/// (Take those that agree in `tiles - distance + 1` places: no two may. The bound is met for all of distance 2 and 3 and of
/// distance `tiles`.)
pub fn most(tiles: usize, distance: usize) -> u128 {
    (distance.max(1)..=tiles).map(|factor| factor as u128).product()
}

/// How many permutations of that many tiles [`choose`] finds at that distance, where it is known and short of what anybody might
/// ask for. (Distances of 2 and less leave all permutations that there can be.)
pub fn reach(tiles: usize, distance: usize) -> Option<usize> {
    REACH.iter().find(|reach| (reach.0, reach.1) == (tiles, distance)).map(|reach| reach.2)
}

/// `count` permutations of `tiles` tiles, no two nearer than `distance`; tile by place.
///
/// Where the greedy search ends too early, as it does close to what is possible at all, each permutation that is far enough from
/// those before it is taken, in lexicographic order; of distance `tiles`, those that turn the tiles round.
///
/// # Errors
/// The searches reached fewer, so many at best.
pub fn choose(tiles: usize, count: usize, distance: usize) -> Result<Vec<Vec<u8>>, usize> {
    let turned = |by: usize| (0..tiles).map(|tile| ((tile + by) % tiles) as u8).collect();
    greedy(tiles, count, distance).or_else(|reached| match (count <= tiles, tiles <= ALL_OF) {
        (true, _) => Ok((0..count).map(turned).collect()),
        (false, true) => first_fit(tiles, count, distance).map_err(|other| other.max(reached).max(tiles)),
        (false, false) => Err(reached.max(tiles)),
    })
}

/// In lexicographic order, each permutation that is far enough from those before it.
fn first_fit(tiles: usize, count: usize, distance: usize) -> Result<Vec<Vec<u8>>, usize> {
    let mut chosen: Vec<Vec<u8>> = Vec::with_capacity(count);
    let far = |one: &[u8], other: &[u8]| one.iter().zip(other).filter(|(a, b)| a != b).count() >= distance;
    for number in 0..(1..=tiles).product() {
        let candidate = permutation(number, tiles);
        // The latest first: they are alike.
        if chosen.iter().rev().all(|other| far(&candidate, other)) {
            chosen.push(candidate);
            if chosen.len() == count {
                return Ok(chosen);
            }
        }
    }
    Err(chosen.len())
}

/// Each time the permutation that is farthest from its nearest in the set.
fn greedy(tiles: usize, count: usize, distance: usize) -> Result<Vec<Vec<u8>>, usize> {
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

/// How many pairs of a set differ in 0, 1, 2, … places.
pub fn distances(set: &[Vec<u8>]) -> Vec<u64> {
    let tiles = set.first().map_or(0, Vec::len);
    let mut counts = vec![0; tiles + 1];
    for (i, one) in set.iter().enumerate() {
        for other in &set[..i] {
            counts[one.iter().zip(other).filter(|(a, b)| a != b).count()] += 1;
        }
    }
    counts
}

/// Orders candidates: by distance to the nearest, then by the sum of distances (24 bits hold those to 500,000 permutations, more than
/// a stage may ask for).
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

    /// Minimum and mean of all pairs' distances.
    fn spread(set: &[Vec<u8>]) -> (usize, f64) {
        let counts = distances(set);
        let sum: u64 = counts.iter().zip(0..).map(|(count, distance)| count * distance).sum();
        (counts.iter().position(|count| *count > 0).unwrap(), sum as f64 / counts.iter().sum::<u64>() as f64)
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
    fn pairs_are_counted_by_distance() {
        assert_eq!(distances(&[vec![0, 1, 2], vec![0, 2, 1], vec![1, 2, 0]]), [0, 0, 2, 1]);
        assert_eq!(distances(&choose(4, 24, 2).unwrap()), [0, 0, 24 * 6 / 2, 24 * 8 / 2, 24 * 9 / 2]);
    }

    /// Prints how many are found, and how long it takes.
    #[test]
    #[ignore = "a benchmark"]
    fn speed() {
        for (tiles, count) in [(9, 701), (9, 1000), (9, 10_000), (16, 701), (16, 1000), (16, 10_000), (25, 1000)] {
            let start = std::time::Instant::now();
            let set = choose(tiles, count, 2).unwrap();
            let seconds = start.elapsed().as_secs_f64();
            let (min, mean) = spread(&set);
            println!("{count} of {tiles}: {seconds:.2} s, minimum {min}, mean {mean:.3}, {:?}", distances(&set));
        }
    }

    #[test]
    #[ignore = "takes a minute"]
    fn the_table_of_reaches_holds() {
        for &(tiles, distance, reach) in REACH {
            assert_eq!(choose(tiles, reach + 1, distance), Err(reach), "{tiles} tiles, distance {distance}");
            let (nearest, _) = spread(&choose(tiles, reach, distance).unwrap());
            assert!(nearest >= distance, "{tiles} tiles, distance {distance}: {nearest}");
        }
    }

    #[test]
    fn four_tiles_have_all_their_permutations() {
        assert_eq!(choose(4, 24, 2).map(|set| spread(&set).0), Ok(2));
        assert_eq!(choose(4, 4, 4).map(|set| spread(&set).0), Ok(4));
        assert_eq!(choose(4, 12, 3).map(|set| spread(&set).0), Ok(3));
        assert_eq!(choose(16, 16, 16).map(|set| spread(&set).0), Ok(16));
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
        for &(tiles, distance, reach) in REACH {
            assert!(reach as u128 <= most(tiles, distance), "{tiles} tiles, distance {distance}");
        }
    }
}

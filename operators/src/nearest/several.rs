//! The several nearest of other vectors for each of some rows: what `neighbours`, `layout` and `place` search with.
//!
//! As in the search for one or two, products of codes bound the scores, and the few vectors that may be among the nearest are told apart by
//! their distances: the result is that of all distances in f64, bit for bit, whatever the instruction set and the order of the search. Here the limit is the
//! distance of the farthest of those found so far. Of equal distances, the lower number comes first.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::bounds::{bound, gather, near_squared, slack};
use super::code::{self, Code, Frame, GROUP};
use super::kernel::{BLOCK, DEPTH, Kernel, LARGEST_SCORE, PANELS, Scratch, VECTORS, tile};
use super::lanes::{Lanes, Portable};
use super::panels::Panels;
use super::squared;

/// The share of a score's terms that is added to what it may be off by: far more than f64 loses, and what f32 does.
const MARGIN: f64 = 1.0 / (1u64 << 20) as f64;

/// The nearest found so far, up to so many.
#[derive(Debug, Clone, Default)]
pub struct Best {
    most: usize,
    /// Squared distances, whose bits sort as they do since none is below zero, and numbers.
    heap: BinaryHeap<(u64, u32)>,
}

impl Best {
    /// None yet, and never more than `most`, which is not 0.
    pub fn new(most: usize) -> Self {
        Self { most, heap: BinaryHeap::with_capacity(most + 1) }
    }

    /// No distance above that is among the nearest.
    fn limit(&self) -> f64 {
        match self.heap.peek() {
            Some(&(bits, _)) if self.heap.len() == self.most => f64::from_bits(bits),
            _ => f64::INFINITY,
        }
    }

    fn offer(&mut self, squared: f64, number: u32) {
        let key = (squared.to_bits(), number);
        if self.heap.len() < self.most {
            self.heap.push(key);
        } else if let Some(mut farthest) = self.heap.peek_mut()
            && key < *farthest
        {
            *farthest = key;
        }
    }

    /// Numbers and squared distances, nearest first.
    pub fn sorted(self) -> impl Iterator<Item = (u32, f64)> {
        self.heap.into_sorted_vec().into_iter().map(|(bits, number)| (number, f64::from_bits(bits)))
    }
}

/// The vectors whose codes [`Panels`] hold.
#[derive(Debug, Clone, Copy)]
pub struct Members<'a> {
    /// `n x D` values of which these are some rows, or all.
    pub values: &'a [f32],
    /// The rows' numbers, by which they are told; all rows if there are none.
    pub numbers: Option<&'a [u32]>,
}

impl Members<'_> {
    fn number(&self, at: usize) -> u32 {
        self.numbers.map_or(at as u32, |numbers| numbers[at])
    }
}

/// Rows to search for: `q x D`, coded.
pub struct Queries<'a> {
    values: &'a [f32],
    frame: Arc<Frame>,
    /// The words of each row, one row behind the other.
    words: Vec<u32>,
    codes: Vec<Code>,
    /// Half the squared length of each in the frame, without heavy dimensions.
    halves: Vec<f64>,
    /// The number of each that it is not to be found by; none if none is among the members.
    selves: Option<&'a [u32]>,
}

impl<'a> Queries<'a> {
    /// Codes rows, which are finite and of magnitude up to [`LARGEST`](crate::vectors::LARGEST). `selves` are their own numbers among the members, if they are there.
    pub fn new(frame: &Arc<Frame>, values: &'a [f32], selves: Option<&'a [u32]>) -> Self {
        let (dimension, words) = (frame.dimension(), frame.words());
        let count = values.len() / dimension;
        let mut codes = vec![Code::default(); count];
        let mut grouped = vec![0; code::words(frame, count)];
        frame.kernel.fill(frame, values, &mut grouped, &mut codes);
        let mut all = vec![0; count * words];
        for (number, row) in all.chunks_exact_mut(words.max(1)).enumerate() {
            let group = &grouped[number / GROUP * words * GROUP..];
            row.iter_mut().enumerate().for_each(|(at, word)| *word = group[at * GROUP + number % GROUP]);
        }
        let halves = values.chunks_exact(dimension).map(|row| frame.half_square(row)).collect();
        Self { values, frame: Arc::clone(frame), words: all, codes, halves, selves }
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.codes.len()
    }

    fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.frame.dimension()..][..self.frame.dimension()]
    }
}

/// One thread's memory for searches.
pub struct Searcher {
    scratch: Scratch,
    /// A block's words, in groups.
    words: Vec<u32>,
    candidates: Vec<(u32, f32)>,
    kernel: Kernel,
}

impl Searcher {
    /// For rows of a frame.
    pub fn new(frame: &Frame) -> Self {
        let words = vec![0; code::words(frame, BLOCK)];
        Self { scratch: Scratch::new(frame.kernel), words, candidates: Vec::new(), kernel: frame.kernel }
    }

    /// Searches the members for some of the rows, by their numbers: `best`, one a row of the queries, takes what is nearer than what it has.
    ///
    /// # Panics
    /// Rows and members were coded in frames of different kinds.
    pub fn search(&mut self, panels: &Panels, members: Members<'_>, queries: &Queries<'_>, some: &[u32], best: &mut [Best]) {
        assert!(self.kernel == panels.frame.kernel && Arc::ptr_eq(&panels.frame, &queries.frame), "one frame");
        for some in some.chunks(BLOCK) {
            self.block(panels, members, queries, some, best);
        }
    }

    fn block(&mut self, panels: &Panels, members: Members<'_>, queries: &Queries<'_>, some: &[u32], best: &mut [Best]) {
        /// One instruction set's.
        macro_rules! with {
            ($features:literal, $lanes:ty, $rows:literal) => {{
                #[target_feature(enable = $features)]
                fn run(
                    searcher: &mut Searcher,
                    panels: &Panels,
                    members: Members<'_>,
                    queries: &Queries<'_>,
                    some: &[u32],
                    best: &mut [Best],
                ) {
                    // SAFETY: the instructions are there, since this function's are.
                    unsafe { block::<$lanes, $rows>(searcher, panels, members, queries, some, best) }
                }
                // SAFETY: `Kernel::all` found the instructions.
                unsafe { run(self, panels, members, queries, some, best) }
            }};
        }
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::VnniBytes => with!("avx512f,avx512bw,avx512vnni", super::lanes::x86::VnniBytes, 8),
            #[cfg(target_arch = "x86_64")]
            Kernel::VnniShorts => with!("avx512f,avx512bw,avx512vnni", super::lanes::x86::VnniShorts, 8),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2Shorts => with!("avx2", super::lanes::x86::Avx2Shorts, 4),
            // SAFETY: it needs no instructions beyond the target's.
            Kernel::Portable => unsafe { block::<Portable, 4>(self, panels, members, queries, some, best) },
        }
    }
}

/// Searches for up to [`BLOCK`] rows, `ROWS` of them in a tile.
///
/// # Safety
/// The processor has the instructions of `V`, and all codes are of that kernel.
#[inline(always)]
unsafe fn block<V: Lanes, const ROWS: usize>(
    searcher: &mut Searcher,
    panels: &Panels,
    members: Members<'_>,
    queries: &Queries<'_>,
    some: &[u32],
    best: &mut [Best],
) {
    let Searcher { scratch, words: grouped, candidates, .. } = searcher;
    let (frame, words) = (&panels.frame, panels.frame.words());
    let (padded, panel) = (panels.terms.step.len(), VECTORS * V::WIDTH);
    let chunk = PANELS * panel;
    assert!(padded.is_multiple_of(V::WIDTH) && scratch.sums.len() >= BLOCK * chunk && scratch.upper.len() >= chunk);
    let heavy = frame.heavy();
    scratch.heavy.clear();
    for (place, &query) in some.iter().enumerate() {
        let group = &mut grouped[place / GROUP * words * GROUP..];
        for (at, &word) in queries.words[query as usize * words..][..words].iter().enumerate() {
            group[at * GROUP + place % GROUP] = word;
        }
        scratch.heavy.extend(frame.heavy_values(queries.row(query as usize)));
    }
    for start in (0..padded).step_by(chunk) {
        let columns = chunk.min(padded - start);
        for depth in (0..words).step_by(DEPTH) {
            let deep = DEPTH.min(words - depth);
            for column in (0..columns).step_by(panel) {
                let width = panel.min(columns - column);
                let member_words = &panels.words[(start + column) * words + depth * width..][..deep * width];
                for row in (0..some.len()).step_by(ROWS) {
                    let row_words = &grouped[(row / GROUP * words + depth) * GROUP..][..deep * GROUP];
                    let sums = &mut scratch.sums[row * chunk + column..];
                    // SAFETY: as this function's.
                    unsafe {
                        match width / V::WIDTH {
                            3 => tile::<V, ROWS, 3>(&row_words[row % GROUP..], member_words, sums, chunk, depth > 0),
                            2 => tile::<V, ROWS, 2>(&row_words[row % GROUP..], member_words, sums, chunk, depth > 0),
                            _ => tile::<V, ROWS, 1>(&row_words[row % GROUP..], member_words, sums, chunk, depth > 0),
                        }
                    }
                }
            }
        }
        for (place, &query) in some.iter().enumerate() {
            let (query, best) = (query as usize, &mut best[query as usize]);
            let (sums, upper) = (&scratch.sums[place * chunk..][..columns], &mut scratch.upper[..columns]);
            let code = &queries.codes[query];
            candidates.clear();
            if code.norm * panels.longest > LARGEST_SCORE {
                candidates.extend((start..panels.count.min(start + columns)).map(|place| (place as u32, f32::INFINITY)));
            } else {
                let least = least(queries.halves[query], best.limit(), frame.scale());
                // SAFETY: as this function's.
                unsafe {
                    let heavy = &scratch.heavy[place * heavy..][..heavy];
                    bound::<V, u32>(&panels.terms, start, code, heavy, sums, upper, &mut [f32::NEG_INFINITY; 2]);
                    gather::<V>(upper, least, start, candidates);
                }
            }
            let mut first = 0;
            if candidates.len() > 2 * best.most {
                // The most promising come first, so that the others need no look.
                candidates.select_nth_unstable_by(best.most - 1, |a, b| b.1.total_cmp(&a.1));
                first = best.most;
            }
            for candidates in [&candidates[..first], &candidates[first..]] {
                look(panels, members, queries, query, candidates, best);
            }
        }
    }
}

/// Measures the candidates that the limit does not rule out.
#[inline(always)]
fn look(
    panels: &Panels,
    members: Members<'_>,
    queries: &Queries<'_>,
    query: usize,
    candidates: &[(u32, f32)],
    best: &mut Best,
) {
    let (values, own) = (queries.row(query), queries.selves.map(|selves| selves[query]));
    let (half, scale, slack) = (queries.halves[query], panels.frame.scale(), slack(values.len()));
    let mut limit = best.limit();
    let mut least = least(half, limit, scale);
    for &(place, upper) in candidates {
        if upper < least || place as usize >= panels.count {
            continue;
        }
        let number = members.number(place as usize);
        let vector = &members.values[number as usize * values.len()..][..values.len()];
        let near = near_squared(values, vector);
        if f64::from(near * (1.0 - slack) - f32::MIN_POSITIVE) > limit || own == Some(number) {
            continue;
        }
        best.offer(squared(values, vector), number);
        if best.limit() < limit {
            limit = best.limit();
            least = self::least(half, limit, scale);
        }
    }
}

/// The score that a vector at that squared distance has, or less: one of a lower score is farther.
fn least(half: f64, limit: f64, scale: f32) -> f32 {
    let limit = limit * f64::from(scale) * f64::from(scale) / 2.0;
    let least = half - limit - MARGIN * (half + limit) - 1e-35;
    if least.is_finite() { least as f32 } else { f32::NEG_INFINITY }
}

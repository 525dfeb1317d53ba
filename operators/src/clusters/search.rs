//! The nearest of many rows for each of them: in the lists of some clusters, or in all.
//!
//! Rows lie in lists, lists in pieces whose codes are made ready for the search, at once or, where memory does not hold them, each time that one is searched.
//! Rows are searched for in units of one list, since such rows look into much the same lists (an inverted file: Jégou, Douze, Schmid, TPAMI 2011).

use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::nearest::{BLOCK, Best, Frame, Members, Panels, Queries, Searcher};
use crate::numbers::Numbers;
use crate::operator::{RunError, Sink};
use crate::parallel;

/// Rows in a piece: its codes stay in the second-level cache.
const PIECE: usize = 4096;
/// The most rows that are searched for at once.
const UNIT: usize = 8 * BLOCK;
/// Multiply-adds in a unit of rows: some tenths of a second.
const WORK: usize = 1 << 34;
/// Units between two looks at whether the run was cancelled, a thread.
const AT_ONCE: usize = 4;
/// Rows that a frame is made around.
const SAMPLE: usize = 4096;

/// Rows in lists.
pub struct Lists<'a> {
    values: Values<'a>,
    frame: Arc<Frame>,
    /// Rows' numbers, list by list, rising in each.
    members: Vec<u32>,
    /// Where pieces lie in `members`.
    pieces: Vec<Range<usize>>,
    /// Where lists lie in `pieces`.
    lists: Vec<Range<usize>>,
    /// The pieces' codes, if they are held.
    panels: Vec<Panels>,
}

/// Rows' values, `n x D`.
pub enum Values<'a> {
    /// Another's.
    Of(&'a Numbers<f32>),
    /// Its own.
    Own(Numbers<f32>),
}

impl Deref for Values<'_> {
    type Target = Numbers<f32>;

    fn deref(&self) -> &Numbers<f32> {
        match self {
            Self::Of(values) => values,
            Self::Own(values) => values,
        }
    }
}

/// The lists that are searched.
pub enum Within<'a> {
    /// All.
    All,
    /// For each row its own.
    Lists(&'a [Vec<u32>]),
}

/// A frame around a sample of rows, evenly spread.
pub fn frame(values: &Numbers<f32>, dimension: usize) -> Arc<Frame> {
    let step = (values.len() / dimension).div_ceil(SAMPLE).max(1);
    let sample: Vec<f32> = values.chunks_exact(dimension).step_by(step).flatten().copied().collect();
    values.release(0..values.len());
    Arc::new(Frame::around(&sample, dimension))
}

/// Calls `work` for each unit of so many, and `take` with what it made, in order.
///
/// # Errors
/// `take` failed, or the run was cancelled.
pub fn waves<T: Send>(
    units: usize,
    threads: usize,
    sink: &mut dyn Sink,
    note: &str,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let wave = threads.max(1) * AT_ONCE;
    for first in (0..units).step_by(wave) {
        sink.progress(first, units, note);
        if sink.cancelled() {
            return Err(RunError::Cancelled);
        }
        let made = parallel::each(threads, wave.min(units - first), |number| work(first + number));
        made.into_iter().enumerate().try_for_each(|(number, made)| take(first + number, made))?;
    }
    Ok(())
}

impl<'a> Lists<'a> {
    /// One list of all rows, whose codes are held or not.
    pub fn one(values: Values<'a>, frame: Arc<Frame>, held: bool, threads: usize) -> Self {
        let count = values.len() / frame.dimension();
        Self::of(values, frame, (0..count as u32).collect(), &[count], held, threads)
    }

    /// Lists by the number of the list that each row is in.
    pub fn by(values: Values<'a>, frame: Arc<Frame>, list: &[u32], lists: usize, held: bool, threads: usize) -> Self {
        let mut sizes = vec![0; lists];
        list.iter().for_each(|&list| sizes[list as usize] += 1);
        let mut next: Vec<usize> = sizes.iter().scan(0, |sum, &size| Some(std::mem::replace(sum, *sum + size))).collect();
        let mut members = vec![0; list.len()];
        for (row, &list) in list.iter().enumerate() {
            members[next[list as usize]] = row as u32;
            next[list as usize] += 1;
        }
        Self::of(values, frame, members, &sizes, held, threads)
    }

    fn of(values: Values<'a>, frame: Arc<Frame>, members: Vec<u32>, sizes: &[usize], held: bool, threads: usize) -> Self {
        let (mut pieces, mut lists, mut start) = (Vec::new(), Vec::new(), 0);
        for size in sizes {
            let first = pieces.len();
            pieces.extend((start..start + size).step_by(PIECE).map(|at| at..(at + PIECE).min(start + size)));
            lists.push(first..pieces.len());
            start += size;
        }
        let mut made = Self { values, frame, members, pieces, lists, panels: Vec::new() };
        if held {
            made.panels = parallel::each(threads, made.pieces.len(), |piece| made.code(piece));
        }
        made
    }

    fn code(&self, piece: usize) -> Panels {
        let dimension = self.frame.dimension();
        let vector = |&row: &u32| &self.values[row as usize * dimension..][..dimension];
        Panels::new(&self.frame, self.members[self.pieces[piece].clone()].iter().map(vector))
    }

    /// How many rows a list has.
    pub fn size(&self, list: usize) -> usize {
        let pieces = &self.pieces[self.lists[list].clone()];
        pieces.first().zip(pieces.last()).map_or(0, |(first, last)| last.end - first.start)
    }

    /// Units of rows that are searched for at once: where they lie in [`members`](Self::members).
    pub fn units(&self) -> Vec<Range<usize>> {
        let all = (self.members.len() * self.frame.dimension()).max(1);
        let most = (WORK / all / BLOCK * BLOCK).clamp(BLOCK, UNIT);
        let of_list = |pieces: &Range<usize>| {
            let pieces = &self.pieces[pieces.clone()];
            let whole = pieces.first().zip(pieces.last()).map_or(0..0, |(first, last)| first.start..last.end);
            whole.clone().step_by(most).map(move |start| start..(start + most).min(whole.end)).collect::<Vec<_>>()
        };
        self.lists.iter().flat_map(of_list).collect()
    }

    /// The rows' numbers, list by list.
    pub fn members(&self) -> &[u32] {
        &self.members
    }

    /// The `count` nearest others of each of those rows of the table.
    pub fn others(&self, rows: &[u32], within: &Within<'_>, count: usize) -> Vec<Best> {
        let dimension = self.frame.dimension();
        let values: Vec<f32> =
            rows.iter().flat_map(|&row| &self.values[row as usize * dimension..][..dimension]).copied().collect();
        self.search(&Queries::new(&self.frame, &values, Some(rows)), within, count)
    }

    /// The `count` nearest rows for each of those vectors.
    pub fn nearest(&self, vectors: &[f32], count: usize) -> Vec<Best> {
        self.search(&Queries::new(&self.frame, vectors, None), &Within::All, count)
    }

    fn search(&self, queries: &Queries<'_>, within: &Within<'_>, count: usize) -> Vec<Best> {
        let mut best = vec![Best::new(count); queries.count()];
        let mut searcher = Searcher::new(&self.frame);
        let mut look = |list: usize, some: &[u32]| {
            for piece in self.lists[list].clone() {
                let members = Members { values: &self.values, numbers: Some(&self.members[self.pieces[piece].clone()]) };
                match self.panels.get(piece) {
                    Some(panels) => searcher.search(panels, members, queries, some, &mut best),
                    None => searcher.search(&self.code(piece), members, queries, some, &mut best),
                }
            }
        };
        match within {
            Within::All => {
                let all: Vec<u32> = (0..queries.count() as u32).collect();
                (0..self.lists.len()).for_each(|list| look(list, &all));
            }
            Within::Lists(lists) => {
                // Those that most are looked for in come first: there are the nearest, which leave less to do in the others.
                let mut by_list: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
                for (query, lists) in lists.iter().enumerate() {
                    lists.iter().for_each(|&list| by_list.entry(list).or_default().push(query as u32));
                }
                let mut by_list: Vec<_> = by_list.into_iter().collect();
                by_list.sort_by_key(|(_, some)| std::cmp::Reverse(some.len()));
                by_list.iter().for_each(|(list, some)| look(*list as usize, some));
            }
        }
        best
    }

    /// Says that no row will be looked at soon.
    pub fn release(&self) {
        self.values.release(0..self.values.len());
    }
}

//! Texts with something attached to each, brought into the texts' order within a bounded memory: what is too much is sorted run by
//! run into a file without a name, and the runs are merged as they are read (Knuth, "The Art of Computer Programming", vol. 3, 5.4).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::numbers::{nameless, refused};
use crate::operator::RunError;

/// Bytes of a run that are read or written at once.
const BUFFER: usize = 1 << 16;
/// The least that a run has, so that there are not too many of them.
const LEAST: usize = 1 << 20;

/// Texts as they come.
pub struct Sorter {
    /// For each: the lengths of text and attachment, then both.
    bytes: Vec<u8>,
    /// Where each begins in `bytes`.
    starts: Vec<usize>,
    spill: Option<Spill>,
}

/// The file for texts that do not fit into memory.
struct Spill {
    /// The most bytes that are held.
    most: usize,
    file: File,
    folder: PathBuf,
    /// Bytes in the file.
    written: u64,
    /// Where runs begin and end.
    runs: Vec<(u64, u64)>,
    /// The last text of the last run.
    last: Vec<u8>,
}

impl Sorter {
    /// All in memory, or in a file in `folder` but for `most` bytes.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(spill: Option<(&Path, usize)>) -> Result<Self, RunError> {
        let spill = spill.map(|(folder, most)| {
            let (file, folder) = (nameless(folder)?, folder.to_owned());
            Ok::<_, RunError>(Spill { most: most.max(LEAST), file, folder, written: 0, runs: Vec::new(), last: Vec::new() })
        });
        Ok(Self { bytes: Vec::new(), starts: Vec::new(), spill: spill.transpose()? })
    }

    /// Adds one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, text: &str, attached: &[u8]) -> Result<(), RunError> {
        let next = size_of::<[u32; 2]>() + text.len() + attached.len();
        if let Some(spill) = &mut self.spill
            && !self.starts.is_empty()
            && self.bytes.len() + next + (self.starts.len() + 1) * size_of::<usize>() > spill.most
        {
            spill.add(&self.bytes, &mut self.starts)?;
            self.bytes.clear();
        }
        if self.bytes.capacity() == 0
            && let Some(spill) = &self.spill
        {
            // Growing would hold the old beside the new.
            self.bytes.reserve_exact(spill.most);
        }
        self.starts.push(self.bytes.len());
        for length in [text.len(), attached.len()] {
            self.bytes.extend_from_slice(&(length as u32).to_ne_bytes());
        }
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(attached);
        Ok(())
    }

    /// All of them, in the order of their texts; of equal texts, the first that came first.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<Sorted, RunError> {
        match &mut self.spill {
            Some(spill) if !spill.runs.is_empty() => {
                spill.add(&self.bytes, &mut self.starts)?;
                let Self { spill: Some(spill), .. } = self else { unreachable!("it was matched above") };
                spill.merge()
            }
            _ => {
                order(&self.bytes, &mut self.starts);
                Ok(Sorted(Source::Memory { bytes: self.bytes, starts: self.starts, at: 0 }))
            }
        }
    }
}

/// The lengths of text and attachment.
fn lengths(bytes: &[u8]) -> (usize, usize) {
    let one = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    (one(0), one(4))
}

fn text_at(bytes: &[u8], start: usize) -> &[u8] {
    &bytes[start + 8..][..lengths(&bytes[start..]).0]
}

/// Sorts places by their texts; most come sorted.
fn order(bytes: &[u8], starts: &mut [usize]) {
    starts.sort_by(|&a, &b| text_at(bytes, a).cmp(text_at(bytes, b)));
}

impl Spill {
    /// Writes some behind those that were written; where they go on from there, as one run with them.
    fn add(&mut self, bytes: &[u8], starts: &mut Vec<usize>) -> Result<(), RunError> {
        order(bytes, starts);
        let (Some(&first), Some(&last)) = (starts.first(), starts.last()) else { return Ok(()) };
        let begin = self.written;
        let mut to = BufWriter::with_capacity(BUFFER, &self.file);
        for &start in starts.iter() {
            let (text, attached) = lengths(&bytes[start..]);
            let whole = &bytes[start..start + 8 + text + attached];
            to.write_all(whole).map_err(|source| refused(&self.folder, source))?;
            self.written += whole.len() as u64;
        }
        to.flush().map_err(|source| refused(&self.folder, source))?;
        drop(to);
        match self.runs.last_mut() {
            Some(run) if self.last.as_slice() <= text_at(bytes, first) => run.1 = self.written,
            _ => self.runs.push((begin, self.written)),
        }
        self.last = text_at(bytes, last).to_vec();
        starts.clear();
        Ok(())
    }

    fn merge(self) -> Result<Sorted, RunError> {
        let file = Arc::new(self.file);
        let mut merge = Merge { runs: Vec::new(), heads: BinaryHeap::new(), folder: self.folder };
        for (number, (at, end)) in self.runs.into_iter().enumerate() {
            merge.runs.push(BufReader::with_capacity(BUFFER, Run { file: file.clone(), at, end }));
            merge.advance(number)?;
        }
        Ok(Sorted(Source::Runs(merge)))
    }
}

/// Texts in their order.
pub struct Sorted(Source);

enum Source {
    Memory { bytes: Vec<u8>, starts: Vec<usize>, at: usize },
    Runs(Merge),
}

/// A text and what is attached to it.
pub type Item = (String, Vec<u8>);

impl Iterator for Sorted {
    type Item = Result<Item, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Memory { bytes, starts, at } => {
                let start = *starts.get(*at)?;
                *at += 1;
                let (text, attached) = lengths(&bytes[start..]);
                let (text, attached) = bytes[start + 8..][..text + attached].split_at(text);
                Some(Ok((String::from_utf8_lossy(text).into_owned(), attached.to_vec())))
            }
            Source::Runs(merge) => {
                let Reverse(Head { text, run, attached }) = merge.heads.pop()?;
                Some(merge.advance(run).map(|()| (text, attached)))
            }
        }
    }
}

/// Runs that are read side by side.
struct Merge {
    runs: Vec<BufReader<Run>>,
    heads: BinaryHeap<Reverse<Head>>,
    folder: PathBuf,
}

/// The first of a run that was not given out. Heads sort by text, then by run: earlier runs came first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    text: String,
    run: usize,
    attached: Vec<u8>,
}

impl Merge {
    fn advance(&mut self, run: usize) -> Result<(), RunError> {
        let from = &mut self.runs[run];
        let mut both = [0; 8];
        let mut read = || -> std::io::Result<Option<Head>> {
            if from.buffer().is_empty() && from.get_ref().at == from.get_ref().end {
                return Ok(None);
            }
            from.read_exact(&mut both)?;
            let (text, attached) = lengths(&both);
            let (mut text, mut attached) = (vec![0; text], vec![0; attached]);
            from.read_exact(&mut text)?;
            from.read_exact(&mut attached)?;
            Ok(Some(Head { text: String::from_utf8_lossy(&text).into_owned(), run, attached }))
        };
        let head = read().map_err(|source| refused(&self.folder, source))?;
        self.heads.extend(head.map(Reverse));
        Ok(())
    }
}

/// A stretch of the file.
struct Run {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Run {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let most = to.len().min((self.end - self.at) as usize);
        let read = self.file.read_at(&mut to[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Draw;

    fn sorted(items: &[(String, u32)], spill: Option<(&Path, usize)>) -> (Vec<(String, u32)>, usize) {
        let mut sorter = Sorter::new(spill).unwrap();
        items.iter().for_each(|(text, number)| sorter.push(text, &number.to_ne_bytes()).unwrap());
        let runs = sorter.spill.as_ref().map_or(0, |spill| spill.runs.len());
        let number = |item: Item| (item.0, u32::from_ne_bytes(item.1.try_into().unwrap()));
        (sorter.finish().unwrap().map(|item| number(item.unwrap())).collect(), runs)
    }

    #[test]
    fn runs_in_a_file_are_merged_to_the_order_that_memory_gives() {
        let folder = tempfile::tempdir().unwrap();
        let mut draw = Draw::new(1, "test", "texts", "", 0);
        // Some texts come twice, some are empty, and some long.
        let text = |at: usize, draw: &mut Draw| match at % 1000 {
            0 => String::new(),
            1 => "\u{e9}".repeat(3000),
            _ => format!("{:x}", draw.below(100_000)),
        };
        let items: Vec<_> = (0..120_000).map(|at| (text(at, &mut draw), at as u32)).collect();
        let mut expected = items.clone();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(sorted(&items, None), (expected.clone(), 0));
        let (found, runs) = sorted(&items, Some((folder.path(), LEAST)));
        assert!(runs > 2, "{runs}");
        assert_eq!(found, expected);
        assert_eq!(sorted(&expected, Some((folder.path(), LEAST))), (expected, 1));
        assert_eq!(sorted(&[], Some((folder.path(), LEAST))).0, []);
    }
}

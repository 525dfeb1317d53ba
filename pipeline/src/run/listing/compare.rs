//! What there is now, compared with the last listing: both are sorted by path, and gone through side by side.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Peekable;

use tessera_datasets::{Entry, Fingerprint};

use super::file::{Known, Rows};
use super::sure;
use crate::store::Damaged;

/// Files whose memory is given back together: 64 MiB, more than an allocator keeps for itself.
const PIECE: usize = 1 << 20;

/// What differs between a listing and the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files that were not there.
    pub added: usize,
    /// Files that are gone.
    pub removed: usize,
    /// Files with another size or time.
    pub touched: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [(self.added, "added"), (self.removed, "removed"), (self.touched, "touched")];
        let told: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        f.write_str(&told.join(", "))
    }
}

impl Changes {
    /// Whether there are none.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

/// The files that there are, with what the last listing knew of them.
#[derive(Default)]
pub struct Compared {
    /// The files, by path, with the digests and headers that hold. The digest of a file that is to be hashed is not known.
    pub prints: Vec<Fingerprint>,
    /// What differs.
    pub changes: Changes,
    /// How many files the last listing had.
    pub known: usize,
    /// Whether the last listing had a file whose size and times do not say whether its bytes are the same.
    pub unsure: bool,
    /// What was found out about the last listing: then it is as good as none.
    pub damaged: Option<Damaged>,
}

/// Compares the files that there are, sorted by path, with the last listing.
pub fn compare(entries: Vec<Entry>, known: Known) -> Compared {
    let mut found = Compared { prints: Vec::with_capacity(entries.len()), known: known.files(), ..Compared::default() };
    let since_ns = known.since_ns;
    let mut entries = taken(entries).peekable();
    for rows in known {
        match rows {
            Ok(rows) => found.side_by_side(&mut entries, &rows, since_ns),
            Err(damaged) => {
                found.damaged = Some(damaged);
                break;
            }
        }
    }
    entries.for_each(|entry| found.add(entry));
    if found.damaged.is_some() {
        found.prints.iter_mut().for_each(|print| *print = fresh(std::mem::take(&mut print.entry)));
        found.changes = Changes { added: found.prints.len(), ..Changes::default() };
        (found.known, found.unsure) = (0, false);
    }
    found
}

/// The entries one by one, such that the memory of those that were taken is given back: a vector keeps all of it to the end.
fn taken(mut entries: Vec<Entry>) -> impl Iterator<Item = Entry> {
    let mut pieces = Vec::new();
    while entries.len() > PIECE {
        pieces.push(entries.split_off((entries.len() - 1) / PIECE * PIECE));
        entries.shrink_to_fit();
    }
    pieces.push(entries);
    pieces.into_iter().rev().flatten()
}

/// A file that is to be hashed.
fn fresh(entry: Entry) -> Fingerprint {
    Fingerprint { entry, ..Fingerprint::default() }
}

impl Compared {
    fn add(&mut self, entry: Entry) {
        self.changes.added += 1;
        self.prints.push(fresh(entry));
    }

    /// Goes on by some rows of the last listing.
    fn side_by_side(&mut self, entries: &mut Peekable<impl Iterator<Item = Entry>>, rows: &Rows, since_ns: i64) {
        for row in 0..rows.count() {
            let (path, version, digest) = (rows.path(row), rows.version(row), rows.digest(row));
            let sure = sure(version, &digest, since_ns);
            self.unsure |= !sure;
            let mut is_there = false;
            while let Some(entry) = entries.peek() {
                let order = (*entry.path).cmp(path);
                if order == Ordering::Greater {
                    break;
                }
                let Some(entry) = entries.next() else { break };
                if order == Ordering::Less {
                    self.add(entry);
                    continue;
                }
                is_there = true;
                let same = entry.version().is(version);
                self.changes.touched += usize::from(!same);
                self.prints.push(if same && sure {
                    Fingerprint { entry, digest, header: rows.header(row) }
                } else {
                    fresh(entry)
                });
                break;
            }
            self.changes.removed += usize::from(!is_there);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_taken_in_their_order() {
        for count in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 7] {
            let entries = (0..count as u64).map(|size| Entry { size, ..Entry::default() }).collect();
            assert!(taken(entries).map(|entry| entry.size).eq(0..count as u64), "{count}");
        }
    }
}

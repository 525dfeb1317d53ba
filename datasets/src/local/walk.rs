//! A walk over a tree of folders by several threads.
//!
//! Whoever is free takes a folder that was found, or a slab of a large folder's names, and looks at the files in it. What one of these
//! holds is sorted while it is in the processor's cache; most folders' files lie side by side in the end, so that nothing is left to sort.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::{NOT_TEXT, entry, readable};
use crate::{Entry, Error, LeftOut, Listed, is_exhausted};

/// Threads that list folders: they wait for the disk more than they compute.
const LISTERS: usize = 4;
/// Names of a large folder that are looked at together.
const SLAB: usize = 1024;
/// Slabs that wait to be taken: if there are more, whoever reads the names of a folder looks at its files as well.
const WAITING: usize = 2 * LISTERS;
/// Files of small folders that are sorted together.
const SORTED: usize = 4096;

/// A walk.
pub(super) struct Walk<'a> {
    root: &'a Path,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: Vec<Work>,
    /// How many slabs are among that.
    slabs: usize,
    /// Threads that look at one.
    busy: usize,
    found: Found,
}

/// What one thread does at a time.
enum Work {
    Folder(Folder),
    Slab(Folder, Vec<DirEntry>),
}

/// A folder to list, relative to the root, with those that lead to it (device, inode): a link back up is not followed.
#[derive(Clone, Default)]
struct Folder {
    path: Arc<str>,
    above: Arc<[(u64, u64)]>,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// Files, each run of them sorted.
    runs: Vec<Vec<Entry>>,
    left_out: Vec<LeftOut>,
    failed: Option<Error>,
}

/// What one piece of work found.
#[derive(Default)]
struct Piece {
    files: Vec<Entry>,
    left_out: Vec<LeftOut>,
    below: Vec<Folder>,
    failed: Option<Error>,
}

impl<'a> Walk<'a> {
    /// A walk over all that lies below a folder.
    pub(super) fn new(root: &'a Path) -> Self {
        let state = State { open: vec![Work::Folder(Folder::default())], ..State::default() };
        Self { root, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// What there is, sorted.
    ///
    /// # Errors
    /// The system has no more of what reading a folder takes: what is below that folder is not known.
    pub(super) fn run(self) -> Result<Listed, Error> {
        thread::scope(|scope| {
            for _ in 0..LISTERS {
                scope.spawn(|| self.work());
            }
        });
        let Found { runs, mut left_out, failed } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner).found;
        if let Some(failed) = failed {
            return Err(failed);
        }
        left_out.sort_unstable();
        Ok(Listed { files: joined(runs), left_out, ..Listed::default() })
    }

    fn work(&self) {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Files of small folders, until they are worth a run.
        let mut small = Vec::new();
        let mut state = lock();
        loop {
            let Some(work) = state.open.pop() else {
                if state.busy == 0 {
                    self.changed.notify_all();
                    drop(state);
                    small.sort_unstable_by(by_path);
                    lock().found.add(small);
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            state.slabs -= usize::from(matches!(work, Work::Slab(..)));
            drop(state);
            let mut piece = self.piece(work);
            let mut run = if piece.files.len() < SORTED / 8 {
                small.append(&mut piece.files);
                if small.len() < SORTED { Vec::new() } else { std::mem::take(&mut small) }
            } else {
                piece.files
            };
            run.sort_unstable_by(by_path);
            state = lock();
            state.busy -= 1;
            state.found.add(run);
            state.found.left_out.append(&mut piece.left_out);
            state.found.failed = state.found.failed.take().or(piece.failed);
            state.open.extend(piece.below.into_iter().map(Work::Folder));
            self.changed.notify_all();
        }
    }

    fn piece(&self, work: Work) -> Piece {
        let mut piece = Piece::default();
        match work {
            Work::Slab(folder, items) => items.iter().for_each(|item| self.look(&folder, item, &mut piece)),
            Work::Folder(folder) => {
                let path = folder.path.clone();
                match self.list(folder, &mut piece) {
                    Ok(()) => {}
                    // One that went in this very moment holds nothing.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if is_exhausted(&error) => piece.failed = Some(Error::io(self.root.join(&*path), error)),
                    Err(error) => {
                        let reason = format!("the folder cannot be read: {error}");
                        piece.left_out.push(LeftOut { path: path.as_ref().to_owned(), is_folder: true, reason });
                    }
                }
            }
        }
        piece
    }

    /// Files and folders of one folder.
    fn list(&self, folder: Folder, piece: &mut Piece) -> io::Result<()> {
        let Folder { path: folder, above } = folder;
        let path = self.root.join(&*folder);
        let itself = fs::metadata(&path)?;
        let identity = (itself.dev(), itself.ino());
        if above.contains(&identity) {
            return Ok(());
        }
        let folder = Folder { path: folder, above: above.iter().copied().chain([identity]).collect() };
        let mut items = Vec::new();
        let mut read = || -> io::Result<()> {
            for item in fs::read_dir(&path)? {
                items.push(item?);
                if items.len() == SLAB {
                    let slab = std::mem::take(&mut items);
                    match self.hand_on(&folder, slab) {
                        None => {}
                        Some(slab) => slab.iter().for_each(|item| self.look(&folder, item, piece)),
                    }
                }
            }
            Ok(())
        };
        let read = read();
        items.iter().for_each(|item| self.look(&folder, item, piece));
        read
    }

    /// Leaves a slab to whoever is free, or gives it back if enough of them wait.
    fn hand_on(&self, folder: &Folder, slab: Vec<DirEntry>) -> Option<Vec<DirEntry>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.slabs >= WAITING {
            return Some(slab);
        }
        state.slabs += 1;
        state.open.push(Work::Slab(folder.clone(), slab));
        self.changed.notify_one();
        None
    }

    /// One file or folder of a folder.
    fn look(&self, folder: &Folder, item: &DirEntry, piece: &mut Piece) {
        let name = item.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            return;
        }
        let within = |name: &str| -> Box<str> {
            if folder.path.is_empty() { name.into() } else { [&*folder.path, "/", name].concat().into() }
        };
        let kind = item.file_type();
        let is_link = kind.as_ref().is_ok_and(fs::FileType::is_symlink);
        let is_plain_folder = kind.as_ref().is_ok_and(fs::FileType::is_dir);
        // The entry's own metadata spares the walk from the root, unless it is a link. That of a folder, its own listing asks for.
        let metadata = match kind {
            Ok(_) if is_plain_folder => None,
            Ok(_) if is_link => Some(fs::metadata(item.path())),
            Ok(_) => Some(item.metadata()),
            Err(error) => Some(Err(error)),
        };
        let is_folder = metadata.as_ref().map_or(is_plain_folder, |found| found.as_ref().is_ok_and(fs::Metadata::is_dir));
        let Some(name) = name.to_str() else {
            let (path, reason) = (within(&readable(&name)).into(), NOT_TEXT.to_owned());
            piece.left_out.push(LeftOut { path, is_folder, reason });
            return;
        };
        match metadata {
            _ if is_folder => piece.below.push(Folder { path: within(name).into(), above: folder.above.clone() }),
            Some(Ok(metadata)) if metadata.is_file() => piece.files.push(entry(within(name), &metadata)),
            Some(Ok(_)) | None => {}
            // It went in this very moment.
            Some(Err(error)) if !is_link && error.kind() == io::ErrorKind::NotFound => {}
            // A link to nothing or to itself is a file that cannot be read: its reader says so, and `on_error` what that means.
            Some(Err(_)) => piece.files.push(Entry { path: within(name), ..Entry::default() }),
        }
    }
}

impl Found {
    fn add(&mut self, run: Vec<Entry>) {
        if !run.is_empty() {
            self.runs.push(run);
        }
    }
}

fn by_path(one: &Entry, other: &Entry) -> std::cmp::Ordering {
    one.path.cmp(&other.path)
}

/// All files, sorted.
fn joined(mut runs: Vec<Vec<Entry>>) -> Vec<Entry> {
    runs.sort_unstable_by(|one, other| one[0].path.cmp(&other[0].path));
    let mut files = Vec::with_capacity(runs.iter().map(Vec::len).sum());
    for mut run in runs {
        files.append(&mut run);
    }
    if files.is_sorted_by(|one, other| one.path <= other.path) {
        return files;
    }
    // A stable sort merges what is sorted already.
    let share = files.len().div_ceil(LISTERS);
    thread::scope(|scope| {
        for piece in files.chunks_mut(share) {
            scope.spawn(|| piece.sort_by(by_path));
        }
    });
    files.sort_by(by_path);
    files
}

//! A file that gets its name when it is whole; dropped before, it leaves nothing behind. `-` names standard output.

use std::env;
use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::store::attempt;

/// Whether a path stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A file that is being written.
pub struct NewFile {
    to: To,
    temporary: PathBuf,
    file: Option<File>,
}

/// What becomes of it when it is whole.
enum To {
    /// It gets that name; whether another file may have it by then.
    Path(PathBuf, bool),
    /// Its bytes go to standard output.
    Stdout,
    /// It is standard output.
    Stream,
}

impl NewFile {
    /// Begins a file that is to have that path, or what goes to standard output, for a writer that [`streams`](Self::to_stdout) or not.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`to_stdout`](Self::to_stdout).
    pub fn at(path: &Path, force: bool, streams: bool) -> Result<Self> {
        if is_stdout(path) { Self::to_stdout(streams) } else { Self::create(path, force) }
    }

    /// Begins a file that is to have that path.
    ///
    /// # Errors
    /// There is one already and `force` is not given, or the folder cannot be written to.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        refuse_existing(path, force)?;
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", attempt()));
        let file = File::create_new(&temporary).with_context(|| format!("cannot write to {}", path.display()))?;
        Ok(Self { to: To::Path(path.to_owned(), force), temporary, file: Some(file) })
    }

    /// Begins what goes to standard output: at once, if its writer goes from its beginning to its end, else when it is whole.
    ///
    /// # Errors
    /// There is no room for temporary files.
    pub fn to_stdout(streams: bool) -> Result<Self> {
        if streams {
            let out = io::stdout().as_fd().try_clone_to_owned().context("cannot write to standard output")?;
            return Ok(Self { to: To::Stream, temporary: PathBuf::new(), file: Some(out.into()) });
        }
        let temporary = env::temp_dir().join(format!("tessera-{}.tmp", attempt()));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&temporary);
        let file = file.with_context(|| format!("cannot write to {}", temporary.display()))?;
        Ok(Self { to: To::Stdout, temporary, file: Some(file) })
    }

    /// Where it lies until it is whole, for writers that open it themselves.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The file.
    ///
    /// # Errors
    /// Its handle cannot be had twice.
    pub fn file(&self) -> Result<File> {
        let file = self.file.as_ref().context("the file is finished already")?;
        file.try_clone().context("the system gives no second handle on the file that is written")
    }

    /// Waits for the disk and gives the file its name, or its bytes to standard output. Returns its size in bytes; none of what went to
    /// standard output.
    ///
    /// # Errors
    /// The disk or standard output says no, or another file took the name meanwhile.
    pub fn finish(mut self) -> Result<u64> {
        let mut file = self.file.take().context("the file is finished already")?;
        let finished = match &self.to {
            To::Path(path, force) => named(&file, &self.temporary, path, *force),
            To::Stdout => printed(&mut file),
            To::Stream => Ok(0),
        };
        if !matches!(self.to, To::Path(..)) || finished.is_err() {
            let _ = fs::remove_file(&self.temporary);
        }
        finished
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Gives a file its name.
fn named(file: &File, temporary: &Path, path: &Path, force: bool) -> Result<u64> {
    refuse_existing(path, force)?;
    let close = || -> io::Result<u64> {
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(temporary, path)?;
        File::open(std::path::absolute(path)?.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        Ok(bytes)
    };
    close().with_context(|| format!("cannot finish {}", path.display()))
}

/// Copies a file to standard output.
fn printed(file: &mut File) -> Result<u64> {
    let mut out = io::stdout().lock();
    file.rewind().context("cannot read a temporary file again")?;
    io::copy(file, &mut out).and_then(|_| out.flush()).context("cannot write to standard output")?;
    Ok(0)
}

fn refuse_existing(path: &Path, force: bool) -> Result<()> {
    // A rename would put a file in the place of a device, a pipe or a link.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        bail!("{} is no plain file: name another; `-o -` writes to standard output", path.display());
    }
    if !force && path.exists() {
        bail!("{} is there already: --force overwrites it", path.display());
    }
    Ok(())
}

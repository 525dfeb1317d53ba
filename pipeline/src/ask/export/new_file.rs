//! A file that gets its name when it is whole; dropped before, it leaves nothing behind. `-` names standard output.

use std::fs::{self, File, Permissions};
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use tempfile::{Builder, NamedTempFile};

/// Whether a path stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A file that is being written.
pub enum NewFile {
    /// It gets a name; whether in the place of another file that has it by then.
    Path(NamedTempFile, PathBuf, bool),
    /// Its bytes go to standard output when it is whole.
    Stdout(NamedTempFile),
    /// It is standard output.
    Stream(File),
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
        let file = Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".tmp")
            // As the umask has it.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder(path))
            .with_context(|| format!("cannot write to {}", path.display()))?;
        Ok(Self::Path(file, path.to_owned(), force))
    }

    /// Begins what goes to standard output: at once, if its writer goes from its beginning to its end, else when it is whole.
    ///
    /// # Errors
    /// There is no room for temporary files.
    pub fn to_stdout(streams: bool) -> Result<Self> {
        if streams {
            let out = io::stdout().as_fd().try_clone_to_owned().context("cannot write to standard output")?;
            return Ok(Self::Stream(out.into()));
        }
        let file = Builder::new().prefix("tessera-").suffix(".tmp").tempfile();
        Ok(Self::Stdout(file.with_context(|| format!("cannot write to {}", std::env::temp_dir().display()))?))
    }

    /// Where it lies until it is whole, for writers that open it themselves; nowhere, if it is standard output.
    pub fn temporary(&self) -> &Path {
        match self {
            Self::Path(file, ..) | Self::Stdout(file) => file.path(),
            Self::Stream(_) => Path::new(""),
        }
    }

    /// The file.
    ///
    /// # Errors
    /// Its handle cannot be had twice.
    pub fn file(&self) -> Result<File> {
        let file = match self {
            Self::Path(file, ..) | Self::Stdout(file) => file.as_file(),
            Self::Stream(file) => file,
        };
        file.try_clone().context("the system gives no second handle on the file that is written")
    }

    /// Waits for the disk and gives the file its name, or its bytes to standard output. Returns its size in bytes; none of what went to
    /// standard output.
    ///
    /// # Errors
    /// The disk or standard output says no, or another file took the name meanwhile.
    pub fn finish(self) -> Result<u64> {
        match self {
            Self::Path(file, path, force) => named(file, &path, force),
            Self::Stdout(file) => printed(file.as_file()),
            Self::Stream(_) => Ok(0),
        }
    }
}

/// Gives a file its name.
fn named(file: NamedTempFile, path: &Path, force: bool) -> Result<u64> {
    refuse_existing(path, force)?;
    let close = || -> io::Result<u64> {
        file.as_file().sync_all()?;
        let bytes = file.as_file().metadata()?.len();
        if force {
            file.persist(path)?
        } else {
            file.persist_noclobber(path)?
        };
        File::open(folder(path))?.sync_all()?;
        Ok(bytes)
    };
    close().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => Error::new(error).context(format!("cannot finish {}", path.display())),
    })
}

/// Copies a file to standard output.
fn printed(mut file: &File) -> Result<u64> {
    let mut out = io::stdout().lock();
    file.rewind().context("cannot read a temporary file again")?;
    io::copy(&mut file, &mut out).and_then(|_| out.flush()).context("cannot write to standard output")?;
    Ok(0)
}

/// The folder of a path.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_there(path: &Path) -> Error {
    anyhow!("{} is there already: --force overwrites it", path.display())
}

fn refuse_existing(path: &Path, force: bool) -> Result<()> {
    // A rename would put a file in the place of a device, a pipe or a link.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        bail!("{} is no plain file: name another; `-o -` writes to standard output", path.display());
    }
    if force || !path.exists() { Ok(()) } else { Err(is_there(path)) }
}

//! Steps that change a disk, each of which may be refused: a refusal names the path and the bytes, and tests can bring one about.
//!
//! With `TESSERA_FAULT=enospc:17` in the environment, the process's 17th step (a folder or file made, a buffer written, a wait for
//! the disk, a rename) fails as on a full disk; `enospc:17+` fails that and all later ones, and `eio:17` fails as a broken disk
//! does. The variable is for tests, and read once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that has a step fail.
const FAULT: &str = "TESSERA_FAULT";

/// A step that is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault {
    /// The system's number of the error.
    errno: i32,
    /// Which step, from 1.
    at: u64,
    /// Whether the later ones fail as well.
    onwards: bool,
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (kind, at) = text.split_once(':')?;
        // Linux's and macOS's numbers.
        let errno = match kind {
            "eio" => 5,
            "enospc" => 28,
            _ => return None,
        };
        let (at, onwards) = at.strip_suffix('+').map_or((at, false), |at| (at, true));
        Some(Self { errno, at: at.parse().ok()?, onwards })
    }

    fn hits(self, step: u64) -> bool {
        if self.onwards { step >= self.at } else { step == self.at }
    }
}

/// Counts a step; fails if it is the one that is to.
pub(super) fn step() -> io::Result<()> {
    static WANTED: LazyLock<Option<Result<Fault, String>>> = LazyLock::new(|| {
        let text = std::env::var(FAULT).ok()?;
        let wrong = || format!("{FAULT} should look like `enospc:17`, `enospc:17+` or `eio:17`, found `{text}`");
        Some(Fault::parse(&text).ok_or_else(wrong))
    });
    static STEPS: AtomicU64 = AtomicU64::new(0);
    match &*WANTED {
        None => Ok(()),
        Some(Err(wrong)) => Err(io::Error::new(io::ErrorKind::InvalidInput, wrong.clone())),
        Some(Ok(fault)) if fault.hits(STEPS.fetch_add(1, Ordering::Relaxed) + 1) => {
            Err(io::Error::from_raw_os_error(fault.errno))
        }
        Some(Ok(_)) => Ok(()),
    }
}

/// A refusal: what was tried, where, how many bytes it was about, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {} ({bytes} bytes): {cause}", path.display())]
struct Refused {
    action: &'static str,
    path: PathBuf,
    bytes: u64,
    cause: io::Error,
}

/// One step, its refusal explained.
pub(super) fn attempted<T>(
    action: &'static str,
    path: &Path,
    bytes: u64,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    step().and_then(|()| work()).map_err(|cause| {
        let (kind, path) = (cause.kind(), path.to_owned());
        io::Error::new(kind, Refused { action, path, bytes, cause })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_numbered() {
        let once = Fault::parse("enospc:17").unwrap();
        assert_eq!(once, Fault { errno: 28, at: 17, onwards: false });
        assert_eq!([16, 17, 18].map(|step| once.hits(step)), [false, true, false]);
        let onwards = Fault::parse("eio:17+").unwrap();
        assert_eq!(onwards.errno, 5);
        assert_eq!([16, 17, 18].map(|step| onwards.hits(step)), [false, true, true]);
        assert_eq!(["", "enospc", "enospc:", "enospc:x", "full:3"].map(Fault::parse), [None; 5]);
        assert_eq!(io::Error::from_raw_os_error(once.errno).kind(), io::ErrorKind::StorageFull);
    }
}

//! A child process that does the library's work first, so that a file at which the library crashes is an error.
//!
//! The child is a copy of this process with this one thread. It touches nothing but its memory, the library, whose lock this thread
//! holds, and two pipes, through which the parent reads pages of the file for it: reading may take locks and threads that the child
//! has not.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{PAGE_BYTES, Pages};
use crate::Error;

/// Seconds of computing after which the child is stopped: the library runs in circles.
const SECONDS: u64 = 120;
/// Seconds after which it is stopped whatever it does: it waits for a lock that another thread held when it was made.
const WAITING_SECONDS: u32 = 900;

/// The parent, seen by its child.
pub struct Parent {
    asked: File,
    answered: File,
}

impl Parent {
    /// A page's bytes.
    pub fn page(&self, page: u64, length: usize) -> io::Result<Vec<u8>> {
        (&self.asked).write_all(&page.to_le_bytes())?;
        let mut bytes = vec![0; length];
        (&self.answered).read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Does work in a child, which may die of it.
///
/// # Errors
/// It did.
pub fn survives(pages: &Pages<'_>, work: impl FnOnce(&Pages<'_>)) -> Result<(), Error> {
    let raw = pages.raw;
    let failed = |error| Error::io(raw.path, error);
    let (asked, asks) = pipe().map_err(failed)?;
    let (answered, answers) = pipe().map_err(failed)?;
    // SAFETY: the child runs on a copy of this thread, as the module says, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop((asked, answers));
        let parent = Parent { asked: asks.into(), answered: answered.into() };
        let pages = Pages { raw, pages: Default::default(), failed: Default::default(), parent: Some(parent) };
        let limit = libc::rlimit { rlim_cur: SECONDS, rlim_max: SECONDS };
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both limits are this process's own; the second keeps a crash from leaving a file of its memory.
        unsafe {
            libc::setrlimit(libc::RLIMIT_CPU, &limit);
            libc::setrlimit(libc::RLIMIT_CORE, &none);
            libc::alarm(WAITING_SECONDS);
        }
        // A panic is told by the parent, which does the same.
        let _ = catch_unwind(AssertUnwindSafe(|| work(&pages)));
        // SAFETY: nothing of the parent's is closed or flushed twice.
        unsafe { libc::_exit(0) };
    }
    if child < 0 {
        // No memory or number for another process: then the library has to be trusted.
        return Ok(());
    }
    drop((asks, answered));
    let served = serve(pages, asked.into(), answers.into());
    let mut status = 0;
    // SAFETY: the child is this thread's own.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(failed(error));
        }
    }
    if let Some(error) = served {
        return Err(error);
    }
    if libc::WIFSIGNALED(status) {
        return Err(raw.error(match libc::WTERMSIG(status) {
            libc::SIGXCPU | libc::SIGKILL => {
                format!("is damaged: HDF5's library has read it for {SECONDS} s without an end")
            }
            _ => "is damaged: HDF5's library crashes at it".to_owned(),
        }));
    }
    Ok(())
}

/// Reads pages for the child until it ends. What cannot be read ends it.
fn serve(pages: &Pages<'_>, mut asked: File, mut answers: File) -> Option<Error> {
    let mut page = [0; 8];
    while asked.read_exact(&mut page).is_ok() {
        let page = u64::from_le_bytes(page);
        if page.checked_mul(PAGE_BYTES).is_none_or(|start| start >= pages.raw.size) {
            return None;
        }
        let bytes = match pages.page(page) {
            Ok(bytes) => bytes,
            Err(error) => return Some(error),
        };
        if answers.write_all(&bytes).is_err() {
            return None;
        }
        let mut kept = pages.pages.borrow_mut();
        if kept.len() < super::PAGES {
            kept.insert(page, bytes);
        }
    }
    None
}

/// Two ends: to read from, and to write to.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the system fills in two files, which belong to nobody else.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

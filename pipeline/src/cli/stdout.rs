//! Standard output: its errors say what could not be written to, and a reader who left is none.

use std::io::{self, IsTerminal as _, StdoutLock, Write};
use std::path::Path;

use anyhow::{Error, Result};

use super::Usage;
use crate::ask::export::is_stdout;

/// Standard output.
pub struct Stdout(StdoutLock<'static>);

impl Stdout {
    /// That of this process.
    pub fn lock() -> Self {
        Self(io::stdout().lock())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

/// Nobody reads what is written, as behind `| head`.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub struct ReaderLeft;

/// An error of standard output that says so. A call that was interrupted is made again.
pub fn named(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Interrupted => error,
        kind @ io::ErrorKind::BrokenPipe => io::Error::new(kind, ReaderLeft),
        kind => io::Error::new(kind, format!("cannot write to standard output: {error}")),
    }
}

/// Whether a command ended because nobody reads what it writes.
pub fn is_left(error: &Error) -> bool {
    let is_left = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<ReaderLeft>());
    error.is::<ReaderLeft>() || error.chain().filter_map(|cause| cause.downcast_ref()).any(is_left)
}

/// The same of what was written to standard output past this process' buffers: an error there says so, unless the reader left.
pub fn of_stream<T>(path: &Path, done: Result<T>) -> Result<T> {
    done.map_err(|error| {
        if !is_stdout(path) {
            return error;
        }
        // The formats' writers make text of what the system said.
        let said = |code| format!("{error:#}").contains(&io::Error::from_raw_os_error(code).to_string());
        if said(libc::EPIPE) {
            ReaderLeft.into()
        } else if said(libc::ENOSPC) {
            error.context("cannot write to standard output")
        } else {
            error
        }
    })
}

/// Refuses to fill a terminal with what nobody can read.
pub fn refuse_terminal(path: &Path, is_text: bool) -> Result<(), Usage> {
    if is_stdout(path) && !is_text && io::stdout().is_terminal() {
        let message =
            "standard output is a terminal, which shows no such file: name a file, or pass it on, as in `-o - | cat > FILE`";
        return Err(Usage(message.to_owned()));
    }
    Ok(())
}

/// What was written where, as a line.
pub fn written(path: &Path, what: &str, bytes: u64) -> String {
    if is_stdout(path) { format!("standard output: {what}") } else { format!("{}: {what}, {bytes} bytes", path.display()) }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_reader_who_left_is_told_from_other_broken_pipes() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let wrapped = |error: io::Error| Err::<(), _>(error).context("cannot write").unwrap_err();
        assert!(is_left(&wrapped(named(broken()))));
        assert!(!is_left(&wrapped(broken())), "a bucket's connection may break as well");
        let (out, file) = (Path::new("-"), Path::new("a.csv"));
        let said = || Err::<(), _>(anyhow::anyhow!("{}", io::Error::from_raw_os_error(libc::EPIPE)));
        assert!(is_left(&of_stream(out, said()).unwrap_err()));
        assert!(!is_left(&of_stream(file, said()).unwrap_err()));
        let full = named(io::ErrorKind::StorageFull.into()).to_string();
        assert!(full.starts_with("cannot write to standard output: "), "{full}");
    }
}

//! What the system allows a process: how many files it may have open, and what to say when there are no more.

use std::io;

use anyhow::Error;

/// Lets this process have as many files open as whoever started it may allow: a soft limit of 1,024 is a habit, and no decision.
pub fn raise() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write that one struct, and nothing else.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// An error as text; of one for want of files, with what gives more.
pub fn explained(error: &Error) -> String {
    let text = format!("{error:#}");
    // Causes that went through the engine or an operator are text by now.
    let is_named = |code| text.contains(&io::Error::from_raw_os_error(code).to_string());
    if is_named(libc::EMFILE) {
        format!("{text}; `ulimit -n` says how many files a process may have open, and `ulimit -n 4096` allows more")
    } else if is_named(libc::ENFILE) {
        format!("{text}; all processes together have too many files open: end some, or let `sysctl fs.file-max` allow more")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_want_of_files_is_explained() {
        let failed = |code| explained(&Error::from(io::Error::from_raw_os_error(code)).context("cannot read a.jpg"));
        assert!(failed(libc::EMFILE).contains("; `ulimit -n` says how many"), "{}", failed(libc::EMFILE));
        assert!(failed(libc::ENFILE).contains("fs.file-max"));
        assert_eq!(failed(libc::ENOENT), "cannot read a.jpg: No such file or directory (os error 2)");
        let within = anyhow!("{}", io::Error::from_raw_os_error(libc::EMFILE));
        let within: anyhow::Result<()> = Err(within).context("stage `a`");
        assert!(explained(&within.unwrap_err()).contains("ulimit -n"));
    }
}

//! ^C, and what ends a process otherwise (SIGTERM, SIGHUP): the first time it asks, the second time it ends the process, and the programs
//! that it runs.
//!
//! A signal that is ignored when the process starts stays ignored: `nohup` has SIGHUP ignored, and a script's `tessera … &` has SIGINT.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// The signals that ask, and their names.
const SIGNALS: [(i32, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];
/// What is added to a signal's number for the exit code of a process that it ended, as shells do.
const BY_SIGNAL: i32 = 128;
/// How often those who wait look whether it was asked.
const LOOK_MILLIS: u64 = 50;

/// Whether somebody pressed ^C. Until installed, ^C ends the process, as it does by default.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// Why work was left undone.
#[derive(Debug)]
pub struct Interrupted;

/// Which signal asked first; 0: none did.
static ASKED_BY: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// The signal that asked: ^C's, unless another one did.
fn asked_by() -> (i32, &'static str) {
    let number = ASKED_BY.load(Ordering::Relaxed);
    SIGNALS.into_iter().find(|(signal, _)| usize::try_from(*signal) == Ok(number)).unwrap_or(SIGNALS[0])
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match asked_by() {
            (SIGINT, _) => String::new(),
            (_, name) => format!(" by {name}"),
        };
        write!(f, "interrupted{by}: what was finished is kept, and the next run goes on from there")
    }
}

impl std::error::Error for Interrupted {}

/// The exit code of a process that was interrupted: 130 by ^C, 143 by SIGTERM, 129 by SIGHUP.
pub fn exit_code() -> u8 {
    u8::try_from(BY_SIGNAL + asked_by().0).unwrap_or(1)
}

/// Whether the process ignores a signal.
fn is_ignored(signal: i32) -> io::Result<bool> {
    // SAFETY: all zeros are a value of the structure, which the system fills; nothing is set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        match libc::sigaction(signal, std::ptr::null(), &raw mut action) {
            0 => Ok(action.sa_sigaction == libc::SIG_IGN),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Interrupt {
    /// From now on ^C and its like ask, and end the process only if it was asked already. Those of them that are ignored by now stay so.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub fn install(&self) -> io::Result<()> {
        // In the order in which they are called: the first ^C finds the flag down, and puts it up.
        for (signal, _) in SIGNALS {
            if is_ignored(signal)? {
                continue;
            }
            let asked = self.0.clone();
            let end = move || {
                if asked.load(Ordering::Relaxed) {
                    tessera_operators::leave();
                    low_level::exit(BY_SIGNAL + signal);
                }
            };
            // SAFETY: `end` reads atomic numbers, and calls kill and _exit, which signal handlers may.
            unsafe { low_level::register(signal, end)? };
            flag::register_usize(signal, ASKED_BY.clone(), usize::try_from(signal).unwrap_or_default())?;
            flag::register(signal, self.0.clone())?;
        }
        Ok(())
    }

    /// From now on ^C asks, however often, unless it is ignored by now.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub fn install_asking(&self) -> io::Result<()> {
        if is_ignored(SIGINT)? { Ok(()) } else { flag::register(SIGINT, self.0.clone()).map(|_| ()) }
    }

    /// Whether it was asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Forgets that it was asked.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Waits until it is asked.
    pub async fn wait(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(LOOK_MILLIS));
        while !self.asked() {
            ticks.tick().await;
        }
    }
}

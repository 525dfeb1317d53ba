//! ^C, and what ends a process otherwise (SIGTERM, SIGHUP): the first time it asks, the second time it ends the process.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

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

impl Interrupt {
    /// From now on ^C and its like ask, and end the process only if it was asked already.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub fn install(&self) -> io::Result<()> {
        // In the order in which they are called: the first ^C finds the flag down, and puts it up.
        for (signal, _) in SIGNALS {
            flag::register_conditional_shutdown(signal, BY_SIGNAL + signal, self.0.clone())?;
            flag::register_usize(signal, ASKED_BY.clone(), usize::try_from(signal).unwrap_or_default())?;
            flag::register(signal, self.0.clone())?;
        }
        Ok(())
    }

    /// From now on ^C asks, however often.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub fn install_asking(&self) -> io::Result<()> {
        flag::register(SIGINT, self.0.clone()).map(|_| ())
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

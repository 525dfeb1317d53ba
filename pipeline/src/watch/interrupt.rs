//! ^C, and what ends a process otherwise (SIGTERM, SIGHUP): the first time it asks, the second time it ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit code of a process that a person interrupted.
pub const EXIT_CODE: u8 = 130;
/// How often those who wait look whether it was asked.
const LOOK_MILLIS: u64 = 50;

/// Whether somebody pressed ^C. Until installed, ^C ends the process, as it does by default.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// Why work was left undone.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: what was finished is kept, and the next run goes on from there")]
pub struct Interrupted;

impl Interrupt {
    /// From now on ^C and its like ask, and end the process only if it was asked already.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub fn install(&self) -> io::Result<()> {
        // In the order in which they are called: the first ^C finds the flag down, and puts it up.
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register_conditional_shutdown(signal, i32::from(EXIT_CODE), self.0.clone())?;
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

//! Waiting for a store that another run holds, and spans of time as people write them.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::store::{InUse, Lock, Store};
use crate::watch::progress::{duration, tell};

/// How often a store that is held is asked for.
const PAUSE: Duration = Duration::from_secs(1);
/// The option, as it is written.
const WAIT: &str = "--wait";

/// Whether to wait while another run holds the store.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Wait while another run holds the store: to its end, or for no longer than TIME, such as 10m or "2 hours".
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = span)]
    wait: Option<Option<Duration>>,
}

impl Wait {
    /// Takes a store for writing, and says whether it had to be waited for; who holds it is told once, unless `quiet`.
    ///
    /// # Errors
    /// Another run holds it, and did so for as long as it may be waited for; or the store refuses.
    pub fn lock(self, store: &Store, quiet: bool) -> Result<(Lock, bool)> {
        let start = Instant::now();
        let mut told = None;
        loop {
            let error = match store.lock(&|line| tell(line)) {
                Ok(lock) => return Ok((lock, told.is_some())),
                Err(error) => error,
            };
            let (Some(most), Some(InUse { place, holder, .. })) = (self.wait, error.downcast_ref::<InUse>()) else {
                return Err(error);
            };
            let left = most.map_or(PAUSE, |most| most.saturating_sub(start.elapsed()));
            if left.is_zero() {
                return Err(error).context(format!("waited {} in vain", duration(start.elapsed().as_secs_f64())));
            }
            if told.as_ref() != Some(holder) {
                if !quiet {
                    tell(format_args!("waiting for the store {}: it is in use by {holder}", place.display()));
                }
                told = Some(holder.clone());
            }
            std::thread::sleep(left.min(PAUSE));
        }
    }
}

/// A span of time: `90s`, `10m`, `36h`, `7 days`.
pub fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("`{text}` is no span of time: write 90s, 10m, 36h or \"7 days\""))
}

/// The command line with `--wait 10m` as `--wait=10m`: clap knows an option's value that may be left out only so, for else it would
/// take the name of the file for one.
pub fn joined(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for argument in arguments {
        let is_span = argument.to_str().is_some_and(|text| span(text).is_ok());
        match joined.last_mut().filter(|last| is_span && last.as_os_str() == OsStr::new(WAIT)) {
            Some(last) => {
                last.push("=");
                last.push(argument);
            }
            None => joined.push(argument),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_what_people_write() {
        for (text, seconds) in
            [("90s", 90), ("10m", 600), ("36h", 129_600), ("7 days", 604_800), ("1h 30m", 5400), ("0s", 0)]
        {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "pipeline.toml", "-1s", "7 dags", "99999999999999999999 years"] {
            assert!(span(text).unwrap_err().contains("is no span of time"), "{text}");
        }
    }

    #[test]
    fn a_span_behind_wait_is_its_value_and_a_file_is_none() {
        let line = |words: &[&str]| joined(words.iter().map(OsString::from));
        assert_eq!(line(&["run", "--wait", "10m", "a.toml"]), ["run", "--wait=10m", "a.toml"]);
        assert_eq!(line(&["run", "--wait", "7 days", "a.toml"]), ["run", "--wait=7 days", "a.toml"]);
        assert_eq!(line(&["run", "--wait", "a.toml", "-q"]), ["run", "--wait", "a.toml", "-q"]);
        assert_eq!(line(&["run", "a.toml", "--wait"]), ["run", "a.toml", "--wait"]);
        assert_eq!(line(&["gc", "--keep", "10m"]), ["gc", "--keep", "10m"]);
    }
}

//! One writer a store: an flock, which the kernel lets go when its holder dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use arrow::temporal_conversions::timestamp_s_to_datetime;

use super::disk;

/// The right to write to a store, until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(root: &Path) -> Result<Self> {
        let path = root.join("lock");
        let open = || OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = disk::attempted("open the lock", &path, 0, open)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = Vec::new();
                let _ = file.read_to_end(&mut holder);
                let holder = String::from_utf8_lossy(&holder);
                // Between taking the lock and writing it, its holder has no name.
                let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
                bail!("the store {} is in use by {holder}; wait for it, or stop it", root.display());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let holder = holder();
        disk::attempted("write", &path, holder.len() as u64, || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(holder.as_bytes())
        })?;
        Ok(Self { _file: file })
    }
}

/// This process, as another one's message names it: its number, host, start and command.
fn holder() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    let host = host.map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let since = timestamp_s_to_datetime(now as i64).map_or_else(String::new, |time| format!(" since {time} UTC"));
    let command: Vec<String> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    format!("process {} on {host}{since} ({})", std::process::id(), command.join(" "))
}

//! One writer a store of a disk, and who that is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::temporal_conversions::timestamp_s_to_datetime;
use serde::{Deserialize, Serialize};

use super::super::InUse;
use super::steps::attempted;
use super::{named, put_aside};

/// How often a lock is asked for, and how long is waited between: who only asks who holds it has a part in it for a moment.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(10);

/// An flock, which the kernel lets go when its holder dies.
pub(super) fn take(path: &Path, root: &Path) -> anyhow::Result<File> {
    // Through a link, another file would be overwritten.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        put_aside(path)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).custom_flags(libc::O_NOFOLLOW);
    let mut file = attempted("open the lock", path, 0, || options.open(path))?;
    for left in (0..TRIES).rev() {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if left > 0 => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                let (place, holder) = (root.to_owned(), name_in(&mut file));
                return Err(InUse { place, holder, more: String::new() }.into());
            }
            Err(TryLockError::Error(error)) => return Err(named("lock", path, &error).into()),
        }
    }
    let holder = holder();
    attempted("write", path, holder.len() as u64, || {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())
    })?;
    Ok(file)
}

/// Who holds the lock now.
pub(super) fn holder_of(path: &Path) -> io::Result<Option<String>> {
    let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named("open the lock", path, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(name_in(&mut file))),
        Err(TryLockError::Error(error)) => Err(named("ask for the lock", path, &error)),
    }
}

/// Who wrote the name of its holder into a lock. Between taking the lock and writing it, its holder has no name.
fn name_in(file: &mut File) -> String {
    let mut holder = Vec::new();
    let _ = file.read_to_end(&mut holder);
    let holder = String::from_utf8_lossy(&holder);
    if holder.trim().is_empty() { "another process".to_owned() } else { holder.trim().to_owned() }
}

/// This machine's name.
pub(in crate::store) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    name.map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned())
}

/// This process, as another one's message names it: its number, host, start and command.
pub(in crate::store::storage) fn holder() -> String {
    let host = host();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let since = timestamp_s_to_datetime(now as i64).map_or_else(String::new, |time| format!(" since {time} UTC"));
    let command: Vec<String> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    format!("process {} on {host}{since} ({})", std::process::id(), command.join(" "))
}

/// A process, so that another one on its machine can tell whether it still is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::storage) struct Process {
    /// The start of the machine's system.
    boot: String,
    /// In which of its namespaces numbers of processes count.
    namespace: String,
    id: u32,
    /// When it began, in ticks since the system did: numbers are given again.
    began: String,
}

impl Process {
    /// This one, where the system tells.
    pub fn this() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_owned();
        let began = began(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Self { boot, namespace, id: std::process::id(), began })
    }

    /// Whether it ended on this machine; of those of others, and of those that this one may not look at, nobody knows.
    pub fn is_gone(&self) -> bool {
        let here = |this: Self| (&this.boot, &this.namespace) == (&self.boot, &self.namespace);
        if !Self::this().is_some_and(here) {
            return false;
        }
        match fs::read_to_string(format!("/proc/{}/stat", self.id)) {
            Ok(stat) => began(&stat).as_ref() != Some(&self.began),
            Err(_) => !is_there(self.id),
        }
    }
}

/// When a process began, as the system tells it; `None` for a process that has ended, also if its parent has not waited for it yet.
fn began(stat: &str) -> Option<String> {
    // The command's name stands in brackets, and may have some of its own.
    let mut rest = stat.rsplit_once(") ")?.1.split(' ');
    let is_dead = matches!(rest.next()?, "Z" | "X");
    if is_dead { None } else { rest.nth(18).map(str::to_owned) }
}

/// Whether there is a process of that number, whoever may see more of it.
fn is_there(id: u32) -> bool {
    let Ok(id) = i32::try_from(id) else { return false };
    // SAFETY: signal 0 is sent to nobody; it is only asked whether it could be.
    let asked = unsafe { libc::kill(id, 0) };
    asked == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_is_gone() {
        let this = Process::this().unwrap();
        assert!(!this.is_gone());
        assert!(Process { began: "0".into(), ..this.clone() }.is_gone(), "its number was given again");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let other = Process { id: child.id(), began: began(&stat).unwrap(), ..this };
        assert!(is_there(child.id()) && is_there(1) && !is_there(u32::MAX));
        assert!(!other.is_gone());
        child.kill().unwrap();
        while !other.is_gone() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(other.is_gone());
        assert!(!Process { boot: "of another machine".into(), ..other }.is_gone());
    }
}

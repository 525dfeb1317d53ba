//! Queries of people, each in a process of its own: what a query may ask for has no end, and a process can be ended at any moment, with all
//! that it holds.

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Seconds that a query may take, unless a test says otherwise.
const SECONDS: u64 = 5;
/// Bytes that it may hold.
pub const MEMORY: &str = "512MiB";
/// How long a process may take beside: it starts, and says why it ends.
const BESIDE: Duration = Duration::from_secs(5);
/// Bytes of what it says on stderr that are kept.
const SAID: u64 = 64 << 10;

/// A query that is answered.
pub struct Asked {
    child: Arc<Mutex<Option<Child>>>,
    deadline: Instant,
}

/// What came of it.
pub struct Answered {
    /// What it wrote, or its beginning.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub is_cut: bool,
    /// What it said beside: notes, or why it failed.
    pub said: String,
    /// Whether it succeeded, as far as it came.
    pub is_whole: bool,
}

/// Seconds that a query may take (TESSERA_QUERY_SECONDS, for tests).
pub fn seconds() -> u64 {
    let given = std::env::var("TESSERA_QUERY_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    given.filter(|seconds| (1..=SECONDS).contains(seconds)).unwrap_or(SECONDS)
}

/// This program, even if its file was replaced since it started.
fn program() -> Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { Ok(own) } else { std::env::current_exe().context("cannot find the program itself") }
}

impl Asked {
    /// Begins: `words` name the tables, and `format` says what is written.
    ///
    /// # Errors
    /// The system starts no process.
    pub fn begin(words: &[OsString], sql: &str, format: &str, threads: usize) -> Result<Self> {
        let mut call = Command::new(program()?);
        call.arg("sql").args(words).args(["--format", format, "--memory", MEMORY, "--timeout", &seconds().to_string()]);
        if format != "csv" {
            call.args(["-o", "-"]);
        }
        call.args(["--threads", &threads.to_string()]);
        call.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        #[cfg(target_os = "linux")]
        // SAFETY: one call of the system, which a new process may make before it becomes another program.
        unsafe {
            call.pre_exec(|| {
                // It ends with the thread that started it, which waits for it, and so with this process.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = call.spawn().context("cannot start a process for the query")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A process that has ended says why.
            let _ = stdin.write_all(sql.as_bytes());
        }
        let deadline = Instant::now() + Duration::from_secs(seconds()) + BESIDE;
        Ok(Self { child: Arc::new(Mutex::new(Some(child))), deadline })
    }

    /// What ends it from another thread, when that is dropped.
    pub fn ender(&self) -> Ender {
        Ender(self.child.clone())
    }

    /// Hands what it writes to `take`, until that says no, and waits for its end. Blocks.
    pub fn read(self, mut take: impl FnMut(&[u8]) -> bool) -> Answered {
        let pipes = self
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .map(|child| (child.stdout.take(), child.stderr.take()));
        let Some((Some(mut out), Some(err))) = pipes else {
            return Answered { bytes: Vec::new(), is_cut: false, said: "it was ended".to_owned(), is_whole: false };
        };
        let listener = thread::spawn(move || {
            let mut said = Vec::new();
            let _ = err.take(SAID).read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let (deadline, watched) = (self.deadline, self.child.clone());
        let watch = thread::spawn(move || {
            loop {
                let mut held = watched.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(child) = held.as_mut() else { return false };
                if Instant::now() > deadline {
                    end(child);
                    return true;
                }
                drop(held);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let (mut buffer, mut is_cut) = (vec![0; 64 << 10], false);
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            if !take(&buffer[..count]) {
                is_cut = true;
                break;
            }
        }
        let status = {
            let mut held = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(mut child) = held.take() else {
                return Answered { bytes: Vec::new(), is_cut, said: "it was ended".to_owned(), is_whole: false };
            };
            if is_cut {
                end(&mut child);
            }
            // Its output is closed or nobody reads it any more; it may take a moment to go.
            while child.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > deadline {
                    end(&mut child);
                }
                thread::sleep(Duration::from_millis(2));
            }
            child.wait()
        };
        let (mut said, is_late) = (listener.join().unwrap_or_default(), watch.join().unwrap_or(false));
        if is_late {
            said = format!("error: the query took longer than the {} s that it may take here", seconds());
        }
        let is_whole = is_cut || status.is_ok_and(|status| status.success());
        Answered { bytes: Vec::new(), is_cut, said, is_whole }
    }

    /// The first `most` bytes of what it writes. Blocks.
    pub fn first(self, most: usize) -> Answered {
        let mut bytes = Vec::new();
        let answered = self.read(|more| {
            bytes.extend_from_slice(more);
            bytes.len() <= most
        });
        bytes.truncate(most);
        Answered { bytes, ..answered }
    }
}

/// Ends a process, and all that it started.
fn end(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        // SAFETY: a signal to a group of processes of its own, whose head was not waited for yet.
        let _ = unsafe { libc::kill(-id, libc::SIGKILL) };
    }
    let _ = child.kill();
}

/// Ends a query when nobody waits for it any more.
pub struct Ender(Arc<Mutex<Option<Child>>>);

impl Drop for Ender {
    fn drop(&mut self) {
        if let Some(child) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            end(child);
        }
    }
}

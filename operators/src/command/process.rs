//! A program that runs beside this process, and the three pipes between them.
//!
//! One thread serves all three: while it writes to the program, it reads what the program answers, so that neither waits for a full pipe for
//! ever. The program is the head of a process group of its own, which is ended as a whole, and by Linux with the thread that started it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::content::Content;
use super::frames::{Came, Frames};
use crate::operator::RunError;

/// How many bytes a pipe is asked to hold, which is the most that Linux gives everybody.
const PIPE_BYTES: i32 = 1 << 20;
/// How often a waiting thread looks up.
const LOOK: Duration = Duration::from_millis(100);
/// How long a program may take to end once its streams are over.
const GRACE: Duration = Duration::from_secs(2);
/// The same of one whose answer depends on how it ends.
const LONG_GRACE: Duration = Duration::from_secs(60);
/// Variables that a program gets as this process has them. They say where things are, not what is to be done.
const PASSED: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR"];
/// Variables that every program gets, whoever runs it: texts are UTF-8, numbers have points, and Python's sets one order.
const FIXED: [(&str, &str); 3] = [("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("PYTHONHASHSEED", "0")];
/// How many threads libraries of numbers start.
const THREADS: [&str; 3] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];
/// Lines of stderr that are shown of a program that failed.
const LAST_LINES: usize = 20;
/// The longest line of stderr that is kept.
const LINE_BYTES: usize = 500;
/// Lines of stderr that may wait to be told.
const WAITING_LINES: usize = 200;

/// How a program is run.
#[derive(Debug, Clone)]
pub struct Call {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it uses.
    pub content: Content,
    /// How many threads it may start.
    pub threads: usize,
    /// How long it may neither read nor write.
    pub patience: Option<Duration>,
}

impl Call {
    /// The program as messages name it.
    fn name(&self) -> String {
        format!("`{}`", tessera_schemas::printable(&self.command.join(" ")))
    }
}

/// What a round of waiting brought.
pub enum Round {
    /// So many bytes were written, perhaps none.
    Wrote(usize),
    /// Something came.
    Came(Came),
    /// The program has closed its stdout.
    Closed,
}

/// A running program.
pub struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    errors: Option<ChildStderr>,
    frames: Frames,
    lines: Lines,
    patience: Option<Duration>,
    /// When something last went through a pipe, or was asked for.
    moved: Instant,
    ended: bool,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// The system does not.
    pub fn start(call: &Call) -> Result<Self, RunError> {
        let fail = |error: std::io::Error| RunError::Input(format!("{} cannot be started: {error}", call.name()));
        let mut command = Command::new(&call.content.program);
        command.arg0(&call.command[0]).args(&call.command[1..]).current_dir(&call.content.folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear().envs(FIXED).envs(THREADS.map(|name| (name, call.threads.to_string())));
        command.envs(PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        for (name, value) in &call.content.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        die_with_parent(&mut command);
        let mut child = command.spawn().map_err(fail)?;
        groups::add(child.id());
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let program = Self {
            name: call.name(),
            child,
            input,
            output,
            errors,
            frames: Frames::new(),
            lines: Lines::default(),
            patience: call.patience,
            moved: Instant::now(),
            ended: false,
        };
        let pipes = [
            program.input.as_ref().map(AsRawFd::as_raw_fd),
            program.output.as_ref().map(AsRawFd::as_raw_fd),
            program.errors.as_ref().map(AsRawFd::as_raw_fd),
        ];
        pipes.into_iter().flatten().try_for_each(prepare).map_err(fail)?;
        Ok(program)
    }

    /// Whether it has ended its stream.
    pub fn is_through(&self) -> bool {
        self.frames.is_ended()
    }

    /// Lines that it wrote to stderr since this was asked last.
    pub fn heard(&mut self) -> Vec<String> {
        self.lines.take()
    }

    /// Something is asked of it now: its time counts from here.
    pub fn ask(&mut self) {
        self.moved = Instant::now();
    }

    /// Tells it that nothing more comes.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Waits until a pipe is ready, for a moment at most, and serves it. To a program that reads no more, all that is to be written counts
    /// as written: how it ends says whether that is right.
    ///
    /// # Errors
    /// The program wrote what is no stream, or did nothing for too long. Then it is ended.
    pub fn round(&mut self, bytes: &[u8]) -> Result<Round, RunError> {
        if !bytes.is_empty() && self.input.is_none() {
            return Ok(Round::Wrote(bytes.len()));
        }
        let Some(output) = &self.output else { return Ok(Round::Closed) };
        let input = self.input.as_ref().filter(|_| !bytes.is_empty());
        let asked = [
            (Some(output.as_raw_fd()), libc::POLLIN),
            (self.errors.as_ref().map(AsRawFd::as_raw_fd), libc::POLLIN),
            (input.map(AsRawFd::as_raw_fd), libc::POLLOUT),
        ];
        let [readable, heard, writable] =
            ready(asked, LOOK).map_err(|error| self.fail(&format!("cannot be heard: {error}")))?;
        if heard {
            self.listen();
        }
        if readable {
            return self.read();
        }
        if writable {
            return self.write(bytes);
        }
        if let Some(patience) = self.patience.filter(|patience| self.moved.elapsed() > *patience) {
            let seconds = patience.as_secs();
            let what = if bytes.is_empty() { "has written nothing" } else { "has read nothing of its input" };
            return Err(self.fail(&format!("{what} for {seconds} s (`timeout_seconds`) and was ended")));
        }
        Ok(Round::Wrote(0))
    }

    /// What came of its stdout without waiting.
    ///
    /// # Errors
    /// As [`round`](Self::round).
    pub fn peek(&mut self) -> Result<bool, RunError> {
        let Some(output) = &self.output else { return Ok(false) };
        let [readable, ..] = ready([(Some(output.as_raw_fd()), libc::POLLIN), (None, 0), (None, 0)], Duration::ZERO)
            .map_err(|error| self.fail(&format!("cannot be heard: {error}")))?;
        if !readable {
            return Ok(false);
        }
        Ok(matches!(self.read()?, Round::Came(_)) || !self.frames.is_between())
    }

    fn read(&mut self) -> Result<Round, RunError> {
        let Some(output) = &mut self.output else { return Ok(Round::Closed) };
        match output.read(self.frames.room()) {
            Ok(0) => {
                self.output = None;
                if self.frames.is_between() {
                    return Ok(Round::Closed);
                }
                Err(self.died("in the middle of a message of its stream"))
            }
            Ok(bytes) => {
                self.moved = Instant::now();
                match self.frames.came(bytes) {
                    Ok(came) => Ok(came.map_or(Round::Wrote(0), Round::Came)),
                    Err(fault) => Err(self.fail(&fault)),
                }
            }
            Err(error) if is_passing(&error) => Ok(Round::Wrote(0)),
            Err(error) => Err(self.fail(&format!("cannot be read: {error}"))),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<Round, RunError> {
        let Some(input) = &mut self.input else { return Ok(Round::Wrote(bytes.len())) };
        match input.write(bytes) {
            Ok(wrote) => {
                self.moved = Instant::now();
                Ok(Round::Wrote(wrote))
            }
            Err(error) if is_passing(&error) => Ok(Round::Wrote(0)),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.input = None;
                Ok(Round::Wrote(bytes.len()))
            }
            Err(error) => Err(self.fail(&format!("cannot be written to: {error}"))),
        }
    }

    /// Reads what of its stderr is there.
    fn listen(&mut self) {
        let mut piece = [0; 4096];
        while let Some(errors) = &mut self.errors {
            match errors.read(&mut piece) {
                Ok(0) => self.errors = None,
                Ok(bytes) => self.lines.add(&piece[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.errors = None,
            }
        }
    }

    /// Waits for the end of one that closed its stdout.
    ///
    /// # Errors
    /// It ends with another status than 0, or not at all.
    pub fn finish(&mut self) -> Result<(), RunError> {
        self.input = None;
        match self.wait(LONG_GRACE) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.told(&format!("{} after its last row", how(status)))),
            None => {
                Err(self
                    .fail(&format!("has closed its stdout, did not end within {} s, and was ended", LONG_GRACE.as_secs())))
            }
        }
    }

    /// The failure of one that closed its stdout early, and how it ended.
    pub fn died(&mut self, when: &str) -> RunError {
        self.input = None;
        match self.wait(GRACE) {
            Some(status) => self.told(&format!("{} {when}", how(status))),
            None => self.fail(&format!("closed its stdout {when}")),
        }
    }

    /// Ends it. What it did wrong is a fragment.
    pub fn fail(&mut self, what: &str) -> RunError {
        // What it says of it may be on its way.
        std::thread::sleep(LOOK / 2);
        self.listen();
        self.end();
        self.told(what)
    }

    /// What it did wrong, with the last lines of its stderr.
    fn told(&mut self, what: &str) -> RunError {
        self.listen();
        let last = self.lines.last();
        let said = if last.is_empty() {
            "; it wrote nothing to stderr".to_owned()
        } else {
            format!("; its stderr ends with:{last}")
        };
        RunError::Input(format!("the program {} {what}{said}", self.name))
    }

    /// Its status once it has ended; none if it goes on for longer than that. Its process group is gone then.
    fn wait(&mut self, grace: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        let mut nap = Duration::from_millis(1);
        while !has_ended(&self.child) {
            if start.elapsed() > grace {
                return None;
            }
            self.listen();
            std::thread::sleep(nap);
            nap = (nap * 2).min(LOOK / 2);
        }
        self.listen();
        // Before it is waited for, no other process can have its number.
        self.end_group();
        self.ended = true;
        self.child.wait().ok()
    }

    fn end_group(&self) {
        groups::remove(self.child.id());
        // SAFETY: the child is not waited for yet, so that its number is its group's and nobody else's.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
    }

    fn end(&mut self) {
        if !self.ended {
            self.end_group();
            self.ended = true;
            // It was killed: there is nothing to wait for but the system.
            let _ = self.child.wait();
        }
    }
}

/// Its input ends first, and most programs with it.
impl Drop for Program {
    fn drop(&mut self) {
        self.input = None;
        if !self.ended && self.wait(GRACE).is_none() {
            self.end();
        }
    }
}

/// The groups of programs that run. An interrupted run ends without waiting for its workers, and what programs have started themselves
/// ends with it all the same.
mod groups {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, Once, PoisonError};

    static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

    pub fn add(group: u32) {
        static FIRST: Once = Once::new();
        // SAFETY: the function lives as long as the process.
        FIRST.call_once(|| {
            let _ = unsafe { libc::atexit(end_all) };
        });
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).insert(group);
    }

    pub fn remove(group: u32) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }

    extern "C" fn end_all() {
        // A thread that holds the lock at this very moment starts or ends a program, and does not live to see more.
        let Ok(running) = RUNNING.try_lock() else { return };
        for &group in running.iter() {
            // SAFETY: a group is in the list until its head is waited for, so that the number is its own.
            unsafe { libc::kill(-(group as i32), libc::SIGKILL) };
        }
    }
}

/// Whether to try again.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Has Linux kill the program when the thread that starts it is gone, so that not even a killed process leaves it behind.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id() as i32;
    let ask = move || {
        // SAFETY: both calls are allowed between fork and exec, and touch no memory.
        let (asked, is_orphan) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid() != parent) };
        match (asked, is_orphan) {
            (0, false) => Ok(()),
            (0, true) => Err(std::io::Error::from(ErrorKind::NotConnected)),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}

/// Elsewhere it sees the end of its input.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// Has a pipe's end on our side never block, and the pipe hold more.
fn prepare(pipe: RawFd) -> std::io::Result<()> {
    // SAFETY: the descriptor is open, and the calls touch no memory.
    unsafe {
        let flags = libc::fcntl(pipe, libc::F_GETFL);
        if flags < 0 || libc::fcntl(pipe, libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // A system that refuses gives its usual size.
        #[cfg(target_os = "linux")]
        libc::fcntl(pipe, libc::F_SETPIPE_SZ, PIPE_BYTES);
    }
    Ok(())
}

/// Waits until one of some pipes is ready for what is asked of it, or has an end; none of them may be.
fn ready<const N: usize>(asked: [(Option<RawFd>, i16); N], wait: Duration) -> std::io::Result<[bool; N]> {
    // A negative descriptor is passed over.
    let mut pipes = asked.map(|(pipe, events)| libc::pollfd { fd: pipe.unwrap_or(-1), events, revents: 0 });
    // SAFETY: the array is of that length.
    let found = unsafe { libc::poll(pipes.as_mut_ptr(), N as libc::nfds_t, wait.as_millis() as i32) };
    if found < 0 {
        let error = std::io::Error::last_os_error();
        return if error.kind() == ErrorKind::Interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(pipes.map(|pipe| pipe.revents != 0))
}

/// Whether a child has ended, without waiting for it: its number stays its own.
fn has_ended(child: &Child) -> bool {
    // SAFETY: all zeros are a value of the structure, which the system fills.
    unsafe {
        let mut about: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, child.id(), &raw mut about, options) != 0 || about.si_pid() != 0
    }
}

/// How a program ended.
fn how(status: ExitStatus) -> String {
    const NAMES: [(i32, &str); 8] = [
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGKILL, "SIGKILL: somebody, or a system without memory, killed it"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGTERM, "SIGTERM"),
    ];
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => {
            let name = NAMES.iter().find(|(number, _)| *number == signal).map(|(_, name)| format!(" ({name})"));
            format!("was ended by signal {signal}{}", name.unwrap_or_default())
        }
        (None, None) => "ended".to_owned(),
    }
}

/// What a program writes to stderr, line by line.
#[derive(Default)]
struct Lines {
    /// The line that is not ended yet.
    open: Vec<u8>,
    last: VecDeque<String>,
    waiting: Vec<String>,
    /// Lines for which there was no place.
    lost: usize,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                // A bar that is drawn again and again ends its line by a return.
                b'\n' | b'\r' => self.end_line(),
                _ if self.open.len() < LINE_BYTES => self.open.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).into_owned();
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        if self.waiting.len() < WAITING_LINES { self.waiting.push(line) } else { self.lost += 1 }
    }

    fn take(&mut self) -> Vec<String> {
        let lost = std::mem::take(&mut self.lost);
        let mut lines = std::mem::take(&mut self.waiting);
        if lost > 0 {
            lines.push(format!("({lost} more lines)"));
        }
        lines
    }

    /// The last lines, each on one of its own.
    fn last(&mut self) -> String {
        self.end_line();
        self.last.iter().map(|line| format!("\n    {line}")).collect()
    }
}

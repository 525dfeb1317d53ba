//! A program that runs beside this process, and the three pipes between them.
//!
//! One thread serves all three: while it writes to the program, it reads what the program answers, so that neither waits for a full pipe for
//! ever. The program is the head of a process group of its own, which is ended as a whole, and by Linux with the thread that started it.

use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::content::Content;
use super::frames::{Came, Frames};
use super::lines::Lines;
use super::system::{PIPE_BYTES, die_with_parent, groups, has_ended, how, prepare, ready};
use crate::operator::RunError;

/// How often a waiting thread looks up.
const LOOK: Duration = Duration::from_millis(100);
/// How long a program may take to end once its streams are over.
const GRACE: Duration = Duration::from_secs(2);
/// The same of one whose answer depends on how it ends.
const LONG_GRACE: Duration = Duration::from_secs(60);
/// Variables that a program gets as this process has them. They say where things are, not what is to be done.
const PASSED: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR"];
/// Variables that every program gets, whoever runs it: texts are UTF-8, numbers have points, Python's sets have one order,
/// and what Python writes of an answer does not wait for more.
const FIXED: [(&str, &str); 4] =
    [("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("PYTHONHASHSEED", "0"), ("PYTHONUNBUFFERED", "1")];
/// How many threads libraries of numbers start.
const THREADS: [&str; 3] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];
/// What a program that is waited for may lack.
const ANSWERS: &str = ": it is to answer a batch, and flush its stdout, before it waits for the next (`inputs = { table = … }` is for a \
                       program that reads all rows first)";

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
        // Its last rows may have come since.
        if has_ended(&self.child) && !self.is_readable()? {
            // What it has started may hold its pipes open, or go on writing to stderr, and answers in nobody's name.
            self.output = None;
            return Ok(Round::Closed);
        }
        if let Some(patience) = self.patience.filter(|patience| self.moved.elapsed() > *patience) {
            let seconds = patience.as_secs();
            let what = if bytes.is_empty() { "has written nothing" } else { "has read nothing of its input" };
            let hint = if bytes.is_empty() && self.input.is_some() { ANSWERS } else { "" };
            return Err(self.fail(&format!("{what} for {seconds} s (`timeout_seconds`) and was ended{hint}")));
        }
        Ok(Round::Wrote(0))
    }

    /// What came of its stdout without waiting.
    ///
    /// # Errors
    /// As [`round`](Self::round).
    pub fn peek(&mut self) -> Result<bool, RunError> {
        if !self.is_readable()? {
            return Ok(false);
        }
        Ok(matches!(self.read()?, Round::Came(_)) || !self.frames.is_between())
    }

    /// Whether its stdout has something, be it its end.
    fn is_readable(&mut self) -> Result<bool, RunError> {
        let Some(output) = &self.output else { return Ok(false) };
        let [readable] = ready([(Some(output.as_raw_fd()), libc::POLLIN)], Duration::ZERO)
            .map_err(|error| self.fail(&format!("cannot be heard: {error}")))?;
        Ok(readable)
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

    /// Reads what of its stderr is there, and no more than a pipe holds: a program may write faster than it is read.
    fn listen(&mut self) {
        let mut piece = [0; 4096];
        for _ in 0..PIPE_BYTES as usize / piece.len() {
            let Some(errors) = &mut self.errors else { return };
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
            Some(status) => Err(self.told(&how(status))),
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
        // SAFETY: the child is not waited for yet, so that its number is its group's and nobody else's.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
        // Only now: this process may end at any moment, and ends what is listed.
        groups::remove(self.child.id());
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

/// Whether to try again.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

//! What programs need of the system: pipes that do not block, process groups, and how one ended.

use std::io::ErrorKind;
use std::os::fd::RawFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// How many bytes a pipe is asked to hold, which is the most that Linux gives everybody.
pub const PIPE_BYTES: i32 = 1 << 20;

/// The groups of programs that run. An interrupted run ends without waiting for its workers, and what programs have started themselves
/// ends with it all the same.
pub mod groups {
    use std::sync::atomic::{AtomicI32, Ordering};

    /// Groups that are remembered. Programs beyond that end with this process (on Linux), and what they have started may not.
    const MOST: usize = 1 << 14;

    /// Their numbers; 0 is no group. A signal handler reads them, and may not wait for a lock.
    static RUNNING: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];

    /// Sets the first place that has `from`, if one does.
    fn replace(from: i32, to: i32) -> bool {
        RUNNING.iter().any(|group| group.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok())
    }

    pub fn add(group: u32) {
        replace(0, group as i32);
    }

    pub fn remove(group: u32) {
        replace(group as i32, 0);
    }

    /// Allocates nothing and takes no lock.
    pub fn end_all() {
        for group in RUNNING.iter().map(|group| group.load(Ordering::SeqCst)).filter(|group| *group > 0) {
            // SAFETY: a group is in the list until its head is waited for, so that the number is its own.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}

/// Has Linux kill the program when the thread that starts it is gone, so that not even a killed process leaves it behind.
#[cfg(target_os = "linux")]
pub fn die_with_parent(command: &mut Command) {
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
pub fn die_with_parent(_: &mut Command) {}

/// Has a pipe's end on our side never block, and the pipe hold more.
pub fn prepare(pipe: RawFd) -> std::io::Result<()> {
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
pub fn ready<const N: usize>(asked: [(Option<RawFd>, i16); N], wait: Duration) -> std::io::Result<[bool; N]> {
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
pub fn has_ended(child: &Child) -> bool {
    // SAFETY: all zeros are a value of the structure, which the system fills.
    unsafe {
        let mut about: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, child.id(), &raw mut about, options) != 0 || about.si_pid() != 0
    }
}

/// How a program ended.
pub fn how(status: ExitStatus) -> String {
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

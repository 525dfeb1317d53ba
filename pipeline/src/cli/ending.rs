//! How the command line ends: what is said of an error, and the exit code.

use std::borrow::Cow;
use std::io::{self, Write as _};

use clap::error::ErrorKind;
use tessera_schemas::printable_lines;

use super::{open_files, stdout};
use crate::declare::faults::Faults;
use crate::store::InUse;
use crate::watch::interrupt::{self, Interrupted};
use crate::watch::progress::{self, tell};
use crate::watch::terminal;

/// The exit codes of all commands: the work failed, the command line or a file is wrong, and another run holds the store.
const FAILED: u8 = 1;
const WRONG: u8 = 2;
const IN_USE: u8 = 4;

/// How the exit codes are explained.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  it is done
    1  it failed, and stderr says why
    2  the command line or the pipeline file is wrong; nothing was begun
    3  only of `run --exit-code`: it is done, and tables changed
    4  another run holds the store; with --wait, it held it for all of that time
  129  interrupted by SIGHUP; 130 by ^C (SIGINT), 143 by SIGTERM: what was finished is kept, and the next run goes on from there";

/// A wrong command line that clap could not see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Says why a command failed, and returns how the process ends because of it.
pub fn told(error: &anyhow::Error) -> u8 {
    if stdout::is_left(error) {
        return 0;
    }
    match error.downcast_ref::<Faults>() {
        // Its colours are meant for the terminal; what it quotes is made harmless there.
        Some(faults) => {
            let _ = writeln!(io::stderr(), "{}{}", progress::time(), faults.render(terminal::has_colours()));
        }
        None => tell(format_args!("error: {}", open_files::explained(error))),
    }
    if error.is::<Faults>() || error.is::<Usage>() {
        WRONG
    } else if error.is::<InUse>() {
        IN_USE
    } else if error.is::<Interrupted>() {
        interrupt::exit_code()
    } else {
        FAILED
    }
}

/// Says what is wrong with a command line, or what was asked for (help, version), and ends the process. What it quotes speaks to no
/// terminal: colours are given up where there is something to hide.
pub fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    let printed = match printable_lines(&text) {
        Cow::Borrowed(_) => error.print(),
        Cow::Owned(harmless) => write!(io::stderr(), "{harmless}"),
    };
    let is_asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if let (true, Err(error)) = (is_asked, printed.and_then(|()| io::stdout().flush())) {
        std::process::exit(told(&stdout::named(error).into()).into());
    }
    std::process::exit(error.exit_code());
}

//! Why something is done about a stage.

use std::fmt;

use super::listing::Changes;
use crate::store::Machine;
use crate::store::key::Change;

/// One reason; as text it is what `plan` says behind the stage's name.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// There is no snapshot.
    NeverRun,
    /// The user asked for it.
    Forced,
    /// A stage that it reads is made before.
    Waits(String),
    /// An earlier version listed its files, and told less of them.
    OutdatedListing,
    /// Files came, went, or were touched.
    Files(Changes),
    /// Something that its key covers changed.
    Changed(Change),
    /// Rows were left out, and may not be by now.
    Dropped,
    /// Some parts of a map's table.
    Parts { stale: usize, of: usize },
    /// It was made on another machine, and is reused.
    Machine { then: Machine, now: Machine },
    /// It starts from its last table.
    StartsFrom { what: &'static str, snapshot: String },
    /// It starts afresh though there is a last table; why, unless it was asked for.
    StartsAfresh { what: &'static str, why: Option<(String, String)> },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRun => f.write_str("never run"),
            Self::Forced => f.write_str("forced"),
            Self::Waits(input) => write!(f, "input {input} will be made first"),
            Self::OutdatedListing => f.write_str("an earlier version listed its files, which are read again once"),
            Self::Files(changes) => write!(f, "files {changes}"),
            Self::Changed(change) => change.fmt(f),
            Self::Dropped => f.write_str("rows were dropped, and on_error is \"fail\""),
            Self::Parts { stale, of } => write!(f, "{stale} of {of} parts changed"),
            Self::Machine { then, now } => {
                write!(f, "made on {then}, and here it is {now}: made anew, its last digits would differ")
            }
            Self::StartsFrom { what, snapshot } => write!(f, "starts from the {what} of snapshot {snapshot}"),
            Self::StartsAfresh { what, why: None } => write!(f, "starts afresh and not from the last {what}"),
            Self::StartsAfresh { what, why: Some((snapshot, why)) } => {
                write!(f, "starts afresh and not from the {what} of snapshot {snapshot}: {why}")
            }
        }
    }
}

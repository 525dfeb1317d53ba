//! The shapes in which operators run, and what the engine gives them.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tessera_datasets::layout::{Access, Found, Role};
use tessera_datasets::{Files, Fingerprint, Listed};
use tessera_schemas::{SchemaError, printable};

use super::Inputs;

/// What a run gives every kernel.
#[derive(Debug, Clone)]
pub struct Context {
    /// The pipeline's seed.
    pub seed: u64,
    /// How many threads may work at once.
    pub threads: usize,
    /// The folder that relative paths start from.
    pub base: PathBuf,
    /// A folder on the store's disk, for nameless files of what does not fit into memory.
    pub scratch: PathBuf,
}

/// How an operator runs.
pub enum Kernel {
    /// Lists a data set.
    Source(Box<dyn Source>),
    /// Rows to rows, independent of each other.
    Map(Box<dyn Map>),
    /// Sees whole tables, as often as it likes.
    Whole(Box<dyn Whole>),
    /// SQL over the inputs, by their names.
    Query(Query),
}

/// SQL over the inputs, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Yields the table.
    pub sql: String,
    /// Asked before that. A row means that the inputs cannot be worked with, and its only column, a text, says why.
    pub checks: Vec<String>,
    /// Rows that the table leaves out: two texts, the `image_id` and the reason.
    pub dropped: Option<String>,
    /// One row of numbers for the `metrics` table, under their columns' names.
    pub counts: Option<String>,
}

/// Lists a data set.
pub trait Source: Send + Sync {
    /// The folder (or file's folder) that paths are relative to.
    fn root(&self) -> &Path;

    /// Whether its rows are images, each of which stays the same row of the table as long as its bytes and its `image_id` do. Else the
    /// table is read as a whole.
    fn lists_images(&self) -> bool {
        false
    }

    /// What a listed file is. Of [images](Role::Image) the engine reads the header along with the digest.
    fn role(&self, path: &str) -> Role {
        let _ = path;
        Role::Beside
    }

    /// For images: what the rows of a [shard](Role::Shard) depend on beside its own bytes and the files beside it.
    fn rule(&self) -> String {
        String::new()
    }

    /// For images: how their bytes are reached.
    fn access(&self) -> Access {
        Access::default()
    }

    /// For images: how many of the `rows` that were published last may be gone now that there are `rows_now`; `None` if any number may.
    fn may_lose(&self, rows: u64, rows_now: u64) -> Option<Loss> {
        let _ = (rows, rows_now);
        None
    }

    /// Names, sizes and times of all files that the table depends on, by `path`, and what had to be left out; reads none of them.
    ///
    /// # Errors
    /// The root is not there or cannot be read, or holds nothing of use; or something had to be left out, and may not be. The
    /// message names it.
    fn list(&self, files: &dyn Files) -> Result<Listed, RunError>;

    /// Yields the table in batches, given the files' digests. Of images, it may be that of some images and shards alone; what is
    /// beside them is always given.
    ///
    /// # Errors
    /// A file cannot be read or understood, or `emit` fails.
    fn read(
        &self,
        files: &dyn Files,
        entries: &[Fingerprint],
        emit: &mut dyn FnMut(Found) -> Result<(), RunError>,
    ) -> Result<(), RunError>;
}

/// How many rows of a source may be gone since its last snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The most.
    pub most: u64,
    /// Why no more, as a sentence.
    pub said: String,
    /// The config field that allows more.
    pub key: &'static str,
}

/// Rows to rows.
pub trait Map: Send + Sync {
    /// Makes one worker's state. The engine opens as many as it runs at once, and hands each one batch at a time.
    ///
    /// # Errors
    /// The sides do not hold what it needs.
    fn open(&self, sides: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError>;

    /// How many rows a batch should be a multiple of, where memory allows it.
    fn block(&self) -> usize {
        1
    }

    /// Whether each output row has the `image_id` of the input row that it was made from. A map that makes several rows of one
    /// does not, and what a shuffled scan shuffles are then its output rows.
    fn keeps_ids(&self) -> bool {
        true
    }
}

/// One worker of a map.
pub trait MapFn: Send {
    /// Computes a batch: row by row the same, whatever else is in the batch.
    ///
    /// # Errors
    /// A row cannot be handled (and may not be dropped), or the work failed.
    fn call(&mut self, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError>;

    /// Lines for the user that came up since this was asked last.
    fn heard(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Whether all rows of the last batch are out. A map that makes many rows of one may yield them in pieces, and the engine
    /// asks this worker for the others when there is room for them.
    fn is_done(&self) -> bool {
        true
    }

    /// The next piece of the last batch, unless it [is done](Self::is_done). The scope is that of the batch.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    fn go_on(&mut self, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let _ = scope;
        Err(RunError::Engine("there are no more rows of this batch".into()))
    }
}

/// What surrounds a batch.
pub struct Scope<'a> {
    /// The pass over the data that the batch belongs to; 0 outside training.
    pub epoch: u64,
    /// With [`Operator::LOOKS_BACK`](super::Operator::LOOKS_BACK): the row before the first of the batch, if there is one.
    pub lead: Option<&'a RecordBatch>,
    /// Rows whose `bytes` are null since they could not be read, and why.
    pub unread: &'a [(usize, String)],
    /// Rows that were left out, and why.
    pub dropped: &'a mut Vec<Dropped>,
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// Whose row.
    pub image_id: String,
    /// Why.
    pub reason: String,
}

/// Sees whole tables.
pub trait Whole: Send {
    /// Runs on a thread of its own.
    ///
    /// # Errors
    /// The tables are unfit, the work failed, or the run was cancelled.
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError>;
}

/// The inputs of a [`Whole`] kernel.
pub trait Tables: Sync {
    /// An input's schema, if the stage names the input.
    fn schema(&self, input: &str) -> Option<SchemaRef>;

    /// How many rows an input has; fewer come if bad ones are dropped.
    ///
    /// # Errors
    /// The input cannot be counted.
    fn rows(&self, input: &str) -> Result<usize, RunError>;

    /// Reads an input.
    ///
    /// # Errors
    /// The input cannot be read, or has no row of the id to start behind.
    fn scan(&self, input: &str, order: Order<'_>) -> Result<Batches, RunError>;

    /// How many rows come before the row of that `image_id` in a [shuffled](Order::Shuffled) scan that starts with the first row, those
    /// that are left out on the way among them; none if the scan has no such row. Without reading an image.
    ///
    /// # Errors
    /// The input cannot be read.
    fn place(&self, input: &str, order: Order<'_>, image_id: &str) -> Result<Option<usize>, RunError>;

    /// The table that the stage published last, all of it, for an operator that [goes on](super::Operator::goes_on_from) from it:
    /// none if there is none that [fits](super::Operator::fits), or if the stage is to start afresh. A kernel that does start from it
    /// says so by [`Sink::goes_on`].
    ///
    /// # Errors
    /// The table cannot be read.
    fn last(&self) -> Result<Option<Vec<RecordBatch>>, RunError> {
        Ok(None)
    }
}

/// Batches as they come.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, RunError>> + Send>;

/// The order of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// As the parts hold the rows: how those lie follows from the runs before, and no result may depend on it.
    Stored,
    /// By `image_id`, or in a table without it, by all columns that are read: an order that follows from the rows.
    Sorted,
    /// By a hash of seed, epoch and id; maps on the way see that epoch.
    Shuffled {
        /// The pass over the data.
        epoch: u64,
        /// Where to start: behind the row of that `image_id`. None of those before it is read or computed.
        after: Option<&'a str>,
        /// The column of classes (whole numbers) that are to come equally often, in as many rows; it must be in the table at the scan's
        /// base. Rows of small classes come again under ids of their own. By default each row comes once.
        classes: Option<&'a str>,
    },
}

/// Where a [`Whole`] kernel puts what it makes.
pub trait Sink {
    /// Adds rows to its table.
    ///
    /// # Errors
    /// They cannot be written.
    fn write(&mut self, batch: RecordBatch) -> Result<(), RunError>;

    /// Records a number for the `metrics` table.
    fn metric(&mut self, epoch: usize, step: usize, name: &str, value: f64);

    /// Says how far it is, for the progress bar.
    fn progress(&mut self, done: usize, total: usize, note: &str);

    /// Tells the user something once, on a line of its own.
    fn say(&mut self, line: &str) {
        let _ = line;
    }

    /// Lists a row that it left out of what it computed, in the table `dropped`; those that a scan left out are listed already.
    fn leave_out(&mut self, row: Dropped);

    /// Tells the user of something that is probably wrong, also one who wants to hear nothing else.
    fn warn(&mut self, line: &str) {
        self.say(line);
    }

    /// What the last [`checkpoint`](Self::checkpoint) of an interrupted run of the same stage key held. Numbers recorded before it are
    /// there again. Call it before anything else of this sink, if at all.
    fn resume(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Forgets what [`resume`](Self::resume) gave, and the numbers that came back with it: it is of no use, as the line says, and the
    /// kernel starts over.
    fn forget(&mut self, line: &str) {
        self.say(line);
    }

    /// Keeps a state to resume from, in place of the one before, with the numbers recorded so far. It is dropped when the table is
    /// published. Rows are not kept: only a kernel that writes its table at its end can resume.
    ///
    /// # Errors
    /// It cannot be written.
    fn checkpoint(&mut self, state: Vec<u8>) -> Result<(), RunError> {
        drop(state);
        Ok(())
    }

    /// Notes that the new table goes on from [`Tables::last`]: its manifest will name that snapshot.
    fn goes_on(&mut self) {}

    /// Whether the run was interrupted: then return [`RunError::Cancelled`] soon.
    fn cancelled(&self) -> bool;
}

/// A run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// One image is to blame.
    #[error("image `{}`: {reason}", printable(image_id))]
    Row {
        /// Which.
        image_id: String,
        /// Why.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", printable(&path.to_string_lossy()))]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could be read and not understood.
    #[error("{}: {message}", printable(&path.to_string_lossy()))]
    Format {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A table is not what its reader needs.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The inputs cannot be worked with; the message says what would do.
    #[error("{0}")]
    Input(String),
    /// libtorch refused.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The run was interrupted.
    #[error("interrupted")]
    Cancelled,
    /// The engine failed while it fed the operator.
    #[error("{0}")]
    Engine(String),
}

impl From<arrow::error::ArrowError> for RunError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Schema(error.into())
    }
}

impl From<tessera_datasets::Error> for RunError {
    fn from(error: tessera_datasets::Error) -> Self {
        match error {
            tessera_datasets::Error::Io { path, source } => Self::Io { path, source },
            tessera_datasets::Error::Format { path, message } => Self::Format { path, message },
        }
    }
}

//! The contract: what an operator is, and the shapes in which it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tessera_datasets::{Files, Fingerprint};
use tessera_schemas::SchemaError;

/// What a stage does. One type, one file, one line in [`OPERATORS`](crate::OPERATORS).
pub trait Operator: Sized + Send + Sync + 'static {
    /// `op = "…"` in the pipeline file, and the name of the operator's file.
    const NAME: &'static str;
    /// One line for `tessera operators`.
    const SUMMARY: &'static str;
    /// Bumped whenever equal input gives other output.
    const VERSION: u32;
    /// The inputs it knows.
    const INPUTS: &'static [Port];
    /// Whether it draws random numbers: only then is the seed part of its key.
    const SEEDED: bool = false;
    /// Whether its table is computed when somebody reads it, unless `keep = true`.
    const VIEW: bool = false;
    /// Of a map: whether a row may look at the one before it in the epoch's shuffled order. Then every scan is shuffled, batches
    /// have a [`PREVIOUS`](tessera_schemas::PREVIOUS) column, and [`Scope::lead`] holds the row before the batch's first.
    const LOOKS_BACK: bool = false;
    /// Config fields that cannot change the result: they have no part in its key.
    const NEUTRAL: &'static [&'static str] = &[];
    /// Config fields that name files whose bytes, not names, are part of its key.
    const FILES: &'static [&'static str] = &[];
    /// The keys of its stage: every field has a default or is required, and unknown keys are refused for it.
    type Config: DeserializeOwned + Serialize;

    /// Checks config and inputs against each other. Reads no image.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    fn bind(config: Self::Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>>;

    /// The table that it yields.
    fn schema(&self) -> SchemaRef;

    /// The columns of an input that its result depends on; those that it hands on untouched are not among them. `input` is
    /// the input's name in the stage: the port's, unless that is [`PortKind::Named`].
    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        let _ = input;
        port.columns.iter().map(|column| column.name.to_owned()).collect()
    }

    /// Of a map: its output columns that are an input's, untouched.
    fn passes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a row that it cannot handle fails the run; if not, it is dropped and recorded.
    fn refuses_drops(&self) -> bool {
        false
    }

    /// Config fields whose defaults depend on the inputs, as they came out: spelling one out is no change.
    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        Vec::new()
    }

    /// What `tessera check` says of it, beside that nothing is wrong.
    ///
    /// # Errors
    /// It cannot do what is asked of it, which took too long to find out for [`Operator::bind`].
    fn notes(&self) -> Result<Vec<String>, RunError> {
        Ok(Vec::new())
    }

    /// How it runs.
    ///
    /// # Errors
    /// Something that it needs (a file, a device) is not there.
    fn kernel(self, context: &Context) -> Result<Kernel, RunError>;
}

/// An input of an operator.
#[derive(Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in `inputs = { … }`.
    pub name: &'static str,
    /// How it is read.
    pub kind: PortKind,
    /// Whether a stage must name it.
    pub required: bool,
    /// The columns that a table must have to be read here.
    pub columns: &'static [Column],
}

impl Port {
    /// A [`Map`]'s required stream of rows with those columns.
    pub const fn stream(name: &'static str, columns: &'static [Column]) -> Self {
        Self { name, kind: PortKind::Stream, required: true, columns }
    }

    /// A required table that a [`Whole`] kernel scans.
    pub const fn scan(name: &'static str, columns: &'static [Column]) -> Self {
        Self { name, kind: PortKind::Scan, required: true, columns }
    }

    /// A required table that is read whole first.
    pub const fn side(name: &'static str, columns: &'static [Column]) -> Self {
        Self { name, kind: PortKind::Side, required: true, columns }
    }

    /// The same, but a stage may leave it out.
    pub const fn optional(self) -> Self {
        Self { required: false, ..self }
    }
}

/// How an input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// Batch by batch, once. A map has exactly one, and nothing else has any.
    Stream,
    /// As often as a [`Whole`] kernel likes, in the order that it likes.
    Scan,
    /// Whole, before the first batch: weights, centroids.
    Side,
    /// Any number of tables under names of the user's choice: a query's only port.
    Named,
    /// A query's table, under the port's name.
    Table,
}

/// A column that a port needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ColumnKind,
}

impl Column {
    /// A column of that name and type.
    pub const fn new(name: &'static str, kind: ColumnKind) -> Self {
        Self { name, kind }
    }
}

/// The types that edges are checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Utf8.
    Text,
    /// Int32.
    Integer,
    /// The encoded bytes of an image: the engine reads them where an images table's `source` points.
    Bytes,
    /// `FixedSizeList<UInt8>` with a shape.
    Octets,
    /// `FixedSizeList<Float32>`.
    Vector,
    /// Whatever it is.
    Any,
}

impl ColumnKind {
    /// The type as messages name it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Text => "Utf8",
            Self::Integer => "Int32",
            Self::Bytes => "encoded images (a `source` column, as `images` makes)",
            Self::Octets => "FixedSizeList<UInt8> with a shape",
            Self::Vector => "FixedSizeList<Float32>",
            Self::Any => "any type",
        }
    }

    /// Whether a column of that type will do.
    pub fn accepts(self, found: &DataType) -> bool {
        match (self, found) {
            (Self::Any, _) | (Self::Text, DataType::Utf8) | (Self::Integer, DataType::Int32) => true,
            (Self::Octets, DataType::FixedSizeList(item, _)) => item.data_type() == &DataType::UInt8,
            (Self::Vector, DataType::FixedSizeList(item, _)) => item.data_type() == &DataType::Float32,
            (Self::Bytes, DataType::Binary) => true,
            _ => false,
        }
    }
}

/// Things by the name of their input.
#[derive(Debug, Clone)]
pub struct Inputs<T>(pub BTreeMap<String, T>);

impl<T> Default for Inputs<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Inputs<T> {
    /// The input of that name, if the stage names it.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.get(name)
    }

    /// A required input.
    ///
    /// # Panics
    /// There is none: the plan checks that before an operator sees its inputs.
    pub fn required(&self, name: &str) -> &T {
        self.get(name).unwrap_or_else(|| panic!("the plan lets no stage through without its input `{name}`"))
    }
}

/// What an operator is bound to.
pub struct Binding<'a> {
    /// The inputs' schemas. A port with a [`ColumnKind::Bytes`] column shows the images table itself.
    pub inputs: &'a Inputs<SchemaRef>,
    /// The folder that relative paths start from.
    pub base: &'a Path,
    /// Finds a query's schema.
    pub planner: &'a dyn QueryPlanner,
}

impl Binding<'_> {
    /// A config's path, from the folder of the pipeline file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }
}

/// The engine's SQL planner, as [`Operator::bind`] sees it.
pub trait QueryPlanner {
    /// The schema of a query over those tables, and the columns of each that it reads.
    ///
    /// # Errors
    /// The query is wrong; the message says where.
    fn plan(&self, sql: &str, inputs: &Inputs<SchemaRef>) -> Result<(SchemaRef, BTreeMap<String, Vec<String>>), String>;
}

/// Something wrong with a stage, found before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindError {
    /// Where to point at.
    pub at: At,
    /// What is wrong: a lowercase fragment that fits behind the place.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A place in a stage of the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The whole stage.
    Stage,
    /// A config key, by its path (`layer`, `layer[1]`).
    Key(String),
    /// An input by its port's name.
    Input(String),
}

impl BindError {
    /// At a config key.
    pub fn key(key: &str, message: impl Into<String>) -> Self {
        Self { at: At::Key(key.to_owned()), message: message.into(), help: None }
    }

    /// At an input.
    pub fn input(port: &str, message: impl Into<String>) -> Self {
        Self { at: At::Input(port.to_owned()), message: message.into(), help: None }
    }

    /// At the stage.
    pub fn stage(message: impl Into<String>) -> Self {
        Self { at: At::Stage, message: message.into(), help: None }
    }

    /// The same with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What a run gives every kernel.
#[derive(Debug, Clone)]
pub struct Context {
    /// The pipeline's seed.
    pub seed: u64,
    /// How many threads may work at once.
    pub threads: usize,
    /// The folder that relative paths start from.
    pub base: PathBuf,
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

    /// Whether each file makes one row of its own, with its path as `image_id`, whatever other files there are: then only files
    /// that changed are read again.
    fn row_per_file(&self) -> bool {
        false
    }

    /// Names, sizes and times of all files that the table depends on, by `path`; reads none of them.
    ///
    /// # Errors
    /// The root is not there or cannot be read, or holds nothing of use; the message names it.
    fn list(&self, files: &dyn Files) -> Result<Vec<tessera_datasets::Entry>, RunError>;

    /// Yields the table in batches, given the files' digests.
    ///
    /// # Errors
    /// A file cannot be read or understood, or `emit` fails.
    fn read(
        &self,
        files: &dyn Files,
        entries: &[Fingerprint],
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), RunError>,
    ) -> Result<(), RunError>;
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
}

/// What surrounds a batch.
pub struct Scope<'a> {
    /// The pass over the data that the batch belongs to; 0 outside training.
    pub epoch: u64,
    /// With [`Operator::LOOKS_BACK`]: the row before the first of the batch, if there is one.
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
}

/// Batches as they come.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, RunError>> + Send>;

/// The order of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// As the parts hold the rows.
    Stored,
    /// By a hash of seed, epoch and id; maps on the way see that epoch.
    Shuffled {
        /// The pass over the data.
        epoch: u64,
        /// Where to start: behind the row of that `image_id`. None of those before it is read or computed.
        after: Option<&'a str>,
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

    /// What the last [`checkpoint`](Self::checkpoint) of an interrupted run of the same stage key held. Numbers recorded before it are
    /// there again. Call it before anything else of this sink, if at all.
    fn resume(&mut self) -> Option<Vec<u8>> {
        None
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

    /// Whether the run was interrupted: then return [`RunError::Cancelled`] soon.
    fn cancelled(&self) -> bool;
}

/// A run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// One image is to blame.
    #[error("image `{image_id}`: {reason}")]
    Row {
        /// Which.
        image_id: String,
        /// Why.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could be read and not understood.
    #[error("{}: {message}", path.display())]
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

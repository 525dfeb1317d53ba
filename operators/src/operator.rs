//! The contract: what an operator is, and the shapes in which it runs.

mod binding;
mod kernel;
mod reading;
mod shape;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Limits;

pub use binding::{At, BindError, BindErrors, Binding, Column, ColumnKind, Inputs, Port, PortKind, QueryPlanner};
pub use kernel::{
    Batches, Context, Dropped, Kernel, Loss, Map, MapFn, Order, Query, RunError, Scope, Sink, Source, Tables, Whole,
};
pub use reading::read_all;
pub use shape::{Shape, ShapeName};

/// What a stage does. One type, one file, one line in [`OPERATORS`](crate::OPERATORS).
pub trait Operator: Sized + Send + Sync + 'static {
    /// `op = "…"` in the pipeline file, and the name of the operator's file.
    const NAME: &'static str;
    /// One line for `tessera operators`.
    const SUMMARY: &'static str;
    /// The columns of its table, for the reference: a name, or `each of …`, and what is to be said of it.
    const OUTPUT: &'static [(&'static str, &'static str)];
    /// A stage as a pipeline file has it, for the reference.
    const EXAMPLE: &'static str;
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
    /// Of a map: whether it makes several rows of one, and so new ids; see [`Map::keeps_ids`].
    const MULTIPLIES: bool = false;
    /// Config fields that cannot change the result: they have no part in its key.
    const NEUTRAL: &'static [&'static str] = &[];
    /// The largest values of its keys that hold numbers.
    const LIMITS: Limits = &[];
    /// Config fields that name files whose bytes, not names, are part of its key.
    const FILES: &'static [&'static str] = &[];
    /// Of an operator whose table follows from what people decide about `clusters` and their images (`assigned`): the config field that names
    /// the [file of decisions](tessera_datasets::names), and its default. Pages write that file.
    const DECISIONS: Option<(&'static str, &'static str)> = None;
    /// The keys of its stage: every field has a default or is required, and unknown keys are refused for it.
    type Config: DeserializeOwned + Serialize + JsonSchema;
    /// The shape in which it runs. [`INPUTS`](Self::INPUTS) must fit it: a map has one stream, a kernel that sees whole tables has scans.
    type Kernel: Shape;

    /// What is wrong with a config, whatever the inputs are: told also where an input is not known yet. [`bind`](Self::bind) tells it as
    /// well.
    fn faults(config: &Self::Config) -> Vec<BindError> {
        let _ = config;
        Vec::new()
    }

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

    /// Of a map: whether what it computes of a row follows from the row's `image_id` as well, as what is drawn at random does. Else a row of
    /// the same content under another id is taken for the same.
    fn reads_ids(&self) -> bool {
        Self::SEEDED
    }

    /// What its result follows from beside its config, the [files](Self::FILES) that this names, and its inputs: digests, each with the name
    /// of what it is of behind it (`"5bd1… rotate.py"`), in an order of their own. Of a file whose lines are known one by one, an entry says the line behind the
    /// word `line` (`"line 5bd1… names.csv: cluster 17 named dress"`), for `plan` to tell. They are part of its key.
    ///
    /// # Errors
    /// A file cannot be read.
    fn content(&self) -> Result<Vec<String>, RunError> {
        Ok(Vec::new())
    }

    /// For a map: the columns of its output that it hands on from its input untouched.
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

    /// Of an operator whose result is exact only for one device and number of threads: the device that it runs on here, `cpu` or
    /// `cuda:N`. Both are kept with its snapshot, and are no part of its key.
    fn device(&self) -> Option<String> {
        None
    }

    /// What it takes of the table that its stage published last, such as `"centroids"`, to start from; `None`, the default, if it
    /// always starts afresh. Then [`Tables::last`] gives that table. Which table that was is no part of the key, since its result would
    /// be another key's start, and no run would ever rest: the manifest names it.
    fn goes_on_from(&self) -> Option<&'static str> {
        None
    }

    /// With [`goes_on_from`](Self::goes_on_from): whether a table of that schema, an earlier one of its stage, will do.
    ///
    /// # Errors
    /// It will not; the message says why, as a fragment such as `"they have 8 dimensions, and features have 16"`.
    fn fits(&self, last: &SchemaRef) -> Result<(), String> {
        let _ = last;
        Ok(())
    }

    /// Whether an input of at most so many rows will do, which may be known before any of them is there.
    ///
    /// # Errors
    /// It will not; the error says why.
    fn enough(&self, input: &str, rows: u64) -> Result<(), BindError> {
        let _ = (input, rows);
        Ok(())
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
    fn kernel(self, context: &Context) -> Result<Self::Kernel, RunError>;
}

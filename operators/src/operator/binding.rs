//! What an operator is bound to, and what may be wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, SchemaRef};
use tessera_datasets::Files;
use tessera_datasets::local::joined;
use tessera_schemas::features;

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
    /// A [`Map`](super::Map)'s required stream of rows with those columns.
    pub const fn stream(name: &'static str, columns: &'static [Column]) -> Self {
        Self { name, kind: PortKind::Stream, required: true, columns }
    }

    /// A required table that a [`Whole`](super::Whole) kernel scans.
    pub const fn scan(name: &'static str, columns: &'static [Column]) -> Self {
        Self { name, kind: PortKind::Scan, required: true, columns }
    }

    /// A required table that is read whole first.
    pub const fn side(name: &'static str, columns: &'static [Column]) -> Self {
        Self { name, kind: PortKind::Side, required: true, columns }
    }

    /// The same input, which a stage may leave out.
    pub const fn optional(self) -> Self {
        Self { required: false, ..self }
    }
}

/// How an input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// Batch by batch, once. A map has exactly one, and nothing else has any.
    Stream,
    /// As often as a [`Whole`](super::Whole) kernel likes, in the order that it likes.
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
    /// `FixedSizeList<Float32>`, or of Float16.
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
            Self::Vector => "FixedSizeList<Float32 or Float16>",
            Self::Any => "any type",
        }
    }

    /// Whether a column of that type will do.
    pub fn accepts(self, found: &DataType) -> bool {
        match (self, found) {
            (Self::Any, _) | (Self::Text, DataType::Utf8) | (Self::Integer, DataType::Int32) => true,
            (Self::Octets, DataType::FixedSizeList(item, _)) => item.data_type() == &DataType::UInt8,
            (Self::Vector, DataType::FixedSizeList(item, _)) => features::is_element(item.data_type()),
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
    /// # Panics The input is missing. The plan checks this before an operator sees its inputs, so it never happens.
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
    /// Reaches files of data sets, on a disk or in buckets.
    pub files: &'a dyn Files,
}

impl Binding<'_> {
    /// A config's path, from the folder of the pipeline file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        joined(self.base, path)
    }
}

/// The engine's SQL planner, as [`Operator::bind`](super::Operator::bind) sees it.
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
    /// What is wrong, as a lowercase fragment that fits behind the place.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Faults of a stage as they are found, so that all of them are told at once.
#[derive(Debug, Default)]
pub struct BindErrors(Vec<BindError>);

impl BindErrors {
    /// Adds a fault.
    pub fn push(&mut self, fault: BindError) {
        self.0.push(fault);
    }

    /// What was found, or nothing: then the fault is added.
    pub fn keep<T>(&mut self, found: Result<T, BindError>) -> Option<T> {
        found.map_err(|fault| self.0.push(fault)).ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bound operator.
    ///
    /// # Errors
    /// There were faults: without any, `bound` is there.
    pub fn or<T>(self, bound: Option<T>) -> Result<T, Vec<BindError>> {
        match bound {
            Some(bound) if self.0.is_empty() => Ok(bound),
            _ => Err(self.0),
        }
    }
}

impl Extend<BindError> for BindErrors {
    fn extend<I: IntoIterator<Item = BindError>>(&mut self, faults: I) {
        self.0.extend(faults);
    }
}

/// A place in a stage of the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The whole stage.
    Stage,
    /// A config key, by its path (`layer`, `layer[1]`).
    Key(String),
    /// A key that the operator does not know.
    Unknown(String),
    /// An input by its port's name.
    Input(String),
    /// The table that an input reads, by the port's name: the message goes on behind the name of its stage.
    Table(String),
    /// The stage that makes the table that an input reads, by the port's name: the message says what that stage does not say and this one
    /// needs.
    Maker(String),
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

    /// At the table that an input reads, of which the message says what it lacks, such as `has no column of vectors`.
    pub fn table(port: &str, message: impl Into<String>) -> Self {
        Self { at: At::Table(port.to_owned()), message: message.into(), help: None }
    }

    /// At the stage that makes the table that an input reads, of which the message says what it leaves open, such as `does not say which
    /// network its tensors are of`.
    pub fn maker(port: &str, message: impl Into<String>) -> Self {
        Self { at: At::Maker(port.to_owned()), message: message.into(), help: None }
    }

    /// At the stage.
    pub fn stage(message: impl Into<String>) -> Self {
        Self { at: At::Stage, message: message.into(), help: None }
    }

    /// The same error with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

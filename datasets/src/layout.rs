//! How the files of a data set become images: the contract of all formats.

mod access;

use std::fmt::Debug;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::{Error, Files, Fingerprint, LeftOut, Listed};

/// A format, opened on one data set.
pub trait Layout: Send + Sync + Debug {
    /// The columns of its table: those of [`images`](tessera_schemas::images), of which `label` may be missing, and behind them what the
    /// format tells of an image beside.
    fn schema(&self) -> SchemaRef;

    /// The files that the table depends on, by path, and what of them cannot be listed; reads none of them.
    ///
    /// # Errors
    /// The data set cannot be read, or a file is missing without which the table would be another.
    fn list(&self, files: &dyn Files) -> Result<Listed, Error>;

    /// What a listed file is.
    fn role(&self, path: &str) -> Role;

    /// The rows of some images and shards, in order. `prints` has those, and all files that are [`Beside`](Role::Beside). An image that
    /// is listed gives a row even if it cannot be read; a shard of which only some can be read gives those, and says what is left out.
    ///
    /// # Errors
    /// A file cannot be read, or says what cannot be; the message has its line, where it has lines.
    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error>;

    /// What the rows of a shard follow from that neither its own bytes nor the files beside it say, as a text: of which columns there are,
    /// another shard may decide.
    fn rule(&self) -> String {
        String::new()
    }

    /// How many threads may work for it, beside those that read several shards at once.
    fn use_threads(&mut self, threads: usize) {
        let _ = threads;
    }

    /// How the bytes of an image are reached.
    fn access(&self) -> Access {
        Access::default()
    }
}

/// What a file of a data set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An image: it makes one row, whose `image_id` is its path and whose `digest` its own.
    Image,
    /// It holds images. Its rows follow from its bytes, its path, and the files that are [`Beside`](Self::Beside); their digests are those
    /// of the images' bytes as [`Access`] reads them.
    Shard,
    /// It says something of others' rows, or is one of the files of a table that is read as a whole.
    Beside,
}

/// Rows as they are made.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Found, Error>> + 'a>;

/// Some rows of a data set.
#[derive(Debug, Clone)]
pub struct Found {
    /// With the columns of [`Layout::schema`].
    pub rows: RecordBatch,
    /// What of the same files could not be made a row; a path is that of the file, and behind a slash the name in it.
    pub left_out: Vec<LeftOut>,
}

impl From<RecordBatch> for Found {
    fn from(rows: RecordBatch) -> Self {
        Self { rows, left_out: Vec::new() }
    }
}

/// How the bytes of an image are reached from its `source`: plain data.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// They are a file, or a range of it.
    #[default]
    Bytes,
    /// They are in a column of a Parquet or Arrow file, in the row that `source` names, unless it says where they lie.
    Column(String),
    /// They are pixels or whole files in a dataset of an HDF5 file, in the row that `source` names, unless it says where they lie.
    Array(String),
    /// They are a range of a file: of its bytes as [`unpack`](crate::tar::unpacked::unpack) makes them, where it
    /// [is packed](crate::tar::unpacked::is_packed).
    Unpacked,
    /// They are made of a row of a file of [pictures in planes](crate::planar).
    Planar(crate::planar::Planes),
}

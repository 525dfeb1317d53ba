//! The kinds of files that images are a column of, and what reading them has in common.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::data_type::ByteArray;

use super::{BATCH_ROWS, batches, pages};
use crate::folder::naming;
use crate::tables::guard;
use crate::tables::raw::Raw;
use crate::{Error, Files};

/// In which kind of file the images lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Parquet.
    Parquet,
    /// Arrow's file format, which is Feather's second version, or its stream format.
    Arrow,
}

/// Some rows: all columns but the images' bytes, and those.
pub(super) struct Batch {
    /// The other columns; of a struct of images, what else it has.
    pub(super) others: RecordBatch,
    /// The images, of rows that have one.
    pub(super) images: Vec<Option<Encoded>>,
}

/// An image's bytes.
pub(super) struct Encoded {
    /// As the file has them.
    pub(super) bytes: ByteArray,
    /// Where they lie in the file, if they do as they are.
    pub(super) offset: Option<u64>,
}

impl Kind {
    /// By the name of a file.
    pub fn of(path: &str) -> Option<Self> {
        let extension = naming::extension(path).to_ascii_lowercase();
        [Self::Parquet, Self::Arrow].into_iter().find(|kind| kind.endings().contains(&extension.as_str()))
    }

    /// What names of such files end in.
    pub(super) fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Parquet => &["parquet"],
            Self::Arrow => &["arrow", "feather"],
        }
    }
}

/// A file of one of the kinds.
pub(super) enum Reader<'a> {
    Parquet(pages::Reader<'a>),
    Arrow(batches::Reader<'a>),
}

impl<'a> Reader<'a> {
    /// Reads what says which columns and rows it has.
    ///
    /// # Errors
    /// It is no such file, or cannot be read.
    pub(super) fn open(kind: Kind, files: &'a dyn Files, path: &'a Path, size: u64) -> Result<Self, Error> {
        Ok(match kind {
            Kind::Parquet => Self::Parquet(pages::Reader::open(files, path, size)?),
            Kind::Arrow => Self::Arrow(batches::Reader::open(files, path, size)?),
        })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        match self {
            Self::Parquet(reader) => reader.schema(),
            Self::Arrow(reader) => reader.schema(),
        }
    }

    /// How many rows the file promises.
    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Parquet(reader) => reader.rows(),
            Self::Arrow(reader) => reader.rows(),
        }
    }

    /// Why the file is over before its end, if rows before that can be read.
    pub(super) fn cut(&self) -> Option<&str> {
        match self {
            Self::Parquet(_) => None,
            Self::Arrow(reader) => reader.cut(),
        }
    }

    /// All rows, some at a time.
    ///
    /// # Errors
    /// There is no such column.
    pub(super) fn all(self, column: &str) -> Result<Box<dyn Iterator<Item = Result<Batch, Error>> + 'a>, Error> {
        Ok(match self {
            Self::Parquet(reader) => Box::new(reader.all(column, BATCH_ROWS)?),
            Self::Arrow(reader) => Box::new(reader.all(column, BATCH_ROWS)?),
        })
    }
}

/// The batches that a reader gives, up to one that cannot be read. A panic of the reader is such a one.
pub(super) fn until_one_fails<'a>(
    raw: Raw<'a>,
    mut next: impl FnMut() -> Result<Option<Batch>, Error> + 'a,
) -> impl Iterator<Item = Result<Batch, Error>> + 'a {
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let batch = guard(raw, &mut next).transpose();
        failed = matches!(batch, Some(Err(_)));
        batch
    })
}

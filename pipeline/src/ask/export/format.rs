//! The formats of files, one writer for those that take rows as they come, and how formats are named.

use std::path::Path;

use anyhow::{Result, bail};

use super::imports::Program;
use super::{NewFile, Rows, arrow, csv, hdf5, npy, parquet};
use crate::watch::progress::Bar;

/// A format of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// Parquet: all types.
    Parquet,
    /// Arrow's file format, which is Feather's second version: all types.
    Arrow,
    /// CSV with a header line: vectors and structs spread over columns.
    Csv,
    /// NumPy's .npy: the one column of numbers, N x D of vectors.
    Npy,
    /// safetensors: weights by name, or a tensor a column.
    Safetensors,
    /// HDF5: a dataset a column, compressed; vectors as N x D, pixels as N x H x W x 3.
    Hdf5,
}

impl FileFormat {
    /// The format that a file's ending names.
    ///
    /// # Errors The ending names no format; the message lists the endings that do.
    pub fn of(path: &Path) -> Result<Self, String> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
        match extension.as_str() {
            "parquet" | "pq" => Ok(Self::Parquet),
            "arrow" | "feather" | "ipc" => Ok(Self::Arrow),
            "csv" => Ok(Self::Csv),
            "npy" => Ok(Self::Npy),
            "safetensors" => Ok(Self::Safetensors),
            "h5" | "hdf5" => Ok(Self::Hdf5),
            _ => Err(format!(
                "the ending of {} names no format: parquet, arrow, csv, npy, h5 and safetensors do, or --format says it: fiftyone, label-studio, …",
                path.display()
            )),
        }
    }

    /// Whether a writer goes from a file's beginning to its end, and could as well write to a pipe.
    pub fn streams(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow | Self::Csv)
    }

    /// Whether people can read it.
    pub fn is_text(self) -> bool {
        self == Self::Csv
    }

    /// Writes rows as they come, with threads that compress. Returns how many there were.
    ///
    /// # Errors
    /// A column or a value has no place in such a file, or a row cannot be made or written. safetensors has to know the number of rows
    /// first.
    pub fn write(self, rows: &mut Rows<'_>, file: &NewFile, threads: usize, bar: &Bar) -> Result<u64> {
        match self {
            Self::Parquet => parquet(rows, file, bar),
            Self::Arrow => arrow::write(rows, file, bar),
            Self::Csv => csv::write(rows, file, bar),
            Self::Npy => npy::write(rows, file, bar),
            Self::Hdf5 => hdf5::write(rows, file, threads, bar),
            Self::Safetensors => {
                bail!("safetensors holds tables: `tessera export` writes one, and a `sql` stage makes one of a query")
            }
        }
    }
}

/// What --format names: a format of files, or a program whose import file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A format of files.
    File(FileFormat),
    /// A program.
    Import(Program),
}

impl clap::ValueEnum for Named {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Named; 8] = [
            Named::File(FileFormat::Parquet),
            Named::File(FileFormat::Arrow),
            Named::File(FileFormat::Csv),
            Named::File(FileFormat::Npy),
            Named::File(FileFormat::Safetensors),
            Named::File(FileFormat::Hdf5),
            Named::Import(Program::Fiftyone),
            Named::Import(Program::LabelStudio),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            Self::File(format) => format.to_possible_value(),
            Self::Import(program) => program.to_possible_value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn all_formats_have_names() {
        let named = |name| Named::value_variants().iter().filter(|named| **named == name).count();
        assert!(FileFormat::value_variants().iter().all(|format| named(Named::File(*format)) == 1));
        assert!(Program::value_variants().iter().all(|program| named(Named::Import(*program)) == 1));
    }
}

//! Tables as HDF5 files: a dataset a column, appended to batch by batch.
//!
//! Vectors of numbers become `N x D`, or have the shape that their metadata says; text is of fixed length, which MATLAB and others
//! read best, and is made longer when a longer one comes; lists, bytes and structs are groups. Everything is in chunks that are
//! shuffled and deflated, by all threads and beside the library, and may grow along the rows. What nulls and types become, see
//! [`layout`](super::layout): a row without a value has NaN, 0 or an empty text.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use hdf5_metno::file::{FileCloseDegree, LibraryVersion};
use hdf5_metno::{File, Group};

use node::Nodes;

mod chunked;
mod node;
mod raw;

/// A file that rows are appended to. It is whole after [`finish`](Self::finish).
pub struct Writer {
    nodes: Nodes,
    root: Group,
    file: File,
    schema: SchemaRef,
    rows: u64,
}

impl Writer {
    /// Begins a file, in the place of any that is there.
    ///
    /// # Errors
    /// HDF5 has nothing that a column's type could become, or the file cannot be written.
    pub fn create(path: &Path, schema: &SchemaRef, threads: usize) -> Result<Self, String> {
        // Readable by HDF5 1.10 and what comes with it.
        let options = |fapl: &mut hdf5_metno::file::FileAccessBuilder| {
            fapl.libver_bounds(LibraryVersion::V18, LibraryVersion::V110).fclose_degree(FileCloseDegree::Strong);
        };
        let file = File::with_options()
            .with_fapl(|fapl| {
                options(fapl);
                fapl
            })
            .create(path)
            .map_err(|error| format!("HDF5 cannot create it: {error}"))?;
        let root = file.group("/").map_err(|error| error.to_string())?;
        let nodes = Nodes::create(&root, schema.fields(), threads)?;
        Ok(Self { nodes, root, file, schema: schema.clone(), rows: 0 })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// A value has no place in HDF5, or the file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        self.rows += batch.num_rows() as u64;
        self.nodes.push(batch.columns())
    }

    /// Writes what is left, and closes the file. Returns how many rows it has.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<u64, String> {
        let Self { nodes, root, file, schema, rows } = self;
        nodes.finish(&root)?;
        for (key, value) in Schema::metadata(&schema) {
            raw::attribute(&root, key, value)?;
        }
        drop(root);
        file.flush().map_err(|error| format!("HDF5 cannot write it: {error}"))?;
        file.close().map_err(|error| format!("HDF5 cannot close it: {error}"))?;
        Ok(rows)
    }
}

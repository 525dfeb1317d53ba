//! The tables on the edges of a Tessera pipeline.
//!
//! One file a table: its Arrow schema, a checked view of a [`RecordBatch`](arrow::array::RecordBatch) and a builder. What a
//! type alone cannot say (an image's height and width, how many permutations there are) is field metadata: see [`meta`].
//! [`digest`] gives every column an order-independent fingerprint.

pub mod assignments;
pub mod boxes;
pub mod clusters;
pub mod column;
pub mod components;
pub mod digest;
pub mod features;
pub mod ids;
pub mod images;
pub mod masks;
pub mod meta;
pub mod metrics;
pub mod neighbours;
pub mod pixels;
pub mod points;
pub mod presence;
mod printable;
pub mod puzzles;
pub mod weights;

pub use column::{SchemaError, bytes, column, field, floats, int32, int64, text, vector, whole_numbers};
pub use printable::{printable, printable_lines};

/// The column that names an image, in every table that has one row an image.
pub const IMAGE_ID: &str = "image_id";
/// The column of encoded bytes that the engine's read step adds to an images table.
pub const BYTES: &str = "encoded";
/// In a shuffled scan that looks back: the id of the image before this one (null: the row only leads, and yields nothing).
pub const PREVIOUS: &str = "previous";

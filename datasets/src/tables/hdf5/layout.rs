//! The names by which `export` says in an HDF5 file what HDF5 itself does not: shared by the writer and the reader.
//!
//! | where | what | says |
//! | --- | --- | --- |
//! | the table's group, a struct's group | attribute [`COLUMNS`] | its columns' names in order, as JSON |
//! | a dataset or a group | attribute [`ARROW_TYPE`] | the column's type, where HDF5's own type is another |
//! | a dataset or a group | attribute [`VALID`] | the dataset of bools beside it: whether each row has a value; where not, what the row has means nothing |
//! | a dataset or a group | attribute [`NAME`] | the column's name, where no link can have it (`a/b`) |
//! | a list's group | datasets [`OFFSETS`], [`VALUES`] | row `i` has the values from `offsets[i]` to before `offsets[i + 1]` |
//! | a struct's group | a dataset or group a field | |
//!
//! A column's metadata are further attributes, under their own names (`tessera.shape`). All attributes are texts of fixed length.

/// Names of columns in order, as JSON.
pub const COLUMNS: &str = "columns";
/// The type of a column, as Arrow writes it.
pub const ARROW_TYPE: &str = "arrow_type";
/// The name of the dataset that says which rows have a value.
pub const VALID: &str = "valid";
/// A column's name, where the link has another.
pub const NAME: &str = "name";
/// The dataset of a list's offsets.
pub const OFFSETS: &str = "offsets";
/// The dataset of a list's values.
pub const VALUES: &str = "values";
/// How metadata begins that becomes attributes, and attributes that become metadata.
pub const METADATA: &str = "tessera.";

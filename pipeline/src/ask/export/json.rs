//! Columns as members of JSON objects, a row an object. What is no number (NaN, infinity) is null there.

use anyhow::Result;
use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};

/// Columns of a batch.
pub(super) struct Members<'a>(Vec<(String, NullableEncoder<'a>)>);

/// How values are written.
pub(super) fn options() -> EncoderOptions {
    EncoderOptions::default().with_explicit_nulls(true)
}

impl<'a> Members<'a> {
    /// These columns, in that order.
    ///
    /// # Errors
    /// JSON has nothing for a type.
    pub(super) fn of(
        columns: impl IntoIterator<Item = (&'a FieldRef, &'a ArrayRef)>,
        options: &'a EncoderOptions,
    ) -> Result<Self> {
        let one = |(field, column): (&'a FieldRef, &'a ArrayRef)| {
            Ok((serde_json::to_string(field.name())?, make_encoder(field, column, options)?))
        };
        Ok(Self(columns.into_iter().map(one).collect::<Result<_>>()?))
    }

    /// Adds a row's members to an object that was begun.
    pub(super) fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        for (name, values) in &mut self.0 {
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            if values.is_null(row) {
                out.extend_from_slice(b"null");
            } else {
                values.encode(row, out);
            }
        }
    }
}

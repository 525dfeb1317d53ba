//! `named`: what images show, as people decided it: by the names of their clusters, or one by one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{IMAGE_ID, SchemaError, clusters::CLUSTER, meta};

/// The column with what an image shows.
pub const LABEL: &str = "label";

/// How a label came to its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Its cluster has the name.
    Given,
    /// Images of its cluster had the name in another clustering.
    Carried,
    /// The image itself has it.
    Image,
}

impl How {
    /// As tables say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Carried => "carried",
            Self::Image => "image",
        }
    }
}

/// A label.
#[derive(Debug, Clone, PartialEq)]
pub struct Label<'a> {
    /// Whose.
    pub image_id: &'a str,
    /// What the image shows.
    pub label: &'a str,
    /// How that is known.
    pub how: How,
    /// The image's cluster.
    pub cluster: i32,
    /// The share of votes by which it is known, 1 where somebody said so.
    pub certainty: f32,
}

/// `image_id`, `label`, `how`, `cluster` (one of `k`), `certainty`.
pub fn schema(k: usize) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        Field::new(LABEL, DataType::Utf8, false),
        Field::new("how", DataType::Utf8, false),
        meta::with(Field::new(CLUSTER, DataType::Int32, false), meta::CLASSES, k.to_string()),
        Field::new("certainty", DataType::Float32, false),
    ]))
}

/// A batch of [`schema`].
///
/// # Errors
/// The schema is another.
pub fn batch(schema: &SchemaRef, labels: &[Label<'_>]) -> Result<RecordBatch, SchemaError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(labels.iter().map(|label| label.image_id))),
        Arc::new(StringArray::from_iter_values(labels.iter().map(|label| label.label))),
        Arc::new(StringArray::from_iter_values(labels.iter().map(|label| label.how.name()))),
        Arc::new(Int32Array::from_iter_values(labels.iter().map(|label| label.cluster))),
        Arc::new(Float32Array::from_iter_values(labels.iter().map(|label| label.certainty))),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

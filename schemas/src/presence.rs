//! Presence columns: one a class, which says whether an image shows it: 1, -1, or 0 for one that is not to count (PASCAL VOC's
//! "difficult"). Null: nothing is known. An image may show several classes, or none.
//!
//! Other whole numbers look the same, so that the columns are marked in their metadata, which views and queries hand on.

use arrow::datatypes::{DataType, Field, Schema};

use crate::meta;

/// The column of a class.
pub fn field(class: &str) -> Field {
    meta::with(Field::new(class, DataType::Int32, true), meta::PRESENCE, "true")
}

/// The names of a table's presence columns, which are its classes, in the table's order.
pub fn names(schema: &Schema) -> Vec<String> {
    let marked = |field: &&std::sync::Arc<Field>| {
        field.data_type().is_integer() && field.metadata().get(meta::PRESENCE).is_some_and(|value| value == "true")
    };
    schema.fields().iter().filter(marked).map(|field| field.name().clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_told_from_other_numbers() {
        let text = meta::with(Field::new("noted", DataType::Utf8, true), meta::PRESENCE, "true");
        let schema = Schema::new(vec![Field::new("size", DataType::Int32, true), field("dog"), text, field("cat")]);
        assert_eq!(names(&schema), ["dog", "cat"]);
    }
}

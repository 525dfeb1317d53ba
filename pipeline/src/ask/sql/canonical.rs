//! The function `canonical_id`: ids as they are compared, so that a query can join by them as `label_join` does.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use tessera_schemas::ids::canonical;

/// The function, to be registered in a session.
pub fn function() -> ScalarUDF {
    let work = |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(arguments)?;
        let texts = columns[0].as_string::<i32>();
        let found: StringArray = texts.iter().map(|text| text.map(canonical)).collect();
        Ok(ColumnarValue::Array(Arc::new(found) as ArrayRef))
    };
    create_udf("canonical_id", vec![DataType::Utf8], DataType::Utf8, Volatility::Immutable, Arc::new(work))
}

//! Lists, from where each begins and the values of all.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, GenericBinaryArray, GenericListArray, OffsetSizeTrait};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, UInt8Type};

/// Offsets that begin at 0.
fn offsets<O: OffsetSizeTrait>(bounds: &[i64]) -> Result<OffsetBuffer<O>, String> {
    let one = |&bound: &i64| O::from_usize((bound - bounds[0]) as usize).ok_or("lists of too many values in all".to_owned());
    let found = bounds.iter().map(one).collect::<Result<Vec<O>, _>>()?;
    Ok(OffsetBuffer::new(ScalarBuffer::from(found)))
}

/// Lists of values.
///
/// # Errors
/// They are too many for their type.
pub fn list<O: OffsetSizeTrait>(item: &Arc<Field>, bounds: &[i64], items: ArrayRef) -> Result<ArrayRef, String> {
    let list = GenericListArray::<O>::try_new(item.clone(), offsets(bounds)?, items, None);
    Ok(Arc::new(list.map_err(|error| error.to_string())?))
}

/// Byte strings.
///
/// # Errors
/// They are too long in all for their type.
pub fn binary<O: OffsetSizeTrait>(bounds: &[i64], items: &ArrayRef) -> Result<ArrayRef, String> {
    let bytes = items.as_primitive::<UInt8Type>().values().inner().clone();
    Ok(Arc::new(GenericBinaryArray::<O>::try_new(offsets(bounds)?, bytes, None).map_err(|error| error.to_string())?))
}

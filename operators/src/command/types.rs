//! Types of columns as a pipeline file writes them, and what a program wrote brought to them.
//!
//! `int32`, `utf8`; `float32[128]` is a vector, `uint8[64,64,3]` an array whose shape is noted; `float32?` may be null.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, FixedSizeListArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tessera_schemas::meta;

/// The types of single values.
const SINGLE: [(&str, DataType); 14] = [
    ("bool", DataType::Boolean),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("uint8", DataType::UInt8),
    ("uint16", DataType::UInt16),
    ("uint32", DataType::UInt32),
    ("uint64", DataType::UInt64),
    ("float16", DataType::Float16),
    ("float32", DataType::Float32),
    ("float64", DataType::Float64),
    ("utf8", DataType::Utf8),
    ("binary", DataType::Binary),
];
/// Values of one row of a column: more are a slip of the keyboard.
const MOST_VALUES: usize = 1 << 28;
/// Lengths of an array.
const MOST_AXES: usize = 8;

/// Names and types of columns, in the order of the pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, kind)| (name, kind)))
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        BTreeMap::<String, String>::json_schema(generator)
    }
}

/// A column of that name and type.
///
/// # Errors
/// The text is no type; the message says what would be.
pub fn field(name: &str, text: &str) -> Result<Field, String> {
    let (kind, nullable) = text.strip_suffix('?').map_or((text, false), |kind| (kind, true));
    let (single, shape) = match kind.split_once('[') {
        None => (kind, None),
        Some((single, rest)) => (single, Some(shape(text, rest)?)),
    };
    let Some((_, single)) = SINGLE.iter().find(|(name, _)| *name == single) else {
        let known: Vec<&str> = SINGLE.iter().map(|(name, _)| *name).collect();
        let with =
            "with lengths behind it for an array (`float32[128]`, `uint8[64,64,3]`), and `?` where a value may be null";
        return Err(format!("`{text}` is no type; write {}, {with}", known.join(", ")));
    };
    let Some(shape) = shape else { return Ok(Field::new(name, single.clone(), nullable)) };
    if !single.is_numeric() {
        return Err(format!("`{text}` is no type: arrays are of numbers"));
    }
    let item = Arc::new(Field::new("element", single.clone(), false));
    let length = shape.iter().product::<usize>() as i32;
    let field = Field::new(name, DataType::FixedSizeList(item, length), nullable);
    Ok(if shape.len() > 1 { meta::with(field, meta::SHAPE, meta::join(&shape)) } else { field })
}

/// The lengths of `float32[2,3]`, from behind the bracket on.
fn shape(text: &str, rest: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("`{text}` is no type: an array has whole lengths, as in `float32[128]` or `uint8[64,64,3]`");
    let lengths = rest.strip_suffix(']').ok_or_else(wrong)?;
    let lengths = lengths.split(',').map(|length| length.trim().parse::<usize>().ok().filter(|&length| length > 0));
    let lengths = lengths.collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    let values = lengths.iter().try_fold(1usize, |values, &length| values.checked_mul(length));
    if lengths.len() > MOST_AXES || values.is_none_or(|values| values > MOST_VALUES) {
        return Err(format!("`{text}` is too large: an array has {MOST_VALUES} values and {MOST_AXES} lengths at most"));
    }
    Ok(lengths)
}

/// A type as a pipeline file writes it; of one that it cannot write, Arrow's name.
pub fn written(kind: &DataType) -> String {
    let single = |kind: &DataType| SINGLE.iter().find(|(_, known)| known == kind).map(|(name, _)| *name);
    match kind {
        DataType::FixedSizeList(item, length) => {
            single(item.data_type()).map_or_else(|| kind.to_string(), |item| format!("{item}[{length}]"))
        }
        kind => single(kind).map_or_else(|| kind.to_string(), str::to_owned),
    }
}

/// Whether values of a type are those of a column, if perhaps in another layout.
fn fits(found: &DataType, wanted: &DataType) -> bool {
    match (found, wanted) {
        (DataType::LargeUtf8 | DataType::Utf8View, DataType::Utf8) => true,
        (DataType::LargeBinary | DataType::BinaryView, DataType::Binary) => true,
        (DataType::FixedSizeList(found, is), DataType::FixedSizeList(wanted, length)) => {
            found.data_type() == wanted.data_type() && is == length
        }
        (DataType::List(found) | DataType::LargeList(found), DataType::FixedSizeList(wanted, _)) => {
            found.data_type() == wanted.data_type()
        }
        (found, wanted) => found == wanted,
    }
}

/// Whether a column is of text, in any layout.
pub fn is_text(found: &DataType) -> bool {
    found == &DataType::Utf8 || fits(found, &DataType::Utf8)
}

/// Where the columns of a table lie among those of a program's stream, which may have those of `also` as well.
///
/// # Errors
/// One is missing, twice there, unknown or of another type: the message says so, and what was declared.
pub fn places(found: &Schema, wanted: &[Arc<Field>], also: &[&str]) -> Result<Vec<usize>, String> {
    let mut at = BTreeMap::new();
    for (place, field) in found.fields().iter().enumerate() {
        let name = field.name();
        if at.insert(name.as_str(), place).is_some() {
            return Err(format!("two columns named `{name}`"));
        }
        if !also.contains(&name.as_str()) && !wanted.iter().any(|wanted| wanted.name() == name) {
            return Err(format!("a column `{name}`, which `columns` does not declare"));
        }
    }
    let place = |wanted: &Arc<Field>| {
        let (name, kind) = (wanted.name(), wanted.data_type());
        let place = *at.get(name.as_str()).ok_or_else(|| format!("no column `{name}`, which `columns` declares"))?;
        let is = found.field(place).data_type();
        if fits(is, kind) {
            Ok(place)
        } else {
            Err(format!("`{name}` as {}, and `columns` declares {}", written(is), written(kind)))
        }
    };
    wanted.iter().map(place).collect()
}

/// A program's column as that of a table: the type in the table's layout, and no null where none is declared. On a fault, the row that has it.
///
/// # Errors
/// A value is null or of another length.
pub fn column(found: &ArrayRef, wanted: &Field) -> Result<ArrayRef, (Option<usize>, String)> {
    let name = wanted.name();
    if !wanted.is_nullable()
        && let Some(row) = (0..found.len()).find(|&row| found.is_null(row))
    {
        let kind = written(wanted.data_type());
        return Err((Some(row), format!("`{name}` is null (`{kind}?` declares a column that may be)")));
    }
    match wanted.data_type() {
        DataType::FixedSizeList(item, length) => {
            list(found, item, *length).map_err(|(row, what)| (row, format!("`{name}` {what}")))
        }
        kind if found.data_type() == kind => Ok(found.clone()),
        kind => cast(found, kind).map_err(|error| (None, format!("`{name}`: {error}"))),
    }
}

fn list(found: &ArrayRef, item: &Arc<Field>, length: i32) -> Result<ArrayRef, (Option<usize>, String)> {
    let ragged = |row: usize, is: i64| (Some(row), format!("has {is} values, and `columns` declares {length}"));
    let wanted = i64::from(length);
    let found = match found.data_type() {
        DataType::List(_) => {
            let lengths = found.as_list::<i32>().offsets().lengths().map(|length| length as i64);
            uneven(lengths, found, wanted).map_or(Ok(()), |(row, is)| Err(ragged(row, is)))?;
            cast(found, &DataType::FixedSizeList(item.clone(), length))
        }
        DataType::LargeList(_) => {
            let lengths = found.as_list::<i64>().offsets().lengths().map(|length| length as i64);
            uneven(lengths, found, wanted).map_or(Ok(()), |(row, is)| Err(ragged(row, is)))?;
            cast(found, &DataType::FixedSizeList(item.clone(), length))
        }
        _ => Ok(found.clone()),
    };
    let found = found.map_err(|error| (None, format!("is no array of {length} values: {error}")))?;
    let lists = found.as_fixed_size_list();
    let made = FixedSizeListArray::try_new(item.clone(), length, lists.values().clone(), lists.nulls().cloned());
    match made {
        Ok(made) => Ok(Arc::new(made)),
        Err(_) => {
            let holds_null = |row: &usize| lists.is_valid(*row) && lists.value(*row).null_count() > 0;
            Err(((0..lists.len()).find(holds_null), "holds a null, and an array is of numbers alone".to_owned()))
        }
    }
}

/// The first row of another length, and that length.
fn uneven(lengths: impl Iterator<Item = i64>, found: &ArrayRef, wanted: i64) -> Option<(usize, i64)> {
    lengths.enumerate().find(|&(row, length)| length != wanted && found.is_valid(row))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, LargeStringArray, ListArray, StringArray};
    use arrow::datatypes::Float32Type;
    use tessera_schemas::{features, pixels};

    use super::*;

    #[test]
    fn types_are_those_that_tables_have() {
        assert_eq!(field("feature", "float32[128]").unwrap(), features::field("feature", 128));
        assert_eq!(field("pixels", "uint8[48, 64,3]").unwrap(), pixels::field(48, 64));
        assert_eq!(field("label", "utf8?").unwrap(), Field::new("label", DataType::Utf8, true));
        assert_eq!(field("angle", "int32").unwrap(), Field::new("angle", DataType::Int32, false));
        for (name, kind) in SINGLE {
            assert_eq!(written(field("x", name).unwrap().data_type()), name);
            assert_eq!(field("x", &format!("{name}?")).unwrap(), Field::new("x", kind, true));
        }
        assert_eq!(written(field("x", "float16[3]").unwrap().data_type()), "float16[3]");
    }

    #[test]
    fn what_is_no_type_is_said_with_what_would_be() {
        let told = |text: &str| field("x", text).unwrap_err();
        for text in ["", "float", "string", "Int32", "utf 8", "??", "[3]"] {
            assert!(told(text).starts_with(&format!("`{text}` is no type; write bool, int8, ")), "{}", told(text));
        }
        for text in ["float32[]", "float32[0]", "float32[-1]", "float32[2", "float32[2]]", "float32[2.5]", "float32[2,]"] {
            let expected =
                format!("`{text}` is no type: an array has whole lengths, as in `float32[128]` or `uint8[64,64,3]`");
            assert_eq!(told(text), expected);
        }
        assert_eq!(told("utf8[3]"), "`utf8[3]` is no type: arrays are of numbers");
        for text in ["uint8[268435457]", "uint8[18446744073709551615,2]", "uint8[1,1,1,1,1,1,1,1,1]"] {
            assert!(told(text).starts_with(&format!("`{text}` is too large: ")), "{}", told(text));
        }
    }

    fn wanted(columns: &[(&str, &str)]) -> Vec<Arc<Field>> {
        columns.iter().map(|(name, kind)| Arc::new(field(name, kind).unwrap())).collect()
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let wanted = wanted(&[("a", "int32"), ("b", "utf8"), ("c", "float32[2]")]);
        let schema = |columns: &[(&str, DataType)]| {
            Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
        };
        let pairs = DataType::new_list(DataType::Float32, true);
        let good =
            schema(&[("c", pairs.clone()), ("error", DataType::Utf8), ("b", DataType::LargeUtf8), ("a", DataType::Int32)]);
        assert_eq!(places(&good, &wanted, &["error"]).unwrap(), [3, 2, 0]);
        let told = |columns: &[(&str, DataType)]| places(&schema(columns), &wanted, &["error"]).unwrap_err();
        let all = [("a", DataType::Int32), ("b", DataType::Utf8), ("c", pairs)];
        assert_eq!(told(&all[..2]), "no column `c`, which `columns` declares");
        let with = |name: &'static str, kind: DataType| {
            let mut columns: Vec<(&str, DataType)> = all.iter().filter(|(known, _)| *known != name).cloned().collect();
            columns.push((name, kind));
            told(&columns)
        };
        assert_eq!(with("a", DataType::Int64), "`a` as int64, and `columns` declares int32");
        assert_eq!(
            with("c", DataType::new_fixed_size_list(DataType::Float32, 3, true)),
            "`c` as float32[3], and `columns` declares float32[2]"
        );
        assert_eq!(with("d", DataType::Int8), "a column `d`, which `columns` does not declare");
        let twice: Vec<_> = all.iter().cloned().chain([("a", DataType::Int32)]).collect();
        assert_eq!(told(&twice), "two columns named `a`");
    }

    #[test]
    fn other_layouts_are_brought_to_the_tables() {
        let text: ArrayRef = Arc::new(LargeStringArray::from(vec![Some("x"), None]));
        let made = column(&text, &field("t", "utf8?").unwrap()).unwrap();
        assert_eq!(made.as_ref(), &StringArray::from(vec![Some("x"), None]) as &dyn Array);
        let rows = [Some(vec![Some(1.0), Some(2.0)]), Some(vec![Some(3.0), Some(4.0)])];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows.clone()));
        let made = column(&lists, &features::field("f", 2)).unwrap();
        assert_eq!(&made, &features::array(vec![1.0, 2.0, 3.0, 4.0], 2));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2));
        assert_eq!(
            column(&fixed.slice(1, 1), &features::field("f", 2)).unwrap().as_ref(),
            features::array(vec![3.0, 4.0], 2).as_ref()
        );
    }

    #[test]
    fn the_row_at_fault_is_named() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let told = column(&numbers, &field("n", "int32").unwrap()).unwrap_err();
        assert_eq!(told, (Some(1), "`n` is null (`int32?` declares a column that may be)".to_owned()));
        assert_eq!(&column(&numbers, &field("n", "int32?").unwrap()).unwrap(), &numbers);
        let ragged = [Some(vec![Some(1.0), Some(2.0)]), Some(vec![Some(3.0)])];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(ragged));
        let told = column(&lists, &features::field("f", 2)).unwrap_err();
        assert_eq!(told, (Some(1), "`f` has 1 values, and `columns` declares 2".to_owned()));
        let holes = [Some(vec![Some(1.0), Some(2.0)]), Some(vec![Some(3.0), None])];
        let lists: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(holes, 2));
        let told = column(&lists, &features::field("f", 2)).unwrap_err();
        assert_eq!(told, (Some(1), "`f` holds a null, and an array is of numbers alone".to_owned()));
    }
}

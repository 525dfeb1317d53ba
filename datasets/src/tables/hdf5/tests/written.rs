//! What `export` writes, `table` reads.

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array,
    Int64Array, ListArray, ListBuilder, NullArray, RecordBatch, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt16Array, UInt64Array,
};
use arrow::datatypes::{Int32Type, TimeUnit};
use tessera_schemas::digest::TableDigest;
use tessera_schemas::{features, pixels};

use super::*;
use crate::tables::hdf5::write::Writer;

/// A table with a column of each type, with nulls where that is possible.
fn every_type() -> RecordBatch {
    let n = 3;
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let mut nested = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    nested.values().values().append_value("ä");
    nested.values().append(true);
    nested.append(true);
    nested.append(false);
    nested.append(true);
    let source = StructArray::from(vec![
        (Arc::new(Field::new("path", DataType::Utf8, false)), Arc::new(StringArray::from(vec!["a", "b", "c"])) as ArrayRef),
        (
            Arc::new(Field::new("length", DataType::UInt64, true)),
            Arc::new(UInt64Array::from(vec![None, Some(2), Some(u64::MAX)])),
        ),
        (
            Arc::new(Field::new("again", DataType::Boolean, true)),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
    ]);
    let images = pixels::array((0..n as u8 * 24).collect(), 2, 4);
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("image_id", DataType::Utf8, false), Arc::new(StringArray::from(vec!["b/1.jpg", "a", "ü"]))),
        (features::field("feature", 2), features::array(vec![0.5, f32::NAN, -0.0, 1e30, 5.0, f32::INFINITY], 2)),
        (pixels::field(2, 4), images),
        (Field::new("i8", DataType::Int8, true), Arc::new(Int8Array::from(vec![Some(-1), None, Some(7)]))),
        (Field::new("u16", DataType::UInt16, false), Arc::new(UInt16Array::from(vec![1, 2, 65535]))),
        (Field::new("u64", DataType::UInt64, false), Arc::new(UInt64Array::from(vec![1, 2, u64::MAX]))),
        (Field::new("f64", DataType::Float64, true), Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(0.1)]))),
        (
            Field::new("f16", DataType::Float16, false),
            arrow::compute::cast(&Float32Array::from(vec![0.5, 1.0, -2.0]), &DataType::Float16).unwrap(),
        ),
        (Field::new("yes", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        (
            Field::new("label", DataType::Utf8, true),
            Arc::new(StringArray::from(vec![Some(""), None, Some("a much longer label")])),
        ),
        (
            Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())), true),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None, Some(-7)]).with_timezone("+00:00")),
        ),
        (
            Field::new("nanos", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
            Arc::new(TimestampNanosecondArray::from(vec![1, 2, 3])),
        ),
        (Field::new("day", DataType::Date32, false), Arc::new(Date32Array::from(vec![1, 2, 3]))),
        (Field::new("lists", lists.data_type().clone(), true), Arc::new(lists)),
        (Field::new("a/b", DataType::Int64, false), Arc::new(Int64Array::from(vec![1, 2, 3]))),
        (
            Field::new("encoded", DataType::Binary, true),
            Arc::new(BinaryArray::from(vec![Some(&b"\xff\x00"[..]), None, Some(b"")])),
        ),
        (meta::with(Field::new("source", source.data_type().clone(), false), meta::UNDIGESTED, "true"), Arc::new(source)),
        (Field::new("none", DataType::Null, true), Arc::new(NullArray::new(n))),
        (
            Field::new("fixed", DataType::FixedSizeBinary(2), false),
            Arc::new(FixedSizeBinaryArray::try_from_iter([b"ab", b"cd", b"\0\0"].into_iter()).unwrap()),
        ),
    ];
    let nested: ArrayRef = Arc::new(nested.finish());
    let mut columns = columns;
    columns.push((Field::new("nested", nested.data_type().clone(), true), nested));
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let batch = every_type();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let mut writer = Writer::create(&path, &batch.schema(), 2).unwrap();
    for row in 0..batch.num_rows() {
        writer.write(&batch.slice(row, 1)).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), 3);
    let found = read_back(&path, Datasets::All).unwrap();
    let names = |batch: &RecordBatch| batch.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&batch));
    let (one, two) = (TableDigest::of(&batch).unwrap(), TableDigest::of(&found).unwrap());
    for (name, digest) in &one.columns {
        let (a, b) = (batch.column_by_name(name).unwrap(), found.column_by_name(name).unwrap());
        assert_eq!(digest, &two.columns[name], "{name}: {a:?} {b:?}");
    }
    assert_eq!(one, two);
    assert_eq!(
        found.schema().field_with_name("source").unwrap().metadata(),
        batch.schema().field_with_name("source").unwrap().metadata()
    );
}

/// Texts that become longer than all before, and nulls that come late, after chunks were written.
#[test]
fn longer_texts_and_late_nulls_change_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let text = |row: usize| match row {
        250_000 => Some("x".repeat(1000)),
        300_000 => None,
        300_001 => Some("ü".repeat(40)),
        _ => Some(format!("{row}")),
    };
    let texts: ArrayRef = Arc::new((0..300_100).map(text).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new((0..300_100_i64).map(|row| (row != 300_050).then_some(row)).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter_with_nullable([("text", texts, true), ("n", numbers, true)]).unwrap();
    let mut writer = Writer::create(&path, &batch.schema(), 2).unwrap();
    for start in (0..batch.num_rows()).step_by(10_000) {
        writer.write(&batch.slice(start, 10_000.min(batch.num_rows() - start))).unwrap();
    }
    writer.finish().unwrap();
    let found = read_back(&path, Datasets::All).unwrap();
    assert_eq!(found.project(&[1, 2]).unwrap().columns(), batch.columns());
}

#[test]
fn a_table_without_rows_keeps_its_columns() {
    let batch = every_type().slice(0, 0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let mut writer = Writer::create(&path, &batch.schema(), 1).unwrap();
    writer.write(&batch).unwrap();
    assert_eq!(writer.finish().unwrap(), 0);
    let found = read_back(&path, Datasets::All).unwrap();
    let names = |batch: &RecordBatch| batch.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!((found.num_rows(), names(&found)), (0, names(&batch)));
}

#[test]
fn what_has_no_place_in_hdf5_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let decimal = Schema::new(vec![Field::new("price", DataType::Decimal128(10, 2), false)]);
    let error = Writer::create(&path, &Arc::new(decimal), 1).err().unwrap();
    assert!(error.starts_with("column `price`: is of Decimal128(10, 2), which HDF5 lacks"), "{error}");
    let refused = |text: String| {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let batch = RecordBatch::try_from_iter([("t", texts)]).unwrap();
        Writer::create(&path, &batch.schema(), 1).unwrap().write(&batch).unwrap_err()
    };
    assert!(refused("a\0".into()).starts_with("column `t`: a text ends with a zero"));
    assert!(refused("x".repeat(2 << 20)).starts_with("column `t`: a text has 2097152 bytes"));
}

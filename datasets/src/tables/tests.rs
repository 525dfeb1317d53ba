use crate::tables::raw::Raw;
use std::fs;

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{
    AsArray as _, DictionaryArray, FixedSizeListArray, Int64Array, LargeStringArray, ListArray, StringArray,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, Float64Type, Int8Type, Int64Type};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use tempfile::TempDir;
use tessera_schemas::{features, text, vector};

use super::*;
use crate::local::LocalFiles;

/// Kilobytes that this process had in memory at most.
pub(crate) fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
}

fn parquet_bytes(batch: &RecordBatch, group_rows: usize) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn ipc_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn stream_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn npy_bytes(kind: &str, shape: &str, values: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.into_iter().flatten());
    bytes
}

pub fn folder(contents: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in contents {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

pub fn listed_as(dir: &TempDir, reading: &Reading) -> Result<(Vec<Entry>, SchemaRef), Error> {
    let entries = tables(dir.path(), LocalFiles.list(dir.path())?)?;
    let schema = schema(&LocalFiles, dir.path(), &entries, reading)?;
    Ok((entries, schema))
}

fn listed(dir: &TempDir) -> Result<(Vec<Entry>, SchemaRef), Error> {
    listed_as(dir, &Reading::default())
}

fn batches_as(dir: &TempDir, reading: &Reading) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
    let (entries, schema) = listed_as(dir, reading)?;
    let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let mut batches = Vec::new();
    read(&LocalFiles, dir.path(), &prints, &schema, reading, &mut |batch| {
        assert_eq!(batch.schema(), schema);
        batches.push(batch);
        Ok::<_, Error>(())
    })?;
    Ok((schema, batches))
}

pub fn batches(dir: &TempDir) -> Result<Vec<RecordBatch>, Error> {
    batches_as(dir, &Reading::default()).map(|(_, batches)| batches)
}

pub fn table_as(contents: &[(&str, Vec<u8>)], reading: &Reading) -> Result<RecordBatch, Error> {
    let (schema, batches) = batches_as(&folder(contents), reading)?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

pub fn table(contents: &[(&str, Vec<u8>)]) -> Result<RecordBatch, Error> {
    table_as(contents, &Reading::default())
}

/// The message of an error, from the file's name on.
pub fn refusal_as(contents: &[(&str, Vec<u8>)], reading: &Reading) -> String {
    let dir = folder(contents);
    let message = batches_as(&dir, reading).unwrap_err().to_string();
    let root = format!("{}/", dir.path().display());
    message.strip_prefix(&root).unwrap_or_else(|| panic!("no file is named: {message}")).replace(&root, "")
}

pub fn refusal(contents: &[(&str, Vec<u8>)]) -> String {
    refusal_as(contents, &Reading::default())
}

pub fn ids(batch: &RecordBatch) -> Vec<&str> {
    text(batch, IMAGE_ID).unwrap().iter().map(Option::unwrap).collect()
}

fn vectors(rows: &[&[f32]]) -> ArrayRef {
    let rows = rows.iter().map(|row| Some(row.iter().map(|&value| Some(value)).collect::<Vec<_>>()));
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Bit patterns of all kinds, NaNs with a payload among them.
fn patterns(count: usize) -> Vec<f32> {
    let bits = (0..count as u32).map(|at| at.wrapping_mul(0x9e37_79b9) ^ 0x7fc0_0001);
    bits.map(f32::from_bits).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn vectors_are_bit_exact_in_every_format_and_batches_bounded() {
    let (rows, width) = (9000, 3);
    let values = patterns(rows * width);
    let rows_of: Vec<&[f32]> = values.chunks(width).collect();
    let lists = batch(vec![("feature", vectors(&rows_of))]);
    let bytes = values.iter().map(|value| value.to_le_bytes().to_vec());
    let files = [
        ("a.parquet", parquet_bytes(&lists, 2500)),
        ("a.PARQUET", parquet_bytes(&lists, 1 << 20)),
        ("a.arrow", ipc_bytes(&lists)),
        ("a.feather", stream_bytes(&lists)),
        ("a.npy", npy_bytes("<f4", "(9000, 3)", bytes)),
    ];
    for file in files {
        let name = file.0;
        let batches = batches(&folder(&[file])).unwrap();
        assert!(batches.len() > 1 && batches.iter().all(|batch| batch.num_rows() <= BATCH_ROWS), "{name}");
        let whole = concat_batches(&batches[0].schema(), &batches).unwrap();
        assert_eq!(whole.schema(), features::schema([("feature", width)]), "{name}");
        assert_eq!(bits(&vector(&whole, "feature").unwrap().0), bits(&values), "{name}");
        assert_eq!((ids(&whole)[0], ids(&whole)[8999]), ("0000", "8999"), "{name}");
    }
}

#[test]
fn rows_are_numbered_over_all_files_in_order() {
    let part = |start: i64, rows: i64| {
        parquet_bytes(&batch(vec![("n", Arc::new(Int64Array::from_iter_values(start..start + rows)))]), 4)
    };
    let found = table(&[("b.parquet", part(7, 4)), ("a.parquet", part(0, 7))]).unwrap();
    assert_eq!(ids(&found), ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10"]);
    assert_eq!(found.column(1).as_primitive::<Int64Type>().values(), &(0..11).collect::<Vec<i64>>()[..]);
    let ten = table(&[("a.csv", b"n\n0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n".to_vec())]).unwrap();
    assert_eq!(ids(&ten)[9], "9");
}

#[test]
fn text_and_ids_have_one_type_and_the_rest_passes() {
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]));
    let label: DictionaryArray<Int8Type> = vec![Some("cat"), None].into_iter().collect();
    let ragged = vectors(&[&[1., 2.], &[3.]]);
    let all = batch(vec![
        ("view", Arc::new(StringViewArray::from(vec!["a", "a text that is too long to lie in its view"])) as ArrayRef),
        ("image_id", Arc::new(Int64Array::from(vec![-7, 12])) as ArrayRef),
        ("large", Arc::new(LargeStringArray::from(vec![Some("x"), None])) as ArrayRef),
        ("label", Arc::new(label) as ArrayRef),
        ("time", times.clone()),
        ("ragged", ragged.clone()),
    ]);
    for bytes in [("a.parquet", parquet_bytes(&all, 10)), ("a.arrow", ipc_bytes(&all))] {
        let found = table(&[bytes]).unwrap();
        let names: Vec<_> = found.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["view", "image_id", "large", "label", "time", "ragged"]);
        assert_eq!(ids(&found), ["-7", "12"]);
        assert!(!found.schema().field(1).is_nullable());
        assert_eq!(text(&found, "view").unwrap().value(1), "a text that is too long to lie in its view");
        assert_eq!(text(&found, "large").unwrap().iter().collect::<Vec<_>>(), [Some("x"), None]);
        assert_eq!(text(&found, "label").unwrap().iter().collect::<Vec<_>>(), [Some("cat"), None]);
        assert_eq!((found.column(4), found.column(5)), (&times, &ragged));
    }
}

#[test]
fn lists_of_nothing_are_no_vectors() {
    for item in [DataType::Float16, DataType::Float32, DataType::Float64] {
        let none = arrow::array::new_empty_array(&item).to_data();
        let kind = DataType::FixedSizeList(Arc::new(Field::new("item", item, true)), 0);
        let data = arrow::array::ArrayData::builder(kind.clone()).len(2).add_child_data(none).build().unwrap();
        let rows = batch(vec![("none", Arc::new(FixedSizeListArray::from(data)))]);
        let found = table(&[("t.arrow", ipc_bytes(&rows))]).unwrap();
        assert_eq!((found.num_rows(), found.column(1).data_type()), (2, &kind));
    }
}

#[test]
fn fixed_lists_of_other_floats_become_vectors() {
    let doubles = [Some([Some(0.1), Some(f64::NAN)]), Some([Some(-0.0), Some(1e300)])];
    let lists = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(doubles, 2);
    let found = table(&[("a.parquet", parquet_bytes(&batch(vec![("feature", Arc::new(lists))]), 10))]).unwrap();
    let (values, width) = vector(&found, "feature").unwrap();
    assert_eq!((values[0], values[2].to_bits(), values[3], width), (0.1, 1 << 31, f32::INFINITY, 2));
    assert!(values[1].is_nan());
}

#[test]
fn npy_of_one_dimension_is_a_column_of_its_type() {
    let found =
        table(&[("a.npy", npy_bytes("<i8", "(3,)", [1_i64, -2, i64::MAX].map(|v| v.to_le_bytes().to_vec())))]).unwrap();
    assert_eq!(found.column_by_name("value").unwrap().as_primitive::<Int64Type>().values(), &[1, -2, i64::MAX]);
    let found = table(&[("a.npy", npy_bytes("<f8", "(1, 2)", [0.1_f64, 2.0].map(|v| v.to_le_bytes().to_vec())))]).unwrap();
    assert_eq!(vector(&found, "feature").unwrap(), ([0.1_f32, 2.0][..].into(), 2));
}

#[test]
fn csv_types_come_from_the_rows_of_all_files_and_ids_are_text() {
    let one = "\u{feff}image_id,n,empty,word\n007,1,,\"a, b\"\n08,2,,\n";
    let two = "word,n,empty,image_id\nc,2.5,,9\n";
    let found = table(&[("1.csv", one.into()), ("2.csv", two.into())]).unwrap();
    assert_eq!(ids(&found), ["007", "08", "9"]);
    assert_eq!(found.column_by_name("n").unwrap().as_primitive::<Float64Type>().values(), &[1.0, 2.0, 2.5]);
    assert_eq!(text(&found, "word").unwrap().iter().collect::<Vec<_>>(), [Some("a, b"), None, Some("c")]);
    assert_eq!(text(&found, "empty").unwrap().null_count(), 3);
}

/// Each of many columns is looked for among all of them, and few rows of many columns are a batch.
#[test]
fn wide_tables_are_read_few_rows_at_a_time() {
    let names: Vec<String> = (0..40_000).map(|at| format!("c{at}_0")).collect();
    let row = vec!["1"; names.len()].join(",");
    let text = format!("{}\n{}", names.join(","), format!("{row}\n").repeat(300));
    let found = batches(&folder(&[("a.csv", text.into_bytes())])).unwrap();
    let rows: Vec<usize> = found.iter().map(|batch| batch.num_rows()).collect();
    assert_eq!((found[0].num_columns(), rows), (40_001, vec![104, 104, 92]));
    let many = format!("{}\n", (0..100_001).map(|at| at.to_string() + "x").collect::<Vec<_>>().join(","));
    assert_eq!(refusal(&[("a.csv", many.into_bytes())]), "a.csv: has 100001 columns, and 100000 are the most that are read");
    let commas = format!("x{}\n", ",".repeat(1 << 20));
    assert_eq!(
        refusal(&[("a.csv", commas.into_bytes())]),
        "a.csv: line 1 has 1048577 values, and 1048576 are the most that are read"
    );
}

#[test]
fn tables_without_rows_have_columns() {
    let (_, schema) = listed(&folder(&[("a.csv", b"a,b\n".to_vec())])).unwrap();
    assert_eq!(schema.fields().len(), 3);
    let none = batch(vec![("feature", vectors(&[]))]);
    let some = batch(vec![("feature", vectors(&[&[1., 2.]]))]);
    let found = table(&[("a.parquet", parquet_bytes(&none, 10)), ("b.parquet", parquet_bytes(&some, 10))]).unwrap();
    assert_eq!(vector(&found, "feature").unwrap(), ([1., 2.][..].into(), 2));
}

#[test]
fn a_row_of_another_length_is_named_with_its_file() {
    let rows: Vec<&[f32]> = [&[1., 2.][..]].repeat(2999).into_iter().chain([&[3.][..]]).collect();
    let uneven = batch(vec![("feature", vectors(&rows))]);
    let even = batch(vec![("feature", vectors(&rows[..9]))]);
    let files = [("a.parquet", parquet_bytes(&even, 4)), ("b.parquet", parquet_bytes(&uneven, 1000))];
    assert_eq!(refusal(&files), "b.parquet: row 2999: `feature` has 1 numbers, and the rows before it 2");
}

#[test]
fn the_length_of_rows_wider_than_the_first_window_is_found() {
    let values = patterns(2_000_000);
    let wide = batch(vec![("feature", vectors(&[&values[..1_000_000], &values[1_000_000..]]))]);
    let found = table(&[("a.parquet", parquet_bytes(&wide, 10))]).unwrap();
    assert_eq!(bits(&vector(&found, "feature").unwrap().0), bits(&values));
}

#[test]
fn ids_are_unique_and_there() {
    let csv = |text: &str| text.as_bytes().to_vec();
    let twice = [("a.csv", csv("image_id\nx\ny\n")), ("b.csv", csv("image_id\nz\nx\n"))];
    assert_eq!(refusal(&twice), "b.csv: row 1: the image_id `x` occurs for the second time");
    assert_eq!(refusal(&[("a.csv", csv("image_id,n\nx,1\n,2\n"))]), "a.csv: row 1: `image_id` is null");
    let floats = batch(vec![("image_id", Arc::new(arrow::array::Float64Array::from(vec![1.0])))]);
    let message = refusal(&[("a.parquet", parquet_bytes(&floats, 10))]);
    assert_eq!(message, "a.parquet: column `image_id` should be text or whole numbers, found Float64");
}

#[test]
fn files_with_other_columns_are_refused() {
    let n = |name: &str| parquet_bytes(&batch(vec![(name, Arc::new(Int64Array::from(vec![1])))]), 10);
    let both: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let two = parquet_bytes(&batch(vec![("n", both.clone()), ("m", both)]), 10);
    let word = parquet_bytes(&batch(vec![("n", Arc::new(StringArray::from(vec!["x"])))]), 10);
    let with = |other: Vec<u8>| refusal(&[("a.parquet", n("n")), ("b.parquet", other)]);
    assert_eq!(with(n("m")), "b.parquet: has no column `n`, which a.parquet has");
    assert_eq!(with(two), "b.parquet: has a column `m`, which a.parquet has not");
    assert_eq!(with(word), "b.parquet: column `n` is Utf8, and Int64 in a.parquet");
    assert_eq!(refusal(&[("a.csv", b"n,n\n1,2\n".to_vec())]), "a.csv: has two columns named `n`");
}

#[test]
fn what_is_no_table_is_said_with_what_would_be() {
    let dir = folder(&[("a.txt", Vec::new()), ("b.xlsx", Vec::new())]);
    let message = listed(&dir).unwrap_err().to_string();
    assert!(
        message.ends_with("no table among 2 files; tables end in parquet, csv, npy, arrow, feather, h5, hdf5, tsv, csv.gz, tsv.gz, jsonl, ndjson"),
        "{message}"
    );
}

#[test]
fn malformed_files_are_named() {
    for ending in ["parquet", "npy", "arrow", "csv"] {
        let name = format!("a.{ending}");
        assert!(refusal(&[(&name, Vec::new())]).starts_with(&format!("{name}: ")));
    }
    for ending in ["parquet", "npy", "arrow", "feather"] {
        let name = format!("a.{ending}");
        assert!(refusal(&[(&name, b"these are words and no table at all".to_vec())]).starts_with(&format!("{name}: ")));
    }
    assert!(refusal(&[("a.feather", b"FEA1 and more".to_vec())]).contains("version 2"));
    let short = npy_bytes("<f4", "(9, 3)", [vec![0; 50]]);
    assert!(refusal(&[("a.npy", short)]).ends_with("fewer than its header promises"));
}

#[test]
fn truncated_files_are_errors() {
    let whole = batch(vec![("feature", vectors(&[&[1., 2.], &[3., 4.]])), ("n", Arc::new(Int64Array::from(vec![1, 2])))]);
    for (name, bytes) in [("a.parquet", parquet_bytes(&whole, 1)), ("a.arrow", ipc_bytes(&whole))] {
        for length in (0..bytes.len()).step_by(7) {
            assert!(refusal(&[(name, bytes[..length].to_vec())]).starts_with(&format!("{name}: ")), "{length} bytes");
        }
    }
}

#[test]
fn a_reader_that_panics_names_the_file() {
    let raw = Raw { files: &LocalFiles, path: Path::new("a.arrow"), size: 0 };
    let error = guard(raw, || -> Result<(), Error> { panic!("{} is too much", 7) }).unwrap_err();
    assert_eq!(error.to_string(), "a.arrow: is damaged: 7 is too much");
}

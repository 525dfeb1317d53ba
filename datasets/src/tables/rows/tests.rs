use std::sync::{Arc, Mutex};

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{ArrayRef, AsArray as _, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float32Type, Int8Type, Int64Type};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use tempfile::TempDir;
use tessera_schemas::text;

use super::*;
use crate::local::LocalFiles;
use crate::tables::hdf5::write::Writer;
use crate::tables::{Reading, promised, read, schema, tables};
use crate::{Error, Files, Fingerprint, Listed};

const ROWS: usize = 1000;

/// Rows with their number and a word that repeats.
fn numbered(rows: Range<usize>) -> RecordBatch {
    let numbers: Int64Array = rows.clone().map(|at| at as i64).collect();
    let words: DictionaryArray<Int8Type> = rows.map(|at| ["red", "green"][at % 2]).collect();
    let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(numbers)), ("word", Arc::new(words))];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn csv(rows: Range<usize>) -> Vec<u8> {
    let lines = rows.map(|at| format!("{at},{}\n", ["red", "green"][at % 2]));
    format!("n,word\n{}", lines.collect::<String>()).into_bytes()
}

fn jsonl(rows: Range<usize>) -> Vec<u8> {
    rows.map(|at| format!("{{\"n\": {at}, \"word\": \"{}\"}}\n", ["red", "green"][at % 2])).collect::<String>().into()
}

fn parquet(rows: Range<usize>) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(64)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), numbered(0..1).schema(), Some(properties)).unwrap();
    writer.write(&numbered(rows)).unwrap();
    writer.into_inner().unwrap()
}

fn batches_of(rows: Range<usize>) -> impl Iterator<Item = RecordBatch> {
    rows.clone().step_by(90).map(move |start| numbered(start..rows.end.min(start + 90)))
}

fn arrow(rows: Range<usize>) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &numbered(0..1).schema()).unwrap();
    batches_of(rows).for_each(|batch| writer.write(&batch).unwrap());
    writer.into_inner().unwrap()
}

fn stream(rows: Range<usize>) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &numbered(0..1).schema()).unwrap();
    batches_of(rows).for_each(|batch| writer.write(&batch).unwrap());
    writer.into_inner().unwrap()
}

fn hdf5(rows: Range<usize>) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let words = StringArray::from_iter_values(rows.clone().map(|at| ["red", "green"][at % 2]));
    let columns: [(&str, ArrayRef); 2] = [("n", numbered(rows).column(0).clone()), ("word", Arc::new(words))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = Writer::create(file.path(), &batch.schema(), 1).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    std::fs::read(file.path()).unwrap()
}

/// Two files of one table: the first has 700 of its rows.
fn folder(ending: &str, make: impl Fn(Range<usize>) -> Vec<u8>) -> TempDir {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(format!("a.{ending}")), make(0..700)).unwrap();
    std::fs::write(dir.path().join(format!("b.{ending}")), make(700..ROWS)).unwrap();
    dir
}

fn rows(dir: &TempDir, files: &dyn Files, range: Option<&str>) -> Result<RecordBatch, Error> {
    let reading = Reading { rows: range.map(|range| range.parse().unwrap()), threads: 2, ..Reading::default() };
    let entries = tables(dir.path(), files.list(dir.path())?)?;
    let schema = schema(files, dir.path(), &entries, &reading)?;
    let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let mut batches = Vec::new();
    read(files, dir.path(), &prints, &schema, &reading, &mut |batch| {
        batches.push(batch);
        Ok::<_, Error>(())
    })?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

#[test]
fn ranges_are_those_of_python() {
    let of = |text: &str, rows| text.parse::<RowRange>().unwrap().of(rows).ok();
    for (text, found) in [
        ("2:5", Some(2..5)),
        (":3", Some(0..3)),
        ("7:", Some(7..10)),
        (":", Some(0..10)),
        ("-3:", Some(7..10)),
        (":-3", Some(0..7)),
        ("-5:-2", Some(5..8)),
        ("-99:2", Some(0..2)),
        ("8:99", Some(8..10)),
        (" 2 : 5 ", Some(2..5)),
        ("9223372036854775807:", None),
        ("-9223372036854775808:1", Some(0..1)),
        ("5:5", None),
        ("5:2", None),
        ("10:", None),
        (":0", None),
        ("-2:3", None),
    ] {
        assert_eq!(of(text, 10), found, "{text}");
    }
    assert_eq!(of(":", 0), None);
    let refused = |text: &str| text.parse::<RowRange>().unwrap_err();
    assert_eq!(refused("1:9:2"), "\"1:9:2\" has a step, and ranges of rows have none: write \"START:END\"");
    for text in ["", "7", "1-9", "a:b", "1.5:2", "1:9:2:1", "99999999999999999999:"] {
        assert!(refused(text).contains("is no range of rows, such as \"1000:2000\""), "{text}");
    }
    let none = "20:30".parse::<RowRange>().unwrap().of(12).unwrap_err();
    assert_eq!(none, "has 12 rows, and none of them are in `rows` = \"20:30\"");
}

/// Of every format, ranges are slices of the whole table: ids and types too.
#[test]
fn ranges_are_slices_of_the_whole_table() {
    type Make = fn(Range<usize>) -> Vec<u8>;
    let kinds: [(&str, Make); 6] =
        [("csv", csv), ("jsonl", jsonl), ("parquet", parquet), ("arrow", arrow), ("feather", stream), ("h5", hdf5)];
    for (ending, make) in kinds {
        let dir = folder(ending, make);
        let whole = rows(&dir, &LocalFiles, None).unwrap();
        assert_eq!(whole.num_rows(), ROWS);
        for (text, range) in [
            ("10:20", 10..20),
            ("0:1", 0..1),
            ("64:128", 64..128),
            ("690:710", 690..710),
            ("699:700", 699..700),
            ("700:701", 700..701),
            ("-1:", 999..1000),
            (":-1", 0..999),
            ("450:99999", 450..1000),
            (":", 0..1000),
        ] {
            let found = rows(&dir, &LocalFiles, Some(text)).unwrap();
            assert_eq!(found, whole.slice(range.start, range.end - range.start), "{ending} {text}");
            assert_eq!(text_of(&found, 0), format!("{:03}", range.start), "{ending} {text}");
            let numbers = found.column_by_name("n").unwrap().as_primitive::<Int64Type>();
            assert!(numbers.values().iter().copied().eq(range.map(|at| at as i64)), "{ending} {text}");
        }
        let none = rows(&dir, &LocalFiles, Some("1000:")).unwrap_err().to_string();
        assert!(none.ends_with("has 1000 rows, and none of them are in `rows` = \"1000:\""), "{ending}: {none}");
    }
}

fn text_of(batch: &RecordBatch, row: usize) -> &str {
    text(batch, "image_id").unwrap().value(row)
}

/// Arrays in C and in Fortran order.
#[test]
fn ranges_of_arrays_are_slices_too() {
    for fortran in [false, true] {
        let npy = |rows: Range<usize>| {
            let header = format!(
                "{{'descr': '<f4', 'fortran_order': {}, 'shape': ({}, 3), }}",
                if fortran { "True" } else { "False" },
                rows.len()
            );
            let mut bytes = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat();
            let value = |row: usize, column: usize| ((row * 10 + column) as f32).to_le_bytes();
            if fortran {
                (0..3).for_each(|column| rows.clone().for_each(|row| bytes.extend(value(row, column))));
            } else {
                rows.for_each(|row| (0..3).for_each(|column| bytes.extend(value(row, column))));
            }
            bytes
        };
        let dir = folder("npy", npy);
        let found = rows(&dir, &LocalFiles, Some("698:-298")).unwrap();
        assert_eq!((found.num_rows(), text_of(&found, 0), text_of(&found, 3)), (4, "698", "701"));
        let vectors = found.column_by_name("feature").unwrap().as_fixed_size_list().values().clone();
        let expected: Vec<f32> = (698..702).flat_map(|row| (0..3).map(move |at| (row * 10 + at) as f32)).collect();
        assert_eq!(vectors.as_primitive::<Float32Type>().values(), &expected[..]);
    }
}

#[test]
fn own_ids_of_a_range_are_kept() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("a.csv"), "image_id,n\nx,1\ny,2\nz,3.5\n").unwrap();
    let found = rows(&dir, &LocalFiles, Some("1:2")).unwrap();
    assert_eq!((found.num_rows(), text_of(&found, 0)), (1, "y"));
    // The type is that of all rows.
    assert_eq!(found.schema().field(1).data_type(), &DataType::Float64);
}

#[test]
fn headers_promise_rows() {
    let count = |ending: &str, make: fn(Range<usize>) -> Vec<u8>| {
        let dir = folder(ending, make);
        let entries = tables(dir.path(), LocalFiles.list(dir.path()).unwrap()).unwrap();
        promised(&LocalFiles, dir.path(), &entries, &Reading::default()).unwrap()
    };
    assert_eq!([count("parquet", parquet), count("h5", hdf5)], [Some(1000); 2]);
    assert_eq!([count("csv", csv), count("arrow", arrow)], [None; 2]);
}

/// Files that count the bytes that are read of them.
struct Counted(Mutex<u64>);

impl Files for Counted {
    fn list(&self, root: &std::path::Path) -> Result<Listed, Error> {
        LocalFiles.list(root)
    }

    fn read(&self, path: &std::path::Path) -> Result<Vec<u8>, Error> {
        LocalFiles.read(path)
    }

    fn read_range(&self, path: &std::path::Path, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        *self.0.lock().unwrap() += length;
        LocalFiles.read_range(path, offset, length)
    }
}

/// What a range does not need is not read.
#[test]
fn little_is_read_for_few_rows() {
    let values = |rows: Range<usize>| -> RecordBatch {
        let numbers: Int64Array = rows.map(|at| (at as i64).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)).collect();
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).unwrap()
    };
    let all = 1_000_000;
    let parts = || (0..all).step_by(250_000).map(|start| values(start..start + 250_000));
    let schema = values(0..1).schema();
    let mut written = FileWriter::try_new(Vec::new(), &schema).unwrap();
    let mut streamed = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(250_000)).build();
    let mut grouped = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    for part in parts() {
        written.write(&part).unwrap();
        streamed.write(&part).unwrap();
        grouped.write(&part).unwrap();
    }
    let files = [
        ("a.arrow", written.into_inner().unwrap()),
        ("a.feather", streamed.into_inner().unwrap()),
        ("a.parquet", grouped.into_inner().unwrap()),
    ];
    for (name, bytes) in files {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join(name), &bytes).unwrap();
        let counted = Counted(Mutex::default());
        let found = rows(&dir, &counted, Some("600000:600010")).unwrap();
        assert_eq!((found.num_rows(), text_of(&found, 0)), (10, "600000"), "{name}");
        assert_eq!(found.column(1), values(600_000..600_010).column(0), "{name}");
        // A quarter of the rows lies together; buffers read a bit more.
        let read = counted.0.into_inner().unwrap();
        assert!(read < bytes.len() as u64 * 2 / 3, "{name}: {read} of {} bytes", bytes.len());
    }
}

use std::sync::Arc;

use arrow::array::{BinaryArray, Int64Array, LargeBinaryArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;
use tessera_schemas::text;

use super::*;
use crate::local::LocalFiles;

mod messages;

/// Bytes of an image: more than a page has room for, some of them.
fn bytes_of(at: usize) -> Vec<u8> {
    (0..100 + at * 37 % 3000).map(|i| (i * 31 + at * 7) as u8).collect()
}

/// A table as `datasets` writes it: images, classes by number, and a caption. Rows whose number is a multiple of `none` have no bytes.
fn table(rows: std::ops::Range<usize>, none: usize) -> RecordBatch {
    let has = |at: &usize| none == 0 || !at.is_multiple_of(none);
    let bytes: BinaryArray = rows.clone().map(|at| has(&at).then(|| bytes_of(at))).collect();
    let path: StringArray = rows.clone().map(|at| Some(format!("{at}.png"))).collect();
    let fields = Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)]);
    let image = StructArray::new(fields.clone(), vec![Arc::new(bytes), Arc::new(path)], None);
    let label: Int64Array = rows.clone().map(|at| if at % 5 == 4 { -1 } else { (at % 2) as i64 }).collect();
    let caption: StringArray = rows.map(|at| Some(format!("picture {at}"))).collect();
    let known = r#"{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;
    let schema = Schema::new(vec![
        Field::new("image", DataType::Struct(fields), true),
        Field::new("label", DataType::Int64, true),
        Field::new("caption", DataType::Utf8, true),
    ]);
    let schema = schema.with_metadata([("huggingface".to_owned(), known.to_owned())].into());
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(image), Arc::new(label), Arc::new(caption)]).unwrap()
}

fn write(path: &Path, rows: &RecordBatch, dictionary: bool) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(70))
        .set_data_page_size_limit(20_000)
        .set_write_batch_size(4)
        .set_dictionary_enabled(dictionary)
        .set_dictionary_page_size_limit(30_000)
        .set_compression(Compression::SNAPPY)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

fn prints(embedded: &Embedded) -> Vec<Fingerprint> {
    let listed = embedded.list(&LocalFiles).unwrap().files;
    listed.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect()
}

fn read(embedded: &Embedded) -> Result<(RecordBatch, Vec<LeftOut>), Error> {
    let prints = prints(embedded);
    let found: Vec<Found> = embedded.rows(&LocalFiles, &prints)?.collect::<Result<_, _>>()?;
    let rows = arrow::compute::concat_batches(&embedded.schema(), found.iter().map(|found| &found.rows)).unwrap();
    Ok((rows, found.into_iter().flat_map(|found| found.left_out).collect()))
}

fn texts(rows: &RecordBatch, name: &str) -> Vec<String> {
    text(rows, name).unwrap().iter().map(|value| value.unwrap_or("-").to_owned()).collect()
}

#[test]
fn rows_of_halves_come_with_their_classes() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("data/train-00000-of-00001.parquet"), &table(0..200, 0), true);
    write(&dir.path().join("data/test-00000-of-00001.parquet"), &table(200..205, 0), false);
    std::fs::write(dir.path().join("README.md"), "").unwrap();
    let embedded = Embedded::open(&LocalFiles, dir.path(), Kind::Parquet, None).unwrap();
    let (rows, left_out) = read(&embedded).unwrap();
    assert!(left_out.is_empty());
    assert_eq!(rows.num_rows(), 205);
    let (ids, labels) = (texts(&rows, "image_id"), texts(&rows, "label"));
    assert_eq!((&*ids[4], &*ids[5]), ("data/test-00000-of-00001.parquet/4", "data/train-00000-of-00001.parquet/000"));
    assert_eq!(labels[5..11], ["cat", "dog", "cat", "dog", "-", "dog"]);
    assert_eq!((&*texts(&rows, "split")[0], &*texts(&rows, "split")[9]), ("test", "train"));
    assert_eq!((&*texts(&rows, "name")[7], &*texts(&rows, "caption")[7]), ("2.png", "picture 2"));
    let digest = FileDigest::of(&blake3::hash(&bytes_of(2))).to_string();
    assert_eq!(texts(&rows, "digest")[7], digest);
    assert_eq!(embedded.list(&LocalFiles).unwrap().aside.get("md"), Some(&1));
    assert_eq!(embedded.access(), Access::Column("image".to_owned()));
}

#[test]
fn any_rows_are_read_in_any_order() {
    let dir = TempDir::new().unwrap();
    for dictionary in [true, false] {
        let path = dir.path().join(format!("{dictionary}.parquet"));
        write(&path, &table(0..300, 0), dictionary);
    }
    let access = Access::Column("image".to_owned());
    let mut order: Vec<u64> = (0..300).map(|at| at * 91 % 300).collect();
    order.extend([7, 7, 299, 0]);
    for part in [&order[..], &order[..3], &[5], &[69, 70, 71], &[299]] {
        let paths = ["true.parquet", "false.parquet"];
        let source = |(at, row): (usize, &u64)| Source { path: paths[at % 2], offset: None, length: None, row: Some(*row) };
        let sources: Vec<Source<'_>> = part.iter().enumerate().map(source).collect();
        let found = access.read_each(&LocalFiles, dir.path(), dir.path(), &sources);
        for (row, bytes) in part.iter().zip(found) {
            assert_eq!(bytes.unwrap(), bytes_of(*row as usize), "row {row}");
        }
    }
    let beyond = Source { path: "true.parquet", offset: None, length: None, row: Some(300) };
    let nowhere = Source { path: "none.parquet", row: Some(0), ..beyond.clone() };
    let found = access.read_each(&LocalFiles, dir.path(), dir.path(), &[beyond, nowhere]);
    assert!(found[0].as_ref().unwrap_err().to_string().ends_with("true.parquet: has no row 300 any more"));
    assert!(found[1].as_ref().unwrap_err().to_string().contains("none.parquet"));
}

#[test]
fn rows_without_bytes_are_left_out_and_told() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("a.parquet"), &table(0..12, 5), true);
    let embedded = Embedded::open(&LocalFiles, &dir.path().join("a.parquet"), Kind::Parquet, None).unwrap();
    let (rows, left_out) = read(&embedded).unwrap();
    assert_eq!(rows.num_rows(), 9);
    assert!(rows.column_by_name("split").is_none());
    let told: Vec<&str> = left_out.iter().map(|one| &*one.path).collect();
    assert_eq!(told, ["a.parquet/00", "a.parquet/05", "a.parquet/10"]);
    let sources: Vec<Source<'_>> = images::sources(&rows).unwrap().collect();
    assert_eq!((sources[4].row, sources[4].length), (Some(6), Some(bytes_of(6).len() as u64)));
    let found = embedded.access().read_each(&LocalFiles, dir.path(), dir.path(), &sources);
    assert!(found.into_iter().zip(sources).all(|(bytes, source)| bytes.unwrap() == bytes_of(source.row.unwrap() as usize)));
}

#[test]
fn plain_columns_are_images_too_and_ids_are_kept() {
    let dir = TempDir::new().unwrap();
    let images: LargeBinaryArray = (0..3).map(|at| Some(bytes_of(at))).collect();
    let ids = StringArray::from(vec!["x", "y", "z"]);
    let other: BinaryArray = (0..3).map(|at| Some(vec![at as u8])).collect();
    let fields = |two: bool| {
        let mut fields =
            vec![Field::new("image_id", DataType::Utf8, false), Field::new("jpg", DataType::LargeBinary, false)];
        fields.extend(two.then(|| Field::new("mask", DataType::Binary, true)));
        Arc::new(Schema::new(fields))
    };
    let columns = |two: bool| -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(ids.clone()), Arc::new(images.clone())];
        columns.extend(two.then(|| Arc::new(other.clone()) as ArrayRef));
        columns
    };
    let path = dir.path().join("a.parquet");
    write(&path, &RecordBatch::try_new(fields(false), columns(false)).unwrap(), false);
    let (rows, _) = read(&Embedded::open(&LocalFiles, &path, Kind::Parquet, None).unwrap()).unwrap();
    assert_eq!(texts(&rows, "image_id"), ["x", "y", "z"]);
    assert!(rows.column_by_name("label").is_none() && rows.column_by_name("jpg").is_none());
    write(&path, &RecordBatch::try_new(fields(true), columns(true)).unwrap(), false);
    let refused = |column| Embedded::open(&LocalFiles, &path, Kind::Parquet, column).unwrap_err().to_string();
    assert!(refused(None).ends_with("several columns may be the images: jpg, mask; column = \"jpg\" says which"));
    assert!(refused(Some("png")).ends_with("has no column `png`; it has image_id, jpg, mask"));
    assert!(refused(Some("image_id")).ends_with("should be a struct with `bytes`, or binary, and is Utf8"));
    assert_eq!(read(&Embedded::open(&LocalFiles, &path, Kind::Parquet, Some("jpg")).unwrap()).unwrap().0.num_rows(), 3);
}

/// Whatever bytes of a file are flipped or cut off: an error that names it, or images that are what they were listed as.
#[test]
fn damaged_files_are_told_and_nothing_panics() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.parquet");
    write(&path, &table(0..40, 0), true);
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).step_by(997).map(|end| whole[..end].to_vec()).collect();
    damaged.extend((0..whole.len()).step_by(211).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        bytes
    }));
    damaged.extend((whole.len() - 900..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    }));
    for bytes in damaged {
        std::fs::write(&path, &bytes).unwrap();
        let outcome = Embedded::open(&LocalFiles, &path, Kind::Parquet, None).and_then(|embedded| {
            let (rows, _) = read(&embedded)?;
            let sources: Vec<Source<'_>> = images::sources(&rows).unwrap().collect();
            let found = embedded.access().read_each(&LocalFiles, dir.path(), dir.path(), &sources);
            let digests = texts(&rows, "digest");
            for (bytes, digest) in found.into_iter().zip(digests) {
                assert_eq!(FileDigest::of(&blake3::hash(&bytes?)).to_string(), digest);
            }
            Ok(())
        });
        if let Err(error) = outcome {
            assert!(error.to_string().contains("a.parquet"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn files_are_recognised() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.parquet");
    let entry = || LocalFiles.list(&path).unwrap().files.remove(0);
    write(&path, &table(0..2, 0), true);
    assert!(Embedded::recognises(&LocalFiles, &path, Kind::Parquet, &entry()));
    let numbers = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    write(&path, &numbers, true);
    assert!(!Embedded::recognises(&LocalFiles, &path, Kind::Parquet, &entry()));
    assert!(
        Embedded::open(&LocalFiles, &path, Kind::Parquet, None).unwrap_err().to_string().contains("has no column of images")
    );
    let empty = TempDir::new().unwrap();
    let error = Embedded::open(&LocalFiles, empty.path(), Kind::Parquet, None).unwrap_err().to_string();
    assert!(error.ends_with("no Parquet file among 0 files; their names end in parquet"), "{error}");
}

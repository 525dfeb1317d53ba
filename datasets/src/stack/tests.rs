use arrow::array::{Int64Array, StringArray};
use tempfile::TempDir;
use tessera_schemas::text;

use super::*;
use crate::local::LocalFiles;
use crate::tables::hdf5::write::Writer;

mod encoded;

const SIZE: (usize, usize) = (6, 4);

fn rgb(at: usize) -> Vec<u8> {
    (0..SIZE.0 * SIZE.1 * 3).map(|i| (i * 7 + at * 13) as u8).collect()
}

/// A file of images with their numbers and classes.
fn write(path: &Path, images: &str, rows: std::ops::Range<usize>) {
    let (width, height) = SIZE;
    let pixels = pixels::array(rows.clone().flat_map(rgb).collect(), height, width);
    let field = pixels::field(height, width).with_name(images);
    let number: Int64Array = rows.clone().map(|at| at as i64).collect();
    let label: StringArray = rows.map(|at| Some(["cat", "dog"][at % 2])).collect();
    let schema =
        Schema::new(vec![field, Field::new("number", DataType::Int64, false), Field::new("label", DataType::Utf8, false)]);
    let schema = Arc::new(schema);
    let mut writer = Writer::create(path, &schema, 1).unwrap();
    let columns: Vec<ArrayRef> = vec![pixels, Arc::new(number), Arc::new(label)];
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    writer.finish().unwrap();
}

fn read(stack: &Stack) -> RecordBatch {
    let listed = stack.list(&LocalFiles).unwrap().files;
    let prints: Vec<Fingerprint> = listed.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let found: Vec<RecordBatch> = stack.rows(&LocalFiles, &prints).unwrap().map(|found| found.unwrap().rows).collect();
    arrow::compute::concat_batches(&stack.schema(), &found).unwrap()
}

#[test]
fn arrays_are_images_with_what_lies_beside() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("a.h5"), "pixels", 0..12);
    write(&dir.path().join("b.hdf5"), "pixels", 12..15);
    let stack = Stack::open(&LocalFiles, dir.path(), None).unwrap();
    let rows = read(&stack);
    let ids: Vec<&str> = text(&rows, "image_id").unwrap().iter().flatten().collect();
    assert_eq!((rows.num_rows(), ids[0], ids[11], ids[12]), (15, "a.h5/00", "a.h5/11", "b.hdf5/0"));
    let labels: Vec<&str> = text(&rows, "label").unwrap().iter().flatten().collect();
    assert_eq!(labels[..3], ["cat", "dog", "cat"]);
    let numbers = rows.column_by_name("number").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(numbers.values(), &(0..15).collect::<Vec<i64>>()[..]);
    let sources: Vec<Source<'_>> = images::sources(&rows).unwrap().collect();
    let mut order: Vec<usize> = (0..15).map(|at| at * 4 % 15).collect();
    order.push(3);
    let wanted: Vec<Source<'_>> = order.iter().map(|at| sources[*at].clone()).collect();
    let found = stack.access().read_each(&LocalFiles, dir.path(), dir.path(), &wanted);
    let digests = text(&rows, "digest").unwrap();
    for (at, bytes) in order.into_iter().zip(found) {
        let bytes = bytes.unwrap();
        assert_eq!(bytes, ppm::encode(SIZE.0, SIZE.1, &rgb(at)));
        assert_eq!(FileDigest::of(&blake3::hash(&bytes)).to_string(), digests.value(at));
        let header = crate::header::Header::of(&bytes);
        assert_eq!((header.format, header.width, header.height), (Some("ppm"), Some(6), Some(4)));
    }
}

/// What is remembered of a file is of one version of it.
#[test]
fn a_file_that_is_replaced_is_looked_at_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.h5");
    let access = Access::Array("/pixels".to_owned());
    for rows in [0..5, 5..9, 9..20] {
        write(&path, "pixels", rows.clone());
        let source = |row| Source { path: "a.h5", offset: None, length: None, row: Some(row) };
        let last = rows.len() as u64 - 1;
        let found = access.read_each(&LocalFiles, dir.path(), dir.path(), &[source(0), source(last), source(last + 1)]);
        let failed = found[0].as_ref().unwrap_err().to_string();
        assert!(failed.contains(&format!("has no row {} any more", last + 1)), "{failed}");
        let found = access.read_each(&LocalFiles, dir.path(), dir.path(), &[source(last), source(0)]);
        assert_eq!(found[0].as_ref().unwrap(), &ppm::encode(SIZE.0, SIZE.1, &rgb(rows.end - 1)));
        assert_eq!(found[1].as_ref().unwrap(), &ppm::encode(SIZE.0, SIZE.1, &rgb(rows.start)));
    }
}

#[test]
fn a_dataset_is_chosen_by_its_path() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.h5");
    write(&path, "photos", 0..3);
    let stack = Stack::open(&LocalFiles, &path, None).unwrap();
    assert_eq!(stack.access(), Access::Array("/photos".to_owned()));
    assert_eq!(stack.root(), dir.path());
    assert_eq!(read(&stack).num_rows(), 3);
    let refused = |column: &str| Stack::open(&LocalFiles, &path, Some(column)).unwrap_err().to_string();
    assert!(refused("/x").contains("has no dataset `/x` with rows; datasets: "), "{}", refused("/x"));
    assert!(refused("number").contains("`/number` holds no images: images are uint8"), "{}", refused("number"));
    std::fs::write(dir.path().join("b.h5"), "nothing of the kind").unwrap();
    let error = Stack::open(&LocalFiles, &dir.path().join("b.h5"), None).unwrap_err().to_string();
    assert!(error.contains("b.h5: is no HDF5 file"), "{error}");
}

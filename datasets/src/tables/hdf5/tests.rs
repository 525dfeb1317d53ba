//! Files as others write them, made by the library itself.

use std::fs;
use std::path::PathBuf;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{Float64Type, Int16Type, Int32Type, Int64Type, UInt8Type};
use hdf5_metno::types::{FixedAscii, FixedUnicode, VarLenArray, VarLenUnicode};
use hdf5_metno::{File as H5File, Group, H5Type};
use tempfile::TempDir;
use tessera_schemas::pixels::Pixels;
use tessera_schemas::{text, vector};

use super::super::*;
use crate::local::LocalFiles;

mod bombs;
mod damage;
mod rates;
mod written;

/// Writes `a.h5`, and says where it lies.
fn made(write: impl FnOnce(&H5File)) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let file = H5File::create(&path).unwrap();
    write(&file);
    file.close().unwrap();
    (dir, path)
}

/// All rows of a file, or of a folder's files.
fn read_back(path: &Path, datasets: Datasets) -> Result<RecordBatch, Error> {
    read_by(path, datasets, 2)
}

fn read_by(path: &Path, datasets: Datasets, threads: usize) -> Result<RecordBatch, Error> {
    let root = if path.is_dir() { path } else { path.parent().unwrap() };
    let entries = tables(path, LocalFiles.list(path)?)?;
    let reading = Reading { datasets, threads, ..Reading::default() };
    let schema = schema(&LocalFiles, root, &entries, &reading)?;
    let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let mut batches = Vec::new();
    read(&LocalFiles, root, &prints, &schema, &reading, &mut |batch| {
        batches.push(batch);
        Ok::<_, Error>(())
    })?;
    Ok(arrow::compute::concat_batches(&schema, &batches).unwrap())
}

fn one(path: &str) -> Datasets {
    Datasets::One(path.to_owned())
}

fn several(columns: &[(&str, &str)]) -> Datasets {
    Datasets::Columns(columns.iter().map(|&(name, path)| (name.to_owned(), path.to_owned())).collect())
}

/// The message of an error, from the file's name on.
fn refusal(path: &Path, datasets: Datasets) -> String {
    let message = read_back(path, datasets).unwrap_err().to_string();
    let root = format!("{}/", path.parent().unwrap().display());
    message.strip_prefix(&root).unwrap_or_else(|| panic!("no file is named: {message}")).to_owned()
}

fn dataset<T: H5Type>(group: &Group, name: &str, shape: &[usize], values: &[T]) {
    let made = group.new_dataset::<T>().shape(shape).create(name).unwrap();
    made.write_raw(values).unwrap();
}

/// Bit patterns of all kinds, NaNs among them, of which the shuffled bytes are no runs.
fn patterns(count: usize) -> Vec<f32> {
    let bits = (0..count as u32).map(|at| at.wrapping_mul(0x9e37_79b9) ^ 0x7fc0_0001);
    bits.map(f32::from_bits).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn vectors_are_the_same_in_every_layout() {
    const ROWS: usize = 1000;
    const WIDTH: usize = 37;
    let values = patterns(ROWS * WIDTH);
    let (_dir, path) = made(|file| {
        let shape = [ROWS, WIDTH];
        let new = || file.new_dataset::<f32>().shape(shape);
        let write = |dataset: hdf5_metno::Dataset| dataset.write_raw(&values).unwrap();
        write(new().create("contiguous").unwrap());
        write(new().chunk((64, WIDTH)).create("chunked").unwrap());
        write(new().chunk((7, 5)).create("tiles").unwrap());
        write(new().chunk((ROWS, 1)).deflate(1).create("columns").unwrap());
        write(new().chunk((64, WIDTH)).deflate(4).create("deflated").unwrap());
        write(new().chunk((64, 20)).shuffle().deflate(9).create("shuffled").unwrap());
        write(new().chunk((64, 20)).shuffle().deflate(9).fletcher32().create("checked").unwrap());
        write(new().chunk((64, 20)).fletcher32().deflate(2).create("checked first").unwrap());
        let grown = file.new_dataset::<f32>().shape((0.., WIDTH)).chunk((50, WIDTH)).deflate(4).create("grown").unwrap();
        grown.resize((ROWS, WIDTH)).unwrap();
        write(grown);
    });
    let layouts = ["contiguous", "chunked", "tiles", "columns", "deflated", "shuffled", "checked", "checked first", "grown"];
    for layout in layouts {
        for threads in [1, 3] {
            let found = read_by(&path, one(layout), threads).unwrap();
            let (found, width) = vector(&found, "feature").unwrap();
            assert_eq!((width, bits(&found)), (WIDTH, bits(&values)), "{layout}");
        }
    }
}

/// Chunks that are taller than what is read at once are not inflated anew for each piece, and give the same rows.
#[test]
fn rows_of_chunks_that_reach_over_several_reads_are_right() {
    let (rows, width) = (5000, 5000);
    let values: Vec<f32> = (0..rows * width).map(|at| (at % 9973) as f32).collect();
    let labels: Vec<i64> = (0..rows as i64).collect();
    let (_dir, path) = made(|file| {
        let wide = file.new_dataset::<f32>().shape((rows, width)).chunk((999, width)).deflate(1).create("f").unwrap();
        wide.write_raw(&values).unwrap();
        let tall = file.new_dataset::<i64>().shape(rows).chunk(rows).deflate(1).create("l").unwrap();
        tall.write_raw(&labels).unwrap();
    });
    let found = read_back(&path, several(&[("feature", "f"), ("label", "/l")])).unwrap();
    assert_eq!(&vector(&found, "feature").unwrap().0[..], &values[..]);
    assert_eq!(found.column_by_name("label").unwrap().as_primitive::<Int64Type>().values(), &labels[..]);
}

#[test]
fn values_that_were_never_written_are_the_fill_value() {
    let (_dir, path) = made(|file| {
        let sparse = file.new_dataset::<i32>().shape((0.., 2)).chunk((10, 2)).fill_value(7_i32).create("s").unwrap();
        sparse.resize((25, 2)).unwrap();
        sparse.write_raw(&(0..50).collect::<Vec<i32>>()).unwrap();
        sparse.resize((100, 2)).unwrap();
        file.new_dataset::<i32>().shape(3).create("never").unwrap();
    });
    let found = read_back(&path, one("s")).unwrap();
    let values = found.column_by_name("value").unwrap().as_fixed_size_list().values().clone();
    let expected: Vec<i32> = (0..200).map(|at| if at < 50 { at } else { 7 }).collect();
    assert_eq!(values.as_primitive::<Int32Type>().values(), &expected[..]);
    let never = read_back(&path, one("never")).unwrap();
    assert_eq!(never.column_by_name("value").unwrap().as_primitive::<Int32Type>().values(), &[0, 0, 0]);
}

#[test]
fn images_are_pixels_whatever_their_order() {
    let (height, width) = (2_usize, 5_usize);
    let rgb: Vec<u8> = (0..3 * height * width * 3).map(|at| at as u8).collect();
    let plane = height * width;
    let first: Vec<u8> =
        (0..3 * 3 * plane).map(|at| rgb[at / (3 * plane) * 3 * plane + at % plane * 3 + at / plane % 3]).collect();
    let grey: Vec<u8> = rgb.iter().step_by(3).copied().collect();
    let (_dir, path) = made(|file| {
        dataset(file, "last", &[3, height, width, 3], &rgb);
        dataset(file, "first", &[3, 3, height, width], &first);
        dataset(file, "grey", &[3, height, width], &grey);
        dataset(file, "four", &[3, height, width, 4], &vec![0_u8; 3 * plane * 4]);
    });
    for (name, expected) in
        [("last", rgb.clone()), ("first", rgb.clone()), ("grey", grey.iter().flat_map(|&g| [g; 3]).collect())]
    {
        for datasets in [one(name), several(&[("pixels", name)])] {
            let found = read_back(&path, datasets).unwrap();
            let found = Pixels::of(&found).unwrap();
            assert_eq!((found.height, found.width, found.bytes), (height, width, &expected[..]), "{name}");
        }
    }
    let message = refusal(&path, several(&[("pixels", "four")]));
    assert_eq!(
        message,
        "a.h5: `four` holds uint8 3 x 2 x 5 x 4; images are uint8, N x H x W x 3, N x 3 x H x W or N x H x W"
    );
}

#[derive(H5Type, Clone, PartialEq, Debug)]
#[repr(C)]
struct Row {
    id: FixedAscii<8>,
    score: f64,
    name: VarLenUnicode,
    count: i16,
}

#[test]
fn texts_lists_bools_and_structs_are_columns() {
    let names = ["", "naïve", "a text that is longer than its neighbours"];
    let long = |text: &str| text.parse::<VarLenUnicode>().unwrap();
    let rows: Vec<Row> = (0..3)
        .map(|at| Row {
            id: FixedAscii::from_ascii(&format!("r{at}")).unwrap(),
            score: at as f64 / 2.0,
            name: long(names[at]),
            count: -(at as i16),
        })
        .collect();
    let (_dir, path) = made(|file| {
        let group = file.create_group("train").unwrap();
        dataset(&group, "long", &[3], &names.map(long));
        let fixed = names.map(|name| name.parse::<FixedUnicode<48>>().unwrap());
        dataset(&group, "fixed", &[3], &fixed);
        dataset(&group, "yes", &[3], &[true, false, true]);
        let lists: Vec<VarLenArray<i16>> = [&[1_i16, 2][..], &[], &[3]].map(VarLenArray::from_slice).to_vec();
        dataset(&group, "lists", &[3], &lists);
        let made = file.new_dataset::<Row>().shape(3).chunk(2).deflate(3).create("rows").unwrap();
        made.write_raw(&rows).unwrap();
        file.new_dataset::<i32>().create("about").unwrap();
    });
    let found = read_back(&path, one("train")).unwrap();
    for column in ["long", "fixed"] {
        assert_eq!(text(&found, column).unwrap().iter().map(Option::unwrap).collect::<Vec<_>>(), names, "{column}");
    }
    let yes = found.column_by_name("yes").unwrap().as_boolean().clone();
    assert_eq!(yes.iter().collect::<Vec<_>>(), [Some(true), Some(false), Some(true)]);
    let lists = found.column_by_name("lists").unwrap().as_list::<i32>().clone();
    assert_eq!(lists.value(0).as_primitive::<Int16Type>().values(), &[1, 2]);
    assert_eq!((lists.value_length(1), lists.value_length(2)), (0, 1));
    // The root has one dataset with rows, and one value that is none.
    for datasets in [one("/rows"), Datasets::All, several(&[("row", "rows")])] {
        let spread = datasets == one("/rows");
        let found = read_back(&path, datasets.clone()).unwrap();
        let fields: Vec<_> = match spread {
            true => found.columns()[1..].to_vec(),
            false => found.column(1).as_struct().columns().to_vec(),
        };
        let texts: Vec<_> = fields[2].as_string::<i32>().iter().map(Option::unwrap).collect();
        assert_eq!(texts, names, "{datasets:?}");
        assert_eq!(fields[0].as_string::<i32>().value(2), "r2");
        assert_eq!(fields[1].as_primitive::<Float64Type>().values(), &[0.0, 0.5, 1.0]);
        assert_eq!(fields[3].as_primitive::<Int16Type>().values(), &[0, -1, -2]);
    }
}

#[test]
fn several_files_are_one_table_and_differences_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, shape: [usize; 3], ids: &[&str]| {
        let file = H5File::create(dir.path().join(name)).unwrap();
        dataset(&file, "x", &shape, &vec![1_u8; shape.iter().product()]);
        dataset(
            &file,
            "image_id",
            &[ids.len()],
            &ids.iter().map(|id| id.parse::<VarLenUnicode>().unwrap()).collect::<Vec<_>>(),
        );
    };
    write("a.h5", [2, 3, 4], &["p", "q"]);
    write("b.hdf5", [1, 3, 4], &["r"]);
    let found = read_back(dir.path(), Datasets::All).unwrap();
    assert_eq!(text(&found, IMAGE_ID).unwrap().iter().map(Option::unwrap).collect::<Vec<_>>(), ["p", "q", "r"]);
    assert_eq!(found.column_by_name("x").unwrap().as_fixed_size_list().values().as_primitive::<UInt8Type>().len(), 36);
    // As many values, in another shape.
    write("b.hdf5", [1, 4, 3], &["r"]);
    let message = read_back(dir.path(), Datasets::All).unwrap_err().to_string();
    assert!(message.contains("column `x` is") && message.contains("of shape 4,3, and"), "{message}");
    fs::write(dir.path().join("c.csv"), "x\n1\n").unwrap();
    let message = read_back(dir.path(), one("x")).unwrap_err().to_string();
    assert!(message.ends_with("c.csv: is no HDF5 file, and `dataset` names datasets of such files"), "{message}");
}

#[test]
fn what_cannot_be_a_table_is_said_with_what_can() {
    let (dir, path) = made(|file| {
        let train = file.create_group("train").unwrap();
        dataset(&train, "features", &[4, 3], &[0.5_f32; 12]);
        dataset(&train, "labels", &[3], &[1_i32, 2, 3]);
        file.new_dataset::<i32>().create("single").unwrap();
        file.create_group("empty").unwrap();
        file.new_dataset::<i32>().shape(20).chunk(10).nbit().create("bits").unwrap();
        file.link_soft("/train/features", "soft").unwrap();
        file.link_soft("/nowhere", "lost").unwrap();
        file.link_external("/etc/passwd", "/x", "other").unwrap();
        file.new_dataset::<i32>().shape(5).external("values.bin", 0, 20).create("outside").unwrap();
    });
    fs::write(dir.path().join("values.bin"), [0; 20]).unwrap();
    let choices = "datasets: `/bits` (int32 20), `/outside` (int32 5), `/single` (int32 without rows), `/soft` (float32 4 x 3), \
                   `/train/features` (float32 4 x 3), `/train/labels` (int32 3)";
    let told = |datasets, expected: &str| assert_eq!(refusal(&path, datasets), format!("a.h5: {expected}"));
    told(one("/train/feature"), &format!("has no `/train/feature`; {choices}"));
    told(
        one("/train/features/x"),
        &format!("has no `/train/features/x`: `/train/features` is a dataset, not a group; {choices}"),
    );
    told(several(&[("f", "/train")]), &format!("`/train` is a group, not a dataset; {choices}"));
    told(one("/empty"), &format!("`/empty` is a group that has no datasets with rows of its own; {choices}"));
    told(one("single"), "`single` is a single value; a table's columns have a row each");
    told(one("lost"), &format!("`/lost` is a link that leads nowhere in this file; {choices}"));
    told(one("other"), "`/other` is a link to another file, which is not followed: name that file");
    told(one("outside"), "`outside` keeps its values in another file, which is not read: `h5repack` writes one file");
    let message = refusal(&path, one("/train"));
    assert!(message.contains("`labels` has 3 rows, and `features` 4; the key `dataset` chooses"), "{message}");
    assert!(refusal(&path, one("bits")).contains("filter 5 (nbit); gzip, shuffle and fletcher32 can be read"));
    assert_eq!(read_back(&path, one("soft")).unwrap().num_rows(), 4);
    let text = dir.path().join("text.h5");
    fs::write(&text, "these are words").unwrap();
    assert_eq!(refusal(&text, Datasets::All), "text.h5: is no HDF5 file: it does not have the signature \\x89HDF");
    let held = fs::File::open(&path).unwrap();
    // A child that was made while it was read has the lock as well, for a moment.
    held.lock().unwrap();
    told(one("soft"), "is open for writing in another program: close it there, or wait");
}

/// A program that writes sets a flag in the file, and crashed before it could clear it.
#[test]
fn a_file_that_was_not_closed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("a.h5"), dir.path().join("b.h5"));
    let file = H5File::with_options().with_fapl(|fapl| fapl.libver_v110()).create(&path).unwrap();
    dataset(&file, "x", &[2], &[1_i32, 2]);
    file.flush().unwrap();
    fs::copy(&path, &copy).unwrap();
    file.close().unwrap();
    assert_eq!(read_back(&path, one("x")).unwrap().num_rows(), 2);
    assert!(refusal(&copy, one("x")).starts_with("b.h5: is open for writing in another program, or was not closed by it"));
}

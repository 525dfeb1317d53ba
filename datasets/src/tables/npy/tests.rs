use arrow::datatypes::Float32Type as F32;

use super::super::tests::{refusal, table};
use super::*;

/// A `.npy` file of that version.
fn file(version: u8, kind: &str, is_fortran: bool, shape: &str, values: &[u8]) -> Vec<u8> {
    let order = if is_fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let before = if version == 1 { 10 } else { 12 };
    while !(before + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = [MAGIC, &[version, 0]].concat();
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn vectors(bytes: Vec<u8>) -> (Vec<f32>, Option<String>) {
    let found = table(&[("a.npy", bytes)]).unwrap();
    let shape = found.schema().field_with_name("feature").unwrap().metadata().get(meta::SHAPE).cloned();
    let lists = found.column_by_name("feature").unwrap().as_fixed_size_list();
    (lists.values().as_primitive::<F32>().values().to_vec(), shape)
}

fn floats(values: impl IntoIterator<Item = f32>, to: impl Fn(f32) -> [u8; 4]) -> Vec<u8> {
    values.into_iter().flat_map(to).collect()
}

#[test]
fn headers_are_python_dicts() {
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n";
    let found: Description = text.parse().unwrap();
    assert_eq!(found, Description { kind: "<f4".into(), is_fortran: false, shape: vec![3, 2] });
    let found: Description = "{'shape':(7L,),'fortran_order': True, 'descr':'|u1'}".parse().unwrap();
    assert_eq!(found, Description { kind: "|u1".into(), is_fortran: true, shape: vec![7] });
}

#[test]
fn what_cannot_be_read_is_named() {
    let refused = |text: &str| text.parse::<Description>().and_then(|d| d.layout().map(|_| ())).unwrap_err();
    let dict =
        |kind: &str, order: &str, shape: &str| format!("{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}}}");
    assert!(refused(&dict("'<U5'", "False", "(3,)")).contains("<U5; floats of 16, 32 and 64 bits, integers and truth"));
    assert!(refused(&dict("'>c8'", "False", "(3,)")).contains(">c8; floats"));
    assert!(refused(&dict("'|f4'", "False", "(3,)")).contains("|f4; floats"));
    assert!(refused(&dict("''", "False", "(3,)")).contains("of type ;"));
    assert!(refused(&dict("'é'", "False", "(3,)")).contains("of type é;"));
    assert!(refused(&dict("'<f4'", "False", "(3, 0)")).contains("shape (3, 0)"));
    assert!(refused(&dict("'<f4'", "False", "(3, 5000000000)")).contains("shape (3, 5000000000)"));
    assert!(refused(&dict("'<f4'", "False", "(3, 4294967296, 4294967296)")).contains("shape (3, "));
    assert!(refused(&dict("'<f4'", "False", "()")).contains("shape ()"));
    assert!(refused(&dict("'<f4'", "False", "(-3,)")).contains("shape (-3,)"));
    assert!(refused(&dict("[('a', '<f4')]", "False", "(3,)")).contains("structured"));
    assert!(refused("{'descr': '<f4'}").contains("no `fortran_order`"));
    let whole = refusal(&[("a.npy", file(1, "<i4", false, "(1, 2)", &[0; 8]))]);
    assert_eq!(
        whole,
        "a.npy: holds Int32 in two dimensions; a column's vectors are of floats: save array.astype(\"float32\") of it"
    );
    assert!(refusal(&[("a.npy", file(1, "<f4", true, "(3, 2)", &[0; 23]))]).contains("fewer than its header promises"));
}

#[test]
fn every_version_order_of_bytes_and_small_type_is_read() {
    for version in 1..=3 {
        let little = file(version, "<f4", false, "(2, 2)", &floats([1.5, 2.0, -0.5, 4.0], f32::to_le_bytes));
        assert_eq!(vectors(little), (vec![1.5, 2.0, -0.5, 4.0], None));
        let big = file(version, ">f4", false, "(2, 2)", &floats([1.5, 2.0, -0.5, 4.0], f32::to_be_bytes));
        assert_eq!(vectors(big).0, [1.5, 2.0, -0.5, 4.0]);
    }
    assert_eq!(vectors(file(1, ">f2", false, "(1, 2)", &[0x3c, 0, 0xc0, 0])).0, [1.0, -2.0]);
    assert_eq!(vectors(file(1, "|u1", false, "(2, 2)", &[0, 1, 254, 255])).0, [0., 1., 254., 255.]);
    assert_eq!(vectors(file(1, ">i2", true, "(2, 2)", &[0x80, 0, 0, 1, 0x7f, 0xff, 0, 2])).0, [-32768., 32767., 1., 2.]);
    let found = table(&[("a.npy", file(1, "|b1", false, "(3,)", &[0, 1, 2]))]).unwrap();
    assert_eq!(found.column(1).as_boolean(), &BooleanArray::from(vec![false, true, true]));
    let found = table(&[("a.npy", file(1, ">i8", true, "(2,)", &[[0xff; 8], [0, 0, 0, 0, 0, 0, 0, 7]].concat()))]).unwrap();
    assert_eq!(found.column(1).as_primitive::<Int64Type>().values(), &[-1, 7]);
}

#[test]
fn more_axes_are_flattened_and_their_shape_is_told() {
    let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
    let c_order = file(1, "<f4", false, "(2, 3, 2, 2)", &floats(values.clone(), f32::to_le_bytes));
    assert_eq!(vectors(c_order), (values.clone(), Some("3,2,2".into())));
    // In Fortran order the value at (n, c, h, w) lies at n + 2 (c + 3 (h + 2 w)).
    let place = |at: usize| (at / 12) + 2 * ((at / 4 % 3) + 3 * ((at / 2 % 2) + 2 * (at % 2)));
    let mut on_disk = vec![0.0; 24];
    values.iter().enumerate().for_each(|(at, &value)| on_disk[place(at)] = value);
    let fortran = file(1, "<f4", true, "(2, 3, 2, 2)", &floats(on_disk, f32::to_le_bytes));
    assert_eq!(vectors(fortran), (values, Some("3,2,2".into())));
    let ones = file(1, "<f4", true, "(2, 1, 1, 2)", &floats([1., 3., 2., 4.], f32::to_le_bytes));
    assert_eq!(vectors(ones), (vec![1., 2., 3., 4.], Some("1,1,2".into())));
}

#[test]
fn blocks_in_fortran_order_are_the_rows() {
    let (rows, width) = (30_011, 3);
    let value = |row: usize, column: usize| (row * width + column) as f32;
    let on_disk = (0..width).flat_map(|column| (0..rows).map(move |row| value(row, column)));
    let bytes = file(1, "<f4", true, &format!("({rows}, {width})"), &floats(on_disk, f32::to_le_bytes));
    let (found, _) = vectors(bytes.clone());
    assert!(found.iter().enumerate().all(|(at, &value)| value == at as f32) && found.len() == rows * width);
    // A block ends where batches do, and has no more rows than fit.
    let block = |rows: u64, width: u64| {
        let layout =
            Layout { item: DataType::Float32, item_bytes: 4, is_big: false, is_fortran: true, rows, axes: vec![width] };
        Npy { offset: 0, layout }.block(8192)
    };
    assert_eq!((block(1 << 30, 512), block(1 << 30, 1000), block(1 << 30, 1 << 20)), (32_768, 16_384, 16));
    let dir = super::super::tests::folder(&[("a.npy", bytes)]);
    let path = dir.path().join("a.npy");
    let raw = Raw { files: &crate::local::LocalFiles, path: &path, size: std::fs::metadata(&path).unwrap().len() };
    let npy = Npy::open(raw).unwrap();
    let part = npy.values(raw, 10_000, 5).unwrap();
    assert_eq!(part.as_primitive::<F32>().values()[..4], [30_000., 30_001., 30_002., 30_003.]);
}

#[test]
fn integers_are_rows_in_either_order() {
    let read = |bytes: Vec<u8>| {
        let dir = super::super::tests::folder(&[("a.npy", bytes)]);
        super::super::integers(&crate::local::LocalFiles, &dir.path().join("a.npy"))
    };
    assert_eq!(read(file(1, "|u1", false, "(2, 3)", &[0, 1, 2, 3, 4, 5])).unwrap(), [[0, 1, 2], [3, 4, 5]]);
    assert_eq!(read(file(1, "|u1", true, "(2, 3)", &[0, 3, 1, 4, 2, 5])).unwrap(), [[0, 1, 2], [3, 4, 5]]);
    for (shape, bytes) in [("(6,)", 6), ("(1, 2, 3)", 6)] {
        let error = read(file(1, "|u1", false, shape, &vec![0; bytes])).unwrap_err().to_string();
        assert!(error.ends_with("is no array of integers in two dimensions"), "{error}");
    }
}

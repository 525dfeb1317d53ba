use arrow::array::Array as _;
use tessera_schemas::text;

use super::cifar::{Cifar, Version};
use super::stl::Stl;
use super::*;
use crate::Entry;
use crate::layout::{Access, Layout, Role};
use crate::tar::tests::InMemory;

/// The bytes of a picture's planes, which differ between all of them.
fn planes(seed: usize, side: usize) -> Vec<u8> {
    (0..3 * side * side).map(|at| ((at * 31 + seed * 17) % 253) as u8).collect()
}

/// Its PPM, pixel by pixel.
fn ppm(planes: &[u8], side: usize, by_columns: bool) -> Vec<u8> {
    let mut ppm = format!("P6\n{side} {side}\n255\n").into_bytes();
    for (y, x, plane) in (0..side).flat_map(|y| (0..side).flat_map(move |x| (0..3).map(move |plane| (y, x, plane)))) {
        let place = if by_columns { x * side + y } else { y * side + x };
        ppm.push(planes[plane * side * side + place]);
    }
    ppm
}

fn files(folder: &str, files: &[(&str, Vec<u8>)]) -> InMemory {
    InMemory(files.iter().map(|(name, bytes)| (format!("{folder}/{name}"), bytes.clone())).collect())
}

/// A row: its name, its labels, its split and its picture.
type Row = (String, Option<String>, Option<String>, String, Vec<u8>);

fn rows(files: &InMemory, layout: &dyn Layout, root: &Path) -> Result<(Vec<Row>, Vec<LeftOut>), Error> {
    let print = |entry: Entry| Fingerprint { digest: "d".into(), entry, ..Fingerprint::default() };
    let prints: Vec<Fingerprint> = layout.list(files)?.files.into_iter().map(print).collect();
    let Access::Planar(planes) = layout.access() else { panic!() };
    let written = serde_json::to_string(&layout.access()).unwrap();
    assert_eq!(serde_json::from_str::<Access>(&written).unwrap(), layout.access());
    let (mut all, mut left_out) = (Vec::new(), Vec::new());
    for found in layout.rows(files, &prints)? {
        let found = found?;
        assert_eq!(found.rows.schema(), layout.schema());
        let get = |name: &str, at: usize| {
            let column = text(&found.rows, name).ok()?;
            column.is_valid(at).then(|| column.value(at).to_owned())
        };
        let sources: Vec<Source<'_>> = images::sources(&found.rows).unwrap().collect();
        for (at, source) in sources.iter().enumerate() {
            let picture = read_row(files, root, &planes, source.path, source.row.unwrap())?;
            assert_eq!((source.offset, source.length), (None, Some(picture.len() as u64)));
            assert_eq!(get("digest", at).unwrap(), FileDigest::of(&blake3::hash(&picture)).to_string());
            let split = get(SPLIT, at).unwrap();
            all.push((get("image_id", at).unwrap(), get("label", at), get(COARSE, at), split, picture));
        }
        left_out.extend(found.left_out);
    }
    Ok((all, left_out))
}

fn cifar(files: &InMemory) -> Result<(Vec<Row>, Vec<LeftOut>), Error> {
    let cifar = Cifar::open(files, Path::new("/d"))?;
    rows(files, &cifar, cifar.root())
}

fn row(id: &str, label: &str, coarse: Option<&str>, split: &str, picture: Vec<u8>) -> Row {
    (id.to_owned(), Some(label.to_owned()), coarse.map(str::to_owned), split.to_owned(), picture)
}

#[test]
fn cifar_10_is_read_from_both_versions() {
    let names = b"cat\ndog \r\n\n".to_vec();
    let record = |label: u8, seed| [vec![label], planes(seed, 32)].concat();
    let batch = (0..11).map(|seed| record((seed % 2) as u8, seed)).collect::<Vec<_>>().concat();
    let binary = [
        ("batches.meta.txt", names.clone()),
        ("data_batch_1.bin", batch),
        ("test_batch.bin", record(1, 50)),
        ("readme.html", Vec::new()),
    ];
    let pictures: Vec<Vec<u8>> = (0..11).map(|seed| ppm(&planes(seed, 32), 32, false)).collect();
    let mut expected: Vec<Row> = (0..11)
        .map(|at| row(&format!("data_batch_1.bin/{at:02}"), ["cat", "dog"][at % 2], None, "train", pictures[at].clone()))
        .collect();
    expected.push(row("test_batch.bin/0", "dog", None, "test", ppm(&planes(50, 32), 32, false)));
    for folder in ["/d", "/d/cifar-10-batches-bin"] {
        let files = files(folder, &binary);
        assert_eq!(Cifar::open(&files, Path::new("/d")).unwrap().version(), Version::Binary10);
        assert_eq!(cifar(&files).unwrap(), (expected.clone(), Vec::new()));
        assert!(cifar::recognises(&files, Path::new("/d")).unwrap() && !stl::recognises(&files, Path::new("/d")).unwrap());
    }
    let all = (0..11).map(|seed| planes(seed, 32)).collect::<Vec<_>>().concat();
    let labels: Vec<u8> = (0..11).map(|at| at % 2).collect();
    let python = [
        ("batches.meta", dictionary::tests::names(&[("label_names", &["cat", "dog"])])),
        ("data_batch_1", dictionary::tests::python2(&all, &[("labels", &labels)])),
        ("test_batch", dictionary::tests::python2(&planes(50, 32), &[("labels", &[1])])),
    ];
    for folder in ["/d", "/d/cifar-10-batches-py"] {
        let found = cifar(&files(folder, &python)).unwrap().0;
        assert_eq!(found.len(), 12);
        for (one, two) in found.iter().zip(&expected) {
            assert_eq!((&one.0, &one.1, &one.3, &one.4), (&two.0.replace(".bin", ""), &two.1, &two.3, &two.4));
        }
    }
}

#[test]
fn cifar_100_has_groups() {
    let lines = [("fine_label_names.txt", b"apple\nbear".to_vec()), ("coarse_label_names.txt", b"fruit\nbeast\n".to_vec())];
    let record = |coarse: u8, fine: u8, seed| [vec![coarse, fine], planes(seed, 32)].concat();
    let binary = [&lines[..], &[("train.bin", record(1, 1, 1)), ("test.bin", record(0, 0, 2))]].concat();
    let [train, test] = [1, 2].map(|seed| ppm(&planes(seed, 32), 32, false));
    let expected = vec![
        row("test.bin/0", "apple", Some("fruit"), "test", test),
        row("train.bin/0", "bear", Some("beast"), "train", train),
    ];
    assert_eq!(cifar(&files("/d/cifar-100-binary", &binary)).unwrap().0, expected);
    let python = [
        (
            "meta",
            dictionary::tests::names(&[
                ("fine_label_names", &["apple", "bear"]),
                ("coarse_label_names", &["fruit", "beast"]),
            ]),
        ),
        ("train", dictionary::tests::python2(&planes(1, 32), &[("coarse_labels", &[1]), ("fine_labels", &[1])])),
        ("test", dictionary::tests::python2(&planes(2, 32), &[("coarse_labels", &[0]), ("fine_labels", &[0])])),
    ];
    let found = cifar(&files("/d/cifar-100-python", &python)).unwrap().0;
    let stripped: Vec<Row> =
        expected.into_iter().map(|one| (one.0.replace(".bin", ""), one.1, one.2, one.3, one.4)).collect();
    assert_eq!(found, stripped);
    let both = InMemory(
        [files("/d/cifar-100-python", &python).0, files("/d/cifar-100-binary", &binary).0].into_iter().flatten().collect(),
    );
    let error = Cifar::open(&both, Path::new("/d")).unwrap_err().to_string();
    assert_eq!(error, "/d: several data sets are there: cifar-100-binary, cifar-100-python; choose one");
}

#[test]
fn stl_10_comes_column_by_column() {
    let pictures = |seeds: &[usize]| seeds.iter().map(|seed| planes(*seed, 96)).collect::<Vec<_>>().concat();
    let stored = [
        ("class_names.txt", b"airplane\nbird\n".to_vec()),
        ("fold_indices.txt", b"0 1\n".to_vec()),
        ("test_X.bin", pictures(&[1])),
        ("test_y.bin", vec![2]),
        ("train_X.bin", pictures(&[2, 3])),
        ("train_y.bin", vec![1, 2]),
        ("unlabeled_X.bin", pictures(&[4])),
    ];
    let picture = |seed| ppm(&planes(seed, 96), 96, true);
    let mut unlabeled = row("unlabeled_X.bin/0", "", None, "unlabeled", picture(4));
    unlabeled.1 = None;
    let expected = vec![
        row("test_X.bin/0", "bird", None, "test", picture(1)),
        row("train_X.bin/0", "airplane", None, "train", picture(2)),
        row("train_X.bin/1", "bird", None, "train", picture(3)),
        unlabeled,
    ];
    for folder in ["/d", "/d/stl10_binary"] {
        let files = files(folder, &stored);
        let stl = Stl::open(&files, Path::new("/d")).unwrap();
        assert_eq!(rows(&files, &stl, stl.root()).unwrap(), (expected.clone(), Vec::new()));
        assert_eq!((stl.role("train_X.bin"), stl.role("train_y.bin")), (Role::Shard, Role::Beside));
        assert!(stl::recognises(&files, Path::new("/d")).unwrap());
    }
    let with = |name: &str, bytes: Option<Vec<u8>>| {
        let mut files = files("/d", &stored);
        match bytes {
            Some(bytes) => files.0.insert(format!("/d/{name}"), bytes),
            None => files.0.remove(&format!("/d/{name}")),
        };
        let stl = Stl::open(&files, Path::new("/d")).unwrap();
        rows(&files, &stl, stl.root()).unwrap_err().to_string()
    };
    assert_eq!(with("train_y.bin", None), "/d/train_y.bin: entity not found");
    assert_eq!(with("train_y.bin", Some(vec![1])), "/d/train_y.bin: it has 1 labels, and train_X.bin has 2 pictures");
    let error = with("train_y.bin", Some(vec![1, 3]));
    assert_eq!(error, "/d/train_X.bin: row 1: its label is 3, and names are known of 1 to 2");
    assert!(with("train_y.bin", Some(vec![0, 1])).contains("row 0: its label is 0, and labels begin at 1"));
}

#[test]
fn what_is_wrong_with_cifar_is_told() {
    let record = |label: u8| [vec![label], planes(9, 32)].concat();
    let with = |batch: Vec<u8>| cifar(&files("/d", &[("batches.meta.txt", b"cat\n".to_vec()), ("data_batch_1.bin", batch)]));
    let (rows, left_out) = with([record(0), vec![0; 3000]].concat()).unwrap();
    assert_eq!((rows.len(), left_out[0].path.as_str()), (1, "data_batch_1.bin"));
    assert!(left_out[0].reason.starts_with("its last 3000 bytes are no whole picture, which has 3073"));
    let (rows, left_out) = with(vec![0; 5]).unwrap();
    assert_eq!((rows.len(), left_out.len()), (0, 1));
    let error = with([record(0), record(1)].concat()).unwrap_err().to_string();
    assert_eq!(error, "/d/data_batch_1.bin: row 1: its label is 1, and names are known of 0 to 0");
    let lacking = cifar(&files("/d", &[("data_batch_1.bin", record(0))])).unwrap_err().to_string();
    assert_eq!(lacking, "/d/batches.meta.txt: entity not found");
    let none = cifar(&files("/d", &[("train.bin", record(0))])).unwrap_err().to_string();
    assert!(none.starts_with("/d: no file of CIFAR is there: data_batch_1.bin or "), "{none}");
}

#[test]
fn rows_are_read_in_any_order() {
    let stride = 1 + 3 * 4;
    let planes = Planes { width: 2, height: 2, order: Order::Rows, stride, start: 1, starts: BTreeMap::new() };
    let bytes: Vec<u8> = (0..10 * stride).map(|at| at as u8).collect();
    let files = files("/d", &[("f", bytes.clone())]);
    let order = [3, 4, 5, 9, 0, 0, 1, 8];
    let found = read_rows(&files, Path::new("/d"), &planes, "f", &order).unwrap();
    for (picture, row) in found.iter().zip(order) {
        assert_eq!(*picture, ppm(&bytes[(row * stride + 1) as usize..][..12], 2, false));
        assert_eq!(picture.len() as u64, planes.ppm_bytes());
    }
    for rows in [&[10][..], &[u64::MAX], &[9, 10]] {
        assert!(read_rows(&files, Path::new("/d"), &planes, "f", rows).is_err());
    }
}

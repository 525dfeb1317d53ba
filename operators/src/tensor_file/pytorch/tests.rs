//! Files are made here, as `torch.save` makes them.

use std::io::Write as _;

use super::golden::CHECKPOINT;
use crate::tensor_file::made::{archive, dictionary, file, tensor, text};
use crate::tensor_file::{Entry, HeaderError, TensorFile};

fn open(bytes: &[u8], state: Option<&str>) -> Result<TensorFile, HeaderError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    TensorFile::of(file, state)
}

/// What is said of a file, and what helps.
fn told(bytes: &[u8], state: Option<&str>) -> String {
    let error = open(bytes, state).unwrap_err();
    format!("{error} | {}", error.help(std::path::Path::new("w.pth")))
}

fn bytes_of(numbers: impl IntoIterator<Item = f32>) -> Vec<u8> {
    numbers.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// A row of two numbers in storage `0`.
fn two() -> Vec<u8> {
    tensor("FloatStorage", "0", 2, [&[0], &[1, 2], &[2, 1]])
}

fn two_numbers() -> Vec<u8> {
    bytes_of([0.5, -1.0])
}

#[test]
fn tensors_are_views_of_storages() {
    let numbers = bytes_of((0..12u8).map(f32::from));
    let halves = [0x00, 0x3c, 0x00, 0xc0];
    let views = [
        ("rows", tensor("FloatStorage", "0", 12, [&[0], &[3, 4], &[4, 1]])),
        ("columns", tensor("FloatStorage", "0", 12, [&[0], &[4, 3], &[1, 4]])),
        ("corner", tensor("FloatStorage", "0", 12, [&[5], &[2, 2], &[4, 2]])),
        ("last", tensor("FloatStorage", "0", 12, [&[11], &[], &[]])),
        ("none", tensor("FloatStorage", "0", 12, [&[7], &[0, 3], &[3, 1]])),
        ("halves", tensor("HalfStorage", "of.halves", 2, [&[0], &[2, 1], &[1, 77]])),
    ];
    let file = open(&file(&dictionary(&views), &[("0", &numbers), ("of.halves", &halves)]), None).unwrap();
    let read = |name: &str| {
        let Entry { dtype, shape, .. } = &file.header.tensors[name];
        let data = file.data(&file.header.tensors[name]).unwrap();
        assert_eq!(data.len(), file.header.tensors[name].bytes(), "{name}");
        (dtype.as_str(), shape.clone(), data)
    };
    let expected = |of: &[u8]| bytes_of(of.iter().copied().map(f32::from));
    assert_eq!(read("rows"), ("F32", vec![3, 4], numbers.clone()));
    assert_eq!(read("columns"), ("F32", vec![4, 3], expected(&[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])));
    assert_eq!(read("corner"), ("F32", vec![2, 2], expected(&[5, 7, 9, 11])));
    assert_eq!(read("last"), ("F32", vec![], expected(&[11])));
    assert_eq!(read("none"), ("F32", vec![0, 3], vec![]));
    assert_eq!(read("halves"), ("F16", vec![2, 1], halves.to_vec()));
    assert_eq!((file.header.state.as_deref(), file.header.left_out.len()), (Some(""), 0));
}

/// A file of PyTorch's own.
#[test]
fn what_torch_save_wrote_is_read() {
    let digits = CHECKPOINT.concat();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    let file = open(&bytes, None).unwrap();
    assert_eq!((file.header.state.as_deref(), file.header.left_out.len()), (Some("state_dict"), 0));
    let found = file
        .header
        .tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.dtype.as_str(), tensor.shape.clone(), file.data(tensor).unwrap()));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("a.bias", "F32", vec![2], bytes_of([2.0, 2.5])),
            ("a.weight", "F32", vec![3, 2], bytes_of([0.0, 1.5, 0.5, 2.0, 1.0, 2.5])),
            ("b.num_batches_tracked", "I64", vec![], 7_i64.to_le_bytes().to_vec()),
            ("b.weight", "BF16", vec![1, 2], vec![0x80, 0x3f, 0x00, 0xc0]),
        ]
    );
}

/// Sizes in a pickle are held against what is there.
#[test]
fn what_reaches_beyond_its_storage_is_refused() {
    let numbers = bytes_of((0..12u8).map(f32::from));
    for (of, key, count, parts, said) in [
        (
            "FloatStorage",
            "0",
            13,
            [&[0][..], &[3, 4], &[4, 1]],
            "lies in the storage `0`, which is shorter than it should be",
        ),
        ("DoubleStorage", "0", 12, [&[0], &[3, 4], &[4, 1]], "which is shorter than it should be"),
        ("FloatStorage", "1", 12, [&[0], &[3, 4], &[4, 1]], "lies in the storage `1`, which is not there"),
        ("FloatStorage", "0", 12, [&[1], &[3, 4], &[4, 1]], "reaches beyond the 12 values of its storage `0`"),
        ("FloatStorage", "0", 12, [&[0], &[3, 4], &[5, 1]], "reaches beyond"),
        ("FloatStorage", "0", 12, [&[0], &[u32::MAX >> 1; 3], &[u32::MAX >> 1; 3]], "reaches beyond"),
        ("FloatStorage", "0", 12, [&[0], &[u32::MAX, 2], &[1, 0]], "has no shape"),
        ("FloatStorage", "0", 12, [&[0], &[3, 4], &[4]], "has 2 sides, and strides for 1"),
        ("FloatStorage", "0", 12, [&[0], &[1; 65], &[1; 65]], "has 65 sides"),
    ] {
        let words = dictionary(&[("conv.weight", tensor(of, key, count, parts))]);
        let told = told(&file(&words, &[("0", &numbers)]), None);
        assert!(told.starts_with("is no sound file of `torch.save`'s: its tensor `conv.weight` "), "{told}");
        assert!(told.contains(said), "{told}");
    }
}

/// What training leaves: networks in a dictionary, beside an optimizer and the numbers of a run.
#[test]
fn the_dictionary_that_is_meant_is_found_or_asked_for() {
    let storages = two_numbers();
    let numbered = [&b"}J\0\0\0\0"[..], &dictionary(&[("exp_avg", two())]), b"s"].concat();
    let optimizer = || dictionary(&[("state", numbered.clone()), ("param_groups", b"]".to_vec())]);
    let best = tensor("FloatStorage", "0", 2, [&[0], &[1], &[1]]);
    let namespace = b"cargparse\nNamespace\n)\x81}X\x02\0\0\0lrG?\xf0\0\0\0\0\0\0sb".to_vec();
    let state = || dictionary(&[("a.weight", two()), ("a.scheme", namespace.clone()), ("a.codes", b"N".to_vec())]);
    let of = |entries: &[(&str, Vec<u8>)]| file(&dictionary(entries), &[("0", &storages)]);
    let found = |bytes: &[u8], state: Option<&str>| {
        let header = open(bytes, state).unwrap().header;
        assert_eq!(header.tensors.keys().collect::<Vec<_>>(), ["a.weight"]);
        (header.state.unwrap(), header.left_out.into_iter().collect::<Vec<_>>())
    };
    let one = of(&[("epoch", b"K\x07".to_vec()), ("best", best), ("state_dict", state()), ("optimizer", optimizer())]);
    let left_out = [("a.codes", "nothing"), ("a.scheme", "an object that `argparse.Namespace` makes")];
    let left_out = left_out.map(|(name, what)| (name.to_owned(), what.to_owned())).to_vec();
    assert_eq!(found(&one, None), ("state_dict".to_owned(), left_out.clone()));
    assert_eq!(found(&one, Some("state_dict")), ("state_dict".to_owned(), left_out.clone()));
    let said = told(&one, Some("teacher"));
    assert_eq!(said, "has no dictionary of tensors `teacher` | state = \"…\", one of: ``, `state_dict`");
    let nested = dictionary(&[("trunk", state())]);
    let two_of_them = of(&[("student", state()), ("teacher", state()), ("model", nested), ("args", namespace.clone())]);
    let said = told(&two_of_them, None);
    assert_eq!(
        said,
        "holds 3 dictionaries of tensors, and it is not said which of them is meant | state = \"…\", one of: `student`, \
         `teacher`, `model.trunk`"
    );
    for state in ["student", "teacher", "model.trunk"] {
        assert_eq!(found(&two_of_them, Some(state)), (state.to_owned(), left_out.clone()));
    }
    // One under two names is one.
    let shared =
        [&dictionary(&[("model", [state(), b"q\x09".to_vec()].concat()), ("best", b"h\x09".to_vec())])[..]].concat();
    let shared = file(&shared, &[("0", &storages)]);
    assert_eq!(found(&shared, None).0, "model");
    assert_eq!(found(&shared, Some("best")).0, "best");
    // A dictionary that lies in itself ends.
    let endless = [&b"}q\x01("[..], &text("again"), b"h\x01", &text("a.weight"), &two(), b"u"].concat();
    assert_eq!(
        found(&file(&endless, &[("0", &storages)]), None),
        (String::new(), vec![("again".to_owned(), "a dictionary".to_owned())])
    );
}

#[test]
fn what_is_saved_instead_of_tensors_is_named() {
    let of = |words: &[u8]| told(&file(words, &[("0", &two_numbers())]), None);
    let model = b"ctorchvision.models.resnet\nResNet\n)\x81}(X\x08\0\0\0training\x88X\x08\0\0\0_modules}ub";
    let said = of(model);
    assert!(
        said.starts_with("holds an object of the class `torchvision.models.resnet.ResNet`, which only a program"),
        "{said}"
    );
    assert!(said.contains("torch.load(\"w.pth\", map_location=\"cpu\", weights_only=False).state_dict(), "), "{said}");
    assert!(said.contains("only if you trust it"), "{said}");
    let said = of(&dictionary(&[("epoch", b"K\x01".to_vec()), ("model", model.to_vec())]));
    assert!(said.contains("weights_only=False)[\"model\"].state_dict(), \"weights.pth\")`"), "{said}");
    let no = "holds no dictionary of tensors by name, but ";
    let states = [&b"}J\0\0\0\0"[..], &dictionary(&[("exp_avg", two())]), b"s"].concat();
    for (words, what) in [
        (two(), "a single tensor | a network's are written by torch.save(model.state_dict(), "),
        (b"]".to_vec(), "a list | "),
        (b"}".to_vec(), "an empty dictionary | "),
        (dictionary(&[("state", states), ("param_groups", b"]".to_vec())]), "an optimizer's state alone | "),
        (dictionary(&[("epoch", b"K\x01".to_vec()), ("args", b"N".to_vec())]), "a dictionary of `epoch`, `args` | "),
        (b"cargparse\nNamespace\n)\x81".to_vec(), "an object that `argparse.Namespace` makes | "),
    ] {
        let said = of(&words);
        assert!(said.starts_with(&format!("{no}{what}")), "{said}");
    }
    let sparse = b"ctorch._utils\n_rebuild_sparse_tensor\n)R".to_vec();
    let complex = tensor("ComplexFloatStorage", "0", 1, [&[0], &[1], &[1]]);
    let expanded = |shape: &[u32]| tensor("FloatStorage", "0", 2, [&[0], shape, &vec![0; shape.len()]]);
    let tensors = [("a", two()), ("b", sparse), ("c", complex), ("d", expanded(&[3])), ("e", expanded(&[u32::MAX >> 1; 9]))];
    let file = file(&dictionary(&tensors), &[("0", &two_numbers())]);
    let left_out: Vec<(String, String)> = open(&file, None).unwrap().header.left_out.into_iter().collect();
    let more = "a tensor with more values than its storage: save its `contiguous()`";
    let expected = [
        ("b", "a tensor of another kind (sparse_tensor)"),
        ("c", "a tensor of torch.ComplexFloatStorage"),
        ("d", more),
        ("e", more),
    ];
    assert_eq!(left_out, expected.map(|(name, what)| (name.to_owned(), what.to_owned())));
}

/// What was kept once is named again in two bytes: sides, names and dictionaries would grow by what they have, each time.
#[test]
fn small_pickles_that_would_be_large_are_refused() {
    let storages = two_numbers();
    let of = |words: &[u8]| told(&file(words, &[("0", &storages)]), None);
    // A tensor of many sides, which any number of names may have.
    let sides = tensor("FloatStorage", "0", 2, [&[0], &vec![1; 1000], &vec![1; 1000]]);
    let said = of(&dictionary(&[("a", sides)]));
    assert!(said.contains("its tensor `a` has no shape"), "{said}");
    // One of many more arguments than the function has.
    let many = [&b"ctorch._utils\n_rebuild_tensor_v2\n("[..], &[b'N'; 1000], b"tR"].concat();
    let found = open(&file(&dictionary(&[("a", many), ("b", two())]), &[("0", &storages)]), None).unwrap();
    assert_eq!(found.header.left_out.keys().collect::<Vec<_>>(), ["a"]);
    let names = |count: usize| (0..count).map(|at| at.to_string()).collect::<Vec<_>>();
    let (short, many) = (names(10), names(200_001));
    let again = |names: &[String], what: &[u8]| {
        let entries = names.iter().flat_map(|name| [&text(name)[..], b"h\x09"].concat());
        [&b"}("[..], &text("first"), what, b"q\x09", &entries.collect::<Vec<_>>(), b"u"].concat()
    };
    assert!(open(&file(&again(&short, &two()), &[("0", &storages)]), None).is_ok());
    let said = of(&again(&many, &two()));
    assert!(said.contains("a dictionary of tensors has more than 200000 entries"), "{said}");
    let said = of(&again(&many, &dictionary(&[("a", two())])));
    assert!(said.contains("its pickle has more than 100000 dictionaries in each other"), "{said}");
    let long = "x".repeat(1000);
    let said = of(&dictionary(&[(&long, b"N".to_vec())]));
    assert!(
        said.starts_with("holds no dictionary of tensors by name, but a dictionary of `xxx") && said.len() < 400,
        "{said}"
    );
}

#[test]
fn archives_that_torch_save_does_not_write_are_refused() {
    let pickle = [&b"\x80\x02"[..], &dictionary(&[("a", two())]), b"."].concat();
    let whole: [(&str, &[u8]); 3] = [("w/data.pkl", &pickle), ("w/byteorder", b"little"), ("w/data/0", &two_numbers())];
    let bytes = archive(&whole);
    assert!(open(&bytes, None).is_ok());
    for length in 0..bytes.len() {
        let said = told(&bytes[..length], None);
        assert!(!said.is_empty() && !said.contains("cannot be read: "), "{length}: {said}");
    }
    let unsound = "is no sound file of `torch.save`'s: ";
    let said = told(&bytes[..bytes.len() - 30], None);
    assert!(said.starts_with(unsound) && said.contains(" | fetch it anew if it was cut off or damaged"), "{said}");
    for at in 0..bytes.len() {
        for change in [0xff, 0x01] {
            let mut other = bytes.clone();
            other[at] ^= change;
            if let Ok(found) = open(&other, None) {
                assert!(found.header.tensors.values().all(|tensor| found.data(tensor).unwrap().len() == tensor.bytes()));
            }
        }
    }
    let twice = archive(&[whole[0], whole[1], whole[2], ("w/data/0", &[0; 8])]);
    assert!(told(&twice, None).starts_with(&format!("{unsound}it has 4 members of 3 names")), "{}", told(&twice, None));
    let other = archive(&[whole[0], ("v/data.pkl", &pickle)]);
    assert!(told(&other, None).starts_with(&format!("{unsound}it should have one member `data.pkl`")));
    let big = archive(&[whole[0], ("w/byteorder", b"big"), whole[2]]);
    assert!(
        told(&big, None)
            .starts_with("was written on a machine that keeps the high bytes of numbers first | once, in Python: ")
    );
    let none = archive(&[("w/data.pkl", b"\x80\x02ios\nsystem\n.")]);
    let said = told(&none, None);
    assert!(
        said.starts_with(&format!("{unsound}its pickle cannot be read at byte 3: operation 0x69 is not one of")),
        "{said}"
    );
    // A method of compression, as the archive's directory says it.
    let mut packed = bytes.clone();
    let directory = packed.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    packed[directory + 10] = 8;
    assert!(told(&packed, None).starts_with(&format!("{unsound}its member `w/data.pkl` is compressed or encrypted")));
}

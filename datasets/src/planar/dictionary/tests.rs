use std::path::Path;

use super::*;
use crate::tar::tests::InMemory;

/// A pickle that is put together operation by operation.
#[derive(Default, Clone)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn short(self, code: u8, bytes: &[u8]) -> Self {
        self.raw(&[code, bytes.len() as u8]).raw(bytes)
    }

    fn long(self, code: u8, bytes: &[u8]) -> Self {
        self.raw(&[code]).raw(&(bytes.len() as u32).to_le_bytes()).raw(bytes)
    }

    fn items<T>(self, items: &[T], one: impl Fn(Self, &T) -> Self) -> Self {
        items.iter().fold(self.raw(b"]("), one).raw(b"e")
    }
}

/// What Python 2 writes of an array with its protocol 2; `width` is that of its rows.
fn python2_array(writer: Writer, data: &[u8], width: u16) -> Writer {
    let rows = (data.len() / usize::from(width)) as u16;
    let shape = |writer: Writer| writer.raw(b"M").raw(&rows.to_le_bytes()).raw(b"M").raw(&width.to_le_bytes()).raw(b"\x86");
    let writer =
        writer.raw(b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01");
    let writer = shape(writer)
        .raw(b"cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb");
    writer.raw(b"\x89").long(b'T', data).raw(b"tb")
}

/// As the files of CIFAR-10 and CIFAR-100 are.
pub fn python2(data: &[u8], lists: &[(&str, &[u8])]) -> Vec<u8> {
    let writer = Writer::default().raw(b"\x80\x02}q\x01(").short(b'U', b"data");
    let writer = python2_array(writer, data, 3072);
    let writer = lists.iter().fold(writer, |writer, (name, numbers)| {
        writer.short(b'U', name.as_bytes()).items(numbers, |writer, number| writer.raw(&[b'K', *number]))
    });
    writer.short(b'U', b"filenames").items(&["a.png", "b.png"], |w, name| w.short(b'U', name.as_bytes())).raw(b"u.").0
}

/// As their files with names are.
pub fn names(lists: &[(&str, &[&str])]) -> Vec<u8> {
    let writer = lists.iter().fold(Writer::default().raw(b"\x80\x02}q\x01("), |writer, (key, names)| {
        writer.short(b'U', key.as_bytes()).items(names, |writer, name| writer.short(b'U', name.as_bytes()))
    });
    writer.short(b'U', b"num_cases_per_batch").raw(b"M\x10\x27u.").0
}

fn open(bytes: Vec<u8>) -> Result<Dictionary, Error> {
    let size = bytes.len() as u64;
    let files = InMemory([("/d/p".to_owned(), bytes)].into());
    Dictionary::open(&files, Path::new("/d/p").to_owned(), size)
}

fn why(bytes: Vec<u8>) -> String {
    open(bytes).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn python_2s_dictionaries_are_read() {
    let data: Vec<u8> = (0..6144_u32).map(|at| (at * 7 % 251) as u8).collect();
    let bytes = python2(&data, &[("labels", &[3, 250])]);
    let pickle = open(bytes.clone()).unwrap();
    let Array { offset, shape } = pickle.array("data").unwrap();
    assert_eq!(shape, [2, 3072]);
    assert_eq!(bytes[offset as usize..offset as usize + 6144], data);
    assert_eq!(pickle.numbers("labels").unwrap(), [3, 250]);
    assert_eq!(pickle.texts("filenames").unwrap(), ["a.png", "b.png"]);
    let error = pickle.numbers("fine_labels").unwrap_err().to_string();
    assert_eq!(error, "/d/p: its pickle has no `fine_labels`, but data, labels, filenames");
    assert!(pickle.texts("labels").unwrap_err().to_string().contains("should be a list of texts"));
    assert!(pickle.array("labels").unwrap_err().to_string().contains("should be an array"));
}

/// `{'a': [True, -2, None], b'c': ()}` and an array with protocol 4.
#[test]
fn protocol_4_is_read() {
    let data = vec![9; 3072];
    let writer = Writer::default()
        .raw(b"\x80\x04\x95\0\0\0\0\0\0\0\0}\x94(")
        .short(0x8c, b"a")
        .raw(b"\x94]\x94(\x8a\x01\x05J\xfe\xff\xff\xff");
    let writer = writer.raw(b"e").short(0x8c, b"data").raw(b"\x94");
    let writer =
        writer.short(0x8c, b"numpy._core.multiarray").raw(b"\x94").short(0x8c, b"_reconstruct").raw(b"\x94\x93\x94");
    let writer =
        writer.short(0x8c, b"numpy").raw(b"\x94").short(0x8c, b"ndarray").raw(b"\x94\x93\x94K\0\x85\x94").short(b'C', b"b");
    let writer =
        writer.raw(b"\x94\x87\x94R\x94(K\x01K\x01M\x00\x0c\x86\x94h\x07").short(0x8c, b"dtype").raw(b"\x94\x93\x94");
    let writer = writer
        .short(0x8c, b"u1")
        .raw(b"\x94\x89\x88\x87\x94R\x94(K\x03")
        .short(0x8c, b"|")
        .raw(b"\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94b\x89");
    let bytes = writer.long(b'B', &data).raw(b"\x94t\x94bu.").0;
    let pickle = open(bytes.clone()).unwrap();
    let Array { offset, shape } = pickle.array("data").unwrap();
    assert_eq!((shape, &bytes[offset as usize..][..3072]), (vec![1, 3072], &data[..]));
    assert_eq!(pickle.numbers("a").unwrap(), [5, -2]);
}

#[test]
fn what_would_run_something_is_no_dictionary() {
    let error = why(b"\x80\x02cos\nsystem\nU\x04echo\x85R.".to_vec());
    assert_eq!(error, "/d/p: its pickle should be a dictionary");
    let pickle = open(b"\x80\x02}U\x04datacos\nsystem\nU\x04echo\x85Rs.".to_vec()).unwrap();
    let error = pickle.array("data").unwrap_err().to_string();
    assert_eq!(error, "/d/p: `data` should be an array of NumPy's");
    assert!(pickle.numbers("data").is_err() && pickle.texts("data").is_err());
}

#[test]
fn damaged_pickles_are_told_of() {
    let bytes = python2(&[1; 3072], &[("labels", &[3])]);
    for length in 0..bytes.len() {
        assert!(why(bytes[..length].to_vec()).starts_with("/d/p: "), "{length}");
    }
    for at in 0..bytes.len() {
        for byte in [0, b'(', b'R', b'b', b'e', b'u', b'.', 0xff, bytes[at] ^ 1] {
            let mut other = bytes.clone();
            other[at] = byte;
            if let Ok(Array { offset, shape }) = open(other.clone()).and_then(|pickle| pickle.array("data")) {
                assert!(offset + shape.iter().product::<u64>() <= other.len() as u64);
            }
        }
    }
    let array = |code: u8, data: &[u8], kind: &[u8], order: &[u8]| {
        let writer = Writer::default().raw(b"\x80\x02}").short(b'U', b"data").raw(b"cnumpy.core.numeric\n_frombuffer\n(");
        let writer = writer.long(code, data).raw(b"cnumpy\ndtype\n").short(b'U', kind).raw(b"\x85R");
        let writer = writer.raw(b"K\x01M\x00\x0c\x86").short(b'U', order).raw(b"tRs.");
        open(writer.0).and_then(|pickle| pickle.array("data")).map_err(|error| error.to_string())
    };
    assert_eq!(array(b'B', &[7; 3072], b"u1", b"C").unwrap().shape, [1, 3072]);
    for (found, said) in [
        (array(b'X', &[7; 3072], b"u1", b"C"), "kept as text, as Python 3 does for Python 2"),
        (array(b'B', &[7; 3071], b"u1", b"C"), "`data` is an array of [1, 3072] bytes, and has 3071"),
        (array(b'B', &[7; 9], b"u1", b"C"), "no more than 1024 bytes"),
        (array(b'B', &[7; 3072], b"<f4", b"C"), "items `<f4` by rows; known are `u1` by rows"),
        (array(b'B', &[7; 3072], b"u1", b"F"), "items `u1` by columns"),
    ] {
        let error = found.unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

/// Python 3 writes bytes for Python 2 as text that is to be encoded.
#[test]
fn bytes_that_are_text_to_be_encoded_are_read() {
    let encoded = |writer: Writer, text: &str| {
        let writer = writer.raw(b"c_codecs\nencode\n").long(b'X', text.as_bytes());
        writer.long(b'X', b"latin1").raw(b"\x86R")
    };
    let writer = encoded(Writer::default().raw(b"\x80\x02}("), "labels").raw(b"]K\x03a");
    let writer = encoded(encoded(writer, "names").raw(b"]"), "a.png").raw(b"au.");
    let pickle = open(writer.0).unwrap();
    assert_eq!(pickle.numbers("labels").unwrap(), [3]);
    assert_eq!(pickle.texts("names").unwrap(), ["a.png"]);
}

/// What was kept once is named again in two bytes: values, texts and tuples would grow by what they have, each time.
#[test]
fn small_files_that_would_be_large_values_are_refused() {
    let text = Writer::default().raw(b"\x80\x02}q\x00").long(b'T', &[b'a'; 1024]).raw(b"q\x01");
    let named = text.clone().raw(&b"h\x01h\x01\x93".repeat(40_000)).raw(b".").0;
    assert!(why(named).ends_with("its texts have more than 67108864 bytes"));
    let list = text.clone().raw(b"h\x00U\x01k](").raw(&b"h\x01".repeat(70_000)).raw(b"es.").0;
    let error = open(list).unwrap().texts("k").unwrap_err().to_string();
    assert!(error.ends_with("`k` should be a list of texts, of up to 64 MiB in all"), "{error}");
    let keys = text.raw(b"h\x00(").raw(&b"h\x01N".repeat(10_000)).raw(b"u.").0;
    let error = open(keys).unwrap().texts("k").unwrap_err().to_string();
    assert!(error.ends_with(", …") && error.len() < 5000, "{}", error.len());
    let many = Writer::default().raw(b"\x80\x02}(").raw(&b"NN".repeat(100_001)).raw(b"u.").0;
    let error = why(many);
    assert!(error.ends_with("its pickle has 100001 entries, and 100000 are the most"), "{error}");
    // A function's arguments would be looked at each time that it is called.
    let many = Writer::default().raw(b"\x80\x02}U\x01k").raw(b"cnumpy.core.numeric\n_frombuffer\nq\x01(");
    let error = open(many.raw(&[b'N'; 1000]).raw(b"tRs.").0).unwrap().array("k").unwrap_err().to_string();
    assert!(error.ends_with("`k` should be an array of NumPy's"), "{error}");
    for (sides, shown) in [(40, "40"), (1000, "1000")] {
        let array = Writer::default().raw(b"\x80\x02}U\x01kcnumpy.core.numeric\n_frombuffer\n(").long(b'T', &[0; 1025]);
        let array = array.raw(b"cnumpy\ndtype\nU\x02u1\x85R(").raw(&b"K\x01".repeat(sides)).raw(b"tU\x01CtRs.").0;
        let error = open(array).unwrap().array("k").unwrap_err().to_string();
        assert!(error.ends_with(&format!("`k` is an array of {shown} sides, and 16 are the most")), "{error}");
    }
}

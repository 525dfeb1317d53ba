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

fn open(bytes: Vec<u8>) -> Result<Pickle, Error> {
    let size = bytes.len() as u64;
    let files = InMemory([("/d/p".to_owned(), bytes)].into());
    Pickle::open(&files, Path::new("/d/p").to_owned(), size)
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
fn what_would_run_something_is_refused() {
    let error = why(b"cos\nsystem\n(S'echo'\ntR.".to_vec());
    assert!(error.contains("operation 0x53 is none that CIFAR's files have"), "{error}");
    let error = why(b"\x80\x02cos\nsystem\nU\x04echo\x85R.".to_vec());
    assert!(error.contains("it names `os system`, which CIFAR's files do not"), "{error}");
    assert!(why(b"\x80\x02cbuiltins\neval\n.".to_vec()).contains("should be a dictionary"));
    assert!(why(b"\x80\x02}U\x01ai".to_vec()).contains("operation 0x69"));
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
    assert!(why(b"\x80\x02(.".to_vec()).contains("a value is missing"));
    assert!(why(b"\x80\x02h\x07.".to_vec()).contains("was never kept"));
    assert!(why([&b"\x80\x02B"[..], &[0xff; 4], b"abc"].concat()).contains("ends within a string of 4294967295 bytes"));
    let text = Writer::default().raw(b"\x80\x02}(").short(b'U', b"data");
    let text = python2_array(text, &[1; 3072], 3072).0;
    let text: Vec<u8> = text.iter().map(|&byte| if byte == b'T' { b'X' } else { byte }).collect();
    assert!(why([&text[..], b"u."].concat()).contains("kept as text, as Python 3 does for Python 2"));
    let many = [&b"\x80\x02"[..], &vec![b'N'; MOST_VALUES + 1], b"."].concat();
    assert!(why(many).contains("more than 4000000 values"));
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
    // A function's arguments are looked at each time that it is called.
    let many =
        Writer::default().raw(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01(").raw(&[b'N'; 1000]).raw(b"tq\x02");
    let error = why(many.raw(b"h\x01h\x02R.").0);
    assert!(error.ends_with("`numpy.core.multiarray _reconstruct` has arguments that are not known"), "{error}");
    let shape = |writer: Writer| writer.raw(b"(").raw(&b"K\x01".repeat(40)).raw(b"t");
    let array = Writer::default().raw(b"\x80\x02cnumpy.core.numeric\n_frombuffer\n(").long(b'T', &[0; 1025]);
    let array = shape(array.raw(b"cnumpy\ndtype\nU\x02u1\x85R")).raw(b"U\x01CtR.").0;
    let error = why(array);
    assert!(error.ends_with("an array has 40 sides, and 16 are the most"), "{error}");
}

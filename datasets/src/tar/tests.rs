use std::collections::BTreeMap;
use std::io::Write as _;

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use tessera_schemas::images::Source;
use tessera_schemas::text;

use super::*;
use crate::layout::Found;
use crate::{Entry, FileDigest};

mod damage;
mod packed;

/// Files in memory.
#[derive(Default)]
pub struct InMemory(pub BTreeMap<String, Vec<u8>>);

impl InMemory {
    fn of(files: &[(&str, Vec<u8>)]) -> Self {
        Self(files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect())
    }
}

impl Files for InMemory {
    fn list(&self, root: &Path) -> Result<Listed, Error> {
        let entry = |path: &str, bytes: &Vec<u8>| Entry { path: path.into(), size: bytes.len() as u64, ..Entry::default() };
        let root_text = root.to_str().unwrap();
        if let Some(bytes) = self.0.get(root_text) {
            let name = root.file_name().unwrap().to_str().unwrap();
            return Ok(Listed { files: vec![entry(name, bytes)], ..Listed::default() });
        }
        let below =
            |(path, bytes): (&String, &Vec<u8>)| Some(entry(path.strip_prefix(root_text)?.strip_prefix('/')?, bytes));
        let files: Vec<Entry> = self.0.iter().filter_map(below).collect();
        if files.is_empty() {
            return Err(Error::io(root, std::io::ErrorKind::NotFound.into()));
        }
        Ok(Listed { files, ..Listed::default() })
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.0.get(path.to_str().unwrap()).cloned().ok_or_else(|| Error::io(path, std::io::ErrorKind::NotFound.into()))
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.read(path)?;
        let range = offset as usize..(offset + length) as usize;
        let found = bytes.get(range).map(<[u8]>::to_vec);
        found.ok_or_else(|| Error::io(path, std::io::ErrorKind::UnexpectedEof.into()))
    }
}

/// An archive of regular files.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        add(&mut builder, name.as_bytes(), ::tar::EntryType::Regular, bytes);
    }
    builder.into_inner().unwrap()
}

/// A member under a short name, whatever bytes that has.
fn add(builder: &mut ::tar::Builder<Vec<u8>>, name: &[u8], kind: ::tar::EntryType, bytes: &[u8]) {
    let mut header = ::tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mtime(1_600_000_000);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

/// A picture of this width in all that a header says of it.
fn gif(width: u8) -> Vec<u8> {
    [b"GIF89a", &[width, 0, 7, 0][..]].concat()
}

/// A row as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub label: Option<String>,
    pub digest: String,
    pub shard: String,
    pub offset: u64,
    pub length: u64,
}

fn fingerprints(listed: Listed) -> Vec<Fingerprint> {
    let print = |entry: Entry| Fingerprint { digest: "d".into(), entry, ..Fingerprint::default() };
    listed.files.into_iter().map(print).collect()
}

pub fn found(files: &dyn Files, tar: &Tar) -> Vec<Found> {
    let prints = fingerprints(tar.list(files).unwrap());
    tar.rows(files, &prints).unwrap().map(Result::unwrap).collect()
}

pub fn rows(found: &[Found]) -> Vec<Row> {
    let rows = |batch: &RecordBatch| {
        let (ids, labels, digests) = ["image_id", "label", "digest"].map(|name| text(batch, name).unwrap()).into();
        let sources: Vec<Source<'_>> = images::sources(batch).unwrap().collect();
        let row = |at: usize| Row {
            id: ids.value(at).to_owned(),
            label: labels.is_valid(at).then(|| labels.value(at).to_owned()),
            digest: digests.value(at).to_owned(),
            shard: sources[at].path.to_owned(),
            offset: sources[at].offset.unwrap(),
            length: sources[at].length.unwrap(),
        };
        (0..batch.num_rows()).map(row).collect::<Vec<_>>()
    };
    found.iter().flat_map(|one| rows(&one.rows)).collect()
}

pub fn left(found: &[Found]) -> Vec<String> {
    found.iter().flat_map(|one| &one.left_out).map(|one| format!("{}: {}", one.path, one.reason)).collect()
}

/// A data set of one archive.
fn one(bytes: Vec<u8>) -> (InMemory, Vec<Row>, Vec<String>) {
    let files = InMemory::of(&[("/d/a.tar", bytes)]);
    let tar = Tar::open(&files, Path::new("/d/a.tar"), Ids::Name, &[]).unwrap();
    let found = found(&files, &tar);
    (files, rows(&found), left(&found))
}

pub fn hash(bytes: &[u8]) -> String {
    FileDigest::of(&blake3::hash(bytes)).to_string()
}

fn column(found: &[Found], name: &str) -> Vec<Option<String>> {
    let column = |one: &Found| text(&one.rows, name).unwrap().iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>();
    found.iter().flat_map(column).collect()
}

#[test]
fn samples_become_rows_with_their_text() {
    let bytes = archive(&[
        ("README.md", b"no sample"),
        ("./a/1.cls", b" 3\n"),
        ("./a/1.left.JPG", b"left"),
        ("./a/1.jpg", &gif(9)),
        ("./a/1.json", b"{\"x\": [1]}"),
        ("./a/1.left.txt", b"of the left"),
        ("./a/1.npy", b"\x93NUMPY"),
        ("./a/1.digest", b"mine"),
        ("./a/1.source-url", b"http"),
        ("b.jpg", b"alone"),
        ("c.png", b"c"),
        ("c.cls", b"4"),
        ("c.json", b"{"),
        ("c.txt", b"later"),
        ("d.txt", b"no image"),
    ]);
    let files = InMemory::of(&[("/d/x/a.tar", bytes.clone())]);
    let tar = Tar::open(&files, Path::new("/d"), Ids::Path, &["txt"]).unwrap();
    assert_eq!(tar.role("x/a.tar"), Role::Shard);
    let names: Vec<String> = tar.schema().fields().iter().skip(9).map(|field| field.name().clone()).collect();
    assert_eq!(names, ["sample_digest", "json", "left_txt", "source_url", "sample_txt"]);
    assert_eq!(tar.rule().labels, Labels::Cls);
    let found = found(&files, &tar);
    let rows = rows(&found);
    let shown: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.label.as_deref())).collect();
    let expected = [("a/1.jpg", Some("3")), ("a/1.left.JPG", Some("3")), ("b.jpg", None), ("c.png", Some("4"))];
    assert_eq!(
        shown,
        expected.map(|(id, label)| (format!("x/a.tar/{id}"), label)).each_ref().map(|(id, l)| (id.as_str(), *l))
    );
    for (row, content) in rows.iter().zip([&gif(9)[..], b"left", b"alone", b"c"]) {
        assert_eq!(&bytes[row.offset as usize..(row.offset + row.length) as usize], content);
        assert_eq!((row.digest.as_str(), row.shard.as_str()), (hash(content).as_str(), "x/a.tar"));
    }
    let own = |values: [Option<&str>; 4]| values.map(|value| value.map(str::to_owned)).to_vec();
    assert_eq!(column(&found, "json"), own([Some("{\"x\": [1]}"), Some("{\"x\": [1]}"), None, None]));
    assert_eq!(column(&found, "left_txt"), own([Some("of the left"), Some("of the left"), None, None]));
    assert_eq!(column(&found, "sample_txt"), own([None, None, None, Some("later")]));
    assert_eq!(column(&found, "format"), own([Some("gif"), None, None, None]));
    let [why] = &left(&found)[..] else { panic!() };
    assert!(why.starts_with("x/a.tar/c.json: it should be JSON: EOF"), "{why}");
    let modified = found[0].rows.column_by_name("modified").unwrap();
    let modified = arrow::array::AsArray::as_primitive::<TimestampMicrosecondType>(modified);
    assert_eq!(modified.value(0), 1_600_000_000_000_000);
}

#[test]
fn labels_without_a_member_are_folders() {
    let labels = |names: &[&str]| {
        let members: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"x"[..])).collect();
        one(archive(&members)).1.into_iter().map(|row| row.label).collect::<Vec<_>>()
    };
    let own = |values: &[Option<&str>]| values.iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(labels(&["train/a/1.jpg", "train/b/2.jpg"]), own(&[Some("a"), Some("b")]));
    assert_eq!(labels(&["a/1.jpg", "b/c/2.jpg", "3.jpg"]), own(&[Some("a"), Some("b"), None]));
    // It is known that there is no other folder.
    assert_eq!(labels(&["a/1.jpg", "a/2.jpg"]), own(&[None, None]));
    let mut cut = archive(&[("a/1.jpg", b"x")]);
    cut.truncate(1024);
    assert_eq!(one(cut).1[0].label.as_deref(), Some("a"), "others may have been cut away");
    // What comes behind the samples that were looked at may lie in other folders.
    let many: Vec<String> = (0..PROBED_SAMPLES).map(|at| format!("a/{at}.jpg")).collect();
    let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
    names.push("b/1.jpg");
    let found = labels(&names);
    assert_eq!((&found[0], &found[PROBED_SAMPLES]), (&Some("a".to_owned()), &Some("b".to_owned())));
}

#[test]
fn what_is_no_plain_file_is_left_out() {
    use ::tar::EntryType as Kind;
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, kind, bytes) in [
        (&b"a/"[..], Kind::Directory, &b""[..]),
        (b"a/1.jpg", Kind::Regular, b"1"),
        (b"a/1.jpg", Kind::Regular, b"other"),
        (b"/etc/2.jpg", Kind::Regular, b"2"),
        (b"a/../../3.jpg", Kind::Regular, b"3"),
        (b"caf\xe9.jpg", Kind::Regular, b"4"),
        (b"5.jpg", Kind::Symlink, b""),
        (b"6.jpg", Kind::Link, b""),
        (b"7.jpg", Kind::Link, b"bytes of its own"),
        (b"8.jpg", Kind::Fifo, b""),
        (b"9.jpg", Kind::new(b'Q'), b"odd"),
        (b"link.txt", Kind::Symlink, b""),
        (b".hidden.jpg", Kind::Regular, b"h"),
        (b"a/._1.jpg", Kind::Regular, b"h"),
        (b".git/1.jpg", Kind::Regular, b"h"),
        (b"__MACOSX/a/1.jpg", Kind::Regular, b"h"),
        (b"__meta__/1.jpg", Kind::Regular, b"h"),
        (b"old/", Kind::Regular, b""),
        (b"z.jpg", Kind::Continuous, b"z"),
    ] {
        add(&mut builder, name, kind, bytes);
    }
    let (_, rows, left) = one(builder.into_inner().unwrap());
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["a/1.jpg", "z.jpg"]);
    assert_eq!(rows[0].digest, hash(b"1"));
    let expected = [
        "a.tar/a/1.jpg: an image before it in the shard has the same name",
        "a.tar//etc/2.jpg: its name leads out of",
        "a.tar/a/../../3.jpg: its name leads out of",
        "a.tar/caf\\xe9.jpg: the name is not UTF-8",
        "a.tar/5.jpg: is a link: pack with --dereference",
        "a.tar/6.jpg: is a link to another member",
        "a.tar/7.jpg: is a link to another member",
        "a.tar/8.jpg: is a device or a pipe",
        "a.tar/9.jpg: is of a kind that is not known",
    ];
    let mut left = left;
    left.sort();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(left.len(), expected.len(), "{left:#?}");
    assert!(left.iter().zip(&expected).all(|(one, start)| one.starts_with(start)), "{left:#?}");
}

/// A pax record, whose length counts itself.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| length.to_string().len() + rest == *length).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

#[test]
fn long_names_and_pax_headers_count() {
    let long = format!("{}/{}.jpg", "folder".repeat(30), "name".repeat(30));
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_size(3);
    header.set_cksum();
    builder.append_data(&mut header, &long, &b"gnu"[..]).unwrap();
    let records =
        [record("path", "line\nbreak/é.png"), record("mtime", "-1.25"), record("comment", ""), record("size", "4")].concat();
    add(&mut builder, b"pax", ::tar::EntryType::XHeader, &records);
    let mut header = ::tar::Header::new_ustar();
    header.set_path("short.txt").unwrap();
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, &b"pax!"[..]).unwrap();
    let mut header = ::tar::Header::new_gnu();
    header.set_path("volume.jpg").unwrap();
    header.set_entry_type(::tar::EntryType::new(b'V'));
    header.as_old_mut().size.fill(0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    add(&mut builder, b"g", ::tar::EntryType::XGlobalHeader, &record("path", "nonsense.jpg"));
    add(&mut builder, b"last.jpg", ::tar::EntryType::Regular, b"l");
    add(&mut builder, b"pax", ::tar::EntryType::XHeader, &record("GNU.sparse.major", "1"));
    add(&mut builder, b"sparse.jpg", ::tar::EntryType::Regular, b"map");
    let (_, rows, left) = one(builder.into_inner().unwrap());
    let shown: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.digest.clone())).collect();
    assert_eq!(shown, [(long.as_str(), hash(b"gnu")), ("line\nbreak/é.png", hash(b"pax!")), ("last.jpg", hash(b"l"))]);
    assert!(left.len() == 2 && left[1].starts_with("a.tar/sparse.jpg: is sparse"), "{left:?}");
    assert!(left[0].starts_with("a.tar/volume.jpg: is of a kind"), "{left:?}");
}

#[test]
fn paths_stand_for_shards() {
    let content = |name: &str| archive(&[(name, b"x")]);
    let dir = tempfile::tempdir().unwrap();
    for name in ["t-08.tar", "t-09.tar", "t-10.tar", "u.tar", "in/v.tar", "in/deep/w.tar", "note.txt"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content("1.jpg")).unwrap();
    }
    let files = &crate::local::LocalFiles;
    let shards = |path: &str| -> Result<String, String> {
        let tar = Tar::open(files, &dir.path().join(path), Ids::Path, &[]).map_err(|error| error.to_string())?;
        let rows = rows(&found(files, &tar));
        Ok(rows.iter().map(|row| row.id.strip_suffix("/1.jpg").unwrap()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(shards("u.tar").unwrap(), "u.tar");
    assert_eq!(shards("in/v.tar").unwrap(), "v.tar");
    assert_eq!(shards("").unwrap(), "in/deep/w.tar in/v.tar t-08.tar t-09.tar t-10.tar u.tar");
    assert_eq!(shards("t-{08..10}.tar").unwrap(), "t-08.tar t-09.tar t-10.tar");
    assert_eq!(shards("{in/v,u}.tar").unwrap(), "in/v.tar u.tar");
    assert_eq!(shards("*.tar").unwrap(), "t-08.tar t-09.tar t-10.tar u.tar");
    assert_eq!(shards("{t,in/}*.tar").unwrap(), "in/v.tar t-08.tar t-09.tar t-10.tar");
    assert_eq!(shards("*/*/w.tar").unwrap(), "in/deep/w.tar");
    let missing = shards("t-{08..11}.tar").unwrap_err();
    assert!(missing.contains("t-11.tar") && missing.contains("No such file"), "{missing}");
    assert!(shards("{note,u}.txt").unwrap_err().contains("is no shard: those end in .tar, "));
    assert!(shards("x*.tar").unwrap_err().contains("no shard is there"));
    assert!(recognises(files, &dir.path().join("t-*.tar")).unwrap() && recognises(files, dir.path()).unwrap());
    std::fs::write(dir.path().join("1.jpg"), "").unwrap();
    assert!(!recognises(files, dir.path()).unwrap());
}

#[test]
fn many_rows_come_in_several_batches() {
    let names: Vec<String> = (0..9000).map(|at| format!("{}/{at}.5.jpg", at / 8999)).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let mut bytes = archive(&members);
    let text = vec![b'a'; 9 << 20];
    let large: Vec<(String, &[u8])> =
        (0..9).flat_map(|at| [(format!("s{at}.jpg"), &b"x"[..]), (format!("s{at}.txt"), &text[..])]).collect();
    let large = archive(&large.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect::<Vec<_>>());
    bytes.truncate(9000 * 1024);
    let files = InMemory::of(&[("/d/b.tar", bytes), ("/d/a.tar", large)]);
    let tar = Tar::open(&files, Path::new("/d"), Ids::Name, &[]).unwrap();
    let found = found(&files, &tar);
    let counts: Vec<usize> = found.iter().map(|one| one.rows.num_rows()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 9009);
    assert!(counts.len() >= 5 && counts.iter().all(|count| *count <= folder::BATCH_ROWS), "{counts:?}");
    assert!(left(&found)[0].contains("without the end marker"));
    assert_eq!(column(&found, "txt")[..9], vec![Some(String::from_utf8(text).unwrap()); 9]);
}

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use parquet::arrow::ArrowWriter;
use tessera_datasets::header::Header;
use tessera_datasets::{Entry, Files, UNREADABLE};

use super::file::{FORMAT, FORMAT_OF_TEXTS, SINCE};
use super::hashing::{PIECE, SLICE_BYTES, digest, slice};
use super::*;
use crate::store::Store;

fn print(path: &str, size: u64, modified_ns: i64) -> Fingerprint {
    let entry = Entry { path: path.into(), size, modified_ns, changed_ns: modified_ns, inode: 7, e_tag: None };
    Fingerprint { entry, digest: format!("d{path}").into(), header: Header::default() }
}

/// Files as they are compared with a listing that was kept.
fn compared(entries: Vec<Entry>, known: &Listing) -> Compared {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "p").stage("images");
    save(&store, known).unwrap();
    compare(entries, read(&store).open().unwrap())
}

fn hashed(root: &Path, entries: Vec<Entry>, known: &Listing) -> Vec<Fingerprint> {
    let files = tessera_datasets::local::LocalFiles;
    let (is_image, progress, keep) = (|_: &str| true, |_, _| {}, |_: &[Fingerprint]| {});
    let with = Hashing { files: &files, root, threads: 1, is_image: &is_image, progress: &progress, keep: &keep };
    let mut prints = compared(entries, known).prints;
    hash(&mut prints, &with).unwrap();
    prints
}

/// The digest of bytes, as text.
fn text_of(bytes: &[u8]) -> String {
    crate::store::key::short(&blake3::hash(bytes))
}

#[test]
fn large_files_are_hashed_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let mut bytes = vec![7; PIECE as usize + 5];
    bytes[PIECE as usize + 2] = 1;
    std::fs::write(&path, &bytes).unwrap();
    let files = tessera_datasets::local::LocalFiles;
    let read = |size| digest(&files, &path, size, true);
    assert_eq!(read(bytes.len() as u64).unwrap(), (FileDigest::of(&blake3::hash(&bytes)), Header::default()));
    assert!(read(2 * PIECE).is_err(), "it became shorter");
    // A TIFF whose directory is its end.
    let (mut tiff, at) = (b"II*\0".to_vec(), PIECE as u32 + 1);
    tiff.extend(at.to_le_bytes());
    tiff.resize(at as usize, 0);
    tiff.extend([2, 0, 0, 1, 3, 0, 1, 0, 0, 0, 60, 0, 0, 0, 1, 1, 3, 0, 1, 0, 0, 0, 50, 0, 0, 0]);
    std::fs::write(&path, &tiff).unwrap();
    let header = Header { format: Some("tiff"), width: Some(60), height: Some(50) };
    assert_eq!(read(tiff.len() as u64).unwrap(), (FileDigest::of(&blake3::hash(&tiff)), header));
    assert_eq!(digest(&files, &path, tiff.len() as u64, false).unwrap().1, Header::default());
}

#[test]
fn a_listing_round_trips() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "p").stage("images");
    let path = store.listing_place();
    assert_eq!(load(&store).unwrap(), Listing::default());
    let header = Header { format: Some("webp"), width: Some(u32::MAX), height: None };
    let mut prints = vec![Fingerprint { header, ..print("a/b.jpg", 3, -5) }, print("c.jpg", 0, 7), print("d.jpg", 1, 1)];
    prints[1].entry.changed_ns = 9;
    prints[1].entry.e_tag = Some("\"0a\"".into());
    prints[2].digest = text_of(b"d").into();
    let listing = Listing { prints, since_ns: 12, outdated: false };
    save(&store, &listing).unwrap();
    assert_eq!(load(&store).unwrap(), listing);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        assert!(load(&store).is_err(), "byte {at}");
    }
    std::fs::write(&path, b"junk").unwrap();
    assert!(load(&store).unwrap_err().to_string().contains("/listing is damaged"));
}

#[test]
fn a_file_as_young_as_its_listing_is_hashed_again() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["future", "old", "unread", "young"] {
        std::fs::write(dir.path().join(name), "new bytes").unwrap();
    }
    let known = |since_ns: i64| {
        let unread = Fingerprint { digest: format!("{UNREADABLE}permission denied").into(), ..print("unread", 9, 5) };
        let (old, young) = (print("old", 9, since_ns - COARSE_NS - 1), print("young", 9, since_ns - COARSE_NS));
        let prints = vec![print("future", 9, since_ns + 1), old, unread, young];
        Listing { prints, since_ns, outdated: false }
    };
    let known = known(1_700_000_000_000_000_000);
    let entries: Vec<Entry> = known.prints.iter().map(|print| print.entry.clone()).collect();
    let first = |at: usize| Listing { prints: vec![known.prints[at].clone()], ..known.clone() };
    assert!(compared(entries.clone(), &known).changes.none());
    assert_eq!([0, 1, 2, 3].map(|at| compared(Vec::new(), &first(at)).unsure), [true, false, true, true]);
    let now = hashed(dir.path(), entries, &known);
    let digest = text_of(b"new bytes");
    assert_eq!(now.iter().map(|print| print.digest.to_string()).collect::<Vec<_>>(), [&digest, "dold", &digest, &digest]);
}

/// A program may set the time of the last write to what it was; nobody can set that of the last change.
#[test]
fn what_changed_under_an_old_time_is_hashed_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "new bytes").unwrap();
    let since_ns = 1_700_000_000_000_000_000;
    let known = Listing { prints: vec![print("a", 9, 5)], since_ns, outdated: false };
    let entry = Entry { changed_ns: 6, ..known.prints[0].entry.clone() };
    let digest = FileDigest::of(&blake3::hash(b"new bytes"));
    assert_eq!(hashed(dir.path(), vec![entry], &known)[0].digest, digest);
    // Another file under the name, all of whose times are the same.
    let other = Entry { inode: 8, ..known.prints[0].entry.clone() };
    assert_eq!(hashed(dir.path(), vec![other], &known)[0].digest, digest);
    let unknown = Entry { inode: 0, ..known.prints[0].entry.clone() };
    assert_eq!(hashed(dir.path(), vec![unknown], &known)[0].digest.to_string(), "da", "an earlier version did not look");
    let mut young = known.clone();
    young.prints[0].entry.changed_ns = since_ns;
    assert_eq!([known, young].map(|known| compared(Vec::new(), &known).unsure), [false, true]);
}

/// Writes a listing as an earlier version did.
fn write_earlier(store: &StageStore, columns: Vec<(&str, ArrayRef, bool)>, said: &[(&str, &str)]) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let said: HashMap<String, String> = said.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(said));
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
    writer.write(&batch.with_schema(schema).unwrap()).unwrap();
    let mut bytes = writer.into_inner().unwrap();
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    store.write_listing(&bytes).unwrap();
}

#[test]
fn a_listing_without_headers_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "p").stage("images");
    write_earlier(&store, vec![("path", Arc::new(StringArray::from_iter_values(["a.jpg"])), false)], &[(SINCE, "12")]);
    assert_eq!(load(&store).unwrap(), Listing { prints: Vec::new(), since_ns: 12, outdated: true });
}

/// Its digests are texts, and its files' inodes may be lacking.
#[test]
fn a_listing_with_digests_as_texts_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "p").stage("images");
    let digests = [text_of(b"a"), format!("{UNREADABLE}permission denied"), text_of(b"c")];
    let texts = |texts: &[&str]| -> ArrayRef { Arc::new(StringArray::from_iter_values(texts)) };
    let numbers = |values: [i64; 3]| -> ArrayRef { Arc::new(Int64Array::from_iter_values(values)) };
    let unsigned = |values: [Option<u64>; 3]| -> ArrayRef { Arc::new(UInt64Array::from_iter(values)) };
    let optional = |texts: [Option<&str>; 3]| -> ArrayRef { Arc::new(StringArray::from_iter(texts)) };
    let mut columns = vec![
        ("path", texts(&["a.jpg", "b.jpg", "c.jpg"]), false),
        ("size", unsigned([3, 0, u64::MAX].map(Some)), false),
        ("modified_ns", numbers([-5, 0, 7]), false),
        ("changed_ns", numbers([1, 2, i64::MAX]), false),
        ("inode", unsigned([7, 8, 9].map(Some)), false),
        ("e_tag", optional([None, None, Some("1")]), true),
        ("digest", texts(&digests.each_ref().map(String::as_str)), false),
        ("format", optional([Some("png"), None, Some("jpeg")]), true),
        ("width", unsigned([Some(3), None, Some(u64::from(u32::MAX))]), true),
        ("height", unsigned([Some(4), None, None]), true),
    ];
    let said = [(SINCE, "12"), (FORMAT, FORMAT_OF_TEXTS)];
    write_earlier(&store, columns.clone(), &said);
    let header = |format, width, height| Header { format, width, height };
    let headers = [header(Some("png"), Some(3), Some(4)), Header::default(), header(Some("jpeg"), Some(u32::MAX), None)];
    let (sizes, modified, changed) = ([3, 0, u64::MAX], [-5, 0, 7], [1, 2, i64::MAX]);
    let print = |at: usize| {
        let path = ["a.jpg", "b.jpg", "c.jpg"][at].into();
        let (size, modified_ns, changed_ns, inode) = (sizes[at], modified[at], changed[at], 7 + at as u64);
        let entry = Entry { path, size, modified_ns, changed_ns, inode, e_tag: (at == 2).then(|| "1".into()) };
        Fingerprint { entry, digest: digests[at].as_str().into(), header: headers[at] }
    };
    let mut listing = Listing { prints: [0, 1, 2].map(print).to_vec(), since_ns: 12, outdated: false };
    assert_eq!(load(&store).unwrap(), listing);
    save(&store, &listing).unwrap();
    assert_eq!(load(&store).unwrap(), listing, "it is written as one of today");
    columns.retain(|(name, ..)| *name != "inode");
    write_earlier(&store, columns, &said);
    listing.prints.iter_mut().for_each(|print| print.entry.inode = 0);
    assert_eq!(load(&store).unwrap(), listing);
}

/// Some batches and groups of rows, of which a few are no more.
#[test]
fn a_long_listing_is_compared_row_by_row() {
    let name = |at: usize| format!("{:03}/{:06}.jpg", at / 1000, at);
    let digest = |at: usize| FileDigest::of(&blake3::hash(&at.to_le_bytes()));
    let known = |at: usize| Fingerprint { digest: digest(at), ..print(&name(at), at as u64, 5) };
    let since_ns = 1_700_000_000_000_000_000;
    let listing = Listing { prints: (0..300_000).map(known).collect(), since_ns, outdated: false };
    // Of each hundred, one is gone, one was touched, and one is new.
    let now = |at: usize| {
        let path = if at % 100 == 9 { format!("{}.png", name(at)) } else { name(at) };
        Entry { size: at as u64 + u64::from(at % 100 == 8), path: path.into(), ..known(at).entry }
    };
    let found = compared((0..300_000).filter(|at| at % 100 != 7).map(now).collect(), &listing);
    assert_eq!(found.changes, Changes { added: 3000, removed: 6000, touched: 3000 });
    assert_eq!((found.known, found.unsure, found.prints.len()), (300_000, false, 297_000));
    for (print, at) in found.prints.iter().zip((0..300_000).filter(|at| at % 100 != 7)) {
        let expected = if [8, 9].contains(&(at % 100)) { FileDigest::default() } else { digest(at) };
        assert_eq!((&print.digest, &print.entry), (&expected, &now(at)));
    }
    // What was not hashed yet is not kept.
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "p").stage("images");
    keep(&store, &found.prints, 12).unwrap();
    let mut kept = found.prints;
    kept.retain(|print| print.digest.is_known());
    assert_eq!(load(&store).unwrap(), Listing { prints: kept, since_ns: 12, outdated: false });
}

#[test]
fn work_is_looked_at_between_slices() {
    let fresh = |at: usize| {
        let size = if at == 1024 { SLICE_BYTES } else { 1 };
        Fingerprint { digest: FileDigest::default(), ..print(&at.to_string(), size, 0) }
    };
    let mut prints: Vec<Fingerprint> = (0..3000).map(fresh).collect();
    let taken = |prints: &[Fingerprint], from| slice(prints, from).len();
    assert_eq!([0, 1024, 1025, 2990, 3000].map(|from| taken(&prints, from)), [1024, 1, 1024, 10, 0]);
    prints[2995].digest = text_of(b"").into();
    assert_eq!(slice(&prints, 2993), [2993, 2994, 2996, 2997, 2998, 2999]);
}

#[test]
fn changes_are_counted() {
    let known = [print("a", 1, 1), print("b", 1, 1), print("c", 1, 1)];
    let now = [print("a", 1, 1), print("b", 1, 2), print("d", 1, 1)].map(|p| p.entry);
    let listing = Listing { prints: known.to_vec(), since_ns: 1_700_000_000_000_000_000, outdated: false };
    let changes = |entries: &[Entry]| compared(entries.to_vec(), &listing).changes;
    assert_eq!(changes(&now), Changes { added: 1, removed: 1, touched: 1 });
    assert!(changes(&known.map(|p| p.entry)).none());
    assert_eq!(changes(&[]), Changes { removed: 3, ..Changes::default() });
}

/// A bucket that is out of reach, or lacks a file.
struct Away(io::ErrorKind);

impl Files for Away {
    fn list(&self, root: &Path) -> Result<tessera_datasets::Listed, tessera_datasets::Error> {
        Err(tessera_datasets::Error::io(root, self.0.into()))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, tessera_datasets::Error> {
        Err(tessera_datasets::Error::io(path, self.0.into()))
    }

    fn read_range(&self, path: &Path, _: u64, _: u64) -> Result<Vec<u8>, tessera_datasets::Error> {
        self.read(path)
    }
}

#[test]
fn a_bucket_out_of_reach_says_nothing_of_its_files() {
    let hashed = |root: &str, kind: io::ErrorKind| {
        let (is_image, progress, keep) = (|_: &str| true, |_, _| {}, |_: &[Fingerprint]| {});
        let files = Away(kind);
        let root = Path::new(root);
        let with = Hashing { files: &files, root, threads: 1, is_image: &is_image, progress: &progress, keep: &keep };
        let mut prints = [Fingerprint { digest: FileDigest::default(), ..print("a.jpg", 3, 7) }];
        hash(&mut prints, &with).map(|()| prints[0].digest.clone())
    };
    assert!(hashed("s3://bucket/photos", io::ErrorKind::Other).is_err());
    for (root, kind) in [("s3://bucket/photos", io::ErrorKind::NotFound), ("/photos", io::ErrorKind::Other)] {
        assert!(hashed(root, kind).unwrap().is_unreadable(), "{root}, {kind}");
    }
}

#[test]
fn an_etag_is_a_version() {
    let tagged = |path: &str, modified_ns, e_tag: Option<&str>| Entry {
        e_tag: e_tag.map(Into::into),
        changed_ns: modified_ns,
        ..print(path, 3, modified_ns).entry
    };
    let known = tagged("a.jpg", 7, Some("1"));
    assert!(tagged("a.jpg", 9, Some("1")).is(&known), "it was put again, or copied");
    assert!(!tagged("a.jpg", 7, Some("2")).is(&known));
    assert!(!tagged("a.jpg", 7, None).is(&known) && !known.is(&tagged("a.jpg", 7, None)), "it lay on a disk");
    assert!(!Entry { size: 4, ..known.clone() }.is(&known));
    let now = now_ns();
    let print = Fingerprint { entry: tagged("a.jpg", now, Some("1")), digest: "d".into(), header: Header::default() };
    let unsure = |print: &Fingerprint| !sure(print.entry.version(), &print.digest, now);
    assert!(!unsure(&print), "however new it is");
    let untagged = Entry { e_tag: None, ..print.entry.clone() };
    assert!(unsure(&Fingerprint { entry: untagged, ..print.clone() }));
    assert!(unsure(&Fingerprint { digest: format!("{UNREADABLE}other").into(), ..print }));
}

use super::*;
use crate::store::Store;

fn print(path: &str, size: u64, modified_ns: i64) -> Fingerprint {
    let entry = Entry { path: path.into(), size, modified_ns, changed_ns: modified_ns, inode: 7, e_tag: None };
    Fingerprint { entry, digest: format!("d{path}"), header: Header::default() }
}

fn hashed(root: &Path, entries: Vec<Entry>, known: &Listing, keep: &dyn Fn(&[Fingerprint])) -> Vec<Fingerprint> {
    let files = tessera_datasets::local::LocalFiles;
    let (is_image, progress) = (|_: &str| true, |_, _| {});
    let with = Hashing { files: &files, root, threads: 1, is_image: &is_image, progress: &progress, keep };
    fingerprint(entries, known, &with).unwrap()
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
    assert_eq!(read(bytes.len() as u64).unwrap(), (short(&blake3::hash(&bytes)), Header::default()));
    assert!(read(2 * PIECE).is_err(), "it became shorter");
    // A TIFF whose directory is its end.
    let (mut tiff, at) = (b"II*\0".to_vec(), PIECE as u32 + 1);
    tiff.extend(at.to_le_bytes());
    tiff.resize(at as usize, 0);
    tiff.extend([2, 0, 0, 1, 3, 0, 1, 0, 0, 0, 60, 0, 0, 0, 1, 1, 3, 0, 1, 0, 0, 0, 50, 0, 0, 0]);
    std::fs::write(&path, &tiff).unwrap();
    let header = Header { format: Some("tiff"), width: Some(60), height: Some(50) };
    assert_eq!(read(tiff.len() as u64).unwrap(), (short(&blake3::hash(&tiff)), header));
    assert_eq!(digest(&files, &path, tiff.len() as u64, false).unwrap().1, Header::default());
}

#[test]
fn a_listing_round_trips() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "p").stage("images");
    let path = store.listing_place();
    assert_eq!(load(&store).unwrap(), Listing::default());
    let header = Header { format: Some("webp"), width: Some(u32::MAX), height: None };
    let mut prints = vec![Fingerprint { header, ..print("a/b.jpg", 3, -5) }, print("c.jpg", 0, 7)];
    prints[1].entry.changed_ns = 9;
    prints[1].entry.e_tag = Some("\"0a\"".into());
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
        let unread = Fingerprint { digest: format!("{UNREADABLE}permission denied"), ..print("unread", 9, 5) };
        let (old, young) = (print("old", 9, since_ns - COARSE_NS - 1), print("young", 9, since_ns - COARSE_NS));
        let prints = vec![print("future", 9, since_ns + 1), old, unread, young];
        Listing { prints, since_ns, outdated: false }
    };
    let known = known(1_700_000_000_000_000_000);
    let entries: Vec<Entry> = known.prints.iter().map(|print| print.entry.clone()).collect();
    let first = |at: usize| Listing { prints: vec![known.prints[at].clone()], ..known.clone() };
    assert!(changes(&entries, &known.prints).none());
    assert_eq!([0, 1, 2, 3].map(|at| first(at).unsure()), [true, false, true, true]);
    let now = hashed(dir.path(), entries, &known, &|_| {});
    let digest = short(&blake3::hash(b"new bytes"));
    assert_eq!(now.iter().map(|print| print.digest.as_str()).collect::<Vec<_>>(), [&digest, "dold", &digest, &digest]);
}

/// A program may set the time of the last write to what it was; nobody can set that of the last change.
#[test]
fn what_changed_under_an_old_time_is_hashed_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "new bytes").unwrap();
    let since_ns = 1_700_000_000_000_000_000;
    let known = Listing { prints: vec![print("a", 9, 5)], since_ns, outdated: false };
    let entry = Entry { changed_ns: 6, ..known.prints[0].entry.clone() };
    let digest = short(&blake3::hash(b"new bytes"));
    assert_eq!(hashed(dir.path(), vec![entry], &known, &|_| {})[0].digest, digest);
    // Another file under the name, all of whose times are the same.
    let other = Entry { inode: 8, ..known.prints[0].entry.clone() };
    assert_eq!(hashed(dir.path(), vec![other], &known, &|_| {})[0].digest, digest);
    let unknown = Entry { inode: 0, ..known.prints[0].entry.clone() };
    assert_eq!(hashed(dir.path(), vec![unknown], &known, &|_| {})[0].digest, "da", "an earlier version did not look");
    let mut young = known.clone();
    young.prints[0].entry.changed_ns = since_ns;
    assert_eq!((known.unsure(), young.unsure()), (false, true));
}

#[test]
fn a_listing_of_an_earlier_version_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "p").stage("images");
    let path = store.listing_place();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(["a.jpg"]));
    let batch = RecordBatch::try_from_iter([("path", paths)]).unwrap();
    let since = HashMap::from([(SINCE.to_owned(), "12".to_owned())]);
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(since));
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
    writer.write(&batch.with_schema(schema).unwrap()).unwrap();
    let mut bytes = writer.into_inner().unwrap();
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(load(&store).unwrap(), Listing { prints: Vec::new(), since_ns: 12, outdated: true });
}

#[test]
fn work_is_looked_at_between_slices() {
    let entries: Vec<Entry> =
        (0..3000).map(|at| print(&at.to_string(), if at == 1024 { SLICE_BYTES } else { 1 }, 0).entry).collect();
    let files: Vec<usize> = (0..entries.len()).collect();
    assert_eq!(slice(&files, &entries), 1024);
    assert_eq!(slice(&files[1024..], &entries), 1);
    assert_eq!(slice(&files[1025..], &entries), 1024);
    assert_eq!(slice(&files[2990..], &entries), 10);
}

#[test]
fn changes_are_counted() {
    let known = [print("a", 1, 1), print("b", 1, 1), print("c", 1, 1)];
    let now = [print("a", 1, 1), print("b", 1, 2), print("d", 1, 1)].map(|p| p.entry);
    assert_eq!(changes(&now, &known), Changes { added: 1, removed: 1, touched: 1 });
    assert!(changes(&known.clone().map(|p| p.entry), &known).none());
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
        fingerprint(vec![print("a.jpg", 3, 7).entry], &Listing::default(), &with)
    };
    assert!(hashed("s3://bucket/photos", io::ErrorKind::Other).is_err());
    for (root, kind) in [("s3://bucket/photos", io::ErrorKind::NotFound), ("/photos", io::ErrorKind::Other)] {
        assert!(hashed(root, kind).unwrap()[0].digest.starts_with(UNREADABLE), "{root}, {kind}");
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
    let listing = |print: Fingerprint| Listing { prints: vec![print], since_ns: now, outdated: false };
    assert!(!listing(print.clone()).unsure(), "however new it is");
    let untagged = Entry { e_tag: None, ..print.entry.clone() };
    assert!(listing(Fingerprint { entry: untagged, ..print.clone() }).unsure());
    assert!(listing(Fingerprint { digest: format!("{UNREADABLE}other"), ..print }).unsure());
}

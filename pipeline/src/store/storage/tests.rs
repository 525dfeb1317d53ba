//! What the rest of the store relies on, of any storage.

use super::disk::Disk;
use super::*;

fn names(storage: &dyn Storage, folder: &str) -> Vec<(String, bool)> {
    storage.list(folder).unwrap().into_iter().map(|item| (item.name, item.is_folder)).collect()
}

/// Takes the right to write from nobody.
fn lock(storage: &dyn Storage) -> anyhow::Result<Box<dyn Debug + Send>> {
    let fence = || panic!("nobody had it");
    storage.lock(&Locking { say: &|line| panic!("{line}"), fence: &fence })
}

/// What the rest of the store relies on, of any storage.
pub(in crate::store) fn contract(storage: &dyn Storage) {
    let missing = |name: &str| {
        assert_eq!(storage.read(name).unwrap_err().kind(), io::ErrorKind::NotFound);
        let opened = storage.open(name).and_then(|file| file.read(0..1));
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(storage.look(name).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(storage.remove(name).err().is_none_or(|error| error.kind() == io::ErrorKind::NotFound));
        assert_eq!(storage.read_version(name).unwrap_err().kind(), io::ErrorKind::NotFound);
    };
    missing("p/s/current");
    assert_eq!(names(storage, "p/s"), []);

    storage.replace("p/s/current", b"one").unwrap();
    storage.replace("p/s/current", b"second").unwrap();
    assert_eq!(storage.read("p/s/current").unwrap(), b"second");
    let item = storage.look("p/s/current").unwrap();
    assert_eq!((item.name.as_str(), item.bytes, item.is_folder), ("p/s/current", 6, false));
    assert!(item.modified.elapsed().unwrap().as_secs() < 60);

    // Whoever read an earlier version writes no more.
    let (bytes, second) = storage.read_version("p/s/current").unwrap();
    assert_eq!(bytes, b"second");
    let third = storage.replace_if("p/s/current", b"third", Some(&second)).unwrap();
    for stale in [Some(&second), None] {
        let refused = storage.replace_if("p/s/current", b"fourth", stale).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy, "{refused}");
    }
    assert_eq!(storage.read_version("p/s/current").unwrap(), (b"third".to_vec(), third.clone()));
    storage.replace_if("p/s/current", b"second", Some(&third)).unwrap();
    let refused = storage.replace_if("p/s/new", b"", Some(&third)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy, "{refused}");
    let new = storage.replace_if("p/s/new", b"one", None).unwrap();
    assert_eq!(storage.replace_if("p/s/new", b"two", None).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(storage.read_version("p/s/new").unwrap(), (b"one".to_vec(), new));
    storage.remove("p/s/new").unwrap();

    let mut upload = storage.put("p/s/parts/a.parquet").unwrap();
    upload.write_all(b"0123").unwrap();
    upload.write_all(b"456789").unwrap();
    upload.finish().unwrap();
    let file = storage.open("p/s/parts/a.parquet").unwrap();
    assert_eq!(file.read(0..10).unwrap(), "0123456789");
    assert_eq!(file.read(3..7).unwrap(), "3456");
    assert_eq!(file.read(10..10).unwrap(), "");
    assert_eq!(file.read(8..11).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let again = storage.put("p/s/parts/a.parquet").and_then(|mut upload| {
        upload.write_all(b"others")?;
        upload.finish()
    });
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(storage.read("p/s/parts/a.parquet").unwrap(), b"0123456789");
    let mut given_up = storage.put("p/s/parts/b.parquet").unwrap();
    given_up.write_all(b"half").unwrap();
    drop(given_up);
    missing("p/s/parts/b.parquet");

    let mut log = storage.log("p/runs/1.events").unwrap();
    log.write_all(b"a line\n").unwrap();
    log.flush().unwrap();
    drop(log);
    assert_eq!(storage.read("p/runs/1.events").unwrap(), b"a line\n");

    if storage.link("p/s/parts/a.parquet", "q/s/parts/a.parquet", 10).is_ok() {
        storage.settle("q/s/parts").unwrap();
        assert_eq!(storage.read("q/s/parts/a.parquet").unwrap(), b"0123456789");
        let again = storage.link("p/s/current", "q/s/parts/a.parquet", 6).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        storage.remove("q/s/parts/a.parquet").unwrap();
        assert_eq!(storage.read("p/s/parts/a.parquet").unwrap(), b"0123456789");
    }
    let named = |name: &str, is_folder| (name.to_owned(), is_folder);
    assert_eq!(names(storage, "p/s"), [named("p/s/current", false), named("p/s/parts", true)]);
    assert_eq!(names(storage, "p"), [named("p/runs", true), named("p/s", true)]);
    let _ = storage.remove_folder("p/s/parts");
    assert_eq!(storage.read("p/s/parts/a.parquet").unwrap(), b"0123456789", "something lies below it");
    storage.remove("p/s/parts/a.parquet").unwrap();
    missing("p/s/parts/a.parquet");

    // Longer than what goes at once over a wire.
    let long: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut upload = storage.put("p/s/parts/long.parquet").unwrap();
    long.chunks(1_000_003).for_each(|piece| upload.write_all(piece).unwrap());
    upload.finish().unwrap();
    assert!(storage.read("p/s/parts/long.parquet").unwrap() == long);
    let file = storage.open("p/s/parts/long.parquet").unwrap();
    assert_eq!(file.read(11_999_999..12_000_001).unwrap(), long[11_999_999..12_000_001]);
    let mut given_up = storage.put("p/s/parts/b.parquet").unwrap();
    given_up.write_all(&long).unwrap();
    drop(given_up);
    missing("p/s/parts/b.parquet");

    let held = lock(storage).unwrap();
    let refused = lock(storage).unwrap_err().to_string();
    assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
    drop(held);
    lock(storage).unwrap();
}

#[test]
fn a_disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(&dir.path().join("not/there/yet"));
    contract(&disk);
    // What is open stays readable.
    let file = disk.open("p/s/parts/long.parquet").unwrap();
    disk.remove("p/s/parts/long.parquet").unwrap();
    assert_eq!(file.read(0..2).unwrap(), [0, 1][..]);
}

/// Folders and links where files should be.
#[test]
fn a_disk_puts_aside_what_is_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path());
    for name in ["p/s/current", "lock"] {
        std::fs::create_dir_all(dir.path().join(name).join("inside")).unwrap();
    }
    assert_eq!(disk.read("p/s/current").unwrap_err().kind(), io::ErrorKind::IsADirectory);
    disk.replace("p/s/current", b"id").unwrap();
    drop(lock(&disk).unwrap());
    assert_eq!(disk.read("p/s/current").unwrap(), b"id");
    let aside = |folder: &str| disk.list(folder).unwrap().into_iter().find(|item| item.name.ends_with(".aside"));
    for folder in ["p/s", ""] {
        let kept = aside(folder).unwrap();
        assert!(kept.is_folder && disk.list(&kept.name).unwrap().len() == 1, "nothing is lost");
    }
}

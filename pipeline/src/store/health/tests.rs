use std::fs;

use super::*;
use crate::store::storage::disk::Disk;

const NAME: &str = "a.parquet";

fn part(path: &Path) -> Part {
    let bytes = fs::read(path).unwrap();
    let text = serde_json::json!({
        "file": NAME, "key": "k", "rows": 1, "bytes": bytes.len(), "checksum": blake3::hash(&bytes).to_hex().as_str(),
        "digests": {}, "ids": null, "recipe": "", "made_from": [], "dropped": []
    });
    serde_json::from_value(text).unwrap()
}

fn fresh(dir: &tempfile::TempDir) -> Arc<Health> {
    Arc::new(Health::new(Arc::new(Disk::new(dir.path()))))
}

/// What can be told of the part without reading it.
fn glance(health: &Health, part: &Part) -> Option<Damaged> {
    let size = |name: &str| health.storage.look(name).ok().map(|item| item.bytes);
    health.glance(NAME, part, size(NAME), size("a.damaged").is_some())
}

fn open(health: &Arc<Health>, part: &Part) -> PartReader {
    PartReader::new(NAME.to_owned(), part.clone(), health.clone())
}

#[test]
fn damage_is_found_once_and_forgotten_when_mended() {
    let dir = tempfile::tempdir().unwrap();
    let (path, note) = (dir.path().join(NAME), dir.path().join("a.damaged"));
    let whole = vec![7u8; 3 * BLOCK_BYTES as usize / 2];
    fs::write(&path, &whole).unwrap();
    let part = part(&path);
    let sound = fresh(&dir);
    sound.check(NAME, &part).unwrap();
    assert_eq!(open(&fresh(&dir), &part).read(0..part.bytes).unwrap(), whole);
    assert_eq!((glance(&sound, &part), sound.blamed("an error")), (None, None));

    let mut flipped = whole.clone();
    flipped[BLOCK_BYTES as usize] ^= 1;
    fs::write(&path, &flipped).unwrap();
    sound.check(NAME, &part).expect("once a process");
    let health = fresh(&dir);
    assert_eq!(glance(&health, &part), None, "its size is right, and nobody looked yet");
    let message = open(&health, &part).read(0..1).unwrap_err().to_string();
    assert!(message.contains("a.parquet is damaged: expected checksum"), "{message}");
    assert!(health.check(NAME, &part).is_err());
    assert!(health.blamed(&format!("stage `x`: {message}")).unwrap().path.ends_with(NAME));
    assert_eq!(health.blamed("stage `x`: another error"), None);
    assert!(note.exists() && glance(&fresh(&dir), &part).is_some(), "another process knows");
    fs::write(&path, &whole).unwrap();
    assert_eq!(glance(&fresh(&dir), &part), None, "it was mended");
    assert!(!note.exists());

    for (cut, said) in [(Some(10), "found 10 bytes"), (None, "found no file")] {
        match cut {
            Some(cut) => fs::write(&path, &whole[..cut]).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let health = fresh(&dir);
        assert!(glance(&health, &part).unwrap().to_string().contains(said));
        assert!(health.check(NAME, &part).unwrap_err().to_string().contains(said));
        assert!(open(&health, &part).read(0..1).is_err());
    }
}

#[test]
fn blocks_are_checked_when_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (path, note) = (dir.path().join(NAME), dir.path().join("a.damaged"));
    let whole: Vec<u8> = (0..3 * BLOCK_BYTES + 5).map(|at| (at % 251) as u8).collect();
    fs::write(&path, &whole).unwrap();
    let blocks = whole.chunks(BLOCK_BYTES as usize).map(|block| short(&blake3::hash(block))).collect();
    let part = Part { blocks, ..part(&path) };
    let end = part.bytes;
    let ranges = [0..1, 5..BLOCK_BYTES, BLOCK_BYTES - 1..BLOCK_BYTES + 1, 3..end, 3 * BLOCK_BYTES..end, 7..7];
    let shared = open(&fresh(&dir), &part);
    for range in ranges {
        let expected = &whole[range.start as usize..range.end as usize];
        assert_eq!(open(&fresh(&dir), &part).read(range.clone()).unwrap(), expected, "{range:?}");
        assert_eq!(shared.read(range.clone()).unwrap(), expected, "{range:?}");
        assert_eq!(shared.get_bytes(range.start, expected.len()).unwrap(), expected, "{range:?}");
    }
    let mut flipped = whole.clone();
    flipped[2 * BLOCK_BYTES as usize + 9] ^= 1;
    fs::write(&path, &flipped).unwrap();
    assert!(shared.read(0..end).is_ok(), "once a process");
    let other = open(&fresh(&dir), &part);
    other.read(0..2 * BLOCK_BYTES).unwrap();
    other.read(3 * BLOCK_BYTES..end).unwrap();
    assert!(!note.exists(), "nobody read the damaged block");
    let error = other.read(2 * BLOCK_BYTES..2 * BLOCK_BYTES + 1).unwrap_err();
    assert!(error.to_string().contains("a.parquet is damaged") && note.exists(), "{error}");
    assert_eq!(damage_in(&ParquetError::from(std::io::Error::other("no")).into()), None);
    assert!(damage_in(&anyhow::Error::from(external(error)).context("a part")).is_some());
    fs::write(&path, &whole[..100]).unwrap();
    let error = open(&fresh(&dir), &part).read(BLOCK_BYTES..BLOCK_BYTES + 2).unwrap_err().to_string();
    assert!(error.contains("found 100 bytes"), "{error}");
}

//! Packed shards.

use super::super::unpacked::{is_packed, unpack};
use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn sample() -> Vec<u8> {
    let noise: Vec<u8> = (0..3000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    archive(&[("a/1.jpg", &noise), ("a/1.txt", b"one"), ("b/2.png", &noise[7..]), ("b/3.jpg", b"3")])
}

fn read(name: &str, bytes: Vec<u8>) -> (InMemory, Vec<Row>, Vec<String>) {
    let path = format!("/d/{name}");
    let files = InMemory::of(&[(path.as_str(), bytes)]);
    let tar = Tar::open(&files, Path::new(&path), Ids::Name, &[]).unwrap();
    let found = found(&files, &tar);
    (files, rows(&found), left(&found))
}

/// The images of a packed shard as they are read: from its unpacked bytes.
fn images_of(files: &InMemory, name: &str, rows: &[Row]) -> Vec<Vec<u8>> {
    let scratch = tempfile::tempdir().unwrap();
    let path = format!("/d/{name}");
    let digest = FileDigest::of(&blake3::hash(&files.0[&path]));
    let unpacked = unpack(files, Path::new(&path), &digest, scratch.path()).unwrap();
    let bytes = std::fs::read(unpacked).unwrap();
    rows.iter().map(|row| bytes[row.offset as usize..(row.offset + row.length) as usize].to_vec()).collect()
}

#[test]
fn packed_shards_have_the_same_rows() {
    let bytes = sample();
    let (_, plain, _) = read("a.tar", bytes.clone());
    let strip = |rows: &[Row]| rows.iter().map(|row| Row { shard: String::new(), ..row.clone() }).collect::<Vec<_>>();
    let (first, second) = bytes.split_at(1234);
    let padded = [gzip(&bytes), vec![0; 100]].concat();
    for (name, packed) in [
        ("a.tar.gz", gzip(&bytes)),
        ("a.tgz", [gzip(first), gzip(b""), gzip(second)].concat()),
        ("b.tar.gz", padded),
        ("a.tar.zst", zstd(&bytes)),
        ("b.tar.zst", [zstd(first), zstd(second)].concat()),
    ] {
        let (files, rows, left) = read(name, packed);
        assert_eq!((strip(&rows), left), (strip(&plain), Vec::new()), "{name}");
        let digests: Vec<String> = images_of(&files, name, &rows).iter().map(|bytes| hash(bytes)).collect();
        assert_eq!(digests, rows.iter().map(|row| row.digest.clone()).collect::<Vec<_>>());
        assert!(is_packed(name));
    }
    assert!(!is_packed("a.tar") && !is_packed("a.jpg"));
    let (_, rows, left) = read("a.tar.gz", bytes);
    assert!(rows.is_empty() && left[0].contains("packed bytes are damaged"), "{left:?}");
}

#[test]
fn damaged_packed_shards_keep_what_comes_before() {
    for (name, packed) in [("a.tar.gz", gzip(&sample())), ("a.tar.zst", zstd(&sample()))] {
        let (_, whole, _) = read(name, packed.clone());
        assert_eq!(whole.len(), 3);
        for at in (0..packed.len()).step_by(29) {
            let (files, rows, left) = read(name, packed[..at].to_vec());
            assert_eq!(rows[..], whole[..rows.len()]);
            assert!(!left.is_empty(), "{name} {at}");
            let digests = images_of(&files, name, &rows).into_iter().map(|bytes| hash(&bytes));
            assert!(digests.eq(rows.iter().map(|row| row.digest.clone())), "{name} {at}");
            let mut flipped = packed.clone();
            flipped[at] ^= 4;
            let (_, rows, left) = read(name, flipped);
            // Of gzip's header, only a part matters.
            assert!(rows == whole || !left.is_empty(), "{name} {at}");
        }
    }
}

#[test]
fn shards_are_unpacked_once() {
    let files = InMemory::of(&[("/d/a.tar.gz", gzip(&sample())), ("/d/a.tar", sample())]);
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("new");
    let digest = FileDigest::of(&blake3::hash(b"shard"));
    let shard = Path::new("/d/a.tar.gz");
    let path = unpack(&files, shard, &digest, &folder).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), sample());
    assert_eq!(path, folder.join(format!("{digest}.tar")));
    std::fs::write(&path, b"as it was").unwrap();
    assert_eq!(unpack(&files, shard, &digest, &folder).unwrap(), path);
    assert_eq!(std::fs::read(&path).unwrap(), b"as it was");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let why = |shard: &str, digest: &FileDigest, folder: &Path| {
        unpack(&files, Path::new(shard), digest, folder).unwrap_err().to_string()
    };
    assert_eq!(why("/d/a.tar", &digest, &folder), "/d/a.tar: it is no packed shard");
    assert!(why("/d/a.tar.gz", &"../x".into(), &folder).contains("its digest is `../x`"));
    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = why("/d/a.tar.gz", &digest, &file);
    assert!(error.starts_with("/d/a.tar.gz: it cannot be unpacked into ") && error.contains("0 bytes"), "{error}");
}

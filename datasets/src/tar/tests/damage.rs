//! What comes out of damaged archives is what is in them.

use proptest::prelude::*;

use super::*;

/// The rows and what is left out, of bytes that may be anything.
fn read(name: &str, bytes: Vec<u8>) -> (Vec<Row>, Vec<String>) {
    let path = format!("/d/{name}");
    let files = InMemory::of(&[(path.as_str(), bytes)]);
    let tar = Tar::open(&files, Path::new(&path), Ids::Name, &[]).unwrap();
    let found = found(&files, &tar);
    (rows(&found), left(&found))
}

/// A row says what the bytes at its place are.
fn is_true(row: &Row, bytes: &[u8]) -> bool {
    bytes.get(row.offset as usize..(row.offset + row.length) as usize).is_some_and(|bytes| hash(bytes) == row.digest)
}

fn members() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a/1.jpg", gif(1)),
        ("a/1.cls", b"7".to_vec()),
        ("a/2.png", vec![5; 700]),
        ("a/3.jpg", gif(3)),
        ("a/3.cls", b"8".to_vec()),
    ]
}

fn sample() -> Vec<u8> {
    let members = members();
    let mut bytes = archive(&members.iter().map(|(name, bytes)| (*name, &bytes[..])).collect::<Vec<_>>());
    // Two blocks of zeros are an end; more are no matter.
    bytes.truncate(bytes.len().div_ceil(512) * 512);
    bytes
}

#[test]
fn an_archive_that_is_cut_keeps_its_whole_members() {
    let bytes = sample();
    let (whole, nothing) = read("a.tar", bytes.clone());
    assert_eq!((whole.len(), nothing.len()), (3, 0));
    for length in 0..bytes.len() {
        let (rows, left) = read("a.tar", bytes[..length].to_vec());
        let kept = whole.iter().filter(|row| row.offset + row.length <= length as u64).count();
        assert_eq!(rows.len(), kept, "{length}");
        // A label that is cut away is not known; then labels are those of folders.
        assert!(
            rows.iter()
                .zip(&whole)
                .all(|(one, two)| (&one.id, &one.digest, one.offset) == (&two.id, &two.digest, two.offset))
        );
        let behind_end = length >= bytes.len() - 512;
        assert_eq!(left.len(), usize::from(!behind_end), "{length}: {left:?}");
    }
}

#[test]
fn a_flipped_bit_loses_nothing_before_it_and_invents_nothing() {
    let bytes = sample();
    let (whole, _) = read("a.tar", bytes.clone());
    for at in 0..bytes.len() {
        for bit in [0, 4, 7] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let (rows, left) = read("a.tar", flipped.clone());
            let before = whole.iter().filter(|row| row.offset + row.length <= at as u64).count();
            assert!(rows.len() >= before, "{at}");
            for (row, known) in rows.iter().zip(&whole) {
                assert_eq!((&row.id, row.offset, row.length), (&known.id, known.offset, known.length), "{at}");
                assert!(is_true(row, &flipped));
                let is_hit = (known.offset..known.offset + known.length).contains(&(at as u64));
                assert_eq!(row.digest != known.digest, is_hit, "{at}");
            }
            assert!(rows.len() == whole.len() || left.iter().any(|why| why.contains("no further image")), "{at}: {left:?}");
        }
    }
}

#[test]
fn odd_files_are_told_of() {
    let why = |bytes: Vec<u8>| {
        let (rows, left) = read("a.tar", bytes);
        assert_eq!((rows.len(), left.len()), (0, 1), "{left:?}");
        left[0].clone()
    };
    assert!(why(Vec::new()).starts_with("a.tar: it is empty, and no tar"));
    assert!(why(b"text".to_vec()).starts_with("a.tar: it is no tar"));
    assert!(why(vec![b'x'; 5000]).starts_with("a.tar: it is no tar: it does not begin with a header"));
    assert!(why([&[0x1f, 0x8b, 8][..], &[7; 2000]].concat()).contains("its name should end in .tar.gz"));
    assert_eq!(read("a.tar", vec![0; 10240]), (Vec::new(), Vec::new()));
    let two = [sample(), sample()].concat();
    let (rows, left) = read("a.tar", two);
    assert!(rows.len() == 3 && left[0].contains("another tar stands behind its end"), "{left:?}");
    let mut hole = sample();
    hole[1024 + 1024..2048 + 512].fill(0);
    let (rows, left) = read("a.tar", hole);
    assert!(rows.len() == 1 && left[0].contains("zeros stand at byte 2048, where a header should"), "{left:?}");
}

/// Sizes that a header claims, and names that are longer than an archive.
#[test]
fn claimed_sizes_are_not_believed() {
    use ::tar::EntryType as Kind;
    for kind in [Kind::Regular, Kind::GNULongName, Kind::XHeader, Kind::GNUSparse, Kind::XGlobalHeader, Kind::Link] {
        for size in [2_u64 << 30, 1 << 40, i64::MAX as u64 - 511, u64::MAX - 511, u64::MAX, 1 << 21] {
            let mut bytes = archive(&[("1.jpg", b"1"), ("2.jpg", b"2")]);
            let mut header = ::tar::Header::new_gnu();
            header.set_path("2.jpg").unwrap();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_cksum();
            bytes[1024..1536].copy_from_slice(header.as_bytes());
            let (rows, left) = read("a.tar", bytes);
            assert_eq!(rows.len(), 1, "{kind:?} {size}");
            assert!(!left.is_empty(), "{kind:?} {size}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes are, rows say what is in them.
    #[test]
    fn rows_are_true(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut builder = ::tar::Builder::new(sample()[..5 * 1024].to_vec());
        add(&mut builder, b"pax", ::tar::EntryType::XHeader, &[record("path", "p/9.jpg"), record("size", "3")].concat());
        add(&mut builder, b"x.jpg", ::tar::EntryType::Regular, b"abc");
        let mut header = ::tar::Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, "n".repeat(150) + ".jpg", &b"gnu"[..]).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        for (at, byte, sums) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // Half of the headers that are changed say that they are right.
            let block = at / 512 * 512;
            if sums {
                let mut header = ::tar::Header::from_byte_slice(&bytes[block..block + 512]).clone();
                header.set_cksum();
                bytes[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let cut = cut.index(bytes.len() * 2);
        bytes.truncate(cut.max(1));
        let (rows, _) = read("a.tar", bytes.clone());
        for row in rows {
            prop_assert!(is_true(&row, &bytes));
        }
    }
}

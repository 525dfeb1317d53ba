//! Small files that would be more than any memory holds, or never end.

use tessera_schemas::pixels;

use super::super::filters::{Filter, Undo};
use super::super::images::Opened;
use super::super::{batches, layout};
use super::*;
use crate::layout::Layout as _;
use crate::tables::raw::Raw;

/// Patches a file's bytes.
fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn say(object: &hdf5_metno::Location, key: &str, text: &str) {
    let attribute = object.new_attr::<FixedUnicode<16>>().create(key).unwrap();
    attribute.write_scalar(&text.parse::<FixedUnicode<16>>().unwrap()).unwrap();
}

#[test]
fn datasets_that_were_never_written_are_no_rows_without_end() {
    let (_dir, path) = made(|file| {
        file.new_dataset::<u8>().shape([1_usize << 40]).create("flat").unwrap();
        file.new_dataset::<u8>().shape([1_usize << 40, 8, 8, 3]).chunk((1, 8, 8, 3)).create("images").unwrap();
        dataset(file, "here", &[4], &[1_i32, 2, 3, 4]);
    });
    let size = fs::metadata(&path).unwrap().len();
    let expected = |name: &str, shape: &str| {
        format!(
            "a.h5: `{name}` is {shape} of uint8, of which a file of {size} bytes can have next to none: make it as large as what was written"
        )
    };
    assert_eq!(refusal(&path, one("/flat")), expected("/flat", "1099511627776"));
    let error = crate::stack::Stack::open(&LocalFiles, &path, None).unwrap_err().to_string();
    assert!(error.ends_with(&expected("/flat", "1099511627776")), "{error}");
    assert_eq!(read_back(&path, one("/here")).unwrap().num_rows(), 4);
}

#[test]
fn a_list_is_no_longer_than_what_fits_into_memory() {
    let (_dir, path) = made(|file| {
        let group = file.create_group("lists").unwrap();
        say(&group, layout::ARROW_TYPE, "LargeList");
        dataset(&group, "offsets", &[2], &[0_i64, 1 << 32]);
        let values = group.new_dataset::<u8>().shape([1_usize << 32]).chunk(1 << 20).deflate(9).create("values").unwrap();
        values.as_writer().write_slice(&vec![0_u8; 8 << 20], ..8 << 20).unwrap();
        dataset(file, "ballast", &[1], &[0_u8; 1]);
        dataset(file, "more", &[2 << 20], &vec![7_u8; 2 << 20]);
    });
    let error = refusal(&path, several(&[("lists", "/lists")]));
    assert_eq!(error, "a.h5: column `lists`, rows from 0: its values have more than 1073741824 bytes");
}

/// A reference to a text has 16 bytes, whatever the text has.
#[test]
fn rows_that_share_a_long_text_come_few_at_a_time() {
    const ROWS: usize = 100;
    let mut place = 0;
    let (_dir, path) = made(|file| {
        let long: VarLenUnicode = "x".repeat(4 << 20).parse().unwrap();
        let texts: Vec<VarLenUnicode> =
            (0..ROWS).map(|at| if at == 0 { long.clone() } else { "y".parse().unwrap() }).collect();
        dataset(file, "texts", &[ROWS], &texts);
        place = file.dataset("texts").unwrap().offset().unwrap() as usize;
    });
    patch(&path, |bytes| (1..ROWS).for_each(|row| bytes.copy_within(place..place + 16, place + 16 * row)));
    let raw = Raw { files: &LocalFiles, path: &path, size: fs::metadata(&path).unwrap().len() };
    let found = batches(raw, &one("/texts"), 1, 0..u64::MAX).unwrap();
    let rows: Vec<usize> = found.map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(rows, [50, 50]);
    // So do those of a range.
    let found = batches(raw, &one("/texts"), 1, 10..95).unwrap();
    let rows: Vec<usize> = found.map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!((rows[0], rows.iter().sum::<usize>()), (43, 85));
}

#[test]
fn groups_within_themselves_come_to_an_end() {
    const DEPTH: usize = 6;
    let (_dir, path) = made(|file| {
        for depth in 0..=DEPTH {
            say(&file.create_group(&format!("g{depth}")).unwrap(), layout::ARROW_TYPE, "Struct");
        }
        for (depth, at) in (0..DEPTH).flat_map(|depth| (0..20).map(move |at| (depth, at))) {
            file.link_hard(&format!("/g{}", depth + 1), &format!("/g{depth}/{at}")).unwrap();
        }
        (0..20).for_each(|at| file.link_hard("/", &format!("/{at}")).unwrap());
    });
    let expected = "a.h5: has more than 20000 groups and datasets, or groups within themselves";
    assert_eq!(refusal(&path, one("/g0")), expected);
    let error = crate::stack::Stack::open(&LocalFiles, &path, None).unwrap_err().to_string();
    assert!(error.ends_with(expected), "{error}");
    assert!(pictures(&path, "/").err().unwrap().to_string().ends_with(expected));
}

/// A file's images, by their dataset or their group.
fn pictures(path: &Path, images: &str) -> Result<Opened, Error> {
    let raw = Raw { files: &LocalFiles, path, size: fs::metadata(path).unwrap().len() };
    Opened::new(raw, &[(pixels::PIXELS.to_owned(), images.to_owned())].into())
}

/// Of groups that lie in one place, all members are looked at, however many they are.
#[test]
fn a_group_of_many_pictures_is_no_walk_without_end() {
    const COUNT: u64 = 20_100;
    let (_dir, path) = made(|file| {
        let group = file.create_group("all").unwrap();
        dataset(&group, "0", &[32], &[7_u8; 32]);
        (1..COUNT).for_each(|at| file.link_hard("/all/0", &format!("/all/{at}")).unwrap());
    });
    assert_eq!(pictures(&path, "/").unwrap().rows(), COUNT);
}

#[test]
fn pictures_that_were_never_written_are_no_rows_without_end() {
    let (_dir, path) = made(|file| {
        file.new_dataset::<u8>().shape([1_usize << 40, 64]).create("jpg").unwrap();
        let group = file.create_group("all").unwrap();
        dataset(&group, "0", &[32], &[7_u8; 32]);
        group.new_dataset::<u8>().shape(1_usize << 40).create("1").unwrap();
    });
    for (images, named) in [("/jpg", "/jpg"), ("/all", "1")] {
        let error = pictures(&path, images).err().unwrap().to_string();
        assert!(error.contains(&format!("`{named}` is 1099511627776")) && error.contains("next to none"), "{error}");
    }
    let error = crate::stack::Stack::open(&LocalFiles, &path, Some("jpg")).unwrap_err().to_string();
    assert!(error.contains("can have next to none"), "{error}");
}

/// As texts do that rows share, so do pictures.
#[test]
fn rows_that_share_a_long_picture_come_few_at_a_time() {
    const ROWS: usize = 14;
    let mut place = 0;
    let (_dir, path) = made(|file| {
        let long = VarLenArray::from_slice(&[&b"\x89PNG\r\n\x1a\n"[..], &[7; 20 << 20]].concat());
        let images: Vec<VarLenArray<u8>> =
            (0..ROWS).map(|at| if at == 0 { long.clone() } else { VarLenArray::from_slice(&[1]) }).collect();
        dataset(file, "jpg", &[ROWS], &images);
        place = file.dataset("jpg").unwrap().offset().unwrap() as usize;
    });
    patch(&path, |bytes| (1..ROWS).for_each(|row| bytes.copy_within(place..place + 16, place + 16 * row)));
    let stack = crate::stack::Stack::open(&LocalFiles, &path, None).unwrap();
    let files = stack.list(&LocalFiles).unwrap().files;
    let prints: Vec<_> = files.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let found = stack.rows(&LocalFiles, &prints).unwrap().map(|found| found.unwrap().rows.num_rows());
    assert_eq!(found.collect::<Vec<_>>(), [12, 2]);
    let opened = pictures(&path, "/jpg").unwrap();
    let raw = Raw { files: &LocalFiles, path: &path, size: fs::metadata(&path).unwrap().len() };
    assert_eq!(opened.encoded(raw, 0..ROWS as u64).unwrap().len(), 12);
}

#[test]
fn a_chunk_that_cannot_inflate_to_so_much_is_not_made_room_for() {
    let packed = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
    let error = Undo::new().all(&[Filter::Deflate], 0, packed.to_vec(), 1 << 30).unwrap_err();
    assert_eq!(error, "its 8 deflated bytes cannot be 1073741824");
}

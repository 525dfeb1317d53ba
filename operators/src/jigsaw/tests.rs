use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, UInt32Type};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::operator::At;
use crate::random::Draw;
use crate::trial;

fn schema(height: usize, width: usize) -> SchemaRef {
    let id = Field::new(IMAGE_ID, DataType::Utf8, false);
    Arc::new(Schema::new(vec![id, pixels::field(height, width), Field::new(PREVIOUS, DataType::Utf8, true)]))
}

/// Rows of (image, previous); each image's pixels are drawn from its id.
fn images(side: usize, rows: &[(&str, Option<&str>)]) -> RecordBatch {
    let pixel = |draw: &mut Draw| draw.below(256) as u8;
    let image = |id: &str| {
        let mut draw = Draw::new(0, "test", "pixels", id, 0);
        (0..side * side * 3).map(|_| pixel(&mut draw)).collect::<Vec<_>>()
    };
    let bytes = rows.iter().flat_map(|(id, _)| image(id)).collect();
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
    let previous: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>());
    RecordBatch::try_new(schema(side, side), vec![ids, pixels::array(bytes, side, side), previous]).unwrap()
}

fn bound(config: Value, size: (usize, usize)) -> Result<Jigsaw, Vec<BindError>> {
    trial::bind(config, &[(IMAGES, schema(size.0, size.1))])
}

fn open(config: Value, side: usize) -> Box<dyn MapFn> {
    trial::kernel(bound(config, (side, side)).unwrap(), 7, 1).unwrap().open(&Inputs::default()).unwrap()
}

fn call(worker: &mut dyn MapFn, batch: &RecordBatch, lead: Option<&RecordBatch>, epoch: u64) -> RecordBatch {
    worker.call(batch, &mut Scope { epoch, lead, unread: &[], dropped: &mut Vec::new() }).unwrap()
}

fn masks(batch: &RecordBatch) -> &[u32] {
    batch.column(2).as_primitive::<UInt32Type>().values()
}

fn tiles(batch: &RecordBatch) -> &[u8] {
    puzzles::Puzzles::of(batch).unwrap().tiles
}

/// No jitter, shift, gray or occluder: a puzzle is its image's tiles in another order.
fn plain() -> Value {
    json!({"permutations": 60, "tile": 4, "jitter": 0, "channel_shift": 0, "gray": 0.0, "max_occluded": 0})
}

fn with(mut config: Value, key: &str, value: impl Into<Value>) -> Value {
    config[key] = value.into();
    config
}

/// The tile of a 3 x 3 grid of cells of 4 px, in an image of 14 px: one px of border is left over.
fn tile_of(batch: &RecordBatch, row: usize, cell: usize) -> Vec<u8> {
    let image = Pixels::of(batch).unwrap();
    let line = |y: usize| ((1 + cell / 3 * 4 + y) * 14 + 1 + cell % 3 * 4) * 3;
    (0..4).flat_map(|y| image.row(row)[line(y)..line(y) + 12].to_vec()).collect()
}

#[test]
fn place_i_shows_the_permutations_ith_tile() {
    let batch = images(14, &[("a", Some("z")), ("b", Some("a"))]);
    let found = call(&mut *open(plain(), 14), &batch, None, 0);
    let set = permutations::choose(9, 60, 3).unwrap();
    for row in 0..2 {
        let number = found.column(1).as_primitive::<Int32Type>().value(row) as usize;
        let expected: Vec<u8> = set[number].iter().flat_map(|&cell| tile_of(&batch, row, cell.into())).collect();
        assert_eq!(&tiles(&found)[row * 432..(row + 1) * 432], expected);
    }
    assert_eq!(masks(&found), [0, 0]);
}

#[test]
fn occluders_come_from_different_cells_of_the_image_before() {
    let config = with(plain(), "max_occluded", 9);
    let batch = images(14, &[("a", None), ("b", Some("a"))]);
    let mut worker = open(config, 14);
    let set = permutations::choose(9, 60, 3).unwrap();
    let mut counts = [0; 10];
    for epoch in 0..300 {
        let found = call(&mut *worker, &batch, None, epoch);
        assert_eq!(found.num_rows(), 1);
        let (mask, number) = (masks(&found)[0], found.column(1).as_primitive::<Int32Type>().value(0) as usize);
        counts[mask.count_ones() as usize] += 1;
        let mut seen = Vec::new();
        for (place, tile) in tiles(&found).chunks(48).enumerate() {
            if mask >> place & 1 == 1 {
                seen.push((0..9).position(|cell| tile_of(&batch, 0, cell) == tile).expect("a tile of the other image"));
            } else {
                assert_eq!(tile, tile_of(&batch, 1, set[number][place].into()));
            }
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
    assert!(counts.iter().all(|&count| (12..=52).contains(&count)), "{counts:?}");
}

#[test]
fn a_row_before_that_was_dropped_or_is_the_image_itself_is_no_occluder() {
    let config = with(with(plain(), "max_occluded", 1), "permutations", 2);
    let mut worker = open(config, 14);
    let lead = images(14, &[("x", None)]);
    let occluded = |worker: &mut dyn MapFn, rows: &[(&str, Option<&str>)], lead: Option<&RecordBatch>| {
        (0..40).any(|epoch| masks(&call(worker, &images(14, rows), lead, epoch)).iter().any(|&mask| mask > 0))
    };
    assert!(occluded(&mut *worker, &[("b", Some("x"))], Some(&lead)));
    assert!(!occluded(&mut *worker, &[("b", Some("a"))], Some(&lead)));
    assert!(!occluded(&mut *worker, &[("b", Some("a"))], None));
    assert!(!occluded(&mut *worker, &[("b", Some("a"))], Some(&lead.slice(0, 0))));
    assert!(!occluded(&mut *worker, &[("x", Some("x"))], Some(&lead)));
    assert!(!occluded(&mut *worker, &[("a", None), ("c", Some("b"))], Some(&lead)));
}

#[test]
fn gray_is_shared_unless_told_otherwise() {
    let config = json!({"permutations": 20, "gray": 0.5, "max_occluded": 9, "channel_shift": 1});
    let batch = images(24, &[("a", None), ("b", Some("a"))]);
    let gray = |tile: &[u8]| tile.chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]);
    let mut mixed = [0, 0];
    let mut grays = 0;
    for (case, share) in [true, false].into_iter().enumerate() {
        let mut worker = open(with(config.clone(), "share_gray", share), 24);
        for epoch in 0..200 {
            let found = call(&mut *worker, &batch, None, epoch);
            let is_gray = found.column(3).as_boolean().value(0);
            grays += usize::from(is_gray);
            for (place, tile) in tiles(&found).chunks(tiles(&found).len() / 9).enumerate() {
                let own = masks(&found)[0] >> place & 1 == 0;
                assert!(!own || gray(tile) == is_gray);
                mixed[case] += usize::from(!own && gray(tile) != is_gray);
            }
        }
    }
    assert_eq!(mixed[0], 0);
    assert!(mixed[1] > 200, "{mixed:?}");
    assert!((150..250).contains(&grays), "{grays}");
}

#[test]
fn channels_shift_apart_and_stay_in_their_cell() {
    // Each pixel tells its own place: red its row, green its column, blue its cell. Of a wide image, three columns are left over at
    // either side.
    let (height, width) = (63, 69);
    let place = |y: usize, x: usize| [y as u8, x as u8, (y / 21 * 3 + x.saturating_sub(3) / 21) as u8];
    let bytes: Vec<u8> = (0..height * width).flat_map(|i| place(i / width, i % width)).collect();
    let Jigsaw { cutter, config, .. } = bound(json!({}), (height, width)).unwrap();
    assert_eq!((cutter.cell, cutter.tile, cutter.jitter), (21, 16, 3));
    let mut apart = false;
    for number in 0..500 {
        let plan = Plan::draw(&config, cutter, 701, number, "a", 0);
        for (cell, offset) in plan.offsets.iter().enumerate() {
            let mut tile = vec![0; cutter.bytes()];
            cutter.cut(&bytes, plan.corner, cell, *offset, false, &mut tile);
            assert!(tile.chunks(3).all(|pixel| usize::from(pixel[2]) == cell));
            let [red, green, _] = offset.shifts;
            assert_eq!(usize::from(tile[0]), cell / 3 * 21 + offset.y + red[0]);
            assert_eq!(usize::from(tile[1]), 3 + cell % 3 * 21 + offset.x + green[1]);
            assert!(offset.shifts.iter().flatten().all(|shift| (0..=2).contains(shift)));
            apart |= offset.shifts[0] != offset.shifts[1];
        }
    }
    assert!(apart);
}

#[test]
fn defaults_are_the_papers() {
    let Jigsaw { cutter, schema, .. } = bound(json!({}), (255, 255)).unwrap();
    assert_eq!((cutter.cell, cutter.tile, cutter.jitter, cutter.shift), (85, 64, 18, 2));
    assert_eq!(puzzles::layout(&schema).unwrap(), Layout { grid: 3, tile: 64, permutations: 701 });
    let of_2016 = json!({"cell": 75, "tile": 64, "max_occluded": 0, "permutations": 1000, "gray": 0.3});
    assert_eq!(bound(of_2016, (256, 256)).unwrap().cutter.jitter, 9);
}

#[test]
fn faults_say_what_is_possible() {
    let messages = |config, size| {
        let errors = bound(config, size).err().unwrap();
        errors.into_iter().map(|error| (error.at, error.message)).collect::<Vec<_>>()
    };
    let key = |key: &str, message: &str| (At::Key(key.into()), message.to_owned());
    assert_eq!(
        messages(json!({"cell": 85, "gray": 2.0, "max_occluded": 10}), (128, 200)),
        [
            key("gray", "2 is no probability: 0 to 1"),
            key("max_occluded", "10 tiles: the puzzle has 9"),
            key("cell", "needs 255 px (3 cells of 85), the input gives 128"),
        ]
    );
    assert_eq!(
        messages(json!({"grid": 2, "min_distance": 3}), (64, 64)),
        [key("permutations", "701 of 4 tiles with `min_distance` 3: there are at most 12")]
    );
    assert_eq!(messages(json!({"grid": 6}), (64, 64)), [key("grid", "6 cells a side: 2 to 5 make a puzzle")]);
    assert_eq!(messages(json!({}), (2, 2)), [key("grid", "3 cells need 3 px, the input gives 2")]);
    assert_eq!(
        messages(json!({"tile": 20}), (64, 64)),
        [key("channel_shift", "a tile of 20 px, shifted by up to 2, does not fit a cell of 21 px")]
    );
    assert_eq!(
        messages(json!({"jitter": 9}), (64, 64)),
        [key("jitter", "a cell of 21 px leaves a tile of 16 px, shifted by up to 2, 3 px, not 9")]
    );
    let impossible = json!({"permutations": 70, "min_distance": 8});
    let found = messages(impossible.clone(), (64, 64));
    let [(At::Key(at), message)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(at, "permutations");
    let expected = "70 of 9 tiles with `min_distance` 8: the search finds ";
    assert!(message.starts_with(expected) && message.ends_with(", and there are at most 72"), "{message}");
    let operator = bound(json!({"grid": 4, "permutations": 5000, "min_distance": 12}), (64, 64));
    let error = operator.unwrap().notes().unwrap_err().to_string();
    let expected = "5000 permutations of 16 tiles that differ in at least 12 places were not found, only ";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_note_says_how_far_permutations_are_apart() {
    let notes =
        bound(json!({"grid": 2, "permutations": 24, "min_distance": 2, "channel_shift": 0}), (8, 8)).unwrap().notes();
    let expected = "24 permutations of 4 tiles; two differ in 3.130 places on average (2: 26.09 %, 3: 34.78 %, 4: 39.13 %)";
    assert_eq!(notes.unwrap(), [expected]);
}

#[test]
fn permutations_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.txt");
    std::fs::write(&path, "1 2 3 4 5 6 7 8 9\n2 1 3 4 5 6 7 8 9\n9 8 7 6 5 4 3 2 1\n").unwrap();
    let with_file = |key: &str, value: usize| with(json!({"permutations_file": path, "channel_shift": 0}), key, value);
    let Jigsaw { wanted, schema, .. } = bound(with_file("grid", 3), (14, 14)).unwrap();
    assert_eq!(puzzles::layout(&schema).unwrap().permutations, 3);
    let held = wanted.permutations(9).unwrap();
    assert_eq!(held[..2], [[0, 1, 2, 3, 4, 5, 6, 7, 8], [1, 0, 2, 3, 4, 5, 6, 7, 8]]);
    assert_eq!(bound(with_file("permutations", 2), (14, 14)).unwrap().wanted, Wanted::Given(held[..2].to_vec()));
    let message = |config| {
        let errors = bound(config, (14, 14)).err().unwrap();
        errors.into_iter().map(|error| (error.at, error.message)).collect::<Vec<_>>()
    };
    let key = |key: &str, message: &str| vec![(At::Key(key.into()), message.to_owned())];
    assert_eq!(message(with_file("permutations", 4)), key("permutations", "4, and the file holds 3"));
    let near = "3, and two of the file's first 3 differ in 2 places";
    assert_eq!(message(with_file("min_distance", 3)), key("min_distance", near));
    let text = message(with_file("grid", 2)).remove(0).1;
    assert!(text.ends_with("p.txt has 9 numbers, and a puzzle has 4 tiles"), "{text}");
}

#[test]
fn cells_lie_in_the_middle_or_anywhere() {
    let corners = |config| {
        let Jigsaw { config, cutter, .. } = bound(config, (256, 300)).unwrap();
        (0..400).map(|epoch| Plan::draw(&config, cutter, 9, 1, "a", epoch).corner).collect::<Vec<_>>()
    };
    assert!(corners(json!({"cell": 75})).iter().all(|corner| *corner == [15, 37]));
    let anywhere = corners(json!({"cell": 75, "crop": "random"}));
    for (axis, most) in [31, 75].into_iter().enumerate() {
        let along: Vec<_> = anywhere.iter().map(|corner| corner[axis]).collect();
        assert!(along.iter().all(|at| *at <= most) && along.contains(&0) | along.contains(&1), "{along:?}");
        assert!(along.iter().any(|at| *at >= most - 1), "{along:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Cuts a sequence into batches, each with the row before it as its lead: as `Scope::lead`, or as a row that only leads.
    #[test]
    fn batches_change_no_bit(cuts in proptest::collection::vec((0usize..12, any::<bool>()), 0..6), dropped in 0usize..12, epoch: u64) {
        let ids: Vec<String> = (0..12).map(|number| format!("{number}.jpg")).collect();
        let mut rows: Vec<_> = (0..12).map(|i| (ids[i].as_str(), Some(ids[(i + 11) % 12].as_str()))).collect();
        rows.remove(dropped);
        let mut worker = open(json!({"permutations": 50}), 33);
        let whole = images(33, &rows);
        let expected = call(&mut *worker, &whole, Some(&whole.slice(10, 1)), epoch);
        let mut bounds: Vec<_> = cuts.into_iter().chain([(0, false), (11, false)]).map(|(at, leads)| (at.min(11), leads)).collect();
        bounds.sort_unstable();
        for pair in bounds.windows(2) {
            let ((from, leads), (to, _)) = (pair[0], pair[1]);
            let before = if from == 0 { 10 } else { from - 1 };
            let found = if leads {
                let mut part = vec![(rows[before].0, None)];
                part.extend(&rows[from..to]);
                call(&mut *worker, &images(33, &part), None, epoch)
            } else {
                call(&mut *worker, &whole.slice(from, to - from), Some(&whole.slice(before, 1)), epoch)
            };
            prop_assert_eq!(found, expected.slice(from, to - from));
        }
    }
}

#[test]
fn epochs_and_images_differ() {
    let mut worker = open(json!({}), 64);
    let batch = images(64, &[("a", Some("z")), ("b", Some("a"))]);
    let first = call(&mut *worker, &batch, None, 0);
    assert_ne!(first, call(&mut *worker, &batch, None, 1));
    let permutations = first.column(1).as_primitive::<Int32Type>().values();
    assert_ne!(permutations[0], permutations[1]);
    assert_eq!(first, call(&mut *open(json!({}), 64), &batch, None, 0));
}

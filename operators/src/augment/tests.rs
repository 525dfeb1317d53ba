//! Values of torchvision on Pillow (`tests/peers/golden/colours.py`), and what the contract asks for.

use arrow::array::{Int32Array, StringArray};
use arrow::datatypes::DataType;
use serde_json::json;

use super::colour::Change;
use super::*;
use crate::operator::At;
use crate::trial;

/// Images of random bytes, 24 x 20 pixels, with a label each.
fn table(rows: usize) -> RecordBatch {
    let mut draw = Draw::new(4, "test", "bytes", "", 0);
    let bytes = (0..rows * 24 * 20 * 3).map(|_| draw.below(256) as u8).collect();
    let fields = vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        pixels::field(20, 24),
        Field::new("label", DataType::Int32, false),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{row:02}")))),
        pixels::array(bytes, 20, 24),
        Arc::new(Int32Array::from_iter_values(0..rows as i32)),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn bind(config: serde_json::Value) -> Result<Augment, Vec<BindError>> {
    trial::bind::<Augment>(config, &[(IMAGES, table(0).schema())])
}

fn views(config: serde_json::Value, batch: &RecordBatch, seed: u64, epoch: u64) -> RecordBatch {
    let mut worker = trial::kernel(bind(config).unwrap(), seed, 1).unwrap().open(&Inputs::default()).unwrap();
    worker.call(batch, &mut Scope { epoch, ..trial::scope(&mut Vec::new()) }).unwrap()
}

fn everything() -> serde_json::Value {
    json!({"side": 16, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "jitter": 0.8, "gray": 0.2})
}

const COLOURS: [[u8; 3]; 6] = [[200, 30, 40], [10, 250, 130], [0, 0, 255], [17, 17, 17], [255, 254, 1], [90, 60, 120]];

/// `torchvision.transforms.functional.adjust_…` of [`COLOURS`] as one row of a Pillow image.
#[test]
#[rustfmt::skip]
fn colours_are_pillows() {
    let golden: [(Change, [[u8; 3]; 6]); 8] = [
        (Change::Brightness(0.5), [[100, 15, 20], [5, 125, 65], [0, 0, 127], [8, 8, 8], [127, 127, 0], [45, 30, 60]]),
        (Change::Brightness(1.7), [[255, 51, 68], [17, 255, 221], [0, 0, 255], [28, 28, 28], [255, 255, 1], [153, 102, 204]]),
        (Change::Contrast(0.3), [[129, 78, 81], [72, 144, 108], [69, 69, 145], [74, 74, 74], [145, 145, 69], [96, 87, 105]]),
        (Change::Contrast(1.6), [[255, 0, 4], [0, 255, 148], [0, 0, 255], [0, 0, 0], [255, 255, 0], [84, 36, 132]]),
        (Change::Saturation(0.4), [[129, 61, 65], [103, 199, 151], [17, 17, 119], [17, 17, 17], [237, 236, 135], [81, 69, 93]]),
        (Change::Saturation(1.9), [[255, 0, 2], [0, 255, 98], [0, 0, 255], [17, 17, 17], [255, 255, 0], [102, 45, 159]]),
        (Change::Hue(0.1), [[200, 114, 31], [11, 230, 250], [150, 0, 255], [17, 17, 17], [109, 255, 1], [120, 60, 115]]),
        (Change::Hue(-0.25), [[106, 31, 200], [247, 250, 11], [0, 255, 132], [17, 17, 17], [255, 1, 121], [60, 119, 120]]),
    ];
    for (change, expected) in golden {
        let mut found = COLOURS.concat();
        change.apply(&mut found);
        assert_eq!(found, expected.concat(), "{change:?}");
    }
    let mut found = COLOURS.concat();
    take_colours(&mut found);
    assert_eq!(found, [82, 165, 29, 17, 225, 76].map(|gray| [gray; 3]).concat());
}

/// The same of all colours whose red, green and blue are multiples of 5, blue running fastest, as one row; the sum of all bytes, the
/// `i`th times `i mod 65521 + 1`.
#[test]
fn all_colours_are_pillows() {
    let steps = || (0..=255u8).step_by(5);
    let cube: Vec<u8> = steps().flat_map(|r| steps().flat_map(move |g| steps().flat_map(move |b| [r, g, b]))).collect();
    let sum =
        |bytes: &[u8]| bytes.iter().enumerate().map(|(i, &byte)| u64::from(byte) * (i as u64 % 65_521 + 1)).sum::<u64>();
    for (change, expected) in GOLDEN {
        let mut found = cube.clone();
        change.apply(&mut found);
        assert_eq!(sum(&found), expected, "{change:?}");
    }
    let mut found = cube;
    take_colours(&mut found);
    assert_eq!(sum(&found), GOLDEN_GRAY);
}

/// Each byte is Pillow's, or next to it: the two resizers round otherwise.
#[test]
fn crops_are_pillows() {
    let image: Vec<u8> = (0..24 * 20 * 3).map(|i| ((i * i * 31 + i * 17) % 251) as u8).collect();
    for (window, expected) in CROPS {
        let mut found = [0; 108];
        Cropper::default().resize(&image, 24, window, 6, &mut found).unwrap();
        assert!(found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1), "{window:?}: {found:?}, not {expected:?}");
    }
}

fn indices() -> Vec<u8> {
    let index = |at: usize| {
        let (x, y) = (at % 24, at / 24);
        ((x * x * 31 + x * y * 7 + y * 17) % 251) as u8
    };
    (0..24 * 20).map(index).collect()
}

#[test]
fn crops_of_masks_are_pillows() {
    for (window, expected) in MASKS {
        let mut found = vec![9];
        crop::mask(&indices(), 24, window, false, 6, &mut found);
        assert_eq!(found[1..], expected, "{window:?}");
        let mut mirrored = Vec::new();
        crop::mask(&indices(), 24, window, true, 6, &mut mirrored);
        mirrored.chunks_mut(6).for_each(<[u8]>::reverse);
        assert_eq!(mirrored, expected);
    }
}

/// An image that shows the indices of its mask has a view that does so, too.
#[test]
fn masks_are_cropped_and_mirrored_with_their_images() {
    let (rows, mask) = (6, indices());
    let plain = table(rows);
    let shown: Vec<u8> = mask.iter().flat_map(|&index| [index; 3]).collect();
    let mut fields: Vec<Arc<Field>> = plain.schema().fields().to_vec();
    fields.push(Arc::new(masks::field(20, 24)));
    let present = (0..rows).map(|row| row % 2 == 0).collect();
    let (label, ids) = (plain["label"].clone(), plain[IMAGE_ID].clone());
    let columns = vec![
        ids,
        pixels::array(shown.repeat(rows), 20, 24),
        label,
        masks::array(mask.repeat(rows), present, 20, 24).unwrap(),
    ];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    // Crops of the size of the result are not resized: pixels are those of the image.
    let config = json!({"side": 20, "scale": [0.8333, 0.8334], "ratio": [1.0, 1.0]});
    let bound = trial::bind::<Augment>(config.clone(), &[(IMAGES, batch.schema())]).unwrap();
    assert_eq!(bound.passes(), [IMAGE_ID, "label"]);
    assert_eq!(bound.reads(IMAGES, &Augment::INPUTS[0]), [IMAGE_ID, PIXELS, MASK]);
    assert!(masks::is_of(bound.schema().field_with_name(MASK).unwrap(), 20, 20));
    assert_ne!(bound.settled(), bind(config).unwrap().settled(), "an earlier version handed such a column on as it was");
    let made = trial::call(bound, &[], &batch).unwrap();
    let views = Pixels::of(&made).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (row, mask) in masks::indices(&made).unwrap().enumerate() {
        let gray: Vec<u8> = views.row(row).chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(mask, (row % 2 == 0).then_some(&gray[..]), "row {row}");
        seen.insert(gray);
    }
    assert!(seen.len() > 2, "views differ");
    // A column of that name that is of another size is not a mask of these pixels.
    let schema = batch.schema();
    let other = schema.fields().iter().map(|field| match field.name().as_str() {
        MASK => Arc::new(masks::field(24, 20)),
        _ => field.clone(),
    });
    let other = Arc::new(Schema::new(other.collect::<Vec<_>>()));
    let bound = trial::bind::<Augment>(json!({}), &[(IMAGES, other)]).unwrap();
    assert_eq!(bound.passes(), [IMAGE_ID, "label", MASK]);
}

#[test]
fn views_depend_on_seed_image_and_epoch_alone() {
    let whole = table(9);
    let all = views(everything(), &whole, 1, 3);
    assert_eq!(all, views(everything(), &whole, 1, 3));
    let cut = [whole.slice(0, 4), whole.slice(4, 5)].map(|batch| views(everything(), &batch, 1, 3));
    assert_eq!(all, arrow::compute::concat_batches(&all.schema(), &cut).unwrap());
    assert_ne!(all, views(everything(), &whole, 2, 3));
    assert_ne!(all, views(everything(), &whole, 1, 4));
    assert_eq!(pixels::size(&all.schema()).unwrap(), (16, 16));
    assert_eq!(all.column(2), whole.column(2));
}

#[test]
fn a_key_changes_what_it_is_about() {
    let draw = |config: serde_json::Value| {
        let augment = bind(config).unwrap();
        (0..64).map(|row| Plan::draw(&augment.config, [24, 20], 1, &format!("{row}"), 0)).collect::<Vec<_>>()
    };
    let (plain, full) = (draw(json!({})), draw(everything()));
    assert!(plain.iter().zip(&full).all(|(a, b)| (a.window, a.mirrored) == (b.window, b.mirrored)));
    assert!(
        plain.iter().all(|plan| !plan.gray && plan.jitter == Some(Jitter::draw(&mut Draw::new(0, "", "", "", 0), [0.0; 4])))
    );
    let count = |has: fn(&Plan) -> bool| full.iter().filter(|plan| has(plan)).count();
    assert!((20..44).contains(&count(|plan| plan.mirrored)));
    assert!((42..60).contains(&count(|plan| plan.jitter.is_some())));
    assert!((4..24).contains(&count(|plan| plan.gray)));
}

#[test]
fn all_switched_off_it_changes_nothing() {
    let square = json!({"scale": [1.0, 1.0], "ratio": [1.2, 1.2], "flip": 0.0});
    let plan = Plan::draw(&bind(square).unwrap().config, [24, 20], 1, "a", 0);
    assert_eq!(plan.window, Window { left: 0, top: 0, width: 24, height: 20 });
    let mut view: Vec<u8> = (0..27).collect();
    plan.finish(3, &mut view);
    assert_eq!(view, (0..27).collect::<Vec<u8>>());
    // Of 24 x 20 pixels, the largest square is the middle one, as it is.
    let batch = table(3);
    let made = views(json!({"scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": 0.0}), &batch, 1, 0);
    let (given, found) = (Pixels::of(&batch).unwrap(), Pixels::of(&made).unwrap());
    for row in 0..3 {
        let middle: Vec<u8> = given.row(row).chunks(24 * 3).flat_map(|line| line[2 * 3..22 * 3].to_vec()).collect();
        assert_eq!(found.row(row), middle);
    }
}

#[test]
fn what_is_wrong_is_found_at_once() {
    let wrong = json!({
        "side": 0, "scale": [0.5, 0.2], "ratio": [0.0, 1.0], "flip": 1.5, "jitter": -0.1, "gray": 2.0, "brightness": -1.0, "hue": 0.6
    });
    let at: Vec<At> = bind(wrong).unwrap_err().into_iter().map(|fault| fault.at).collect();
    let expected = ["side", "scale", "ratio", "flip", "jitter", "gray", "brightness", "hue"];
    assert_eq!(at, expected.map(|key| At::Key(key.to_owned())));
    let faults = trial::bind::<Augment>(json!({}), &[(IMAGES, Arc::new(Schema::empty()))]).unwrap_err();
    assert_eq!(faults[0].at, At::Input(IMAGES.to_owned()));
}

/// Images a second of one core, for 96 x 96 pixels.
#[test]
#[ignore = "a benchmark"]
fn speed() {
    let mut draw = Draw::new(4, "test", "bytes", "", 0);
    let image: Vec<u8> = (0..96 * 96 * 3).map(|_| draw.below(256) as u8).collect();
    let time = |name: &str, config: serde_json::Value| {
        let (config, mut cropper, mut view) = (bind(config).unwrap().config, Cropper::default(), vec![0; 96 * 96 * 3]);
        let start = std::time::Instant::now();
        for row in 0..4000 {
            let plan = Plan::draw(&config, [96, 96], 1, &row.to_string(), 0);
            cropper.resize(&image, 96, plan.window, 96, &mut view).unwrap();
            plan.finish(96, &mut view);
        }
        println!("{name}: {:.0} images/s", 4000.0 / start.elapsed().as_secs_f64());
    };
    time("crop and flip", json!({}));
    time(
        "all of SimCLR's",
        json!({"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "jitter": 0.8, "gray": 0.2}),
    );
}

const GOLDEN: [(Change, u64); 7] = [
    (Change::Brightness(1.7), 2_390_649_860_704),
    (Change::Contrast(0.3), 1_697_159_883_737),
    (Change::Contrast(1.6), 1_698_865_598_890),
    (Change::Saturation(0.4), 1_696_844_508_882),
    (Change::Saturation(1.9), 1_696_790_806_119),
    (Change::Hue(0.1), 1_702_723_976_800),
    (Change::Hue(-0.25), 1_703_003_982_592),
];
const GOLDEN_GRAY: u64 = 1_701_681_147_892;

/// Parts of an image of 24 x 20 pixels, resized to 6 x 6 (`tests/peers/golden/crops.py`).
#[rustfmt::skip]
const CROPS: [(Window, [u8; 108]); 3] = [
    (Window { left: 3, top: 2, width: 17, height: 11 }, [
        107, 128, 148, 83, 160, 174, 82, 122, 110, 105, 123, 130, 124, 135, 149, 140, 149, 153,
        143, 67, 152, 103, 135, 124, 155, 119, 131, 109, 111, 144, 87, 136, 112, 155, 139, 132,
        140, 123, 153, 121, 118, 124, 155, 84, 156, 145, 93, 143, 107, 124, 122, 134, 171, 90,
        122, 117, 144, 143, 132, 168, 159, 142, 139, 152, 143, 136, 92, 160, 134, 95, 112, 103,
        142, 92, 123, 167, 87, 169, 111, 107, 108, 133, 95, 134, 147, 137, 135, 154, 144, 130,
        153, 120, 87, 115, 120, 141, 137, 166, 98, 142, 87, 128, 99, 121, 141, 123, 165, 154,
    ]),
    (Window { left: 0, top: 0, width: 24, height: 20 }, [
        136, 91, 121, 119, 140, 144, 123, 145, 145, 133, 130, 132, 138, 127, 112, 132, 153, 108,
        138, 129, 127, 118, 115, 135, 134, 113, 136, 110, 118, 135, 139, 144, 114, 142, 139, 121,
        127, 142, 105, 140, 120, 149, 146, 119, 141, 132, 131, 134, 115, 134, 117, 113, 139, 149,
        125, 129, 107, 137, 111, 125, 134, 135, 110, 137, 104, 128, 117, 150, 144, 122, 139, 142,
        108, 133, 136, 147, 141, 120, 143, 149, 120, 134, 117, 134, 114, 123, 133, 144, 107, 138,
        97, 133, 123, 131, 138, 109, 119, 131, 121, 134, 131, 113, 140, 121, 151, 154, 124, 147,
    ]),
    (Window { left: 5, top: 4, width: 4, height: 5 }, [
        121, 130, 201, 102, 79, 117, 86, 61, 56, 98, 197, 149, 138, 236, 144, 175, 240, 116,
        111, 79, 110, 125, 61, 59, 122, 57, 43, 53, 112, 180, 107, 163, 125, 177, 201, 37,
        173, 97, 82, 152, 116, 69, 115, 126, 78, 53, 91, 167, 73, 84, 106, 106, 86, 23,
        217, 96, 141, 181, 152, 112, 141, 194, 101, 128, 139, 169, 93, 112, 141, 59, 98, 95,
        179, 75, 222, 179, 137, 157, 179, 198, 111, 174, 191, 187, 135, 183, 198, 97, 175, 189,
        80, 124, 230, 114, 125, 199, 126, 136, 166, 40, 174, 161, 109, 116, 185, 198, 47, 209,
    ]),
];

/// Parts of a mask of 24 x 20 indices, resized to 6 x 6 (`tests/peers/golden/crops.py`).
#[rustfmt::skip]
const MASKS: [(Window, [u8; 36]); 3] = [
    (Window { left: 3, top: 2, width: 17, height: 11 }, [
        84, 145, 11, 148, 191, 39, 174, 26, 185, 99, 184, 74, 13, 158, 108, 50, 177, 109, 103, 39, 31, 1, 170,
        144, 193, 171, 205, 203, 163, 179, 32, 52, 128, 154, 156, 214,
    ]),
    (Window { left: 0, top: 0, width: 24, height: 20 }, [
        155, 171, 175, 167, 147, 115, 28, 156, 21, 125, 217, 46, 121, 82, 31, 219, 144, 57, 214, 8, 41, 62,
        71, 68, 87, 244, 138, 20, 141, 250, 180, 170, 148, 114, 68, 10,
    ]),
    (Window { left: 5, top: 4, width: 4, height: 5 }, [
        230, 97, 97, 26, 26, 17, 31, 156, 156, 92, 92, 90, 83, 215, 215, 158, 158, 163, 83, 215, 215, 158,
        158, 163, 135, 23, 23, 224, 224, 236, 187, 82, 82, 39, 39, 58,
    ]),
];

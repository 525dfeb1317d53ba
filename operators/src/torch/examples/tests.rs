//! Tables are made.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;
use tessera_schemas::{IMAGE_ID, assignments, pixels, puzzles, text};

use super::*;
use crate::names::Names;
use crate::torch::normalisation::Normalisation;

/// Puzzles of 2 x 2 tiles of 8 pixels: tile `i` of class `c` is bright at pixel `(i + c) % 4` of its rows, and random besides.
pub fn table(rows: usize, classes: usize) -> RecordBatch {
    let layout = puzzles::Layout { grid: 2, tile: 8, permutations: classes };
    let mut columns = puzzles::Columns::default();
    let mut draw = crate::random::Draw::new(1, "test", "puzzles", "", 0);
    for row in 0..rows {
        let class = draw.below(classes);
        columns.ids.push(format!("{row:04}"));
        columns.permutations.push(class as i32);
        columns.occluded.push(0);
        columns.gray.push(false);
        for i in 0..4 * 8 * 8 * 3 {
            let (tile, x) = (i / 192, i / 3 % 8);
            let bright = x % 4 == (tile + class) % 4;
            columns.tiles.push(draw.below(100) as u8 + if bright { 100 } else { 0 });
        }
    }
    columns.finish(&puzzles::schema(layout, "tile")).unwrap()
}

fn layout(schema: &SchemaRef) -> Layout {
    Layout::of(schema, None, None, Normalisation::Own).unwrap()
}

/// Images of 2 x 1 pixels with whole numbers in a column.
fn images(column: &str, classes: Int64Array) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..classes.len()).map(|row| format!("{row:02}"))));
    let bytes = (0..classes.len() * 6).map(|byte| byte as u8).collect();
    let fields =
        vec![Field::new(IMAGE_ID, DataType::Utf8, false), pixels::field(2, 1), Field::new(column, DataType::Int64, true)];
    let columns = vec![ids, pixels::array(bytes, 2, 1), Arc::new(classes)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn a_layout_is_read_from_the_schema() {
    let schema = |normalisation| puzzles::schema(puzzles::Layout { grid: 3, tile: 16, permutations: 701 }, normalisation);
    let layout = layout(&schema("tile-channel"));
    assert_eq!((layout.classes, layout.pieces, layout.side), (701, 9, [16, 16]));
    assert_eq!(layout.normalisation, Normalisation::OwnPerChannel);
    let message = |schema, target: Option<&str>| {
        let target = target.map(|name| Names::One(name.to_owned()));
        Layout::of(&schema, target.as_ref(), None, Normalisation::Own).unwrap_err()
    };
    let error = message(schema("median"), None);
    assert_eq!(error.message, "its tiles' normalisation is `median`; `tile`, `tile-channel` and `none` are known");
    assert_eq!(message(schema("tile"), Some("label")).key, Some("target"));
    let error = message(Arc::new(Schema::empty()), None).message;
    assert!(error.starts_with("its table has neither `tiles` nor `pixels`"), "{error}");
}

#[test]
fn images_have_classes_in_a_column() {
    let of = |column, target: Option<&str>, classes| {
        let (table, target) = (images(column, Int64Array::from(vec![0])), target.map(|name| Names::One(name.to_owned())));
        Layout::of(&table.schema(), target.as_ref(), classes, Normalisation::Own)
    };
    let layout = of("cluster", None, Some(5)).unwrap();
    assert_eq!((layout.classes, layout.pieces, layout.side), (5, 1, [2, 1]));
    assert_eq!(layout.columns(), ["image_id", "cluster", "pixels"]);
    assert_eq!(of("breed", Some("breed"), Some(5)).unwrap().columns()[1], "breed");
    let error = of("breed", None, Some(5)).unwrap_err().message;
    assert!(error.ends_with("no whole numbers in `cluster` or `label` (there are: breed)"), "{error}");
    let error = of("breed", Some("race"), Some(5)).unwrap_err();
    assert_eq!(error.key, Some("target"));
    assert_eq!(error.message, "`race` is no column of whole numbers of its input (there are: breed)");
    let error = of("label", None, None).unwrap_err().message;
    assert_eq!(error, "has no key `classes`, and its input does not say how many there are in `label`");
    let counted = assignments::schema(7);
    let fields = [Arc::new(pixels::field(8, 8)), Arc::new(counted.field(0).clone()), Arc::new(counted.field(1).clone())];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    assert_eq!(super::Layout::of(&schema, None, None, Normalisation::Own).unwrap().classes, 7);
}

/// Three images that show cats and dogs, or not; of one it is not known whether it shows a cat.
pub fn presence() -> RecordBatch {
    let table = images("size", Int64Array::from(vec![7, 8, 9]));
    let mut fields = table.schema().fields().to_vec();
    fields.extend(["dog", "cat"].map(|class| Arc::new(tessera_schemas::presence::field(class))));
    let of = |values: Vec<Option<i32>>| -> ArrayRef { Arc::new(arrow::array::Int32Array::from(values)) };
    let more = [of(vec![Some(1), Some(-1), Some(0)]), of(vec![Some(-1), Some(1), None])];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), [table.columns(), &more].concat()).unwrap()
}

#[test]
fn images_may_show_several_classes() {
    let table = presence();
    let of = |target: Option<&[&str]>, classes| {
        let target = target.map(|names| Names::Several(names.iter().map(|&name| name.to_owned()).collect()));
        Layout::of(&table.schema(), target.as_ref(), classes, Normalisation::Own)
    };
    let layout = of(None, None).unwrap();
    assert_eq!(layout.columns(), ["image_id", "dog", "cat", "pixels"]);
    let steps: Vec<_> = Steps::new(std::iter::once(Ok(table.clone())), &layout, 2).all().map(Result::unwrap).collect();
    assert_eq!(steps.iter().map(|step| step.count).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((&steps[0].classes[..], &steps[1].classes[..]), (&[1, -1, -1, 1][..], &[0, 0][..]));
    let odd = of(Some(&["cat", "size"]), None).unwrap();
    assert_eq!(odd.columns(), ["image_id", "cat", "size", "pixels"]);
    let fault = Steps::new(std::iter::once(Ok(table.clone())), &odd, 2).next().unwrap().unwrap_err().to_string();
    assert_eq!(fault, "image `00`: its `size` is 7, and a column of a class has 1, -1, or 0");
    assert_eq!(of(Some(&["cat", "cow"]), None).unwrap_err().key, Some("target"));
    assert_eq!(of(None, Some(2)).unwrap_err().key, Some("classes"));
    assert!(of(Some(&[]), None).unwrap_err().message.starts_with("its images have no classes"));
}

#[test]
fn images_become_steps() {
    let table = images("label", Int64Array::from(vec![0, 2, 1, 0]));
    let layout = Layout::of(&table.schema(), None, Some(3), Normalisation::Own).unwrap();
    let steps: Vec<_> = Steps::new(std::iter::once(Ok(table)), &layout, 2).map(Result::unwrap).collect();
    let expected = |classes: [i64; 2], bytes: std::ops::Range<u8>, last: &str| Examples {
        bytes: bytes.collect(),
        count: 2,
        classes: classes.to_vec(),
        last: last.to_owned(),
    };
    assert_eq!(steps, [expected([0, 2], 0..12, "01"), expected([1, 0], 12..24, "03")]);
    let fault = |class| {
        let table = images("label", Int64Array::from(vec![Some(0), class]));
        Steps::new(std::iter::once(Ok(table)), &layout, 2).next().unwrap().unwrap_err().to_string()
    };
    assert_eq!(fault(Some(3)), "image `01`: its class is 3, and should be 0 to 2");
    assert_eq!(fault(Some(-1)), "image `01`: its class is -1, and should be 0 to 2");
    assert!(fault(None).starts_with("image `01`: it has no class"));
}

proptest! {
    #[test]
    fn steps_do_not_depend_on_how_rows_come(cuts in prop::collection::vec(0usize..6, 0..8), size in 2usize..9) {
        let table = table(10, 3);
        let layout = layout(&table.schema());
        let whole: Vec<_> = Steps::new(std::iter::once(Ok(table.clone())), &layout, size).map(Result::unwrap).collect();
        prop_assert_eq!(whole.len(), 10 / size);
        let mut steps = Steps::new(std::iter::once(Ok(table.clone())), &layout, size);
        prop_assert_eq!((steps.by_ref().count(), steps.left()), (10 / size, 10 % size));
        prop_assert!(whole.iter().all(|step| step.classes.len() == size && step.bytes.len() == size * 768));
        let mut start = 0;
        let mut batches = Vec::new();
        for rows in cuts.into_iter().chain([10]) {
            let rows = rows.min(10 - start);
            batches.push(Ok(table.slice(start, rows)));
            start += rows;
        }
        let cut: Vec<_> = Steps::new(batches.into_iter(), &layout, size).map(Result::unwrap).collect();
        prop_assert_eq!(&whole, &cut);
        // Behind the example that a step ended with, the same steps follow.
        for (done, step) in whole.iter().enumerate() {
            let ids = text(&table, IMAGE_ID).unwrap();
            let start = ids.iter().flatten().position(|id| id == step.last).unwrap() + 1;
            let rest = std::iter::once(Ok(table.slice(start, 10 - start)));
            let rest: Vec<_> = Steps::new(rest, &layout, size).behind().map(Result::unwrap).collect();
            prop_assert_eq!(&whole[done + 1..], &rest[..]);
        }
    }
}

#[test]
fn the_only_step_may_be_short() {
    let table = table(3, 2);
    let layout = layout(&table.schema());
    let steps: Vec<_> = Steps::new(std::iter::once(Ok(table.clone())), &layout, 8).collect();
    assert_eq!(steps.len(), 1);
    let step = steps[0].as_ref().unwrap();
    assert_eq!((step.classes.len(), step.last.as_str()), (3, "0002"), "what comes behind it is known");
    assert_eq!(Steps::new(std::iter::once(Ok(table.slice(0, 1))), &layout, 8).count(), 0);
    assert_eq!(Steps::new(std::iter::empty(), &layout, 8).count(), 0);
}

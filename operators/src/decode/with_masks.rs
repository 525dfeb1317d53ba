//! `decode` with masks.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use image::{ImageFormat, RgbImage};
use png::{BitDepth, ColorType};
use serde_json::json;
use tessera_schemas::pixels::{PIXELS, Pixels};

use super::*;
use crate::operator::At;
use crate::picture::mask::tests::png;
use crate::trial::{bind, scope};

fn schema(mask: Field) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = images::schema().fields().to_vec();
    fields.extend([Arc::new(Field::new("split", DataType::Utf8, true)), Arc::new(mask)]);
    Arc::new(Schema::new(fields))
}

#[test]
fn masks_are_asked_for() {
    let table = schema(masks::located_field());
    let without: Decode = bind(json!({"side": 4}), &[("images", table.clone())]).unwrap();
    let columns = |decode: &Decode| decode.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(columns(&without), [IMAGE_ID, PIXELS, "label", "split"]);
    let reads = |decode: &Decode| decode.reads("images", &Decode::INPUTS[0]);
    assert_eq!(reads(&without), [IMAGE_ID, BYTES]);
    let with: Decode = bind(json!({"side": 4, "mask": true}), &[("images", table)]).unwrap();
    assert_eq!(columns(&with), [IMAGE_ID, PIXELS, MASK, "label", "split"]);
    assert_eq!(reads(&with), [IMAGE_ID, BYTES, MASK]);
    assert_eq!(with.passes(), [IMAGE_ID, "label", "split"]);
    assert!(masks::is_of(with.schema().field_with_name(MASK).unwrap(), 4, 4));
    // Another column of that name is handed on as ever, unless its bytes are asked for.
    let bytes = schema(Field::new(MASK, DataType::Binary, true));
    let handing: Decode = bind(json!({"side": 4}), &[("images", bytes.clone())]).unwrap();
    assert_eq!(handing.passes(), [IMAGE_ID, "label", "split", MASK]);
    assert!(bind::<Decode>(json!({"side": 4, "mask": true}), &[("images", bytes)]).is_ok());
    for other in [schema(Field::new(MASK, DataType::Utf8, true)), images::schema()] {
        let errors = bind::<Decode>(json!({"side": 4, "mask": true}), &[("images", other)]).err().unwrap();
        assert_eq!(errors[0].at, At::Key("mask".into()));
        assert_eq!(errors[0].message, "the input has no column `mask` that says where masks lie, or has their bytes");
    }
}

#[test]
fn each_row_has_its_own_mask() {
    let image = |shade: u8| {
        let (mut bytes, image) = (Cursor::new(Vec::new()), RgbImage::from_pixel(6, 4, image::Rgb([shade; 3])));
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let mask = |index: u8| png(&[index; 24], 6, BitDepth::Eight, ColorType::Indexed);
    let broken = mask(7)[..50].to_vec();
    let rows = [
        ("a", image(10), Some(mask(1))),
        ("b", image(20), Some(broken)),
        ("c", image(30), None),
        ("d", b"no image".to_vec(), Some(mask(4))),
        ("e", image(50), Some(png(&[5; 24], 4, BitDepth::Eight, ColorType::Indexed))),
        ("f", image(60), Some(mask(255))),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.1))),
        Arc::new(rows.iter().map(|row| row.2.as_deref()).collect::<BinaryArray>()),
    ];
    let fields = vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        Field::new(BYTES, DataType::Binary, true),
        Field::new(MASK, DataType::Binary, true),
    ];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let made = |on_error: &str, batch: &RecordBatch| {
        let config = json!({"side": 4, "mask": true, "on_error": on_error});
        let decode: Decode = bind(config, &[("images", batch.schema())]).unwrap();
        let mut dropped = Vec::new();
        let made = Map::open(&decode, &Inputs::default()).unwrap().call(batch, &mut scope(&mut dropped));
        (made, dropped)
    };
    let (table, dropped) = made("drop", &batch);
    let table = table.unwrap();
    let told: Vec<(&str, &str)> = dropped.iter().map(|row| (&*row.image_id, &*row.reason)).collect();
    assert_eq!(told.iter().map(|row| row.0).collect::<Vec<_>>(), ["b", "d", "e"]);
    assert!(told[0].1.starts_with("its mask is a broken PNG: "), "{told:?}");
    assert_eq!(told[2].1, "its mask is 4x6, and the image, as it is stored, 6x4");
    let pixels = Pixels::of(&table).unwrap();
    let masks: Vec<Option<&[u8]>> = masks::indices(&table).unwrap().collect();
    assert_eq!(masks, [Some(&[1; 16][..]), None, Some(&[255; 16])]);
    for (row, (id, shade)) in [("a", 10), ("c", 30), ("f", 60)].into_iter().enumerate() {
        assert_eq!((pixels.ids.value(row), pixels.row(row)), (id, &[shade; 48][..]));
    }
    let error = made("fail", &batch).0.unwrap_err().to_string();
    assert!(error.starts_with("image `b`: its mask is a broken PNG"), "{error}");
    let none = made("fail", &batch.slice(2, 1)).0.unwrap();
    assert!(none[MASK].is_null(0) && masks::indices(&none).unwrap().eq([None]));
}

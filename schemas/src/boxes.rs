//! `boxes`: the objects of an image, each with its class and the rectangle around it.
//!
//! Coordinates are pixels of the stored image, before an orientation in Exif's data is applied. They are places on a continuous
//! plane: (0, 0) is the upper left corner of the first pixel, and (width, height) the lower right corner of the last. So `x0` and
//! `y0` are the left and upper edges, with which the box begins, and `x1` and `y1` the right and lower edges, at which it ends: its
//! width is `x1 - x0`, and a box around the first pixel alone is (0, 0, 1, 1).
//!
//! | format | as it is written | here |
//! | --- | --- | --- |
//! | PASCAL VOC: numbers of pixels from 1, the last one included | xmin, ymin, xmax, ymax | xmin - 1, ymin - 1, xmax, ymax |
//! | COCO: a corner and a size in pixels | x, y, w, h | x, y, x + w, y + h |
//! | YOLO: a centre and a size as parts of the image's `W` and `H` | x, y, w, h | (x - w/2) W, (y - h/2) H, (x + w/2) W, (y + h/2) H |

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder as _, ArrayRef, AsArray as _, BooleanArray, BooleanBuilder, Float32Array, Float32Builder, ListArray,
    RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Float32Type};

use crate::{SchemaError, column};

/// The name of the column of boxes.
pub const BOXES: &str = "boxes";
/// What a column of boxes is.
const EXPECTED: &str = "List<Struct{x0, y0, x1, y1, label, difficult}>";

/// One object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boxed<'a> {
    /// The left edge.
    pub x0: f32,
    /// The upper edge.
    pub y0: f32,
    /// The right edge; not less than the left one.
    pub x1: f32,
    /// The lower edge; not less than the upper one.
    pub y1: f32,
    /// The class.
    pub label: &'a str,
    /// Whether it is not to count as a miss or a false alarm: PASCAL VOC's `difficult`, COCO's `iscrowd`.
    pub difficult: bool,
}

fn parts() -> Fields {
    let side = |name| Field::new(name, DataType::Float32, false);
    Fields::from(vec![
        side("x0"),
        side("y0"),
        side("x1"),
        side("y1"),
        Field::new("label", DataType::Utf8, false),
        Field::new("difficult", DataType::Boolean, false),
    ])
}

fn element() -> Field {
    Field::new("element", DataType::Struct(parts()), false)
}

/// The column. A null is an image of which nobody said what it shows; an empty list one that shows nothing.
pub fn field() -> Field {
    Field::new(BOXES, DataType::List(Arc::new(element())), true)
}

/// Builds a column of boxes, image by image.
#[derive(Debug, Default)]
pub struct Builder {
    /// For each image, the number of boxes of all images up to and with it; `None` for an image that has no list.
    images: Vec<Option<i32>>,
    sides: [Float32Builder; 4],
    labels: StringBuilder,
    difficult: BooleanBuilder,
}

impl Builder {
    /// The next image, with its boxes.
    pub fn push<'a>(&mut self, boxes: impl IntoIterator<Item = Boxed<'a>>) {
        for Boxed { x0, y0, x1, y1, label, difficult } in boxes {
            for (side, value) in self.sides.iter_mut().zip([x0, y0, x1, y1]) {
                side.append_value(value);
            }
            self.labels.append_value(label);
            self.difficult.append_value(difficult);
        }
        self.images.push(Some(self.difficult.len() as i32));
    }

    /// The next image, of which nobody said what it shows.
    pub fn push_null(&mut self) {
        self.images.push(None);
    }

    /// The column of all images so far.
    ///
    /// # Errors
    /// Arrow refuses it (never).
    pub fn finish(mut self) -> Result<ArrayRef, SchemaError> {
        let nulls = NullBuffer::from_iter(self.images.iter().map(Option::is_some));
        let mut end = 0;
        let ends = self.images.iter().map(|image| {
            end = image.unwrap_or(end);
            end
        });
        let offsets: ScalarBuffer<i32> = std::iter::once(0).chain(ends).collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        columns.extend(self.sides.iter_mut().map(|side| Arc::new(side.finish()) as ArrayRef));
        columns.extend([Arc::new(self.labels.finish()) as ArrayRef, Arc::new(self.difficult.finish())]);
        let values = StructArray::try_new(parts(), columns, None)?;
        let list = ListArray::try_new(Arc::new(element()), OffsetBuffer::new(offsets), Arc::new(values), Some(nulls))?;
        Ok(Arc::new(list))
    }
}

/// A batch's boxes, checked.
#[derive(Debug, Clone, Copy)]
pub struct Boxes<'a> {
    list: &'a ListArray,
    sides: [&'a Float32Array; 4],
    labels: &'a StringArray,
    difficult: &'a BooleanArray,
}

impl<'a> Boxes<'a> {
    /// The column [`BOXES`] of a batch.
    ///
    /// # Errors
    /// It is missing or has another type, or a box lacks one of its values.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        let array = column(batch, BOXES)?;
        let wrong = || crate::column::wrong(BOXES, EXPECTED, array.data_type());
        let list = array.as_list_opt::<i32>().ok_or_else(wrong)?;
        let values = list.values().as_struct_opt().ok_or_else(wrong)?;
        let part = |name| values.column_by_name(name).ok_or_else(wrong);
        let side = |name| part(name)?.as_primitive_opt::<Float32Type>().ok_or_else(wrong);
        let labels = part("label")?.as_string_opt::<i32>().ok_or_else(wrong)?;
        let difficult = part("difficult")?.as_boolean_opt().ok_or_else(wrong)?;
        let boxes = Self { list, sides: [side("x0")?, side("y0")?, side("x1")?, side("y1")?], labels, difficult };
        boxes.refuse_nulls(values)?;
        Ok(boxes)
    }

    /// A null within a list would look like a 0.
    fn refuse_nulls(&self, values: &StructArray) -> Result<(), SchemaError> {
        let sides = self.sides.iter().map(|side| side.nulls());
        let all: Vec<&NullBuffer> =
            sides.chain([values.nulls(), self.labels.nulls(), self.difficult.nulls()]).flatten().collect();
        let has_null = |place: usize| all.iter().any(|nulls| nulls.is_null(place));
        let bad = |&row: &usize| self.range(row).is_some_and(|mut range| !all.is_empty() && range.any(has_null));
        match (0..self.len()).find(bad) {
            Some(row) => Err(SchemaError::Null { column: BOXES.to_owned(), row }),
            None => Ok(()),
        }
    }

    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let offsets = self.list.value_offsets();
        self.list.is_valid(row).then(|| offsets[row] as usize..offsets[row + 1] as usize)
    }

    /// The boxes of one image; none if nobody said what it shows.
    pub fn row(&self, row: usize) -> Option<impl ExactSizeIterator<Item = Boxed<'a>> + use<'a>> {
        let Self { sides: [x0, y0, x1, y1], labels, difficult, .. } = *self;
        let boxed = move |i| Boxed {
            x0: x0.value(i),
            y0: y0.value(i),
            x1: x1.value(i),
            y1: y1.value(i),
            label: labels.value(i),
            difficult: difficult.value(i),
        };
        self.range(row).map(|range| range.map(boxed))
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::Schema;

    use super::*;
    use crate::digest::TableDigest;

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_new(Arc::new(Schema::new(vec![field()])), vec![column]).unwrap()
    }

    fn cat(x0: f32, difficult: bool) -> Boxed<'static> {
        Boxed { x0, y0: 1.5, x1: 7.0, y1: 8.25, label: "cat", difficult }
    }

    #[test]
    fn what_was_built_is_read_and_nothing_said_differs_from_nothing_there() {
        let mut builder = Builder::default();
        builder.push_null();
        builder.push([cat(1.0, false), Boxed { label: "", ..cat(2.0, true) }]);
        builder.push([]);
        builder.push([cat(-3.0, true)]);
        let batch = batch(builder.finish().unwrap());
        let all = |batch: &RecordBatch| -> Vec<Option<Vec<(f32, bool)>>> {
            let boxes = Boxes::of(batch).unwrap();
            (0..boxes.len()).map(|row| Some(boxes.row(row)?.map(|one| (one.x0, one.difficult)).collect())).collect()
        };
        let expected = [None, Some(vec![(1.0, false), (2.0, true)]), Some(vec![]), Some(vec![(-3.0, true)])];
        assert_eq!(all(&batch), expected);
        assert_eq!(all(&batch.slice(1, 3)), expected[1..]);
        let boxes = Boxes::of(&batch).unwrap();
        assert_eq!(boxes.row(1).unwrap().next().unwrap(), cat(1.0, false));
        assert_eq!(boxes.row(1).unwrap().nth(1).unwrap().label, "");
        assert!(!boxes.is_empty() && boxes.row(1).unwrap().len() == 2);
        assert_ne!(TableDigest::of(&batch.slice(0, 1)).unwrap(), TableDigest::of(&batch.slice(2, 1)).unwrap());
        assert_eq!(TableDigest::of(&batch).unwrap().rows, 4);
    }

    #[test]
    fn other_columns_and_boxes_without_a_side_are_refused() {
        let other = Arc::new(Schema::new(vec![Field::new(BOXES, DataType::Int32, true)]));
        let other = RecordBatch::try_new(other, vec![Arc::new(Int32Array::from(vec![1]))]).unwrap();
        let message = "column `boxes` should be List<Struct{x0, y0, x1, y1, label, difficult}>, found Int32";
        assert_eq!(Boxes::of(&other).unwrap_err().to_string(), message);
        assert!(Boxes::of(&other.project(&[]).unwrap()).is_err());

        // Another program may write the parts nullable, and leave one out.
        let mut loose: Vec<Field> = parts().iter().map(|part| part.as_ref().clone().with_nullable(true)).collect();
        let sides = |last| Arc::new(Float32Array::from(vec![Some(1.0), last])) as ArrayRef;
        let label = Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef;
        let columns = |last| {
            let difficult = Arc::new(BooleanArray::from(vec![true, false])) as ArrayRef;
            vec![sides(Some(1.0)), sides(last), sides(Some(1.0)), sides(Some(1.0)), label.clone(), difficult]
        };
        let made = |fields: &[Field], columns: Vec<ArrayRef>| {
            let values = StructArray::try_new(fields.to_vec().into(), columns, None).unwrap();
            let item = Arc::new(Field::new("item", values.data_type().clone(), true));
            let offsets = OffsetBuffer::new(vec![0, 1, 2].into());
            let list = ListArray::try_new(item, offsets, Arc::new(values), None).unwrap();
            let schema = Arc::new(Schema::new(vec![Field::new(BOXES, list.data_type().clone(), true)]));
            RecordBatch::try_new(schema, vec![Arc::new(list)]).unwrap()
        };
        assert_eq!(Boxes::of(&made(&loose, columns(Some(2.0)))).unwrap().len(), 2);
        let error = Boxes::of(&made(&loose, columns(None))).unwrap_err();
        assert_eq!(error, SchemaError::Null { column: BOXES.to_owned(), row: 1 });
        loose.truncate(4);
        assert!(Boxes::of(&made(&loose, columns(Some(2.0))[..4].to_vec())).is_err());
    }
}

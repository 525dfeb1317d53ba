//! The filters of a network's first layer: what it looks for in an image.
//!
//! A filter is drawn in the colours that it adds up, gray for zero, its largest weight black or white. One that knows no colour is gray.

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use tessera_schemas::weights::{self, Weight};

use super::Shown;
use super::sheet::Sheet;

/// Pixels a side that a filter has at least.
const SIDE: usize = 32;

/// Draws up to so many filters of the first convolution that sees red, green and blue.
///
/// # Errors
/// There is none, its numbers are not of 32 bits, or the picture would be too large.
pub fn draw(batches: &[RecordBatch], count: usize, stage: &str) -> Result<Shown> {
    let tensors = batches.iter().map(weights::rows).collect::<Result<Vec<_>, _>>()?;
    let first =
        tensors.iter().flatten().find(|tensor| matches!(tensor.shape[..], [_, 3, height, width] if height * width > 1));
    let tensor = first.with_context(|| format!("stage `{stage}` has no layer of filters over red, green and blue"))?;
    let (filters, [height, width]) = (filters(tensor)?, [2, 3].map(|side| tensor.shape[side] as usize));
    let (shown, factor) = (count.min(filters.len()), SIDE.div_ceil(height.max(width)));
    let (height, width) = (height * factor, width * factor);
    let sheet = Sheet::square(shown, (height, width));
    sheet.check(None)?;
    let mut canvas = sheet.canvas();
    for (at, filter) in filters[..shown].iter().enumerate() {
        let pixel = |at: usize| filter[at / width / factor * (width / factor) + at % width / factor];
        let image: Vec<u8> = (0..height * width).flat_map(pixel).collect();
        canvas.put(sheet.place(at), (height, width), &image);
    }
    let note = Some(format!("{shown} of {} filters of `{}`", filters.len(), tensor.tensor));
    Ok(Shown { canvas, legend: Vec::new(), dropped: Vec::new(), note })
}

/// Each filter's pixels, row by row.
fn filters(tensor: &Weight<'_>) -> Result<Vec<Vec<[u8; 3]>>> {
    if tensor.dtype != "F32" {
        bail!("`{}` is of type {}, and filters of F32 can be drawn", tensor.tensor, tensor.dtype);
    }
    let area = (tensor.shape[2] * tensor.shape[3]) as usize;
    let values: Vec<f32> = tensor.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let filter = |planes: &[f32]| {
        let most = planes.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        let shade = |value: f32| (127.5 + 127.5 * value / most).round() as u8;
        (0..area).map(|at| [0, 1, 2].map(|plane| shade(planes[plane * area + at]))).collect()
    };
    Ok(values.chunks_exact(3 * area).map(filter).collect())
}

#[cfg(test)]
mod tests {
    use tessera_schemas::weights::Network;

    use super::super::sheet::GAP;
    use super::*;

    fn table(tensor: &str, shape: &[i64], values: &[f32]) -> RecordBatch {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let weight = Weight { tensor, shape: shape.to_vec(), dtype: "F32", data: &data };
        weights::batch(&weights::schema(&Network::default()), &[weight]).unwrap()
    }

    #[test]
    fn filters_have_their_colours() {
        // Of 1 x 2 pixels: red against nothing; and gray, dark to bright.
        let red = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let gray = [-0.5, 0.5, -0.5, 0.5, -0.5, 0.5];
        let batches = [table("bias", &[2], &[0.0, 0.0]), table("first", &[2, 3, 1, 2], &[red, gray].concat())];
        let shown = draw(&batches, 9, "net").unwrap();
        assert_eq!(shown.note.as_deref(), Some("2 of 2 filters of `first`"));
        let (sheet, side) = (Sheet::square(2, (16, 32)), 16);
        let pixel = |filter: usize, column: usize| {
            let (x, y) = sheet.place(filter);
            shown.canvas.pixels[((y + 3) * shown.canvas.width + x + column * side + 3) * 3..][..3].to_vec()
        };
        assert_eq!([pixel(0, 0), pixel(0, 1)], [[255, 128, 128], [128; 3]]);
        assert_eq!([pixel(1, 0), pixel(1, 1)], [[0; 3], [255; 3]]);
        assert_eq!(draw(&batches, 1, "net").unwrap().canvas.height, 16 + 2 * GAP);
        let error = draw(&batches[..1], 9, "net").err().unwrap().to_string();
        assert_eq!(error, "stage `net` has no layer of filters over red, green and blue");
    }
}

//! Images in datasets: bytes of `N x H x W x 3`, `N x 3 x H x W` or `N x H x W`, as `decode` would give them.

use arrow::array::ArrayRef;
use arrow::buffer::Buffer;
use arrow::datatypes::Field;
use tessera_schemas::pixels;

use super::kind::{Kind, sides};

/// How a dataset's images lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    order: Order,
    height: usize,
    width: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Red, green and blue of each pixel.
    ChannelsLast,
    /// All reds, all greens, all blues.
    ChannelsFirst,
    /// One value a pixel.
    Grey,
}

impl Picture {
    /// Whether a dataset looks as if it held images.
    pub fn may_be(kind: &Kind, shape: &[u64]) -> bool {
        Self::of(kind, shape).is_ok()
    }

    /// The layout of a dataset's images. Where both are possible (`N x 3 x W x 3`), channels come last.
    ///
    /// # Errors
    /// It holds none; the message says what would be some.
    pub fn of(kind: &Kind, shape: &[u64]) -> Result<Self, String> {
        let (order, height, width) = match (kind, shape) {
            (Kind::Int { bytes: 1, signed: false, .. }, &[_, height, width, 3]) => (Order::ChannelsLast, height, width),
            (Kind::Int { bytes: 1, signed: false, .. }, &[_, 3, height, width]) => (Order::ChannelsFirst, height, width),
            (
                Kind::Int { bytes: 1, signed: false, .. },
                &([_, height, width] | [_, height, width, 1] | [_, 1, height, width]),
            ) => (Order::Grey, height, width),
            _ => {
                let shape = sides(shape);
                return Err(format!("holds {kind} {shape}; images are uint8, N x H x W x 3, N x 3 x H x W or N x H x W"));
            }
        };
        let bytes = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(3));
        if !bytes.is_some_and(|bytes| (1..=i32::MAX as u64).contains(&bytes)) {
            return Err(format!("holds images of {height} x {width}, which are too large or empty"));
        }
        Ok(Self { order, height: height as usize, width: width as usize })
    }

    /// The column's field.
    pub fn field(self) -> Field {
        pixels::field(self.height, self.width)
    }

    /// The column, from the images' bytes.
    pub fn column(self, bytes: &Buffer) -> ArrayRef {
        let plane = self.height * self.width;
        let rgb = match self.order {
            Order::ChannelsLast => bytes.to_vec(),
            Order::Grey => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
            Order::ChannelsFirst => {
                let mut rgb = Vec::with_capacity(bytes.len());
                for image in bytes.chunks_exact(3 * plane) {
                    let (red, rest) = image.split_at(plane);
                    let (green, blue) = rest.split_at(plane);
                    rgb.extend(red.iter().zip(green).zip(blue).flat_map(|((&red, &green), &blue)| [red, green, blue]));
                }
                rgb
            }
        };
        pixels::array(rgb, self.height, self.width)
    }
}

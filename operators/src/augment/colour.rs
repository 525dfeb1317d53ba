//! Brightness, contrast, saturation and hue, as Pillow computes them on bytes and torchvision's `ColorJitter` asks for them.

use crate::luma::luma;
use crate::random::Draw;

/// What is done to an image's colours, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Jitter(Vec<Change>);

/// One change of colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Times a factor.
    Brightness(f64),
    /// The distance to the mean gray, times a factor.
    Contrast(f64),
    /// The distance to its own gray, times a factor.
    Saturation(f64),
    /// A shift of the hue, as a part of its circle.
    Hue(f64),
}

impl Jitter {
    /// Draws factors for strengths of brightness, contrast, saturation and hue; a strength of 0 is no change. The order is random.
    pub fn draw(draw: &mut Draw, [brightness, contrast, saturation, hue]: [f64; 4]) -> Self {
        let mut factor = |strength: f64| {
            let (low, high) = ((1.0 - strength).max(0.0), 1.0 + strength);
            low + (high - low) * draw.unit()
        };
        let factors = [factor(brightness), factor(contrast), factor(saturation)];
        let shift = hue * (2.0 * draw.unit() - 1.0);
        let all = [
            (brightness, Change::Brightness(factors[0])),
            (contrast, Change::Contrast(factors[1])),
            (saturation, Change::Saturation(factors[2])),
            (hue, Change::Hue(shift)),
        ];
        let order = draw.distinct(all.len(), all.len());
        Self(order.into_iter().map(|at| all[at]).filter(|(strength, _)| *strength > 0.0).map(|(_, change)| change).collect())
    }

    /// Changes `N x 3` bytes in place.
    pub fn apply(&self, pixels: &mut [u8]) {
        self.0.iter().for_each(|change| change.apply(pixels));
    }
}

impl Change {
    /// Changes `N x 3` bytes in place.
    pub fn apply(self, pixels: &mut [u8]) {
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        match self {
            Self::Brightness(factor) => towards(pixels, 0, factor as f32),
            Self::Contrast(factor) => towards(pixels, mean_gray(pixels), factor as f32),
            Self::Saturation(factor) => {
                let factor = factor as f32;
                for pixel in pixels {
                    let gray = luma(*pixel);
                    *pixel = pixel.map(|value| blend(gray, value, factor));
                }
            }
            Self::Hue(shift) => {
                // Truncated, and a circle of 256.
                let shift = (shift * 255.0) as i32 as u8;
                for pixel in pixels {
                    let [hue, saturation, value] = hsv(*pixel);
                    *pixel = rgb([hue.wrapping_add(shift), saturation, value]);
                }
            }
        }
    }
}

/// Moves all values from `centre` by a factor; one table of bytes does it.
fn towards(pixels: &mut [[u8; 3]], centre: u8, factor: f32) {
    let table: [u8; 256] = std::array::from_fn(|value| blend(centre, value as u8, factor));
    for pixel in pixels {
        *pixel = pixel.map(|value| table[usize::from(value)]);
    }
}

/// `from + factor · (to - from)` as `Image.blend` has it: in f32, clipped and truncated.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

/// The mean of all grays, rounded.
fn mean_gray(pixels: &[[u8; 3]]) -> u8 {
    let sum: u64 = pixels.iter().map(|pixel| u64::from(luma(*pixel))).sum();
    (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8
}

/// Hue, saturation, value, in Pillow's arithmetic (its `rgb2hsv_row`): f32, truncated.
fn hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [r, g, b] = [red, green, blue].map(|value| f64::from(f32::from(most - value) / range));
    let hue = if red == most {
        b as f32 - g as f32
    } else if green == most {
        (2.0 + r - b) as f32
    } else {
        (4.0 + g - r) as f32
    };
    // In 5/6 to 11/6: what is behind the point, as `fmod` would have it, without its cost.
    let turned = f64::from(hue) / 6.0 + 1.0;
    let hue = (if turned >= 1.0 { turned - 1.0 } else { turned }) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// Back to red, green, blue (Pillow's `hsv2rgb`).
fn rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let place = f64::from(f32::from(hue)) * 6.0 / 255.0;
    // None is below 0: numbers are truncated and rounded without calls.
    let sector = place as u8;
    let rest = f64::from((place - f64::from(sector)) as f32);
    let share = f64::from((f64::from(saturation) / 255.0) as f32);
    let of = |share: f64| (f64::from(value) * (1.0 - share) + 0.5) as u8;
    let (p, q, t) = (of(share), of(share * rest), of(share * (1.0 - rest)));
    match sector % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

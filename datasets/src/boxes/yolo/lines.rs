//! The lines of a label file.

use super::super::{Object, excerpt, sides};
use super::data::Data;

/// How far behind the image's edge a point may lie, as a part of the image: programs round.
const BEYOND: f64 = 0.01;

/// The objects of a text about an image of that width and height.
///
/// # Errors A line does not describe an object; the message has its number.
pub fn objects(text: &str, size: (u32, u32), data: &Data) -> Result<Vec<Object>, String> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| object(line.trim(), size, data).map_err(|message| format!("line {number}: {message}")))
        .collect()
}

fn object(line: &str, (width, height): (u32, u32), data: &Data) -> Result<Object, String> {
    let wrong = |what: &str| format!("`{}` {what}", excerpt(line));
    let parsed = line.split_ascii_whitespace().map(|part| part.parse::<f64>().ok().filter(|value| value.is_finite()));
    let numbers: Vec<f64> = parsed.collect::<Option<_>>().ok_or_else(|| wrong("should be numbers, with spaces between"))?;
    let (&class, points) = numbers.split_first().ok_or_else(|| wrong("has no class"))?;
    let index = class as usize;
    if class < 0.0 || class.fract() != 0.0 {
        return Err(wrong("should begin with the number of a class"));
    }
    let label = data.names.get(index).ok_or_else(|| {
        let last = data.names.len().saturating_sub(1);
        wrong(&format!("is of class {class}, and there are {} (0 to {last})", data.names.len()))
    })?;
    let edges = match points {
        [x, y, w, h] => centred([*x, *y, *w, *h]),
        [x, y, w, h, ..] if data.has_keypoints => centred([*x, *y, *w, *h]),
        points if points.len() >= 6 && points.len() % 2 == 0 => Ok(around(points)),
        _ => Err("should be a class, x, y, width and height, or a class and the points of a polygon".to_owned()),
    };
    let [x0, y0, x1, y1] = edges.map_err(|what| wrong(&what))?;
    let given = if data.has_keypoints { &points[..4] } else { points };
    if given.iter().any(|value| !(-BEYOND..=1.0 + BEYOND).contains(value)) {
        return Err(wrong("should have coordinates as parts of the image's width and height, from 0 to 1"));
    }
    let (width, height) = (f64::from(width), f64::from(height));
    let sides = sides([x0 * width, y0 * height, x1 * width, y1 * height]).ok_or_else(|| wrong("is too large"))?;
    Ok(Object { sides, label: label.clone(), difficult: false })
}

/// The edges of a box that is given by its centre and size.
fn centred([x, y, width, height]: [f64; 4]) -> Result<[f64; 4], String> {
    if width < 0.0 || height < 0.0 {
        return Err("has a width or a height below 0".to_owned());
    }
    Ok([x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0])
}

/// The edges of the box around points.
fn around(points: &[f64]) -> [f64; 4] {
    let of = |first: usize| points.iter().skip(first).step_by(2).copied();
    let least = |first| of(first).fold(f64::INFINITY, f64::min);
    let most = |first| of(first).fold(f64::NEG_INFINITY, f64::max);
    [least(0), least(1), most(0), most(1)]
}

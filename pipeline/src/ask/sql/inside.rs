//! `inside(x, y, '0,0 4,0 4,3')`: whether a point lies within a polygon, as a lasso on a map draws one.

use std::sync::Arc;

use arrow::array::{Array as _, BooleanArray, Float64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::cast::{as_float64_array, as_string_array};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

/// The most corners.
const MOST: usize = 10_000;

/// The function. A point on an edge may count as within or not; one with a null or a NaN is neither.
pub fn function() -> ScalarUDF {
    let work = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let (x, y, polygons) = (as_float64_array(&arrays[0])?, as_float64_array(&arrays[1])?, as_string_array(&arrays[2])?);
        Ok(ColumnarValue::Array(Arc::new(all(x, y, polygons)?)))
    };
    let types = vec![DataType::Float64, DataType::Float64, DataType::Utf8];
    create_udf("inside", types, DataType::Boolean, Volatility::Immutable, Arc::new(work))
}

fn all(x: &Float64Array, y: &Float64Array, polygons: &StringArray) -> Result<BooleanArray> {
    let mut last: Option<(&str, Polygon)> = None;
    let mut within = |row: usize| {
        if x.is_null(row) || y.is_null(row) || polygons.is_null(row) {
            return Ok(None);
        }
        let text = polygons.value(row);
        if last.as_ref().is_none_or(|(last, _)| *last != text) {
            last = Some((text, Polygon::parse(text).map_err(DataFusionError::Plan)?));
        }
        let (x, y) = (x.value(row), y.value(row));
        let known = !x.is_nan() && !y.is_nan();
        Ok(last.as_ref().filter(|_| known).map(|(_, polygon)| polygon.has(x, y)))
    };
    (0..x.len()).map(&mut within).collect()
}

/// Corners, in their order.
struct Polygon(Vec<(f64, f64)>);

impl Polygon {
    /// From `x,y` of each corner, with spaces between corners.
    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let corner = |corner: &str| {
            let found = corner.split_once(',').and_then(|(x, y)| Some((number(x)?, number(y)?)));
            found.ok_or_else(|| format!("inside: `{corner}` is no corner: write x,y as in '0,0 4,0 4,3'"))
        };
        let corners = text.split_whitespace().take(MOST + 1).map(corner).collect::<Result<Vec<_>, _>>()?;
        match corners.len() {
            3..=MOST => Ok(Self(corners)),
            count if count > MOST => Err(format!("inside: the polygon has more than {MOST} corners")),
            count => Err(format!("inside: a polygon has at least 3 corners, and this one has {count}")),
        }
    }

    /// Whether a line from the point to the right crosses an odd number of edges.
    fn has(&self, x: f64, y: f64) -> bool {
        let edges = self.0.iter().zip(self.0.iter().skip(1).chain(self.0.first()));
        let crossed =
            edges.filter(|&(&(ax, ay), &(bx, by))| (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax));
        crossed.count() % 2 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within_or_not() {
        // A U, whose middle is outside.
        let polygon = "0,0 6,0 6,6 4,6 4,2 2,2 2,6 0,6";
        let x = Float64Array::from(vec![
            Some(1.0),
            Some(5.0),
            Some(3.0),
            Some(3.0),
            Some(-1.0),
            Some(7.0),
            None,
            Some(f64::NAN),
        ]);
        let y = Float64Array::from(vec![5.0, 5.0, 5.0, 1.0, 1.0, 3.0, 1.0, 1.0]);
        let found = all(&x, &y, &StringArray::from(vec![polygon; 8])).unwrap();
        let expected = [Some(true), Some(true), Some(false), Some(true), Some(false), Some(false), None, None];
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_polygon_is_refused() {
        for (text, said) in [
            ("", "inside: a polygon has at least 3 corners, and this one has 0"),
            ("0,0 1,1", "inside: a polygon has at least 3 corners, and this one has 2"),
            ("0,0 1,x 2,2", "inside: `1,x` is no corner: write x,y as in '0,0 4,0 4,3'"),
            ("0,0 1,inf 2,2", "inside: `1,inf` is no corner: write x,y as in '0,0 4,0 4,3'"),
            ("0;0", "inside: `0;0` is no corner: write x,y as in '0,0 4,0 4,3'"),
        ] {
            assert_eq!(Polygon::parse(text).err().as_deref(), Some(said));
        }
        assert_eq!(
            Polygon::parse(&"1,1 ".repeat(MOST + 5)).err().unwrap(),
            "inside: the polygon has more than 10000 corners"
        );
    }
}

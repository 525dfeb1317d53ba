//! Axes: from values to pixels, and round numbers to write beside them.

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    /// The values that are written.
    pub ticks: Vec<f64>,
}

/// Where the larger of two positive values is so many times the smaller, an axis of settings is logarithmic.
const WIDE: f64 = 30.0;

impl Axis {
    /// An axis over finite values, with about so many ticks at round numbers.
    pub fn over(values: impl Iterator<Item = f64>, ticks: usize) -> Self {
        let (low, high) = bounds(values);
        let room = if high > low { 0.0 } else { low.abs().max(1.0) * 0.1 };
        let (low, high) = (low - room, high + room);
        let step = step((high - low) / ticks.max(1) as f64);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        // Counted and not summed, and never more than fit: a step can be lost beside a large value.
        let count = (last - first).clamp(1.0, 4.0 * ticks.max(1) as f64) as usize;
        let ticks: Vec<f64> = (0..=count).map(|at| (first + at as f64) * step).collect();
        Self { low: ticks[0].min(low), high: ticks[count].max(high), logarithmic: false, ticks }
    }

    /// An axis of settings that were tried: a tick at each, logarithmic where they are positive and far apart.
    pub fn of_settings(values: &[f64]) -> Self {
        let (low, high) = bounds(values.iter().copied());
        let logarithmic = low > 0.0 && high / low >= WIDE;
        let mut ticks: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let (low, high) = match (logarithmic, high > low) {
            (true, _) => (low.ln(), high.ln()),
            (false, true) => (low, high),
            (false, false) => (low - 0.5, high + 0.5),
        };
        Self { low, high, logarithmic, ticks }
    }

    /// Where a value lies, from 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.ln() } else { value };
        (value - self.low) / (self.high - self.low)
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let found = values.filter(|value| value.is_finite()).fold(None, |found: Option<(f64, f64)>, value| {
        Some(found.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    });
    found.unwrap_or((0.0, 1.0))
}

/// The round number (1, 2 or 5 times a power of ten) that is at least that.
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= least * 0.999);
    found.unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_around_all_values() {
        let ticks = |values: &[f64]| Axis::over(values.iter().copied(), 4).ticks;
        assert_eq!(ticks(&[0.3, 9.1]), [0.0, 5.0, 10.0]);
        assert_eq!(ticks(&[0.0, 100.0]), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(&[7.0]).len(), 5);
        assert_eq!(ticks(&[f64::NAN, f64::INFINITY, 1.0, 2.0])[0], 1.0);
        let axis = Axis::over([2.0, 6.0].into_iter(), 4);
        assert_eq!((axis.place(2.0), axis.place(4.0), axis.place(6.0)), (0.0, 0.5, 1.0));
        // Steps that vanish beside the value, and the largest that there are.
        for values in [[1e300, 1.000_000_000_000_000_2e300], [-f64::MAX, f64::MAX], [0.0, f64::MIN_POSITIVE]] {
            assert!(Axis::over(values.into_iter(), 4).ticks.len() < 20);
        }
    }

    #[test]
    fn settings_far_apart_are_spread_evenly() {
        let axis = Axis::of_settings(&[1000.0, 10.0, 100.0]);
        assert_eq!(axis.ticks, [10.0, 100.0, 1000.0]);
        assert!((axis.place(100.0) - 0.5).abs() < 1e-9);
        assert!((Axis::of_settings(&[1.0, 2.0, 3.0]).place(2.0) - 0.5).abs() < 1e-9);
        assert!((Axis::of_settings(&[5.0]).place(5.0) - 0.5).abs() < 1e-9);
    }
}

use proptest::prelude::*;

use super::sums::{add, exponent, units};
use super::*;
use crate::random::Draw;

fn rows(values: Vec<f32>, dimension: usize) -> Rows {
    let mut peaks = vec![0.0f32; dimension];
    for (place, value) in values.iter().enumerate() {
        peaks[place % dimension] = peaks[place % dimension].max(value.abs());
    }
    let count = values.len() / dimension;
    Rows { values: values.into(), dimension, peaks, count, order: None }
}

/// A run over rows, on two threads.
struct Trial<'a> {
    coded: CodedRows<'a>,
    precision: Precision,
    rows: &'a Rows,
    threads: usize,
}

impl<'a> Trial<'a> {
    fn of(rows: &'a Rows, threads: usize) -> Self {
        let coded = CodedRows::new(rows.frame(), &rows.values, threads, None).unwrap();
        Self { coded, precision: Precision::of(rows, threads), rows, threads }
    }

    fn lloyd(&self, centroids: Vec<f32>) -> Lloyd<'_> {
        let Self { coded, precision, rows, threads } = self;
        let (spherical, seed, folder, threads) = (false, 5, None, *threads);
        Lloyd::new(Given { rows, coded, precision, spherical, seed, threads, folder }, centroids).unwrap()
    }
}

#[test]
fn exponents_bound_their_values() {
    for value in [1e-40f32, 0.3, 0.5, 1.0, 1.5, 2.0, 7e14] {
        let value = f64::from(value);
        let bound = 2f64.powi(exponent(value));
        assert!(value < bound && value >= bound / 2.0, "{value}");
    }
}

proptest! {
    #[test]
    fn what_is_added_can_be_taken_away(values in proptest::collection::vec(-1e6f32..1e6, 1..20), sums in -1000i64..1000) {
        let scales: Vec<_> = values.iter().map(|value| 2f64.powi(40 - exponent(value.abs().into()))).collect();
        let start = vec![sums; values.len()];
        let mut changed = start.clone();
        add(&mut changed, &values, &scales, 1.0);
        for ((sum, value), scale) in changed.iter().zip(&values).zip(&scales) {
            prop_assert_eq!((sum - sums) as f64, f64::from(*value) * scale);
        }
        add(&mut changed, &values, &scales, -1.0);
        prop_assert_eq!(changed, start);
    }

    #[test]
    fn sums_kept_up_to_date_equal_sums_made_anew(
        values in proptest::collection::vec(-1.0f32..1.0, 60..200), k in 1usize..6, threads in 1usize..4,
    ) {
        let rows = rows(values[..values.len() / 3 * 3].to_vec(), 3);
        let trial = Trial::of(&rows, threads);
        let mut lloyd = trial.lloyd(rows.values[..3 * k].to_vec());
        let mut last = f64::INFINITY;
        for _ in 0..5 {
            let round = lloyd.assign(&|| false).unwrap();
            prop_assert!(round.objective <= last * (1.0 + 1e-6));
            last = round.objective;
            let before = lloyd.centroids.clone();
            lloyd.update();
            let cluster = |label: u32| 3 * (label as usize - 1);
            let mut anew = vec![0.0; 3 * k];
            for (row, &label) in lloyd.labels.iter().enumerate() {
                anew[cluster(label)..][..3].iter_mut().zip(rows.row(row)).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            for (at, sum) in anew.into_iter().enumerate() {
                prop_assert!((lloyd.sums.value(at / 3, at % 3) - sum).abs() < 1e-10);
            }
            let distance = |(row, &label): (usize, &u32)| {
                squared_distance(rows.row(row), &before[cluster(label)..][..3])
            };
            let plain: f64 = lloyd.labels.iter().enumerate().map(distance).sum();
            prop_assert!((plain - round.objective).abs() <= 1e-9 * plain, "{} {}", plain, round.objective);
            prop_assert_eq!(lloyd.sizes().iter().sum::<i64>(), rows.count() as i64);
        }
    }
}

#[test]
fn an_empty_cluster_takes_about_half_of_the_biggest() {
    let mut draw = Draw::new(3, "test", "values", "", 0);
    let rows = rows((0..8000).map(|_| draw.unit() as f32 - 0.5).collect(), 8);
    let centroids = [vec![0.0; 8], vec![1000.0; 8]].concat();
    let trial = Trial::of(&rows, 2);
    let mut lloyd = trial.lloyd(centroids);
    assert_eq!(lloyd.assign(&|| false).unwrap().empty, 1);
    lloyd.update();
    assert_eq!(lloyd.split(), 1);
    let round = lloyd.assign(&|| false).unwrap();
    assert_eq!(round.empty, 0);
    assert!((300..=700).contains(&lloyd.sizes()[0]), "{:?}", lloyd.sizes());
    assert!((round.imbalance - 1.0).abs() < 0.2);
}

#[test]
fn empty_clusters_take_the_farthest_rows() {
    let rows = rows(vec![0.0, 1.0, 2.0, 3.0, 30.0, 100.0, 100.0, 500.0], 1);
    let trial = Trial::of(&rows, 2);
    let mut lloyd = trial.lloyd(vec![1.0, 499.0, 9000.0, 9000.0]);
    assert_eq!(lloyd.assign(&|| false).unwrap().empty, 2);
    // 500 is alone, so 100 and 100, first ids first.
    assert_eq!(lloyd.relocate().unwrap(), 2);
    assert_eq!(*lloyd.labels, [0, 0, 0, 0, 0, 2, 3, 1].map(|cluster| cluster + 1));
    lloyd.update();
    assert_eq!(lloyd.centroids, [7.2, 500.0, 100.0, 100.0]);
    // Two alike: one is empty again, and takes 30.
    assert_eq!(lloyd.assign(&|| false).unwrap().empty, 1);
    assert_eq!(lloyd.relocate().unwrap(), 1);
    lloyd.update();
    let round = lloyd.assign(&|| false).unwrap();
    assert_eq!((round.empty, round.objective), (0, 5.0));
    assert_eq!(lloyd.into_centroids(), [1.5, 500.0, 100.0, 30.0]);
}

#[test]
fn rows_that_are_all_alike_are_not_split() {
    let rows = rows(vec![0.1; 50], 5);
    let trial = Trial::of(&rows, 2);
    let mut lloyd = trial.lloyd(vec![0.1; 15]);
    let round = lloyd.assign(&|| false).unwrap();
    assert_eq!((round.objective, round.empty, round.imbalance), (0.0, 2, 3.0));
    assert_eq!(lloyd.relocate().unwrap(), 0);
    lloyd.update();
    assert_eq!(lloyd.split(), 0);
    assert_eq!(lloyd.into_centroids(), vec![0.1; 15]);
}

/// Sums of values so far apart that 64 bits would lose the small ones.
#[test]
fn values_of_any_size_beside_each_other_have_their_mean() {
    let least = f32::from_bits(1);
    for (size, large) in [(0.25, 1e15), (0.3, 1e9), (-0.3, 3e7), (least, 1e15), (1e-40, 1e3), (-1e-30, 1e15), (7.0, 1e12)] {
        // 4,000 small ones, of which some are twice or three times as large; a few large ones of both signs.
        let small = |row: usize| [size * (1 + row % 3) as f32, 1.0 + (row % 7) as f32];
        let mut values: Vec<f32> = (0..4000).flat_map(small).collect();
        values.extend([large, 0.0, -large, 0.0, large, 0.0]);
        let rows = rows(values, 2);
        let trial = Trial::of(&rows, 2);
        let mut lloyd = trial.lloyd(vec![size, 1.0, large, 0.0, -large, 0.0]);
        for _ in 0..2 {
            lloyd.assign(&|| false).unwrap();
            lloyd.update();
        }
        let round = lloyd.assign(&|| false).unwrap();
        assert_eq!(lloyd.sizes(), [4000, 2, 1], "{size} {large}");
        let mean = |place: usize| (0..4000).map(|row| f64::from(small(row)[place])).sum::<f64>() / 4000.0;
        let expected = [mean(0) as f32, mean(1) as f32];
        let squares =
            |row| (0..2).map(|place| (f64::from(small(row)[place]) - f64::from(expected[place])).powi(2)).sum::<f64>();
        let squares: f64 = (0..4000).map(squares).sum();
        assert!((round.objective / squares - 1.0).abs() < 1e-9, "{size} {large}: {} {squares}", round.objective);
        assert_eq!(lloyd.into_centroids()[..2], expected, "{size} {large}");
    }
}

#[test]
fn usual_values_are_rounded_and_far_ones_exact() {
    let mut draw = Draw::new(3, "test", "values", "", 0);
    let mut normal: Vec<f32> = (0..60_000).map(|_| ((0..12).map(|_| draw.unit()).sum::<f64>() - 6.0) as f32).collect();
    let exact = |values: &[f32]| Trial::of(&rows(values.to_vec(), 3), 2).precision.exact();
    assert!(exact(&normal).is_empty());
    // Zeros lose nothing.
    normal.iter_mut().step_by(3).skip(1).for_each(|value| *value = 0.0);
    assert!(exact(&normal).is_empty());
    normal[1] = 1e15;
    normal[5] = 1e-15;
    assert_eq!(exact(&normal), [1, 2]);
}

proptest! {
    #[test]
    fn exact_units_are_the_value(bits in proptest::num::u32::ANY) {
        let value = f32::from_bits(bits);
        prop_assume!(value.is_finite() && value.abs() <= 1e15);
        let (low, high) = units(value).wrapping_abs().to_parts();
        let size = high as f64 * 2f64.powi(128 - 149) + low as f64 * 2f64.powi(-149);
        prop_assert_eq!(size, f64::from(value.abs()));
        prop_assert_eq!(units(value).wrapping_add(units(-value)), arrow::datatypes::i256::ZERO);
    }
}

use proptest::prelude::*;

use super::*;
use crate::random::Draw;

fn rows(values: Vec<f32>, dimension: usize) -> Rows {
    let mut peaks = vec![0.0f32; dimension];
    for (place, value) in values.iter().enumerate() {
        peaks[place % dimension] = peaks[place % dimension].max(value.abs());
    }
    let order = (0..(values.len() / dimension) as u32).collect();
    Rows { values: values.into(), dimension, peaks, order }
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
        let coded = CodedRows::new(rows.frame(), &rows.values, threads, None).unwrap();
        let mut lloyd = Lloyd::new(&rows, &coded, rows.values[..3 * k].to_vec(), false, 1, threads);
        let mut last = f64::INFINITY;
        for _ in 0..5 {
            let round = lloyd.assign(&|| false).unwrap();
            prop_assert!(round.objective <= last * (1.0 + 1e-6));
            last = round.objective;
            let before = lloyd.centroids.clone();
            lloyd.update();
            let mut anew = vec![0; lloyd.sums.len()];
            for (row, &label) in lloyd.labels.iter().enumerate() {
                add(&mut anew[3 * label as usize..][..3], rows.row(row), &lloyd.scales, 1.0);
            }
            prop_assert_eq!(&anew, &lloyd.sums);
            let distance = |(row, &label): (usize, &u32)| {
                squared_distance(rows.row(row), &before[3 * label as usize..][..3])
            };
            let plain: f64 = lloyd.labels.iter().enumerate().map(distance).sum();
            prop_assert!((plain - round.objective).abs() <= 1e-9 * plain, "{} {}", plain, round.objective);
            prop_assert_eq!(lloyd.sizes.iter().sum::<i64>(), rows.count() as i64);
        }
    }
}

#[test]
fn an_empty_cluster_takes_about_half_of_the_biggest() {
    let mut draw = Draw::new(3, "test", "values", "", 0);
    let rows = rows((0..8000).map(|_| draw.unit() as f32 - 0.5).collect(), 8);
    let centroids = [vec![0.0; 8], vec![1000.0; 8]].concat();
    let coded = CodedRows::new(rows.frame(), &rows.values, 2, None).unwrap();
    let mut lloyd = Lloyd::new(&rows, &coded, centroids, false, 5, 2);
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
    let coded = CodedRows::new(rows.frame(), &rows.values, 2, None).unwrap();
    let mut lloyd = Lloyd::new(&rows, &coded, vec![1.0, 499.0, 9000.0, 9000.0], false, 5, 2);
    assert_eq!(lloyd.assign(&|| false).unwrap().empty, 2);
    // 500 is alone, so 100 and 100, first ids first.
    assert_eq!(lloyd.relocate(), 2);
    assert_eq!(lloyd.labels, [0, 0, 0, 0, 0, 2, 3, 1]);
    lloyd.update();
    assert_eq!(lloyd.centroids, [7.2, 500.0, 100.0, 100.0]);
    // Two alike: one is empty again, and takes 30.
    assert_eq!(lloyd.assign(&|| false).unwrap().empty, 1);
    assert_eq!(lloyd.relocate(), 1);
    lloyd.update();
    let round = lloyd.assign(&|| false).unwrap();
    assert_eq!((round.empty, round.objective), (0, 5.0));
    assert_eq!(lloyd.into_centroids(), [1.5, 500.0, 100.0, 30.0]);
}

#[test]
fn rows_that_are_all_alike_are_not_split() {
    let rows = rows(vec![0.1; 50], 5);
    let coded = CodedRows::new(rows.frame(), &rows.values, 2, None).unwrap();
    let mut lloyd = Lloyd::new(&rows, &coded, vec![0.1; 15], false, 5, 2);
    let round = lloyd.assign(&|| false).unwrap();
    assert_eq!((round.objective, round.empty, round.imbalance), (0.0, 2, 3.0));
    assert_eq!(lloyd.relocate(), 0);
    lloyd.update();
    assert_eq!(lloyd.split(), 0);
    assert_eq!(lloyd.into_centroids(), vec![0.1; 15]);
}

//! First centroids, drawn from the rows.

use super::lloyd::Given;
use super::rows::Rows;
use crate::nearest::{Centres, Near, UNIT, is_within};
use crate::numbers::Slots;
use crate::operator::RunError;
use crate::random::Draw;

/// The most rows drawn between two passes over the data.
const MOST_AT_ONCE: usize = 512;
/// Rows between two running sums that are kept.
const STEP: usize = 1024;

/// `k` different rows, each as likely.
pub fn random(rows: &Rows, k: usize, draw: &mut Draw) -> Vec<f32> {
    rows.gather(&draw.distinct(k, rows.count()))
}

/// `k` different rows, each drawn in proportion to its squared distance from the nearest drawn before: exactly the
/// distribution of k-means++ (Arthur, Vassilvitskii, 2007), in about as many passes as `k` has binary digits, and one more for every
/// [`MOST_AT_ONCE`] rows from there on.
///
/// Several rows are drawn by the weights of one pass. A row whose weight the rows drawn after that pass have lowered is taken with
/// the probability of new weight to old (rejection sampling), so that it is as if the weights had been computed anew. One search
/// then brings the weights up to date for all.
///
/// Rows are drawn beside `given` centroids, `m x dimension`, as if those had been drawn before; they are not returned.
///
/// # Errors
/// The run was cancelled, or the disk has no room for the weights, which may go to a file.
pub fn plus_plus(
    same: Given<'_>,
    given: &[f32],
    k: usize,
    draw: &mut Draw,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<f32>, RunError> {
    let Given { rows, coded, threads, folder, .. } = same;
    let before = given.len() / rows.dimension;
    let mut chosen = if before == 0 { vec![draw.below(rows.count())] } else { Vec::new() };
    // By the rows' numbers; the first search gives each its weight.
    let mut weights: Slots<f64> = Slots::new(rows.count(), folder)?;
    let (mut up_to_date, mut first) = (0, true);
    while chosen.len() < k {
        let latest = if chosen.is_empty() { given.to_vec() } else { rows.gather(&chosen[up_to_date..]) };
        let latest = Centres::within(coded.frame().clone(), latest);
        let units = weights.units(UNIT);
        let lower = |start: usize, found: &[Near]| {
            units.change(start / UNIT, |weights| {
                for (weight, near) in weights.iter_mut().zip(found) {
                    *weight = if first { near.squared } else { weight.min(near.squared) };
                }
            });
        };
        let whole = latest.search(coded, threads, &lower, cancelled);
        drop(units);
        first = false;
        if !whole {
            return Err(RunError::Cancelled);
        }
        up_to_date = chosen.len();
        let sums = Sums::of(rows.count(), |place| {
            let row = rows.at(place);
            let weight = weights[row];
            weights.release(row..row + 1);
            weight
        });
        weights.release(0..weights.len());
        if sums.total == 0.0 {
            // All rows are like those chosen: any other will do.
            let mut taken = chosen.clone();
            taken.sort_unstable();
            let others = draw.distinct(k - chosen.len(), rows.count() - taken.len());
            // The others before a taken one are as many as its place less the taken ones before it.
            taken.iter_mut().enumerate().for_each(|(number, place)| *place -= number);
            chosen.extend(others.into_iter().map(|other| other + taken.partition_point(|&before| before <= other)));
            break;
        }
        let most = (before + up_to_date).min(MOST_AT_ONCE).min(k - up_to_date);
        for _ in 0..2 * most {
            let place = sums.pick(draw.unit() * sums.total);
            let at = |place: usize| rows.row(rows.at(place));
            // It is taken if no row drawn since lies within that of it.
            let least = draw.unit() * weights[rows.at(place)];
            let near = |&other: &usize| is_within(at(place), at(other), least);
            if !chosen[up_to_date..].iter().any(near) {
                chosen.push(place);
            }
            if chosen.len() - up_to_date == most {
                break;
            }
        }
    }
    Ok(rows.gather(&chosen))
}

/// The running sums of weights, of which each [`STEP`]th is kept.
struct Sums<W> {
    count: usize,
    weight: W,
    /// The sums before each stretch.
    before: Vec<f64>,
    /// The sum of all.
    total: f64,
}

impl<W: Fn(usize) -> f64> Sums<W> {
    fn of(count: usize, weight: W) -> Self {
        let (mut before, mut total) = (Vec::with_capacity(count.div_ceil(STEP)), 0.0);
        for place in 0..count {
            if place % STEP == 0 {
                before.push(total);
            }
            total += weight(place);
        }
        Self { count, weight, before, total }
    }

    /// The place whose stretch of the running sums holds `at`, which is below the last of them: never one of weight zero.
    fn pick(&self, at: f64) -> usize {
        // A product may round up to the total: then it is the last row with a weight.
        let at = at.min(self.total.next_down());
        let stretch = self.before.partition_point(|&sum| sum <= at) - 1;
        let mut sum = self.before[stretch];
        let within = |&place: &usize| {
            sum += (self.weight)(place);
            sum > at
        };
        let first = stretch * STEP;
        (first..self.count).find(within).expect("the sum of all is above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kmeans::lloyd::Precision;
    use crate::nearest::CodedRows;

    fn line(values: &[f32]) -> Rows {
        Rows { values: values.to_vec().into(), dimension: 1, peaks: vec![0.0], count: values.len(), order: None }
    }

    /// Draws a start, after coding the rows.
    fn plus_plus(
        rows: &Rows,
        k: usize,
        draw: &mut Draw,
        threads: usize,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, RunError> {
        let coded = CodedRows::new(rows.frame(), &rows.values, threads, None)?;
        let precision = Precision::of(rows, threads);
        let same = Given { rows, coded: &coded, precision: &precision, spherical: false, seed: 1, threads, folder: None };
        super::plus_plus(same, &[], k, draw, cancelled)
    }

    fn draw(seed: u64) -> Draw {
        Draw::new(seed, "kmeans", "start", "", 0)
    }

    #[test]
    fn a_row_of_no_weight_is_never_picked() {
        let weights = [0.0, 2.0, 0.0, 1.0, 0.0];
        let sums = Sums::of(5, |place| weights[place]);
        assert_eq!([0.0, 1.9, 2.0, 2.9, 3.0].map(|at| sums.pick(at)), [1, 1, 3, 3, 3]);
        // Over many stretches, of which some weigh nothing.
        let weight = |place: usize| if (place / STEP).is_multiple_of(2) { 0.0 } else { 1.0 };
        let sums = Sums::of(5 * STEP, weight);
        assert_eq!(sums.total, (2 * STEP) as f64);
        for at in [0, 1, STEP - 1, STEP, 2 * STEP - 1, 2 * STEP] {
            let expected = at.min(2 * STEP - 1);
            assert_eq!(sums.pick(at as f64), expected + (1 + expected / STEP) * STEP, "{at}");
        }
    }

    #[test]
    fn rows_are_drawn_by_the_square_of_their_distance() {
        // From 0, the next is 1, 2 or 3 with weights 1, 4, 9; the third's distribution follows in the same way.
        let rows = line(&[0.0, 1.0, 2.0, 3.0]);
        let mut counts = [[0.0f64; 4]; 4];
        let mut total = 0.0;
        for seed in 0..30_000 {
            let found = plus_plus(&rows, 3, &mut draw(seed), 1, &|| false).unwrap();
            if found[0] == 0.0 {
                counts[found[1] as usize][found[2] as usize] += 1.0;
                total += 1.0;
            }
        }
        let expected = [
            (1, 2, 1.0 / 14.0 / 5.0),
            (1, 3, 1.0 / 14.0 * 4.0 / 5.0),
            (2, 1, 4.0 / 14.0 / 2.0),
            (2, 3, 4.0 / 14.0 / 2.0),
            (3, 1, 9.0 / 14.0 / 2.0),
            (3, 2, 9.0 / 14.0 / 2.0),
        ];
        for (second, third, probability) in expected {
            let share: f64 = counts[second][third] / total;
            let deviation = (probability * (1.0 - probability) / total).sqrt();
            assert!((share - probability).abs() < 4.5 * deviation, "{second} {third}: {share} {probability}");
        }
    }

    #[test]
    fn rows_drawn_at_once_follow_the_same_distribution() {
        // Four tight groups far apart: a draw that forgot the rows since its pass would hit a group twice in most cases.
        let values: Vec<f32> = (0..80).map(|row| (row / 20) as f32 * 1000.0 + (row % 20) as f32 * 0.01).collect();
        for seed in 0..50 {
            let found = plus_plus(&line(&values), 4, &mut draw(seed), 2, &|| false).unwrap();
            let mut groups: Vec<_> = found.iter().map(|value| (value / 1000.0) as usize).collect();
            groups.sort_unstable();
            assert_eq!(groups, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn rows_are_drawn_far_from_given_centroids() {
        let values: Vec<f32> = (0..80).map(|row| (row / 20) as f32 * 1000.0 + (row % 20) as f32 * 0.01).collect();
        let rows = line(&values);
        let (coded, precision) = (CodedRows::new(rows.frame(), &rows.values, 1, None).unwrap(), Precision::of(&rows, 1));
        let (rows, coded, precision) = (&rows, &coded, &precision);
        let same = Given { rows, coded, precision, spherical: false, seed: 1, threads: 2, folder: None };
        for seed in 0..50 {
            let found = super::plus_plus(same, &[0.1, 2000.1], 2, &mut draw(seed), &|| false).unwrap();
            let mut groups: Vec<_> = found.iter().map(|value| (value / 1000.0) as usize).collect();
            groups.sort_unstable();
            assert_eq!(groups, [1, 3]);
        }
        assert!(super::plus_plus(same, &[0.1], 0, &mut draw(1), &|| false).unwrap().is_empty());
    }

    #[test]
    fn copies_are_taken_when_nothing_else_is_left() {
        let mut found = plus_plus(&line(&[5.0, 5.0, 7.0, 5.0]), 4, &mut draw(1), 1, &|| false).unwrap();
        found.sort_by(f32::total_cmp);
        assert_eq!(found, [5.0, 5.0, 5.0, 7.0]);
        assert_eq!(random(&line(&[1.0, 2.0]), 2, &mut draw(1)).len(), 2);
    }

    #[test]
    fn it_stops_when_told() {
        assert!(matches!(plus_plus(&line(&[1.0, 2.0]), 2, &mut draw(1), 1, &|| true), Err(RunError::Cancelled)));
    }
}

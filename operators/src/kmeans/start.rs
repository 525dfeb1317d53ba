//! First centroids, drawn from the rows.

use super::rows::Rows;
use crate::nearest::{Centres, CodedRows, Near, is_within};
use crate::operator::RunError;
use crate::random::Draw;

/// The most rows drawn between two passes over the data.
const MOST_AT_ONCE: usize = 512;

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
/// The run was cancelled.
pub fn plus_plus(
    rows: &Rows,
    coded: &CodedRows<'_>,
    given: &[f32],
    k: usize,
    draw: &mut Draw,
    threads: usize,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<f32>, RunError> {
    let before = given.len() / rows.dimension;
    let mut chosen = if before == 0 { vec![draw.below(rows.count())] } else { Vec::new() };
    let mut weights = vec![f64::INFINITY; rows.count()];
    let mut found = vec![Near::default(); rows.count()];
    let mut up_to_date = 0;
    while chosen.len() < k {
        let latest = if chosen.is_empty() { given.to_vec() } else { rows.gather(&chosen[up_to_date..]) };
        let latest = Centres::within(coded.frame().clone(), latest);
        if !latest.search(coded, threads, &mut found, cancelled) {
            return Err(RunError::Cancelled);
        }
        for (weight, &row) in weights.iter_mut().zip(&rows.order) {
            *weight = weight.min(found[row as usize].squared);
        }
        up_to_date = chosen.len();
        let sums: Vec<f64> = running_sums(&weights);
        let total = *sums.last().expect("there are rows");
        if total == 0.0 {
            // All rows are like those chosen: any other will do.
            let mut others: Vec<_> = (0..rows.count()).collect();
            let mut taken = chosen.clone();
            taken.sort_unstable();
            others.retain(|row| taken.binary_search(row).is_err());
            chosen.extend(draw.distinct(k - chosen.len(), others.len()).into_iter().map(|place| others[place]));
            break;
        }
        let most = (before + up_to_date).min(MOST_AT_ONCE).min(k - up_to_date);
        for _ in 0..2 * most {
            let row = pick(&sums, draw.unit() * total);
            let at = |place: usize| rows.row(rows.order[place] as usize);
            // It is taken if no row drawn since lies within that of it.
            let least = draw.unit() * weights[row];
            let near = |&other: &usize| is_within(at(row), at(other), least);
            if !chosen[up_to_date..].iter().any(near) {
                chosen.push(row);
            }
            if chosen.len() - up_to_date == most {
                break;
            }
        }
    }
    Ok(rows.gather(&chosen))
}

fn running_sums(weights: &[f64]) -> Vec<f64> {
    let add = |sum: &mut f64, weight: &f64| {
        *sum += weight;
        Some(*sum)
    };
    weights.iter().scan(0.0, add).collect()
}

/// The row whose stretch of the running sums holds `at`, which is below the last of them: never one of weight zero.
fn pick(sums: &[f64], at: f64) -> usize {
    let total = sums[sums.len() - 1];
    // A product may round up to the total: then it is the last row with a weight.
    sums.partition_point(|&sum| sum <= at.min(total.next_down()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32]) -> Rows {
        Rows { values: values.to_vec().into(), dimension: 1, peaks: vec![0.0], order: (0..values.len() as u32).collect() }
    }

    /// The same with its rows coded.
    fn plus_plus(
        rows: &Rows,
        k: usize,
        draw: &mut Draw,
        threads: usize,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, RunError> {
        let coded = CodedRows::new(rows.frame(), &rows.values, threads, None)?;
        super::plus_plus(rows, &coded, &[], k, draw, threads, cancelled)
    }

    fn draw(seed: u64) -> Draw {
        Draw::new(seed, "kmeans", "start", "", 0)
    }

    #[test]
    fn a_row_of_no_weight_is_never_picked() {
        let sums = running_sums(&[0.0, 2.0, 0.0, 1.0, 0.0]);
        assert_eq!([0.0, 1.9, 2.0, 2.9, 3.0].map(|at| pick(&sums, at)), [1, 1, 3, 3, 3]);
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
        let coded = CodedRows::new(rows.frame(), &rows.values, 1, None).unwrap();
        for seed in 0..50 {
            let found = super::plus_plus(&rows, &coded, &[0.1, 2000.1], 2, &mut draw(seed), 2, &|| false).unwrap();
            let mut groups: Vec<_> = found.iter().map(|value| (value / 1000.0) as usize).collect();
            groups.sort_unstable();
            assert_eq!(groups, [1, 3]);
        }
        assert!(super::plus_plus(&rows, &coded, &[0.1], 0, &mut draw(1), 1, &|| false).unwrap().is_empty());
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

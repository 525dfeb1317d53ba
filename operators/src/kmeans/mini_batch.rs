//! Centroids moved by batches drawn at random (Sculley, "Web-scale k-means clustering", WWW 2010).

use super::config::Config;
use super::rows::Rows;
use super::run::Metric;
use crate::nearest::{Centres, Frame, Near};
use crate::operator::{RunError, Sink};
use crate::random::Draw;
use crate::vectors::to_unit_length;

/// Centroids after `config.iterations` batches of `size` rows each, and for each batch its mean squared distance from the
/// centroids before they moved. `counts` says how many rows each centroid stands for at the start, by default none.
///
/// A centroid is the mean of all rows that batches have brought it. Rows are drawn with replacement, by their place in the order of
/// ids, and added in that order: the result does not depend on the order of rows or the number of threads.
///
/// # Errors
/// The run was cancelled.
#[expect(clippy::too_many_arguments, reason = "one caller, which has them all")]
pub fn run(
    rows: &Rows,
    frame: &Frame,
    mut centroids: Vec<f32>,
    counts: Option<Vec<u64>>,
    config: &Config,
    size: usize,
    threads: usize,
    draw: &mut Draw,
    (done, all): (usize, usize),
    sink: &mut dyn Sink,
) -> Result<(Vec<f32>, Vec<Metric>), RunError> {
    let dimension = rows.dimension;
    let mut counts = counts.unwrap_or_else(|| vec![0; centroids.len() / dimension]);
    let mut metrics = Vec::new();
    for iteration in 1..=config.iterations {
        if sink.cancelled() {
            return Err(RunError::Cancelled);
        }
        let mut places: Vec<usize> = (0..size).map(|_| draw.below(rows.count())).collect();
        places.sort_unstable();
        let batch = rows.gather(&places);
        let found: Vec<Near> = Centres::within(frame.clone(), &centroids).find(&batch, threads);
        let objective = found.iter().map(|near| near.squared).sum::<f64>() / size as f64;
        metrics.push((iteration, "batch_objective", objective));
        // Each cluster's rows one behind the other, in their order.
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by_key(|&row| found[row].centre);
        for members in order.chunk_by(|&a, &b| found[a].centre == found[b].centre) {
            let cluster = found[members[0]].centre as usize;
            let before = counts[cluster] as f64;
            counts[cluster] += members.len() as u64;
            let centroid = &mut centroids[cluster * dimension..][..dimension];
            let mut sums: Vec<f64> = centroid.iter().map(|&value| before * f64::from(value)).collect();
            for &row in members {
                let row = &batch[row * dimension..][..dimension];
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            let mut mean: Vec<f32> = sums.iter().map(|sum| (sum / counts[cluster] as f64) as f32).collect();
            if !config.spherical || to_unit_length(&mut mean) {
                centroid.copy_from_slice(&mean);
            }
        }
        sink.progress(done + iteration, all, &format!("{objective:.6e} from the nearest"));
    }
    Ok((centroids, metrics))
}

//! What the parts of a run take.

use std::time::{Duration, Instant};

use super::lloyd::{Given, Lloyd, Precision};
use super::rows::Incoming;
use super::start;
use crate::nearest::CodedRows;
use crate::random::Draw;
use crate::trial;

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let made = work();
    (start.elapsed(), made)
}

/// Groups as wide as they are apart, as many as centres.
#[test]
#[ignore = "a benchmark"]
fn rates() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for (n, d, k) in
        [(100_000, 256, 1000), (100_000, 64, 1000), (50_000, 1024, 1000), (100_000, 256, 10_000), (10_000, 9600, 1000)]
    {
        let mut draw = Draw::new(1, "bench", "values", "", 0);
        let mut normal = |count: usize| -> Vec<f32> {
            (0..count).map(|_| ((0..4).map(|_| draw.unit()).sum::<f64>() - 2.0) as f32).collect()
        };
        let groups = normal(k * d);
        let mut incoming = Incoming::new(d, n, None, None).unwrap();
        for start in (0..n).step_by(10_000) {
            let mut values = normal(10_000 * d);
            for (place, row) in values.chunks_mut(d).enumerate() {
                row.iter_mut().zip(&groups[(start + place) * 7 % k * d..]).for_each(|(value, group)| *value += group);
            }
            let ids: Vec<_> = (start..start + 10_000).map(|number| format!("{number:06}")).collect();
            let rows: Vec<_> = ids.iter().map(String::as_str).zip(values.chunks(d)).collect();
            incoming.add(&trial::features(&rows), "feature").unwrap();
        }
        let rows = incoming.finish(None).unwrap();
        let (coding, coded) = timed(|| CodedRows::new(rows.frame(), &rows.values, threads, None).unwrap());
        let (counting, precision) = timed(|| Precision::of(&rows, threads));
        let (rows, coded, precision) = (&rows, &coded, &precision);
        let given = Given { rows, coded, precision, spherical: false, seed: 1, threads, folder: None };
        let mut draw = Draw::new(1, "bench", "start", "", 0);
        let (starting, centroids) = timed(|| start::plus_plus(given, &[], k, &mut draw, &|| false).unwrap());
        let mut lloyd = Lloyd::new(given, centroids).unwrap();
        let (first, _) = timed(|| lloyd.assign(&|| false).unwrap());
        let mut iterations: Vec<_> = (0..10)
            .map(|_| {
                timed(|| {
                    lloyd.update();
                    lloyd.split();
                    lloyd.assign(&|| false).unwrap();
                })
                .0
            })
            .collect();
        iterations.sort_unstable();
        println!(
            "{n} x {d} to {k}: coding {coding:.2?}, counting {counting:.2?}, k-means++ {starting:.2?}, first assignment {first:.2?}, iterations {:.2?} to {:.2?}, median {:.2?}",
            iterations[0], iterations[9], iterations[5]
        );
    }
}

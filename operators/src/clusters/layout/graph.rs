//! The graph whose edges pull images together: fuzzy sets of neighbours, and their union (McInnes, Healy, Melville, "UMAP", 2018, section 3.1).

use crate::parallel;

/// Steps of the search for a radius, and what it may be off by; as in umap-learn.
const STEPS: usize = 64;
const TOLERANCE: f64 = 1e-5;
/// A radius is no smaller than this share of the mean distance.
const LEAST: f64 = 1e-3;
/// Rows in a unit of parallel work.
const UNIT: usize = 1024;

/// Edges of each vertex, both ways: `targets[starts[v]..starts[v + 1]]`, rising.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// One more than there are vertices.
    pub starts: Vec<usize>,
    /// The other ends.
    pub targets: Vec<u32>,
    /// In `0..=1`, the same for both ways.
    pub weights: Vec<f32>,
}

/// How near each of a vertex' neighbours is: 1 for the nearest, and all together the logarithm of how many there are. `distances` rise;
/// `mean` is that of all vertices, for the case that all of them are zero.
pub fn memberships(distances: &[f32], mean: f64) -> Vec<f32> {
    // The nearest that is not a duplicate.
    let Some(rho) = distances.iter().copied().find(|&distance| distance > 0.0) else { return vec![1.0; distances.len()] };
    let beyond = |distance: f32| f64::from((distance - rho).max(0.0));
    // One more than there are, and the vertex itself among them, as umap-learn counts.
    let target = ((distances.len() + 1) as f64).log2();
    let (mut low, mut high, mut sigma) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..STEPS {
        let sum: f64 = distances.iter().map(|&distance| exp(-beyond(distance) / sigma)).sum();
        if (sum - target).abs() < TOLERANCE {
            break;
        }
        if sum > target {
            high = sigma;
            sigma = f64::midpoint(low, high);
        } else {
            low = sigma;
            sigma = if high.is_finite() { f64::midpoint(low, high) } else { sigma * 2.0 };
        }
    }
    let own = distances.iter().map(|&distance| f64::from(distance)).sum::<f64>() / distances.len() as f64;
    let sigma = sigma.max(LEAST * if own > 0.0 { own } else { mean });
    distances.iter().map(|&distance| exp(-beyond(distance) / sigma) as f32).collect()
}

/// `e^x` for `x <= 0`, the same on every machine: a library's differs from system to system. Off by some parts in 10^15.
pub fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let halves = (x * std::f64::consts::LOG2_E).round();
    // ln 2 in two parts, so that the product with a whole number is exact.
    let rest = (x - halves * 0.693_147_180_369_123_8) - halves * 1.908_214_929_270_587_7e-10;
    let series = (1..=13).rev().fold(1.0, |sum, n| 1.0 + rest * sum / f64::from(n));
    series * f64::from_bits(((halves as i64 + 1023) as u64) << 52)
}

impl Graph {
    /// From each of `count` vertices' neighbours, `count x width`, nearest first, and their distances; a neighbour of `u32::MAX` is none. The union of
    /// fuzzy sets: `a + b - a b` for the memberships of both ways.
    pub fn new(count: usize, neighbours: &[u32], distances: &[f32], width: usize, threads: usize) -> Self {
        if width == 0 {
            return Self { starts: vec![0; count + 1], ..Self::default() };
        }
        let there = |row: &[u32]| row.iter().take_while(|&&target| target != u32::MAX).count();
        let rows: Vec<(&[u32], &[f32])> = neighbours
            .chunks_exact(width)
            .zip(distances.chunks_exact(width))
            .map(|(row, distances)| (&row[..there(row)], &distances[..there(row)]))
            .collect();
        let (sum, all) = rows.iter().fold((0.0, 0), |(sum, all), (_, distances)| {
            (sum + distances.iter().map(|&distance| f64::from(distance)).sum::<f64>(), all + distances.len())
        });
        let mean = sum / all.max(1) as f64;
        let units = parallel::each(threads, count.div_ceil(UNIT), |unit| {
            let some = &rows[unit * UNIT..count.min((unit + 1) * UNIT)];
            some.iter().map(|(_, distances)| memberships(distances, mean)).collect::<Vec<_>>()
        });
        let of: Vec<Vec<f32>> = units.into_iter().flatten().collect();
        // Those of the other way: vertices come in their order, so that they rise.
        let mut sizes = vec![0usize; count + 1];
        rows.iter().flat_map(|(row, _)| row.iter()).for_each(|&target| sizes[target as usize] += 1);
        let mut next: Vec<usize> = sizes.iter().scan(0, |sum, &size| Some(std::mem::replace(sum, *sum + size))).collect();
        let starts = next.clone();
        let mut back = vec![(0u32, 0f32); all];
        for (vertex, ((row, _), weights)) in rows.iter().zip(&of).enumerate() {
            for (&target, &weight) in row.iter().zip(weights) {
                back[next[target as usize]] = (vertex as u32, weight);
                next[target as usize] += 1;
            }
        }
        let mut graph = Self { starts: vec![0], targets: Vec::with_capacity(2 * all), weights: Vec::with_capacity(2 * all) };
        let mut forth: Vec<(u32, f32)> = Vec::new();
        for (vertex, ((row, _), weights)) in rows.iter().zip(&of).enumerate() {
            forth.clear();
            forth.extend(row.iter().copied().zip(weights.iter().copied()));
            forth.sort_unstable_by_key(|edge| edge.0);
            let (mut forth, mut back) =
                (forth.iter().peekable(), back[starts[vertex]..starts[vertex + 1]].iter().peekable());
            loop {
                let (target, weight) = match (forth.peek(), back.peek()) {
                    (Some(a), Some(b)) if a.0 == b.0 => (a.0, a.1 + b.1 - a.1 * b.1),
                    (Some(a), Some(b)) if a.0 < b.0 => (a.0, a.1),
                    (_, Some(b)) => (b.0, b.1),
                    (Some(a), None) => (a.0, a.1),
                    (None, None) => break,
                };
                forth.next_if(|edge| edge.0 == target);
                back.next_if(|edge| edge.0 == target);
                graph.targets.push(target);
                graph.weights.push(weight);
            }
            graph.starts.push(graph.targets.len());
        }
        graph
    }

    /// A vertex' edges.
    pub fn of(&self, vertex: usize) -> (&[u32], &[f32]) {
        let range = self.starts[vertex]..self.starts[vertex + 1];
        (&self.targets[range.clone()], &self.weights[range])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_the_library_but_for_rounding() {
        for step in 0..70_000 {
            let x = -f64::from(step) / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "{x}: {} {}", exp(x), x.exp());
        }
        assert_eq!((exp(0.0), exp(-1e9), exp(f64::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn memberships_sum_to_the_logarithm() {
        let distances: Vec<f32> = (0..15).map(|place| 1.0 + 0.1 * place as f32).collect();
        let found = memberships(&distances, 1.0);
        assert_eq!(found[0], 1.0);
        assert!((found.iter().map(|&weight| f64::from(weight)).sum::<f64>() - 4.0).abs() < 1e-4, "{found:?}");
        assert_eq!(memberships(&[0.0; 4], 1.0), [1.0; 4]);
        assert_eq!(memberships(&[0.0, 0.0, 5.0], 1.0)[..2], [1.0; 2]);
        assert_eq!(memberships(&[], 1.0), [0.0f32; 0]);
    }

    #[test]
    fn edges_go_both_ways_with_one_weight() {
        // 0 and 1 are each other's nearest; 2 knows both, 1 knows 2; 3 has one neighbour, and nobody has it.
        let neighbours = [1, u32::MAX, 0, 2, 1, 0, 2, u32::MAX];
        let distances = [1.0, 0.0, 1.0, 3.0, 3.0, 4.0, 9.0, 0.0];
        let graph = Graph::new(4, &neighbours, &distances, 2, 2);
        assert_eq!(graph.starts, [0, 2, 4, 7, 8]);
        assert_eq!(graph.targets, [1, 2, 0, 2, 0, 1, 3, 2]);
        for vertex in 0..4 {
            let (targets, weights) = graph.of(vertex);
            for (&target, &weight) in targets.iter().zip(weights) {
                let (back, theirs) = graph.of(target as usize);
                assert_eq!(theirs[back.iter().position(|&other| other == vertex as u32).unwrap()], weight);
                assert!(weight > 0.0 && weight <= 1.0);
            }
        }
        assert_eq!(graph.weights[0], 1.0);
        assert_eq!(Graph::new(0, &[], &[], 15, 1).starts, [0]);
        assert_eq!(Graph::new(1, &[], &[], 0, 1).of(0), (&[][..], &[][..]));
    }
}

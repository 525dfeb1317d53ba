//! The descent: neighbours pull each other together, others push each other apart.
//!
//! In an epoch each vertex' gradient is summed by itself, from the places of the epoch before, edges in their order; then all move at once (Adam: Kingma, Ba, ICLR 2015;
//! the `batch` mode of uwot is of that kind). So threads change no bit. Every edge pulls in every epoch with its weight, where umap-learn draws edges by their weights;
//! what pushes is drawn, as there, by hash(seed, epoch, vertex, number).
//!
//! A pair at distance `d` in the plane is near to the degree `1 / (1 + a d^2b)`, as in UMAP, with `b` of 3/4. That takes roots and no power, which differ from
//! library to library; and keeps more neighbours than umap-learn's 0.895.

use crate::parallel;
use crate::wide::wide;

use super::graph::Graph;

/// How steeply nearness falls with the distance.
const A: f32 = 1.577;
const B: f32 = 0.75;
/// Added to squared distances before roots are drawn, so that nothing is divided by zero.
const LEAST: f32 = 1e-12;
/// Vertices that push a vertex in an epoch.
const PUSHERS: usize = 16;
/// How many of those there are in effect for each edge of weight 1.
const RATE: f32 = 5.0;
/// An edge is seen from both its ends, and each draws the other.
const BOTH: f32 = 2.0;
/// Added to squared distances of what pushes.
const SOFT: f32 = 1e-3;
/// The most that one vertex pushes.
const MOST: f32 = 2.0;
/// Of Adam: how much the mean and the mean square keep, and what is added to the root.
const KEEP: [f32; 2] = [0.5, 0.9];
const LITTLE: f32 = 1e-7;
/// The first step's length: an extent of about a tenth of the start's.
const FIRST: f32 = 1.0;
/// The same where a point is put on a map, and how many steps there are.
const FIRST_OF_ONE: f32 = 0.5;
const STEPS_OF_ONE: usize = 30;
/// Vertices in a unit of parallel work.
const UNIT: usize = 512;
/// Edges or vertices that are worked on side by side.
const LANES: usize = 8;

/// Points on their way.
#[derive(Debug, Clone, PartialEq)]
pub struct Descent {
    /// Where each vertex is.
    pub places: Vec<[f32; 2]>,
    moments: Vec<Moments>,
    /// Epochs that are done.
    pub done: usize,
    pace: Pace,
}

impl Descent {
    /// From places to start at.
    pub fn new(places: Vec<[f32; 2]>) -> Self {
        Self { moments: vec![[[0.0; 2]; 2]; places.len()], places, done: 0, pace: Pace::START }
    }

    /// One epoch of so many.
    pub fn step(&mut self, graph: &Graph, epochs: usize, seed: u64, threads: usize) {
        let (count, places, epoch) = (self.places.len(), &self.places, self.done as u64);
        let gradients = parallel::each(threads, count.div_ceil(UNIT), |unit| {
            let some = unit * UNIT..count.min((unit + 1) * UNIT);
            gradients(graph, places, some.start, some.end, mix(seed ^ mix(epoch)))
        });
        let pace = self.pace.next(self.done, epochs, FIRST);
        for ((place, moments), gradient) in self.places.iter_mut().zip(&mut self.moments).zip(gradients.iter().flatten()) {
            pace.apply(place, moments, *gradient);
        }
        self.done += 1;
    }
}

/// A point's mean gradient and mean square of gradients, along both axes.
type Moments = [[f32; 2]; 2];

/// What steps of all points share.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pace {
    /// The step's length.
    length: f32,
    /// The products of what the mean and the mean square keep, over the steps that are done.
    kept: [f32; 2],
}

impl Pace {
    const START: Self = Self { length: 0.0, kept: [1.0; 2] };

    /// That of the next step, of which `done` of `all` are done. Steps begin with a length, and get shorter.
    #[inline(always)]
    fn next(&mut self, done: usize, all: usize, first: f32) -> Self {
        let left = 1.0 - done as f32 / all as f32;
        *self = Self { length: first * left * left, kept: [self.kept[0] * KEEP[0], self.kept[1] * KEEP[1]] };
        *self
    }

    /// Moves a point.
    #[inline(always)]
    fn apply(self, place: &mut [f32; 2], [mean, square]: &mut Moments, gradient: [f32; 2]) {
        for axis in 0..2 {
            mean[axis] = KEEP[0] * mean[axis] + (1.0 - KEEP[0]) * gradient[axis];
            square[axis] = KEEP[1] * square[axis] + (1.0 - KEEP[1]) * gradient[axis] * gradient[axis];
            let (mean, square) = (mean[axis] / (1.0 - self.kept[0]), square[axis] / (1.0 - self.kept[1]));
            place[axis] -= self.length * mean / (square.sqrt() + LITTLE);
        }
    }
}

/// 64 bits that look like chance (SplitMix64's last step).
#[inline(always)]
fn mix(bits: u64) -> u64 {
    let z = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

wide! {
    /// Where those vertices would not go.
    fn gradients(graph: &Graph, places: &[[f32; 2]], first: usize, end: usize, chance: u64) -> Vec<[f32; 2]> {
        let of = |vertex: usize| {
            let (targets, weights) = graph.of(vertex);
            let own = chance ^ (vertex as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
            gradient(places[vertex], targets, weights, places, own)
        };
        (first..end).map(of).collect()
    }
}

wide! {
    /// The place of one point among fixed ones: from the weighted mean of its neighbours on, as they pull it and others push it.
    pub fn settle(targets: &[u32], weights: &[f32], places: &[[f32; 2]]) -> [f32; 2] {
        let mut sums = [0.0f64; 3];
        for (&target, &weight) in targets.iter().zip(weights) {
            let ([x, y], weight) = (places[target as usize], f64::from(weight));
            sums = [sums[0] + weight * f64::from(x), sums[1] + weight * f64::from(y), sums[2] + weight];
        }
        let mut place = [(sums[0] / sums[2]) as f32, (sums[1] / sums[2]) as f32];
        let (mut moments, mut pace) = ([[0.0; 2]; 2], Pace::START);
        for step in 0..STEPS_OF_ONE {
            let gradient = gradient(place, targets, weights, places, mix(step as u64));
            pace.next(step, STEPS_OF_ONE, FIRST_OF_ONE).apply(&mut place, &mut moments, gradient);
        }
        place
    }
}

/// Where a point at that place would not go: its neighbours pull it, and others, drawn by chance, push it.
#[inline(always)]
fn gradient([x, y]: [f32; 2], targets: &[u32], weights: &[f32], places: &[[f32; 2]], chance: u64) -> [f32; 2] {
    let (mut pull, mut sums) = ([[0.0f32; LANES]; 2], [0.0f32; LANES]);
    let mut add = |others: [[f32; 2]; LANES], weights: [f32; LANES]| {
        for lane in 0..LANES {
            let (dx, dy) = (x - others[lane][0], y - others[lane][1]);
            let squared = dx * dx + dy * dy;
            let factor = B * weights[lane] / ((squared + LEAST).sqrt().sqrt() + A * squared);
            pull[0][lane] += factor * dx;
            pull[1][lane] += factor * dy;
            sums[lane] += weights[lane];
        }
    };
    let ((some, some_rest), (of, of_rest)) = (targets.as_chunks::<LANES>(), weights.as_chunks::<LANES>());
    some.iter().zip(of).for_each(|(targets, weights)| add(targets.map(|target| places[target as usize]), *weights));
    if !some_rest.is_empty() {
        let (mut others, mut weights) = ([[x, y]; LANES], [0.0; LANES]);
        others.iter_mut().zip(some_rest).for_each(|(other, &target)| *other = places[target as usize]);
        weights[..of_rest.len()].copy_from_slice(of_rest);
        add(others, weights);
    }
    let mut push = [[0.0f32; LANES]; 2];
    for group in 0..PUSHERS / LANES {
        let drawn: [u64; LANES] = std::array::from_fn(|lane| mix(chance.wrapping_add((group * LANES + lane) as u64)));
        let others = drawn.map(|bits| places[(((bits >> 32) * places.len() as u64) >> 32) as usize]);
        for lane in 0..LANES {
            let (dx, dy) = (x - others[lane][0], y - others[lane][1]);
            let squared = dx * dx + dy * dy;
            let root = (squared + LEAST).sqrt().sqrt();
            let factor = B * root / ((SOFT + squared) * (root + A * squared));
            push[0][lane] += (factor * dx).clamp(-MOST, MOST);
            push[1][lane] += (factor * dy).clamp(-MOST, MOST);
        }
    }
    let sum = |lanes: [f32; LANES]| lanes.iter().sum::<f32>();
    let pushed = RATE * sum(sums) / PUSHERS as f32;
    [0, 1].map(|axis| BOTH * A * sum(pull[axis]) - pushed * sum(push[axis]))
}

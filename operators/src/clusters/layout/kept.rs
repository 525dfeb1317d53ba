//! How far a map can be believed: the share of images' true neighbours that are their neighbours on the map.

use crate::parallel;

/// Images that are looked at.
const SAMPLE: usize = 1000;

/// The share of the neighbours of a sample of vertices, evenly spread, that are among as many nearest places. `neighbours` is
/// `n x width`, nearest first, and `u32::MAX` where there are no more. 1 where there are none at all.
pub fn share(places: &[[f32; 2]], neighbours: &[u32], width: usize, threads: usize) -> f64 {
    let step = places.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<usize> = (0..places.len()).step_by(step).collect();
    let found = parallel::each(threads, sample.len(), |number| {
        let vertex = sample[number];
        let row = &neighbours[vertex * width..][..width];
        let there = row.iter().take_while(|&&other| other != u32::MAX).count();
        if there == 0 {
            return (0, 0);
        }
        let [x, y] = places[vertex];
        let squared = |place: &[f32; 2]| (place[0] - x).powi(2) + (place[1] - y).powi(2);
        let all = places.iter().enumerate().filter(|(other, _)| *other != vertex);
        let mut all: Vec<(f32, u32)> = all.map(|(other, place)| (squared(place), other as u32)).collect();
        let by_distance = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        all.select_nth_unstable_by(there - 1, by_distance);
        let near = &all[..there];
        (row[..there].iter().filter(|&&other| near.iter().any(|near| near.1 == other)).count(), there)
    });
    let (kept, all) = found.into_iter().fold((0, 0), |(kept, all), one| (kept + one.0, all + one.1));
    if all == 0 { 1.0 } else { kept as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_on_a_line_are_kept_and_strangers_are_not() {
        let places: Vec<[f32; 2]> = (0..40).map(|number| [(number * number) as f32, 1.0]).collect();
        let before = |number: u32| if number == 0 { 1 } else { number - 1 };
        let neighbours: Vec<u32> = (0..40).map(before).collect();
        assert_eq!(share(&places, &neighbours, 1, 2), 1.0);
        let far: Vec<u32> = (0..40).map(|number| (number + 20) % 40).collect();
        assert_eq!(share(&places, &far, 1, 2), 0.0);
        let half: Vec<u32> = (0..40).flat_map(|number| [before(number), u32::MAX]).collect();
        assert_eq!(share(&places, &half, 2, 1), 1.0);
        assert_eq!(share(&[[0.0; 2]], &[u32::MAX], 1, 1), 1.0);
    }
}

use proptest::prelude::*;

use super::*;
use crate::random::Draw;

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut draw = Draw::new(seed, "test", "normal", "", 0);
    (0..count).map(|_| ((0..12).map(|_| draw.unit()).sum::<f64>() - 6.0) as f32).collect()
}

/// All distances in f64, sorted by distance and number.
fn plainly(rows: &[f32], centres: &[f32], dimension: usize) -> Vec<Vec<(f64, u32)>> {
    let one = |row: &[f32]| {
        let mut all: Vec<_> =
            centres.chunks(dimension).enumerate().map(|(number, c)| (squared_distance(row, c), number as u32)).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all
    };
    rows.chunks(dimension).map(one).collect()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_finds_what_a_plain_search_finds(n in 1usize..230, k in 1usize..140, d in 1usize..40, seed: u64) {
        let (rows, centres) = (normal(n * d, seed), normal(k * d, !seed));
        let found = Centres::new(&centres, d).find(&rows, 2);
        prop_assert_eq!(found.len(), n);
        for (found, all) in found.iter().zip(plainly(&rows, &centres, d)) {
            prop_assert!(close(found.first.squared, all[0].0), "{found:?} {all:?}");
            prop_assert_eq!(found.second.is_some(), k > 1);
            if let Some(second) = found.second {
                prop_assert!(close(second.squared, all[1].0), "{found:?} {all:?}");
                prop_assert!(second.centre != found.first.centre);
                prop_assert!((found.first.squared, found.first.centre) < (second.squared, second.centre));
            }
        }
    }

    #[test]
    fn instruction_sets_threads_and_neighbours_change_no_bit(
        n in 1usize..120, k in 1usize..120, d in prop_oneof![1usize..20, 250usize..270, 500usize..600], seed: u64, cut in 0.0..1.0f64,
    ) {
        let (rows, centres) = (normal(n * d, seed), normal(k * d, !seed));
        let whole = Centres::with(Kernel::Portable, centres.as_slice().into(), d).find(&rows, 1);
        for kernel in Kernel::all() {
            let centres = Centres::with(kernel, centres.as_slice().into(), d);
            prop_assert_eq!(&whole, &centres.find(&rows, 3));
            let (head, tail) = rows.split_at((n as f64 * cut) as usize * d);
            let parts = [centres.find(head, 1), centres.find(tail, 1)].concat();
            prop_assert_eq!(&whole, &parts);
        }
    }
}

#[test]
fn many_dimensions_and_many_centres_go_through_kept_sums() {
    let (n, k, d) = (100, 500, 700);
    let (rows, centres) = (normal(n * d, 1), normal(k * d, 2));
    let found = Centres::new(&centres, d).find(&rows, 2);
    for (found, all) in found.iter().zip(plainly(&rows, &centres, d)) {
        assert_eq!((found.first.squared, found.first.centre), all[0]);
    }
}

#[test]
fn of_equal_centres_the_lower_numbers_win() {
    let d = 5;
    let centre = normal(d, 3);
    let centres = centre.repeat(60);
    for found in Centres::new(&centres, d).find(&normal(9 * d, 4), 1) {
        assert_eq!((found.first.centre, found.second.unwrap().centre), (0, 1));
        assert_eq!(found.first.squared, found.second.unwrap().squared);
    }
}

#[test]
fn centres_far_from_zero_are_told_apart() {
    let centres: Vec<f32> = (0..20).map(|number| 30_000.0 + number as f32 / 64.0).collect();
    let rows: Vec<f32> = centres.iter().map(|c| c + 1.0 / 256.0).collect();
    let found = Centres::new(&centres, 1).find(&rows, 1);
    let numbers: Vec<_> = found.iter().map(|found| found.first.centre).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert!(found.iter().all(|found| found.first.squared == (1.0f64 / 256.0).powi(2)));
}

#[test]
fn one_centre_has_no_second_and_no_row_gives_nothing() {
    let found = Centres::new(&[1.0, 1.0][..], 2).find(&[4.0, 5.0], 1);
    assert_eq!(found, [Nearest { first: Near { centre: 0, squared: 25.0 }, second: None }]);
    assert!(Centres::new(&[1.0, 1.0][..], 2).find(&[], 4).is_empty());
}

#[test]
fn unfit_values_are_found() {
    assert_eq!(check(&[1.0, -LARGEST, 0.0, LARGEST], 2), Ok(()));
    let fault = check(&[1.0, 2.0, 3.0, f32::INFINITY, f32::NAN, 0.0], 2).unwrap_err();
    assert_eq!((fault.row, fault.dimension), (1, 1));
    assert_eq!(fault.to_string(), "has inf in dimension 1; values must be finite, of magnitude up to 1e15");
    assert_eq!(check(&[f32::NAN], 1).unwrap_err().row, 0);
    assert!(check(&[LARGEST * 1.01], 1).is_err());
}

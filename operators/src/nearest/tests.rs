use proptest::prelude::*;

use super::kernel::Kernel;
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

/// Searches with one kernel.
fn with<F: Found + Default + Clone>(kernel: Kernel, rows: &[f32], centres: &[f32], dimension: usize) -> Vec<F> {
    Centres::within(Frame::with(kernel, centres, dimension), centres).find(rows, 2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_finds_what_a_plain_search_finds(
        n in 1usize..230, k in 1usize..140, d in prop_oneof![1usize..40, 60usize..70], spread in -30i32..30, seed: u64,
    ) {
        // Centres of many sizes, around a point far from zero or not.
        let spread = 2f32.powi(spread / 2);
        let rows: Vec<f32> = normal(n * d, seed).iter().map(|value| 1.0 + spread * value).collect();
        let centres: Vec<f32> = normal(k * d, !seed).iter().map(|value| 1.0 + spread * value).collect();
        let plain = plainly(&rows, &centres, d);
        for kernel in Kernel::all(d) {
            let found: Vec<Nearest> = with(kernel, &rows, &centres, d);
            let labels: Vec<u32> = with(kernel, &rows, &centres, d);
            prop_assert_eq!((found.len(), labels.len()), (n, n));
            for ((found, label), all) in found.iter().zip(labels).zip(&plain) {
                let two = all.iter().map(|&(squared, centre)| Near { centre, squared });
                let two: Vec<Near> = two.take(2).collect();
                prop_assert_eq!(found, &Nearest { first: two[0], second: two.get(1).copied() }, "{:?}", kernel);
                prop_assert_eq!(label, two[0].centre);
            }
        }
    }

    #[test]
    fn wide_dimensions_are_searched_as_plainly(
        n in 1usize..150, k in 1usize..140, d in prop_oneof![2usize..40, 64usize..90],
        wide in proptest::collection::vec((any::<prop::sample::Index>(), 0i32..50, any::<bool>()), 1..6), seed: u64,
    ) {
        // Some dimensions up to 10^15 times as wide as the others, or as far from zero, or of a few values alone.
        let (mut rows, mut centres) = (normal(n * d, seed), normal(k * d, !seed));
        for (place, power, flag) in wide {
            let (place, factor) = (place.index(d), 2f32.powi(power));
            for value in rows.iter_mut().chain(&mut centres).skip(place).step_by(d) {
                *value = if flag { (value.clamp(-1.0, 1.0).round() + 3.0) * factor / 8.0 } else { *value * factor / 8.0 };
            }
        }
        let plain = plainly(&rows, &centres, d);
        for kernel in Kernel::all(d) {
            for (found, all) in with::<Nearest>(kernel, &rows, &centres, d).iter().zip(&plain) {
                let two: Vec<_> = [Some(found.first), found.second].into_iter().flatten().map(|near| (near.squared, near.centre)).collect();
                prop_assert_eq!(&two, &all[..2.min(k)], "{:?}", kernel);
            }
        }
    }

    #[test]
    fn rows_coded_before_find_the_same(n in 1usize..2000, k in 1usize..60, d in 1usize..90, seed: u64, threads in 1usize..4, in_file: bool) {
        let (rows, centres) = (normal(n * d, seed), normal(k * d, !seed));
        let frame = Frame::around(&rows, d);
        let numbers = Numbers::from(rows.clone());
        let folder = tempfile::tempdir().unwrap();
        let coded = CodedRows::new(frame.clone(), &numbers, threads, in_file.then(|| folder.path())).unwrap();
        let found = Mutex::new(vec![Near::default(); n]);
        let settle = |start: usize, some: &[Near]| found.lock().unwrap()[start..start + some.len()].copy_from_slice(some);
        prop_assert!(Centres::within(frame, &centres).search(&coded, threads, &settle, &|| false));
        prop_assert_eq!(found.into_inner().unwrap(), Centres::new(&centres, d).find::<Near>(&rows, 1));
    }
}

/// Products of steps that fall below f32's normal numbers.
#[test]
fn tiny_centres_beside_large_ones_are_told_apart() {
    let d = 32;
    let first = vec![4.796_476e-24f32; d];
    let second = [vec![8.435_183e-24f32; d / 2], vec![0.0; d / 2]].concat();
    let negated = |values: &[f32]| values.iter().map(|value| -value).collect::<Vec<_>>();
    let centres = [vec![1.0; d], vec![-1.0; d], first.clone(), negated(&first), second.clone(), negated(&second)].concat();
    let row = vec![2f32.powi(-45); d];
    for kernel in Kernel::all(d) {
        assert_eq!(with::<u32>(kernel, &row, &centres, d), [plainly(&row, &centres, d)[0][0].1], "{kernel:?}");
    }
}

#[test]
fn values_at_the_ends_of_their_range_are_told_apart() {
    for size in [1e15f32, 1e-15, 1e-25, 1e-40] {
        let centres = [0.0, size, -size, size / 2.0, size / 1e4, 0.0];
        let rows: Vec<f32> = [0.9, -0.9, 0.4, 1e-3, 2e-5, -0.3].map(|share| share * size).repeat(17);
        for kernel in Kernel::all(1) {
            let labels: Vec<u32> = with(kernel, &rows, &centres, 1);
            let plain = plainly(&rows, &centres, 1);
            assert!(labels.iter().zip(plain).all(|(label, plain)| *label == plain[0].1), "{size} {kernel:?}");
        }
    }
    // Rows far outside of the centres' frame.
    let rows = [1e15f32, -1e15, 3.0, 1e7];
    let centres = [1e-20f32, 2e-20, -1e-20];
    assert_eq!(with::<u32>(Kernel::Portable, &rows, &centres, 1), [0, 0, 0, 0]);
    assert_eq!(Centres::new(&centres[..], 1).find::<u32>(&rows, 1), [0, 0, 0, 0]);
}

#[test]
fn many_dimensions_and_many_centres_go_through_kept_sums() {
    let (n, k, d) = (100, 500, 700);
    let (rows, centres) = (normal(n * d, 1), normal(k * d, 2));
    let plain = plainly(&rows, &centres, d);
    for kernel in Kernel::all(d) {
        for (found, all) in with::<Nearest>(kernel, &rows, &centres, d).iter().zip(&plain) {
            let found = [found.first, found.second.unwrap()].map(|near| (near.squared, near.centre));
            assert_eq!(found, all[..2], "{kernel:?}");
        }
    }
}

#[test]
fn of_equal_centres_the_lower_numbers_win() {
    let d = 5;
    let centre = normal(d, 3);
    let centres = centre.repeat(60);
    for found in Centres::new(&centres, d).find::<Nearest>(&normal(9 * d, 4), 1) {
        assert_eq!((found.first.centre, found.second.unwrap().centre), (0, 1));
        assert_eq!(found.first.squared, found.second.unwrap().squared);
    }
}

#[test]
fn centres_far_from_zero_are_told_apart() {
    let centres: Vec<f32> = (0..20).map(|number| 30_000.0 + number as f32 / 64.0).collect();
    let rows: Vec<f32> = centres.iter().map(|c| c + 1.0 / 256.0).collect();
    let found: Vec<Nearest> = Centres::new(&centres, 1).find(&rows, 1);
    let numbers: Vec<_> = found.iter().map(|found| found.first.centre).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert!(found.iter().all(|found| found.first.squared == (1.0f64 / 256.0).powi(2)));
}

#[test]
fn one_centre_has_no_second_and_no_row_gives_nothing() {
    let found: Vec<Nearest> = Centres::new(&[1.0, 1.0][..], 2).find(&[4.0, 5.0], 1);
    assert_eq!(found, [Nearest { first: Near { centre: 0, squared: 25.0 }, second: None }]);
    assert!(Centres::new(&[1.0, 1.0][..], 2).find::<Nearest>(&[], 4).is_empty());
}

#[test]
fn a_limit_is_met_exactly() {
    for d in [1, 7, 64, 300] {
        let (x, y) = (normal(d, 1), normal(d, 2));
        let squared = squared_distance(&x, &y);
        for (factor, within) in
            [(0.0, false), (0.9, false), (1.0 - 1e-9, false), (1.0, true), (1.0 + 1e-9, true), (2.0, true)]
        {
            assert_eq!(is_within(&x, &y, squared * factor), within, "{d} {factor}");
        }
        assert!(is_within(&x, &x, 0.0));
    }
}

#[test]
#[ignore = "a benchmark"]
fn search_rate() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let usual = [(100_000, 64, 1000), (100_000, 256, 1000), (50_000, 1024, 1000), (10_000, 9600, 1000)];
    let wide = [(1, 1e2), (3, 1e2), (16, 1e2), (1, 1e6)].map(|wide| (100_000, 256, 1000, wide));
    for (n, d, k, (count, factor)) in usual.map(|(n, d, k)| (n, d, k, (0, 1.0))).into_iter().chain(wide) {
        // As many groups as centres, as wide as they are apart; some dimensions wider than the others.
        let mut groups = normal(k * d, 1);
        let mut rows = normal(n * d, 2);
        let widen = |vector: &mut [f32]| vector[..count].iter_mut().for_each(|value| *value *= factor);
        rows.chunks_mut(d).chain(groups.chunks_mut(d)).for_each(widen);
        for (place, row) in rows.chunks_mut(d).enumerate() {
            row.iter_mut().zip(&groups[place % k * d..]).for_each(|(value, group)| *value += group);
        }
        let best = |work: &mut dyn FnMut()| {
            let pass = |_| {
                let start = std::time::Instant::now();
                work();
                start.elapsed()
            };
            (0..5).map(pass).min().unwrap()
        };
        let frame = Frame::around(&rows[..4096.min(n) * d], d);
        let rows = Numbers::from(rows);
        let mut coded = CodedRows::new(frame.clone(), &rows, threads, None).unwrap();
        let coding = best(&mut || coded = CodedRows::new(frame.clone(), &rows, threads, None).unwrap());
        let mut labels = vec![0u32; n];
        let search = best(&mut || {
            let centres = Centres::within(frame.clone(), &groups);
            let units: Vec<_> = labels.chunks_mut(UNIT).map(Mutex::new).collect();
            let settle = |start: usize, found: &[u32]| units[start / UNIT].lock().unwrap().copy_from_slice(found);
            assert!(centres.search(&coded, threads, &settle, &|| false));
        });
        let both = best(&mut || drop(Centres::new(&groups, d).find::<Nearest>(&rows, threads)));
        let rate = (n * d * k) as f64 / search.as_secs_f64() / 1e9;
        println!(
            "{n} x {d}, {count} of them {factor} times as wide, to {k} centres: {} heavy, coded in {coding:.2?}, labels in {search:.2?} ({rate:.0} GMAC/s), nearest two in {both:.2?}",
            frame.heavy()
        );
    }
}

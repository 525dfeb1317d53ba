//! A start from the table that the stage published last.

use super::*;

/// The nearest centroid of each point.
fn labels(points: &[(String, Vec<f32>)], record: &Record) -> Vec<i32> {
    let clusters::Sorted { numbers, centroids, dimension, .. } = clusters::sorted(&record.batches).unwrap();
    let rows: Vec<f32> = points.iter().flat_map(|point| point.1.clone()).collect();
    let found: Vec<nearest::Near> = nearest::Centres::new(centroids, dimension).find(&rows, 1);
    found.iter().map(|found| numbers[found.centre as usize]).collect()
}

/// The share of points that have the same cluster.
fn kept(before: &[i32], now: &[i32]) -> f64 {
    before.iter().zip(now).filter(|(before, now)| before == now).count() as f64 / now.len() as f64
}

#[test]
fn clusters_keep_their_numbers() {
    let all = points(1500, 6, 40, 3);
    let some: Vec<_> = all.iter().enumerate().filter(|(at, _)| at % 150 != 7).map(|(_, point)| point.clone()).collect();
    for config in [
        json!({"k": 30, "init": "previous"}),
        json!({"k": 30, "init": "previous", "restarts": 3, "empty": "split"}),
        json!({"k": 30, "init": "previous", "spherical": true}),
        json!({"k": 30, "init": "previous", "mini_batch": 300, "iterations": 20}),
    ] {
        let first = run(config.clone(), &[table(&all)], None, 2).unwrap();
        assert!(!first.went_on && first.said.is_empty(), "{:?}", first.said);
        let next = run_after(config.clone(), &[table(&some)], None, Some(&first), 2).unwrap();
        let afresh = run(config.clone(), &[table(&some)], None, 2).unwrap();
        assert!(next.went_on && next.said.is_empty(), "{:?}", next.said);
        let before = labels(&some, &first);
        let (share, other) = (kept(&before, &labels(&some, &next)), kept(&before, &labels(&some, &afresh)));
        assert!(share >= 0.99 && other < 0.5, "{config}: {share} from the last, {other} afresh");
        let last = |record: &Record| *record.values("objective").last().unwrap();
        // Each ends in a minimum of its own; of so few points, those lie some percent apart.
        assert!(last(&next) < 1.1 * last(&afresh), "{config}: {} {}", last(&next), last(&afresh));

        let cut = table(&some);
        let parts = [cut.slice(700, some.len() - 700), cut.slice(0, 700)];
        let other = run_after(config, &parts, None, Some(&first), 1).unwrap();
        assert_eq!((&other.batches, &other.metrics), (&next.batches, &next.metrics), "order and threads change no bit");
    }
}

#[test]
fn a_dropped_cluster_is_drawn_again_and_the_others_stay() {
    let all = points(400, 4, 8, 6);
    let config = json!({"k": 8, "init": "previous"});
    let whole = run(config.clone(), &[table(&all)], None, 2).unwrap();
    let lacking = Record { batches: vec![whole.batches[0].slice(0, 3), whole.batches[0].slice(4, 4)], ..Record::default() };
    let next = run_after(config, &[table(&all)], None, Some(&lacking), 2).unwrap();
    assert!(next.went_on);
    let (before, now) = (labels(&all, &whole), labels(&all, &next));
    let others = before.iter().zip(&now).filter(|(before, _)| **before != 3);
    assert!(others.clone().filter(|(before, now)| before == now).count() * 10 >= others.count() * 9);
    assert!(now.contains(&3), "cluster 3 has images again");
}

#[test]
fn a_table_of_other_features_is_no_start() {
    let points = points(300, 4, 6, 2);
    let config = json!({"k": 6, "init": "previous"});
    let afresh = run(config.clone(), &[table(&points)], None, 2).unwrap();
    let plain = run(json!({"k": 6}), &[table(&points)], None, 2).unwrap();
    assert_eq!((&afresh.batches, &afresh.metrics), (&plain.batches, &plain.metrics), "without a last table: k-means++");
    let far: Vec<f32> = (0..24).map(|at| 1000.0 * (at + 1) as f32).collect();
    let far = clusters::batch(&clusters::schema(6, 4), vec![50; 6], far).unwrap();
    let far = Record { batches: vec![far], ..Record::default() };
    let next = run_after(config.clone(), &[table(&points)], None, Some(&far), 2).unwrap();
    assert_eq!(next.said, ["starts afresh and not from the last centroids: no image is near to 5 of 6 of them"]);
    assert!(!next.went_on);
    assert_eq!((&next.batches, &next.metrics), (&plain.batches, &plain.metrics));
    let empty = Record { batches: vec![far.batches[0].slice(0, 0)], ..Record::default() };
    let next = run_after(config, &[table(&points)], None, Some(&empty), 2).unwrap();
    assert!(!next.went_on && next.said[0].ends_with("there are 0 of 4 dimensions"), "{:?}", next.said);
}

#[test]
fn only_init_previous_goes_on_and_given_centroids_come_first() {
    let rows = table(&points(10, 3, 2, 1));
    let two = clusters::batch(&clusters::schema(2, 3), vec![5; 2], vec![0.0; 6]).unwrap();
    let what = |config, centroids| bound(config, &rows, centroids).unwrap().goes_on_from();
    assert_eq!(what(json!({"k": 2, "init": "previous"}), None), Some("centroids"));
    assert_eq!(what(json!({"k": 2}), None), None);
    assert_eq!(what(json!({"init": "previous"}), Some(&two)), None);
    assert!(bound(json!({"k": 2}), &rows, None).unwrap().fits(&clusters::schema(2, 4)).is_err());
}

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::operator::At;
use crate::random::Draw;
use crate::trial::{self, Memory, Record};

use arrow::array::RecordBatch;

mod last;

fn bound(config: Value, rows: &RecordBatch, centroids: Option<&RecordBatch>) -> Result<Kmeans, Vec<BindError>> {
    let inputs: Vec<_> = std::iter::once((FEATURES, rows)).chain(centroids.map(|table| (CENTROIDS, table))).collect();
    trial::bind(config, &inputs.iter().map(|(name, table)| (*name, table.schema())).collect::<Vec<_>>())
}

fn run(config: Value, batches: &[RecordBatch], centroids: Option<&RecordBatch>, threads: usize) -> Result<Record, RunError> {
    run_after(config, batches, centroids, None, threads)
}

/// The same where the stage published a table before.
fn run_after(
    config: Value,
    batches: &[RecordBatch],
    centroids: Option<&RecordBatch>,
    last: Option<&Record>,
    threads: usize,
) -> Result<Record, RunError> {
    let kernel = trial::kernel(bound(config, &batches[0], centroids).unwrap(), 17, threads)?;
    let tables = [(FEATURES, batches.to_vec())].into_iter().chain(centroids.map(|table| (CENTROIDS, vec![table.clone()])));
    let tables = tables.chain(last.map(|record| (trial::LAST, record.batches.clone())));
    let mut record = Record::default();
    kernel.run(&Memory(tables.collect()), &mut record)?;
    Ok(record)
}

/// Points around `groups` centres.
fn points(n: usize, dimension: usize, groups: usize, seed: u64) -> Vec<(String, Vec<f32>)> {
    let mut draw = Draw::new(seed, "test", "points", "", 0);
    let centres: Vec<Vec<f64>> = (0..groups).map(|_| (0..dimension).map(|_| 10.0 * draw.unit()).collect()).collect();
    let point = |number: usize| {
        let centre = &centres[draw.below(groups)];
        (format!("{number:05}"), centre.iter().map(|value| (value + draw.unit()) as f32).collect())
    };
    (0..n).map(point).collect()
}

fn table(points: &[(String, Vec<f32>)]) -> RecordBatch {
    trial::features(&points.iter().map(|(id, values)| (id.as_str(), values.as_slice())).collect::<Vec<_>>())
}

fn centroids(record: &Record) -> Vec<f32> {
    clusters::sorted(&record.batches).unwrap().centroids
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn order_batches_and_threads_change_no_bit(
        n in 12usize..300, d in 1usize..20, k in 1usize..12, seed: u64, threads in 2usize..5, cut in 0.0..1.0f64, random: bool,
    ) {
        let mut points = points(n, d, 5, seed);
        let config = json!({"k": k, "init": if random { "random" } else { "k-means++" }, "restarts": 2, "iterations": 8});
        let one = run(config.clone(), &[table(&points)], None, 1).unwrap();
        let order = Draw::new(seed, "test", "order", "", 0).distinct(n, n);
        points = order.into_iter().map(|place| points[place].clone()).collect();
        let cut = 1 + (cut * (n - 1) as f64) as usize;
        let whole = table(&points);
        let other = run(config, &[whole.slice(0, cut), whole.slice(cut, n - cut)], None, threads).unwrap();
        prop_assert_eq!(one.batches, other.batches);
        prop_assert_eq!(one.metrics, other.metrics);
    }

    #[test]
    fn the_objective_falls_and_is_that_of_the_output(n in 30usize..300, d in 1usize..12, k in 1usize..20, seed: u64) {
        let points = points(n, d, 6, seed);
        let record = run(json!({"k": k, "iterations": 10, "tolerance": 0.0}), &[table(&points)], None, 2).unwrap();
        let objectives = record.values("objective");
        prop_assert!(objectives.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-6)), "{objectives:?}");
        let centroids = centroids(&record);
        let rows: Vec<f32> = points.iter().flat_map(|point| point.1.clone()).collect();
        let found: Vec<nearest::Nearest> = nearest::Centres::new(centroids, d).find(&rows, 1);
        let plain: f64 = found.iter().map(|found| found.first.squared).sum();
        let last = *objectives.last().unwrap();
        prop_assert!((plain - last).abs() <= 1e-9 * plain, "{plain} {last}");
        let mut sizes = vec![0i64; k];
        found.iter().for_each(|found| sizes[found.first.centre as usize] += 1);
        let expected = clusters::batch(&clusters::schema(k, d), sizes, clusters::sorted(&record.batches).unwrap().centroids);
        prop_assert_eq!(&record.batches[0], &expected.unwrap());
    }
}

#[test]
fn groups_are_found() {
    let points = points(600, 6, 8, 4);
    let record = run(json!({"k": 8, "restarts": 3}), &[table(&points)], None, 2).unwrap();
    // Uniform noise of width 1 has a variance of 1/12 in each of 6 dimensions.
    let expected = 600.0 * 6.0 / 12.0;
    let objective = *record.values("objective").last().unwrap();
    assert!((objective / expected - 1.0).abs() < 0.1, "{objective} {expected}");
    assert_eq!(*record.values("empty").last().unwrap(), 0.0);
    assert_eq!(record.values("moved")[0], 1.0);
    assert!(record.progress.iter().all(|&(done, total)| done <= total));
}

#[test]
fn one_cluster_is_the_mean() {
    let rows = trial::features(&[("a", &[1.0, 5.0]), ("b", &[2.0, 5.0]), ("c", &[6.0, 5.0])]);
    let record = run(json!({"k": 1}), &[rows], None, 2).unwrap();
    assert_eq!(centroids(&record), [3.0, 5.0]);
    assert_eq!(record.values("objective").last(), Some(&14.0));
    assert_eq!(record.values("imbalance").last(), Some(&1.0));
}

#[test]
fn copies_leave_clusters_empty_and_nothing_to_gain() {
    let points: Vec<_> = (0..20).map(|number| (number.to_string(), vec![(number % 2) as f32 * 0.1, 0.3])).collect();
    let record = run(json!({"k": 5}), &[table(&points)], None, 2).unwrap();
    assert_eq!(record.values("objective").last(), Some(&0.0));
    assert_eq!(record.values("empty").last(), Some(&3.0));
}

#[test]
fn as_many_clusters_as_images_fit_exactly() {
    let points = points(40, 3, 40, 1);
    let record = run(json!({"k": 40}), &[table(&points)], None, 2).unwrap();
    assert_eq!(record.values("objective").last(), Some(&0.0));
    assert_eq!(record.values("empty").last(), Some(&0.0));
}

#[test]
fn a_warm_start_goes_on_where_it_was() {
    let points = table(&points(400, 5, 9, 2));
    let whole = run(json!({"k": 9, "iterations": 6, "tolerance": 0.0}), std::slice::from_ref(&points), None, 1).unwrap();
    let half = run(json!({"k": 9, "iterations": 3, "tolerance": 0.0}), std::slice::from_ref(&points), None, 1).unwrap();
    let rest =
        run(json!({"iterations": 3, "tolerance": 0.0}), std::slice::from_ref(&points), Some(&half.batches[0]), 2).unwrap();
    assert_eq!(whole.batches, rest.batches);
    let none = run(json!({"iterations": 0}), &[points], Some(&half.batches[0]), 1).unwrap();
    assert_eq!(none.batches, half.batches);
}

#[test]
fn the_best_restart_wins() {
    let points = table(&points(200, 2, 12, 8));
    let config = |restarts| json!({"k": 12, "init": "random", "restarts": restarts});
    let last = |restarts| {
        *run(config(restarts), std::slice::from_ref(&points), None, 1).unwrap().values("objective").last().unwrap()
    };
    assert!(last(10) < last(1));
}

#[test]
fn faults_are_all_named() {
    let rows = table(&points(10, 3, 2, 1));
    let config = json!({"k": 0, "tolerance": -1.0, "restarts": 0, "column": "conv4"});
    let errors = bound(config, &rows, None).err().unwrap();
    let keys: Vec<_> = errors.iter().map(|error| error.at.clone()).collect();
    assert_eq!(keys, ["k", "tolerance", "restarts", "column"].map(|key| At::Key(key.into())));
    assert_eq!(bound(json!({}), &rows, None).err().unwrap()[0].message, "missing key `k`");

    let four = clusters::batch(&clusters::schema(4, 2), vec![1; 4], vec![0.0; 8]).unwrap();
    let messages: Vec<_> = bound(json!({"k": 3, "restarts": 2}), &rows, Some(&four)).err().unwrap();
    let messages: Vec<_> = messages.into_iter().map(|error| error.message).collect();
    assert_eq!(
        messages,
        [
            "2 starts from the same `centroids` find the same: leave it out",
            "centroids have 2 dimensions, but `feature` has 3",
            "3 clusters, but `centroids` has 4",
        ]
    );
}

#[test]
fn unfit_tables_are_refused() {
    let rows = table(&points(10, 3, 2, 1));
    let error = |config, rows: &RecordBatch, centroids| {
        run(config, std::slice::from_ref(rows), centroids, 1).err().unwrap().to_string()
    };
    assert_eq!(error(json!({"k": 11}), &rows, None), "k is 11, but there are 10 images: a cluster needs at least one");
    let bad = trial::features(&[("a", &[1.0]), ("b.jpg", &[f32::NAN])]);
    assert!(error(json!({"k": 1}), &bad, None).starts_with("image `b.jpg`: `feature` has NaN"));
    let four = clusters::batch(&clusters::schema(4, 3), vec![1; 4], vec![0.0; 12]).unwrap();
    let three = Some(four.slice(0, 3));
    let message = "k is 4, but `centroids` has 3 rows; leave `k` out to start from those";
    assert_eq!(error(json!({"k": 4}), &rows, three.as_ref()), message);
    let none = four.slice(0, 0);
    assert_eq!(error(json!({}), &rows, Some(&none)), "`centroids` is empty: there is nothing to start from");
    let twice = arrow::compute::concat_batches(&four.schema(), [&four.slice(1, 1), &four.slice(1, 1)]).unwrap();
    assert_eq!(error(json!({}), &rows, Some(&twice)), "`centroids` has cluster 1 twice");
}

#[test]
fn an_interruption_ends_it() {
    let rows = table(&points(50, 3, 2, 1));
    let kernel = trial::kernel(bound(json!({"k": 2}), &rows, None).unwrap(), 1, 1).unwrap();
    let mut record = Record { cancel: true, ..Record::default() };
    let tables = Memory([(FEATURES, vec![rows])].into());
    assert!(matches!(kernel.run(&tables, &mut record), Err(RunError::Cancelled)));
}

#[test]
fn it_reads_what_it_names() {
    let rows = table(&points(4, 3, 2, 1));
    let four = clusters::batch(&clusters::schema(4, 3), vec![1; 4], vec![0.0; 12]).unwrap();
    let operator = bound(json!({}), &rows, Some(&four)).unwrap();
    assert_eq!(operator.reads(FEATURES, &Kmeans::INPUTS[0]), ["image_id", "feature"]);
    assert_eq!(operator.reads(CENTROIDS, &Kmeans::INPUTS[1]), ["cluster", "centroid"]);
    assert_eq!(operator.schema(), clusters::schema(4, 3));
}

#[test]
fn a_file_holds_what_memory_holds() {
    let points = table(&points(3000, 70, 9, 5));
    for more in [json!({}), json!({"k": 400, "init": "random", "restarts": 2}), json!({"mini_batch": 100})] {
        let mut config = json!({"k": 9, "iterations": 5});
        let update =
            |config: &mut Value, more: &Value| config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        update(&mut config, &more);
        let one = run(config.clone(), std::slice::from_ref(&points), None, 2).unwrap();
        update(&mut config, &json!({"memory": "1KiB"}));
        let other = run(config, &[points.slice(1000, 2000), points.slice(0, 1000)], None, 2).unwrap();
        assert_eq!((one.batches, one.metrics), (other.batches, other.metrics), "{more}");
        assert!(one.said.is_empty());
        assert!(other.said[0].starts_with("features go to a temporary file of 1"), "{:?}", other.said);
    }
}

#[test]
fn empty_clusters_are_kept_or_left_out() {
    let points: Vec<_> = (0..30).map(|number| (format!("{number:02}"), vec![number as f32, 0.0])).collect();
    let far = clusters::batch(&clusters::schema(3, 2), vec![1; 3], vec![5.0, 0.0, 900.0, 900.0, 20.0, 0.0]).unwrap();
    let of = |empty: &str| run(json!({"empty": empty}), &[table(&points)], Some(&far), 2).unwrap().batches.remove(0);
    let kept = of("keep");
    assert_eq!(clusters::sorted(std::slice::from_ref(&kept)).unwrap().centroids[2..4], [900.0, 900.0]);
    let dropped = clusters::sorted(&[of("drop")]).unwrap();
    assert_eq!((dropped.numbers, dropped.centroids.len()), (vec![0, 2], 4));
    for refilled in ["split", "farthest"] {
        let clusters::Sorted { numbers, centroids, .. } = clusters::sorted(&[of(refilled)]).unwrap();
        assert!(numbers.len() == 3 && centroids[2] < 30.0 && centroids[3] == 0.0, "{refilled}: {centroids:?}");
    }
}

#[test]
fn a_table_without_its_empty_clusters_is_a_start() {
    let points: Vec<_> = (0..30).map(|number| (format!("{number:02}"), vec![number as f32, 0.0])).collect();
    let far = clusters::batch(&clusters::schema(3, 2), vec![1; 3], vec![5.0, 0.0, 900.0, 900.0, 20.0, 0.0]).unwrap();
    let dropped = run(json!({"empty": "drop"}), &[table(&points)], Some(&far), 2).unwrap().batches.remove(0);
    for config in [json!({}), json!({"empty": "drop"}), json!({"empty": "split", "mini_batch": 8, "iterations": 2})] {
        let again = run(config, &[table(&points)], Some(&dropped), 2).unwrap();
        assert_eq!(again.batches[0].schema(), dropped.schema());
        assert_eq!(clusters::sorted(&again.batches).unwrap().numbers, [0, 2]);
    }
    let settled = run(json!({}), &[table(&points)], Some(&dropped), 1).unwrap();
    assert_eq!(settled.batches, [dropped]);
}

#[test]
fn rows_without_a_direction_are_named_or_left_out() {
    let mut points = points(40, 2, 3, 6);
    points[7].1 = vec![0.0, -0.0];
    let error = run(json!({"k": 3, "spherical": true}), &[table(&points)], None, 2).err().unwrap().to_string();
    assert!(error.starts_with("image `00007`: `feature` is all zeros"), "{error}");
    let left = run(json!({"k": 3, "spherical": true, "on_error": "drop"}), &[table(&points)], None, 2).unwrap();
    assert_eq!(left.dropped.iter().map(|row| row.image_id.as_str()).collect::<Vec<_>>(), ["00007"]);
    points.remove(7);
    assert_eq!(left.batches, run(json!({"k": 3, "spherical": true}), &[table(&points)], None, 1).unwrap().batches);
}

#[test]
fn values_beyond_what_can_be_squared_name_their_image() {
    for value in [1e30, -3e38, f32::INFINITY, 1.1e15] {
        let rows = trial::features(&[("a", &[0.25]), ("far.jpg", &[value])]);
        let error = run(json!({"k": 1}), &[rows], None, 1).err().unwrap().to_string();
        assert!(error.starts_with("image `far.jpg`: `feature` has "), "{error}");
        assert!(error.ends_with("values must be finite, of magnitude up to 1e15"), "{error}");
    }
}

#[test]
fn directions_are_clustered() {
    // Two directions, each of many lengths; a plain k-means would part the long from the short.
    let point = |number: usize| {
        let (length, angle) =
            (1.0 + (number % 50) as f32, if number < 100 { 0.1f32 } else { 0.5 } + (number % 7) as f32 * 0.01);
        (format!("{number:03}"), vec![length * angle.cos(), length * angle.sin()])
    };
    let points: Vec<_> = (0..200).map(point).collect();
    let record = run(json!({"k": 2, "spherical": true, "restarts": 2}), &[table(&points)], None, 2).unwrap();
    let centroids = centroids(&record);
    assert!(centroids.chunks(2).all(|centroid| (centroid[0].hypot(centroid[1]) - 1.0).abs() < 1e-6));
    let sizes = record.batches[0].column(1).as_any().downcast_ref::<arrow::array::Int64Array>().unwrap();
    assert_eq!(sizes.values(), &[100, 100]);
    // 2 (1 - cos) of what is left of the angle.
    assert!(*record.values("objective").last().unwrap() < 200.0 * 0.0005);
}

#[test]
fn batches_come_near_to_what_all_images_give() {
    let points = points(4000, 8, 10, 3);
    let whole = run(json!({"k": 10}), &[table(&points)], None, 2).unwrap();
    let config = json!({"k": 10, "mini_batch": 256, "iterations": 40});
    let batches = run(config.clone(), &[table(&points)], None, 1).unwrap();
    let last = |record: &Record| *record.values("objective").last().unwrap();
    assert!(last(&batches) < 1.1 * last(&whole), "{} {}", last(&batches), last(&whole));
    assert_eq!(batches.values("batch_objective").len(), 40);
    assert_eq!(batches.values("objective").len(), 1);
    let mut turned = points;
    turned.reverse();
    assert_eq!(run(config, &[table(&turned)], None, 3).unwrap().batches, batches.batches);
}

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use serde_json::json;
use tessera_schemas::neighbours::Neighbour;
use tessera_schemas::{floats, text};

use super::*;
use crate::random::Draw;
use crate::trial::{self, Record};

/// Groups of images around points of their own.
fn groups(groups: usize, each: usize, d: usize) -> Vec<(String, Vec<f32>)> {
    let mut draw = Draw::new(3, "test", "groups", "", 0);
    let centres: Vec<Vec<f32>> = (0..groups).map(|_| (0..d).map(|_| 4.0 * draw.unit() as f32).collect()).collect();
    let mut row = |group: usize| centres[group].iter().map(|&value| value + draw.unit() as f32).collect();
    (0..groups * each).map(|number| (format!("{:05}", number * 7919 % 100_000), row(number % groups))).collect()
}

fn table(values: &[(String, Vec<f32>)]) -> RecordBatch {
    trial::features(&values.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>())
}

fn run(
    config: serde_json::Value,
    rows: &[RecordBatch],
    near: Option<&[RecordBatch]>,
    threads: usize,
) -> Result<(RecordBatch, Record), RunError> {
    let inputs: Vec<_> =
        [(FEATURES, rows[0].schema())].into_iter().chain(near.map(|near| (NEAR, near[0].schema()))).collect();
    let operator: Plane = trial::bind(config, &inputs).unwrap();
    let tables = [(FEATURES, rows.to_vec())].into_iter().chain(near.map(|near| (NEAR, near.to_vec())));
    let (schema, mut record) = (operator.schema(), Record::default());
    trial::kernel(operator, 1, threads)?.run(&trial::Memory(tables.collect()), &mut record)?;
    Ok((concat_batches(&schema, &record.batches).unwrap(), record))
}

fn neighbours_of(rows: &RecordBatch) -> Vec<RecordBatch> {
    trial::run(crate::find("neighbours").unwrap(), json!({}), &[(FEATURES, rows.clone())]).unwrap()
}

#[test]
fn no_bit_depends_on_threads_or_the_order_of_rows_or_who_found_the_neighbours() {
    let values = groups(6, 100, 20);
    let rows = table(&values);
    let (first, record) = run(json!({}), std::slice::from_ref(&rows), None, 1).unwrap();
    assert_eq!(first.num_rows(), 600);
    let mixed = [rows.slice(250, 350), rows.slice(0, 250)];
    let near = neighbours_of(&rows);
    for (threads, near) in [(2, None), (3, Some(&near[..]))] {
        assert_eq!(run(json!({}), &mixed, near, threads).unwrap().0, first, "{threads} threads");
    }
    let kept = record.values("kept")[0];
    assert!(kept > 0.3, "{kept}");
    // All images of a group are nearer to their group's middle than to any other's.
    let (ids, x, y) = (text(&first, "image_id").unwrap(), floats(&first, "x").unwrap(), floats(&first, "y").unwrap());
    let group_of = |id: &str| values.iter().position(|row| row.0 == id).unwrap() % 6;
    let groups: Vec<usize> = ids.iter().map(|id| group_of(id.unwrap())).collect();
    let middle = |group: usize| {
        let of =
            |values: &[f32]| values.iter().zip(&groups).filter(|(_, g)| **g == group).map(|(v, _)| v).sum::<f32>() / 100.0;
        [of(x.values()), of(y.values())]
    };
    let middles: Vec<[f32; 2]> = (0..6).map(middle).collect();
    let nearest = |row: usize| {
        let squared = |m: &[f32; 2]| (m[0] - x.value(row)).powi(2) + (m[1] - y.value(row)).powi(2);
        (0..6).min_by(|&a, &b| squared(&middles[a]).total_cmp(&squared(&middles[b]))).unwrap()
    };
    let right = (0..600).filter(|&row| nearest(row) == groups[row]).count();
    assert!(right >= 590, "{right} of 600");
}

#[test]
fn of_many_images_a_choice_is_laid_out() {
    let rows = table(&groups(3, 60, 5));
    let few = json!({"landmarks": 50, "epochs": 20});
    let (chosen, record) = run(few.clone(), std::slice::from_ref(&rows), None, 2).unwrap();
    assert_eq!((chosen.num_rows(), record.said.len()), (50, 1));
    let near = neighbours_of(&rows);
    assert_eq!(run(few, &[rows.slice(90, 90), rows.slice(0, 90)], Some(&near), 1).unwrap().0, chosen);
    // It is the map of those alone.
    let ids: Vec<&str> = text(&chosen, "image_id").unwrap().iter().flatten().collect();
    let alone: Vec<_> = groups(3, 60, 5).into_iter().filter(|row| ids.contains(&row.0.as_str())).collect();
    assert_eq!(run(json!({"epochs": 20}), &[table(&alone)], None, 1).unwrap().0, chosen);
}

#[test]
fn small_and_odd_tables_have_a_map() {
    for count in [1, 2, 3, 40] {
        let alike: Vec<_> = (0..count).map(|number| (format!("{number:02}"), vec![0.25; 3])).collect();
        let (map, record) = run(json!({}), &[table(&alike)], None, 2).unwrap();
        assert_eq!(map.num_rows(), count);
        assert!(
            floats(&map, "x").unwrap().values().iter().chain(floats(&map, "y").unwrap().values()).all(|v| v.is_finite())
        );
        assert!((0.0..=1.0).contains(&record.values("kept")[0]));
    }
    let none = table(&groups(1, 1, 3)).slice(0, 0);
    assert_eq!(run(json!({}), &[none], None, 1).unwrap().0.num_rows(), 0);
}

#[test]
fn faults_are_named() {
    let rows = table(&groups(1, 4, 2));
    let ids: Vec<String> = text(&rows, "image_id").unwrap().iter().flatten().map(str::to_owned).collect();
    let mut sorted = ids.clone();
    sorted.sort();
    let [a, b, c, d] = [0, 1, 2, 3].map(|number| sorted[number].as_str());
    let all = |extra: &[(&'static str, i32, &'static str, f32)]| {
        let name = |name: &str| match name {
            "a" => a.to_owned(),
            "b" => b.to_owned(),
            other => other.to_owned(),
        };
        let extra: Vec<_> =
            extra.iter().map(|(id, rank, other, distance)| (name(id), *rank, name(other), *distance)).collect();
        let mut all: Vec<Neighbour<'_>> = extra
            .iter()
            .map(|(image_id, rank, neighbour, distance)| Neighbour { image_id, rank: *rank, neighbour, distance: *distance })
            .collect();
        all.extend([b, c, d].map(|image_id| Neighbour { image_id, rank: 1, neighbour: a, distance: 1.0 }));
        let near = neighbours::batch(&all).unwrap();
        run(json!({"epochs": 1, "count": 2}), std::slice::from_ref(&rows), Some(&[near]), 1)
            .err()
            .map(|error| error.to_string())
    };
    let of_a = |reason: &str| Some(format!("image `{a}`: {reason}"));
    assert_eq!(all(&[("a", 1, "b", 1.0)]), None);
    assert_eq!(all(&[]), of_a("`near` has no neighbours of it: make it from the same features"));
    assert_eq!(all(&[("a", 2, "b", 1.0)]), of_a("`near` has no neighbours of it: make it from the same features"));
    assert_eq!(all(&[("a", 0, "b", 1.0)]), of_a("`near` has a rank of 0, and the nearest has 1"));
    assert_eq!(all(&[("a", 1, "b", f32::NAN)]), of_a("`near` has a distance of NaN, which is none"));
    assert_eq!(all(&[("a", 1, "a", 1.0)]), of_a("`near` has it as a neighbour of itself"));
    assert_eq!(all(&[("a", 1, "b", 1.0), ("a", 1, "b", 1.0)]), of_a("`near` has two neighbours of rank 1"));
    assert_eq!(all(&[("a", 1, "b", 2.0), ("a", 2, "b", 1.0)]), of_a("its distances in `near` do not rise with their ranks"));
    let strange = all(&[("a", 1, "x.jpg", 1.0)]).unwrap();
    assert_eq!(
        strange,
        format!("image `{a}`: `near` has `x.jpg`, and `features` has not: make both from the same features")
    );
    let bound = |config| trial::bind::<Plane>(config, &[(FEATURES, rows.schema())]).err().unwrap()[0].message.clone();
    assert_eq!(bound(json!({"landmarks": 0})), "a map of 0 images is empty: at least 1");
    assert_eq!(bound(json!({"epochs": 0})), "0 epochs move nothing: at least 1");
}

#[test]
fn a_run_that_is_cancelled_ends() {
    let rows = table(&groups(2, 50, 3));
    let operator: Plane = trial::bind(json!({}), &[(FEATURES, rows.schema())]).unwrap();
    let mut record = Record { cancel: true, ..Record::default() };
    let done = trial::kernel(operator, 0, 1).unwrap().run(&trial::Memory([(FEATURES, vec![rows])].into()), &mut record);
    assert!(matches!(done, Err(RunError::Cancelled)));
}

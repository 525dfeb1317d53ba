//! What is kept of a run, and going on from there.

use super::*;
use crate::torch::optimizer::Optimizer;
use crate::torch::tensors::Tensors;
use crate::torch::train::checkpoint::{self, Position};
use crate::torch::train::mean::Mean;

#[test]
fn an_interrupted_run_ends_like_an_undisturbed_one() {
    let table = table(102, 4);
    let rules = [json!({}), json!({"optimizer": "adamw", "clip": 0.5, "label_smoothing": 0.1, "warmup": 1.0})];
    for (rule, stops) in rules.into_iter().zip([vec![1, 5, 6, 7], vec![17]]) {
        let config = config(rule.clone());
        let mut whole = Record::default();
        run(&config, &table, 40, 1, &mut whole).unwrap();
        assert!(whole.kept.is_none(), "minutes have not gone by");
        let mut keeping = config.clone();
        keeping["checkpoint_minutes"] = json!(0);
        for stop in stops {
            let mut first = Record { cancel_after: Some(stop), ..Record::default() };
            run(&keeping, &table, 40, 1, &mut first).unwrap_err();
            let (state, count) = first.kept.take().unwrap();
            let metrics = first.metrics;
            let mut second = Record { kept: Some((state, count)), metrics, ..Record::default() };
            run(&keeping, &table, 7, 1, &mut second).unwrap();
            // An epoch has six steps; it is told to stop before the next one, which may be another epoch's first.
            assert_eq!(second.lines[0], format!("resumed at epoch {}, step {stop}", stop / 6 + 1));
            assert_eq!(second.notes.len(), 36 - stop, "no step is done twice");
            assert!(second.batches == whole.batches, "{rule} stopped at {stop}: other weights");
            assert_eq!(timeless(&second), timeless(&whole), "{rule} stopped at {stop}");
        }
    }
}

#[test]
fn a_state_that_is_none_is_named_and_left() {
    let table = table(40, 3);
    let config = config(json!({"epochs": 1}));
    let mut whole = Record::default();
    run(&config, &table, 40, 1, &mut whole).unwrap();
    for state in [
        Vec::new(),
        vec![7; 100],
        safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView)>::new(), None).unwrap(),
    ] {
        let mut record = Record { kept: Some((state, 0)), ..Record::default() };
        run(&config, &table, 40, 1, &mut record).unwrap();
        assert!(record.lines[0].starts_with("the checkpoint cannot be used ("), "{:?}", record.lines);
        assert!(record.batches == whole.batches);
    }
}

/// Trains, is stopped after so many steps (which keeps the state), and goes on.
fn stopped(config: &Value, tables: &Memory, stop: usize) -> Record {
    let mut first = Record { cancel_after: Some(stop), ..Record::default() };
    assert!(matches!(run_with(config, tables, &mut first), Err(RunError::Cancelled)), "it is stopped after {stop}");
    let mut second = Record { kept: first.kept, metrics: first.metrics, ..Record::default() };
    run_with(config, tables, &mut second).unwrap();
    assert!(second.lines[0].starts_with("resumed at epoch "), "{:?}", second.lines);
    second
}

#[test]
fn a_step_that_is_not_full_is_gone_on_from_too() {
    // Fewer rows than a step takes; as many; and such that steps fill an epoch, or leave a rest. With a validation set, the stop falls
    // between an epoch's last step and its end.
    for (rows, validates) in [(10, false), (10, true), (16, false), (32, true), (41, false)] {
        let tables = Memory { validates, ..Memory::new(table(rows, 3), 7) };
        let config = config(json!({"batch": 16, "epochs": 3}));
        let mut whole = Record::default();
        run_with(&config, &tables, &mut whole).unwrap();
        for stop in 1..whole.notes.len() {
            let resumed = stopped(&config, &tables, stop);
            assert!(resumed.batches == whole.batches, "{rows} rows, 16 a step, stopped at {stop}: other weights");
            assert_eq!(timeless(&resumed), timeless(&whole), "{rows} rows, 16 a step, stopped at {stop}");
        }
    }
}

#[test]
fn short_epochs_are_kept_too() {
    let config = config(json!({"batch": 16, "epochs": 200, "checkpoint_minutes": 0.001}));
    let mut record = Record::default();
    let start = std::time::Instant::now();
    run(&config, &table(12, 3), 40, 1, &mut record).unwrap();
    // Of one step each, they are shorter than the 60 ms between two checkpoints.
    let most = start.elapsed().as_millis() as usize / 60;
    assert!(most >= 1 && (1..=most).contains(&record.keeps), "{} checkpoints in {:?}", record.keeps, start.elapsed());
}

#[test]
fn an_end_that_was_kept_is_not_done_again() {
    let (table, config) = (table(40, 3), config(json!({"epochs": 2, "checkpoint_minutes": 0})));
    let mut whole = Record::default();
    run(&config, &table, 40, 1, &mut whole).unwrap();
    // Killed behind the last checkpoint, before the table was published.
    let mut again = Record { kept: whole.kept.clone(), metrics: whole.metrics.clone(), ..Record::default() };
    run(&config, &table, 40, 1, &mut again).unwrap();
    assert_eq!((again.notes.len(), &again.batches, &again.metrics), (0, &whole.batches, &whole.metrics));
}

/// A state of the training that [`config`] describes, with weights of that value.
fn state(last: Option<&str>, value: f64, network: &str) -> Vec<u8> {
    let train = bind(config(json!({"network": network})), table(40, 3).schema()).unwrap();
    let tensors = Tensors::initial(&train.parameters, 1, tch::Device::Cpu).unwrap();
    tch::no_grad(|| tensors.trained().iter().for_each(|tensor| drop(tensor.shallow_clone().fill_(value))));
    let optimizer = Optimizer::new(train.settings.learning.rule(), tensors.trained(), 1).unwrap();
    let position = Position {
        epoch: 0,
        step: 1,
        last: last.map(str::to_owned),
        first: None,
        whole: Mean::new().sums(),
        tally: Default::default(),
        recent: Mean::new().sums(),
    };
    checkpoint::write(&position, &tensors, &optimizer).unwrap()
}

#[test]
fn a_checkpoint_that_is_of_no_use_does_not_stay_in_the_way() {
    let (table, config) = (table(40, 3), config(json!({"epochs": 1})));
    let mut whole = Record::default();
    run(&config, &table, 40, 1, &mut whole).unwrap();
    for (state, reason) in [
        (state(Some(""), 0.1, "small"), "there is no row of `` to start behind"),
        (state(Some("9999"), 0.1, "small"), "there is no row of `9999` to start behind"),
        (state(None, f64::NAN, "small"), "has values that are no numbers"),
        (state(None, f64::INFINITY, "small"), "has values that are no numbers"),
        (state(None, 0.1, "medium"), "tensor"),
    ] {
        let metrics = vec![(0, 1, "loss".to_owned(), 5.0)];
        let mut record = Record { kept: Some((state, 1)), metrics, ..Record::default() };
        run(&config, &table, 40, 1, &mut record).unwrap();
        let line = &record.lines[0];
        assert!(line.starts_with("the checkpoint cannot be used (") && line.contains(reason), "{reason}: {line}");
        assert!(record.batches == whole.batches, "{reason}: from the beginning");
        assert_eq!(timeless(&record), timeless(&whole), "{reason}: its numbers go with it");
    }
}

#[test]
fn what_is_no_number_is_never_kept() {
    // The first step leaves weights that are infinite, and its loss was not.
    let config = config(json!({"learning_rate": 1e60, "schedule": "constant", "checkpoint_minutes": 0}));
    let mut record = Record::default();
    let error = run(&config, &table(64, 3), 64, 1, &mut record).unwrap_err().to_string();
    assert!(error.contains("has values that are no numbers after step 1: try a `learning_rate` of a tenth"), "{error}");
    assert_eq!((record.keeps, record.batches.len()), (0, 0));
    // Nor when somebody interrupts it then: that it is of no use is said by the next run.
    let mut minutes = config;
    minutes["checkpoint_minutes"] = json!(5);
    let mut record = Record { cancel_after: Some(1), ..Record::default() };
    assert!(run(&minutes, &table(64, 3), 64, 1, &mut record).is_err() && record.keeps == 0);
}

#[test]
fn an_interrupted_probe_leaves_no_number_twice() {
    let table = pictures(96, 3);
    let trained = |record: &mut Record| {
        let inputs = [EXAMPLES, PROBE].map(|input| (input, table.schema()));
        let train: Train = trial::bind(config(json!({"classes": 3, "epochs": 2})), &inputs).unwrap();
        let kernel = trial::kernel(train, 1, 1).unwrap();
        kernel.run(&Memory::new(table.clone(), 40), record)
    };
    let mut whole = Record::default();
    trained(&mut whole).unwrap();
    // Six steps an epoch: it is told to stop while the probe measures.
    let mut first = Record { cancel_after: Some(6), ..Record::default() };
    assert!(matches!(trained(&mut first), Err(RunError::Cancelled)) && first.keeps == 1);
    assert!(!first.metrics.iter().any(|metric| metric.2.starts_with("epoch_")), "{:?}", first.metrics);
    let mut second = Record { kept: first.kept, metrics: first.metrics, ..Record::default() };
    trained(&mut second).unwrap();
    assert_eq!((&second.batches, timeless(&second)), (&whole.batches, timeless(&whole)));
}

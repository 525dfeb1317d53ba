//! How a run goes: its learning rates where rows are left out, its speed, its precision, and what is said at its end.

use super::*;
use crate::torch::examples::Steps;
use crate::torch::forward::Mode;
use crate::torch::tensors::Tensors;
use crate::torch::train::pass::Pass;

fn of(record: &Record, name: &str) -> Vec<f64> {
    record.metrics.iter().filter(|metric| metric.2 == name).map(|metric| metric.3).collect()
}

#[test]
fn rows_that_are_left_out_do_not_hold_the_learning_rate_up() {
    let tables = Memory { sound: 30, ..Memory::new(table(120, 3), 11) };
    let config = config(json!({"epochs": 4, "batch": 10, "metrics_every": 1}));
    let mut whole = Record::default();
    run_with(&config, &tables, &mut whole).unwrap();
    let rates = of(&whole, "learning_rate");
    assert_eq!(rates.len(), 12, "three steps an epoch");
    let cosine = |done: f64| 0.05 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
    assert_eq!(rates[0], 0.05);
    for (step, rate) in rates.iter().enumerate().skip(3) {
        assert!((rate - cosine(step as f64 / 12.0)).abs() < 1e-12, "step {step}: {rate}");
    }
    // How the first epoch's rows are left out is seen as it goes.
    assert!(rates[..4].is_sorted_by(|a, b| a > b), "{rates:?}");
    let (done, total, _) = whole.notes.last().unwrap();
    assert_eq!((*done, *total), (12, 12));
    assert!(whole.notes.iter().all(|note| note.0 <= note.1), "{:?}", whole.notes);
    // As those of the sound rows alone, but for the first epoch.
    let mut alone = Record::default();
    run_with(&config, &Memory::new(table(30, 3), 11), &mut alone).unwrap();
    assert_eq!(of(&alone, "learning_rate")[3..], rates[3..]);
    for stop in 1..12 {
        let mut first = Record { cancel_after: Some(stop), ..Record::default() };
        run_with(&config, &tables, &mut first).unwrap_err();
        let mut second = Record { kept: first.kept, metrics: first.metrics, ..Record::default() };
        run_with(&config, &tables, &mut second).unwrap();
        assert_eq!((&second.batches, timeless(&second)), (&whole.batches, timeless(&whole)), "stopped at {stop}");
    }
}

#[test]
fn what_does_not_fill_a_step_is_said() {
    let said = |rows, batch| {
        let mut record = Record::default();
        run(&config(json!({"epochs": 2, "batch": batch})), &table(rows, 3), 40, 1, &mut record).unwrap();
        record.lines
    };
    assert_eq!(
        said(44, 8),
        ["an epoch leaves out 4 of 44 examples, others each time: they do not fill a step (`batch` = 8)"]
    );
    assert_eq!(said(44, 60), ["`batch` = 60 is above the 44 rows of `examples`: an epoch is one step"]);
    assert_eq!(said(44, 44), [""; 0]);
}

#[test]
fn validation_does_not_count_as_training_time() {
    let slow = Duration::from_millis(400);
    let tables = Memory { validates: true, slow, ..Memory::new(table(32, 3), 40) };
    let mut record = Record::default();
    // The third row of metrics is over the steps around the first epoch's end.
    run_with(&config(json!({"epochs": 3, "metrics_every": 1})), &tables, &mut record).unwrap();
    let rates = of(&record, "images_per_second");
    let least = 16.0 / slow.as_secs_f64();
    assert!(rates.len() == 6 && rates.iter().all(|rate| *rate > 2.0 * least), "{rates:?} beside {least}");
}

#[test]
fn auto_is_in_the_key_as_what_it_became() {
    let precision = |config: Value| {
        let train = bind(config, table(4, 3).schema()).unwrap();
        train.settled().into_iter().find(|(key, _)| *key == "precision").unwrap().1
    };
    assert_eq!(precision(config(json!({}))), "float32");
    assert_eq!(precision(config(json!({"precision": "float32"}))), "float32");
    assert_eq!(precision(config(json!({"precision": "bfloat16"}))), "bfloat16");
    assert_eq!(precision(config(json!({"device": "cuda:0"}))), "bfloat16", "also where there is none");
    assert_eq!(bind(config(json!({})), table(4, 3).schema()).unwrap().device().as_deref(), Some("cpu"));
}

#[test]
fn validation_computes_in_the_precision_of_training() {
    let puzzles = table(16, 3);
    let tables = Memory { validates: true, ..Memory::new(puzzles.clone(), 40) };
    let config = config(json!({"epochs": 2, "precision": "bfloat16"}));
    let mut record = Record::default();
    run_with(&config, &tables, &mut record).unwrap();
    let found = of(&record, "validation_loss")[1];
    let train = bind(config, puzzles.schema()).unwrap();
    let weights = Tensors::read(&record.batches, &train.parameters, tch::Device::Cpu).unwrap();
    let rows = tables.scan(VALIDATION, Order::Shuffled { epoch: 0, after: None, classes: None }).unwrap();
    let examples = Steps::new(rows, &train.layout, 16).next().unwrap().unwrap();
    let loss = |tensors: &Tensors| {
        let (form, layout) = (&train.form, &train.layout);
        let pass = Pass { form, tensors, layout, smoothing: 0.0, device: tch::Device::Cpu };
        tch::no_grad(|| pass.forward(&examples, Mode::Evaluate)).unwrap().numbers().unwrap().0
    };
    let halves = tch::no_grad(|| weights.cast(tch::Kind::BFloat16)).unwrap();
    assert!(found == loss(&halves) && found != loss(&weights), "{found}, {} and {}", loss(&halves), loss(&weights));
}

#[test]
fn who_learns_nothing_is_told() {
    // Classes that the tiles know nothing of, and a learning rate that leaves the weights where they are.
    let mut record = Record::default();
    let config = config(json!({"learning_rate": 1e-9}));
    run(&config, &table(96, 4), 40, 1, &mut record).unwrap();
    let [line] = &record.warnings[..] else { panic!("{:?}", record.warnings) };
    assert!(line.starts_with("it has learnt nothing: a loss of 1.") && line.contains("(0.000000001 now)"), "{line}");
    assert_eq!((of(&record, "at_chance"), of(&record, "validation_at_chance").len()), (vec![1.0], 0));
    let mut record = Record::default();
    run(&super::config(json!({})), &table(96, 4), 40, 1, &mut record).unwrap();
    assert_eq!((record.warnings.len(), of(&record, "at_chance").len()), (0, 0), "{:?}", record.warnings);
}

#[test]
fn who_learns_what_holds_for_no_other_is_told() {
    // Puzzles with their classes dealt anew: learnt by heart, for nothing.
    let puzzles = table(96, 4);
    let mut draw = Draw::new(5, "test", "classes", "", 0);
    let classes = |table: &RecordBatch, draw: &mut Draw| {
        let at = table.schema().index_of(puzzles::PERMUTATION).unwrap();
        let mut columns = table.columns().to_vec();
        columns[at] = Arc::new(Int32Array::from_iter_values((0..table.num_rows()).map(|_| draw.below(4) as i32)));
        RecordBatch::try_new(table.schema(), columns).unwrap()
    };
    let (learnt, others) = (classes(&puzzles, &mut draw), classes(&puzzles, &mut draw));
    struct Two(Memory, Memory);
    impl Tables for Two {
        fn schema(&self, input: &str) -> Option<SchemaRef> {
            self.0.schema(input).or_else(|| self.1.schema(input))
        }
        fn rows(&self, input: &str) -> Result<usize, RunError> {
            self.0.rows(input)
        }
        fn scan(&self, input: &str, order: Order<'_>) -> Result<Batches, RunError> {
            if input == VALIDATION { self.1.scan(input, order) } else { self.0.scan(input, order) }
        }
        fn place(&self, input: &str, order: Order<'_>, image_id: &str) -> Result<Option<usize>, RunError> {
            self.0.place(input, order, image_id)
        }
    }
    let tables = Two(Memory::new(learnt.clone(), 40), Memory { validates: true, ..Memory::new(others, 40) });
    let train = bind(config(json!({"epochs": 30})), learnt.schema()).unwrap();
    let kernel = trial::kernel(train, 1, 1).unwrap();
    let mut record = Record::default();
    kernel.run(&tables, &mut record).unwrap();
    let [line] = &record.warnings[..] else { panic!("{:?} {:?}", record.warnings, of(&record, "epoch_accuracy")) };
    assert!(line.starts_with("what it has learnt does not hold for `validation`: a loss of "), "{line}");
    assert_eq!((of(&record, "at_chance").len(), of(&record, "validation_at_chance")), (0, vec![1.0]));
}

//! Trainings that are killed, at any second: the next run goes on, and ends with the weights of an undisturbed one.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use tessera_tests::{Answer, Place, untimed};

const FILE: &str = r#"
[pipeline]
part_rows = 16

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 60

[stage.puzzles]
op = "jigsaw"
input = "decoded"
permutations = 10

[stage.pretext]
op = "train"
input = "puzzles"
network = "small"
"#;

/// `count` images and a training with those keys.
fn place(count: usize, keys: &str) -> Place {
    let place = Place::new();
    place.images(count).write("pipeline.toml", format!("{FILE}{keys}\n"));
    place
}

/// Runs it to its end, and says how long the training took.
fn finished(place: &Place) -> (Answer, Duration) {
    let answer = place.tessera("run", &["--threads", "1"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let seconds = place.snapshots("pipeline")["pretext"].seconds;
    (answer, Duration::from_secs_f64(seconds))
}

/// What a training left: its weights, and its numbers but for those that tell time.
fn left(place: &Place) -> (String, String) {
    let query =
        "SELECT epoch, step, name, value FROM metrics WHERE stage = 'pretext' AND name <> 'images_per_second' ORDER BY 2, 3";
    let metrics = place.tessera("sql", &["--format", "csv", query]);
    assert_eq!(metrics.code, 0, "{}", metrics.err);
    (format!("{:?}", place.digests("pipeline")["pretext"]), metrics.out)
}

/// Lets it train for a while, and ends it by a signal. Says whether it was still at work, and what it said while it trained.
fn signalled(place: &Place, signal: &str, after: Duration) -> (bool, String) {
    let mut call = place.command("run", "pipeline.toml", &["--threads", "1"]);
    let mut child = call.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !untimed(&line).starts_with("pretext: run (") {
        line.clear();
        if said.read_line(&mut line).unwrap() == 0 {
            // The signal before came between publishing and the end of the run: there is nothing to train any more.
            assert!(child.wait().unwrap().success(), "it ended before the training");
            return (false, String::new());
        }
    }
    std::thread::sleep(after);
    let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    (!child.wait().unwrap().success(), rest)
}

/// Kills a training again and again, each time a little later, until it comes to its end; and compares that with an undisturbed one's.
/// Returns how many kills there were, and how many runs went on from a checkpoint.
fn killed_often(images: usize, keys: &str, mut step: f64) -> (usize, usize) {
    let undisturbed = place(images, keys);
    let (_, whole) = finished(&undisturbed);
    for _ in 0..5 {
        let place = place(images, keys);
        let (mut kills, mut resumed) = (0, 0);
        loop {
            let after = whole.mul_f64(step * (1.0 + kills as f64 / 4.0));
            let (killed, said) = signalled(&place, "-KILL", after);
            assert!(!said.contains("to start behind") && !said.contains("starting over"), "{said}");
            resumed += usize::from(said.contains("pretext: resumed at epoch "));
            kills += usize::from(killed);
            if !killed {
                break;
            }
        }
        assert_eq!(left(&place), left(&undisturbed), "after {kills} kills");
        if kills > 0 && resumed > 0 {
            return (kills, resumed);
        }
        // The machine is quicker or slower than it was when the undisturbed run was timed.
        step *= if kills == 0 { 0.5 } else { 1.5 };
    }
    panic!("no kill came between a checkpoint and the end");
}

#[test]
fn a_killed_training_of_short_epochs_goes_on() {
    // Epochs of some 50 ms, and 150 ms between two checkpoints: none falls within one epoch.
    let (kills, resumed) = killed_often(48, "epochs = 30\nbatch = 16\ncheckpoint_minutes = 0.0025", 0.15);
    println!("{kills} kills, {resumed} went on from a checkpoint");
}

#[test]
fn a_killed_training_with_fewer_rows_than_a_step_goes_on() {
    let (kills, resumed) = killed_often(40, "epochs = 40\nbatch = 128\ncheckpoint_minutes = 0.0025", 0.15);
    println!("{kills} kills, {resumed} went on from a checkpoint");
}

#[test]
fn with_minutes_between_checkpoints_a_kill_costs_a_start_and_an_interruption_nothing() {
    let keys = "epochs = 40\nbatch = 128";
    let undisturbed = place(40, keys);
    let (_, whole) = finished(&undisturbed);
    let place = place(40, keys);
    assert!(signalled(&place, "-KILL", whole.mul_f64(0.4)).0, "killed at the default of five minutes");
    let (stopped, said) = signalled(&place, "-INT", whole.mul_f64(0.4));
    assert!(stopped && !said.contains("resumed"), "{said}");
    // ^C keeps what it reached; a kill behind it leaves that as it is.
    let (_, said) = signalled(&place, "-KILL", whole.mul_f64(0.3));
    assert!(said.contains("pretext: resumed at epoch "), "{said}");
    let (last, _) = finished(&place);
    assert!(last.err.contains("pretext: resumed at epoch "), "{}", last.err);
    assert_eq!(left(&place), left(&undisturbed));
}

#[test]
fn broken_files_do_not_hold_the_learning_rate_up() {
    let place = place(30, "epochs = 4\nbatch = 10\nmetrics_every = 1");
    for at in 0..90 {
        place.write(&format!("photos/red/broken{at:02}.png"), "no image");
    }
    let file = std::fs::read_to_string(place.path("pipeline.toml")).unwrap();
    place.write("pipeline.toml", file.replace("side = 60", "side = 60\non_error = \"drop\""));
    finished(&place);
    let rows = place.sql("SELECT value FROM metrics WHERE name = 'learning_rate' ORDER BY step");
    let rates: Vec<f64> = rows.iter().map(|row| row["value"].as_f64().unwrap()).collect();
    // Half a cosine over the twelve steps that there are, at its last: by the 120 files, it would be 0.044.
    let last = 0.05 * 0.5 * (1.0 + (std::f64::consts::PI * 11.0 / 12.0).cos());
    assert!(
        rates.len() == 12 && (rates[11] - last).abs() < 1e-12 && rates.is_sorted_by(|a, b| a > b),
        "{rates:?}, not {last}"
    );
}

#[test]
#[ignore = "minutes: epochs of two seconds"]
fn a_killed_training_of_two_second_epochs_goes_on() {
    for keys in
        ["epochs = 12\nbatch = 16\ncheckpoint_minutes = 0.05", "epochs = 12\nbatch = 2000\ncheckpoint_minutes = 0.05"]
    {
        let (kills, resumed) = killed_often(1000, keys, 0.2);
        println!("{keys:?}: {kills} kills, {resumed} went on from a checkpoint");
        assert!(kills >= 3 && resumed >= 3, "{kills} kills, {resumed} resumed");
    }
}

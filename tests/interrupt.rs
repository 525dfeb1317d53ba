//! ^C while a run goes on.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tessera_tests::{Place, binary, decoded, untimed};

/// A training that does not end by itself.
static TRAINING: LazyLock<String> = LazyLock::new(|| {
    decoded(
        48,
        "",
        r#"[stage.puzzles]
op = "jigsaw"
input = "decoded"
permutations = 20

[stage.pretext]
op = "train"
input = "puzzles"
network = "small"
epochs = 100000
batch = 12
"#,
    )
});

/// Runs until `stage` is being made, presses ^C, and returns the exit code and what was said from then on.
fn interrupt(place: &Place, stage: &str) -> (Option<i32>, String) {
    signal(place, stage, "INT")
}

/// The same by another signal.
fn signal(place: &Place, stage: &str, signal: &str) -> (Option<i32>, String) {
    let (mut child, mut said) = begun(place, stage, "--default-signal=INT,TERM,HUP");
    send(signal, child.id());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap().code(), rest)
}

/// A run that makes `stage` now, and what it says from then on. It was started by `env` with that option, for what ignores signals hands
/// that on, as what runs tests may.
fn begun(place: &Place, stage: &str, signals: &str) -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new("env")
        .arg(signals)
        .arg(binary())
        .args(["run", "pipeline.toml"])
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let begins = format!("{stage}: run (");
    let mut line = String::new();
    while !untimed(&line).starts_with(&begins) {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended before {stage}");
    }
    (child, said)
}

/// Sends a signal. Its handler was put up before the first stage.
fn send(signal: &str, process: u32) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status().unwrap().success());
}

/// `nohup` has SIGHUP ignored, and a script that does not wait has SIGINT.
#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let place = Place::new();
    place.images(24).write("pipeline.toml", &*TRAINING);
    let (mut child, mut said) = begun(&place, "pretext", "--ignore-signal=INT,HUP");
    for ignored in ["HUP", "INT", "HUP"] {
        send(ignored, child.id());
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    send("TERM", child.id());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{rest}");
    assert!(rest.contains("error: interrupted by SIGTERM"), "{rest}");
}

/// The second ^C ends the process at once, and what its programs have started.
#[test]
fn programs_end_with_the_second_signal() {
    let place = Place::new();
    let rest = "[stage.slow]\nop = \"command\"\ncommand = [\"sh\", \"slow.sh\"]\ncolumns = { n = \"int32\" }\n";
    place.images(1).write("pipeline.toml", decoded(24, "", rest));
    place.write("slow.sh", "sh -c 'echo $$ > pid; exec sleep 1000' &\nwait\n");
    let (mut child, _said) = begun(&place, "slow", "--default-signal=INT,TERM,HUP");
    let start = Instant::now();
    let started = loop {
        let pid = fs::read_to_string(place.path("pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse::<u32>() {
            break pid;
        }
        assert!(start.elapsed().as_secs() < 60, "the program does not start");
        std::thread::sleep(Duration::from_millis(5));
    };
    // Both before the run has seen the first.
    send("INT", child.id());
    send("INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let is_gone = || {
        let about = fs::read_to_string(format!("/proc/{started}/stat")).unwrap_or_default();
        about.is_empty() || about.contains(") Z ")
    };
    let start = Instant::now();
    while !is_gone() {
        assert!(start.elapsed().as_secs() < 10, "process {started} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Files of a stage's folder of parts.
fn parts(place: &Place, stage: &str) -> Vec<String> {
    let dir = place.path(".tessera/pipeline").join(stage).join("parts");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    if Path::new(&dir).exists() {
        fs::read_dir(dir).unwrap().map(|entry| name(entry.unwrap())).collect()
    } else {
        Vec::new()
    }
}

/// A search for permutations that goes on for seconds, before the first row.
#[test]
fn a_kernel_that_is_being_made_is_left_alone() {
    let place = Place::new();
    place.images(4).write(
        "pipeline.toml",
        decoded(
            64,
            "",
            r#"[stage.puzzles]
op = "jigsaw"
input = "decoded"
grid = 5
permutations = 10000
min_distance = 0
keep = true
"#,
        ),
    );
    let start = std::time::Instant::now();
    let (code, said) = interrupt(&place, "puzzles");
    assert_eq!(code, Some(130), "{said}");
    let (waited, start) = (start.elapsed(), std::time::Instant::now());
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert!(waited * 2 < start.elapsed(), "{waited:?} to ^C, {:?} undisturbed", start.elapsed());
}

#[test]
fn an_interrupted_run_keeps_what_it_finished() {
    let place = Place::new();
    place.images(24).write("pipeline.toml", &*TRAINING);
    let (code, said) = interrupt(&place, "pretext");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted: what was finished is kept, and the next run goes on from there"), "{said}");
    assert_eq!(parts(&place, "pretext"), Vec::<String>::new(), "nothing is left behind");
    let (code, said) = signal(&place, "pretext", "TERM");
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("resumed at epoch "), "{said}");
    assert!(said.contains("error: interrupted by SIGTERM: what was finished is kept"), "{said}");
    let run = place.sql("SELECT DISTINCT error FROM runs");
    assert!(run[0]["error"].as_str().unwrap().starts_with("interrupted"), "{run:?}");
    let rerun = place.tessera("run", &["--set", "pretext.epochs=1", "--format", "json"]);
    assert_eq!(rerun.actions(), ["images:reuse", "pretext:run"]);
}

/// What a training measures can be asked for while it goes on; what happened in a run is on record.
#[test]
fn a_run_can_be_watched() {
    let place = Place::new();
    place.images(24).write("pipeline.toml", &*TRAINING);
    let mut child = Command::new("env")
        .arg("--default-signal=INT")
        .arg(binary())
        .args(["run", "pipeline.toml", "-q"])
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let query = "SELECT count(*) AS n, max(epoch) AS epoch, min(snapshot) AS snapshot FROM metrics WHERE stage = 'pretext' AND name = 'loss'";
    let measured = || place.sql(query)[0].clone();
    let start = std::time::Instant::now();
    while measured()["n"].as_i64().unwrap() < 3 {
        assert!(start.elapsed().as_secs() < 60 && child.try_wait().unwrap().is_none(), "nothing is measured");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let first = measured();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let runs = place.path(".tessera/pipeline/runs");
    let file = |ending: &str| {
        let mut found = fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path());
        found.find(|path| path.extension().is_some_and(|found| found == ending)).unwrap()
    };
    let id = file("json").file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(first["snapshot"], id);
    assert_eq!(measured()["n"], 0, "it is over, and published nothing");
    let events = fs::read_to_string(file("events")).unwrap();
    let kinds: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["begun", "done", "progress", "metric"] {
        assert!(kinds.iter().any(|event| event["event"] == kind), "{kind}");
    }
    let begun: Vec<&str> = kinds.iter().filter(|e| e["event"] == "begun").map(|e| e["stage"].as_str().unwrap()).collect();
    assert_eq!(begun, ["images", "pretext"]);
}

/// A listener who left, and a full device, end no run.
#[test]
fn a_run_goes_on_when_nobody_listens() {
    for stderr in ["/dev/full", "a pipe"] {
        let place = Place::new();
        place.images(6).write("pipeline.toml", "[stage.images]\nop = \"images\"\npath = \"photos\"\n");
        let mut call = place.command("run", "pipeline.toml", &["--format", "json"]);
        let full = || fs::File::options().write(true).open("/dev/full").unwrap();
        call.stdout(Stdio::piped()).stderr(if stderr == "a pipe" { Stdio::piped() } else { Stdio::from(full()) });
        let mut child = call.spawn().unwrap();
        drop(child.stderr.take());
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
        assert!(out.contains("\"rows_out\":6"), "{stderr}: {out}");
    }
}

//! Queries that would run for ever or take all memory: each ends at the limits that it was given, in one sentence.

mod queries;

use std::collections::VecDeque;
use std::fs;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tessera_tests::Place;

const MIB: u64 = 1 << 20;
/// What `--memory` says, in MiB.
const MEMORY: u64 = 300;
/// What the process may have beside that: its own 256 MiB, libraries, and what comes in between two looks at it.
const BESIDE: u64 = 640;
/// What `--timeout` says, in seconds.
const TIMEOUT: u64 = 5;
/// What starting and ending may take beside that.
const GRACE: Duration = Duration::from_millis(2500);

/// How a query ended.
struct Ended {
    code: Option<i32>,
    took: Duration,
    peak: u64,
    said: String,
}

impl Ended {
    /// What is wrong with that, if anything.
    fn fault(&self) -> Option<String> {
        let Self { code, took, peak, said } = self;
        let sentence = said.strip_prefix("error: ").map(str::trim_end);
        let is_sentence = sentence.is_some_and(|text| !text.is_empty() && !text.contains('\n'));
        let unsaid = ["panicked", "overflowed its stack", "Internal error", "internal error", "bug in DataFusion"];
        if *took > Duration::from_secs(TIMEOUT) + GRACE {
            return Some("too long".to_owned());
        }
        if *peak > (MEMORY + BESIDE) * MIB {
            return Some("too much memory".to_owned());
        }
        match code {
            Some(0) => None,
            Some(1 | 2) if !is_sentence => Some("not one sentence".to_owned()),
            Some(1 | 2) => unsaid.iter().find(|text| said.contains(**text)).map(|text| format!("says `{text}`")),
            Some(code) => Some(format!("exit {code}")),
            None => Some("a signal".to_owned()),
        }
    }
}

fn place() -> Place {
    let place = Place::new();
    let rows: String = (0..2000).map(|at| format!("{at:04}.jpg,class{},{at},{}.5\n", at % 7, at % 13)).collect();
    place.write("rows.csv", format!("image_id,label,n,x\n{rows}"));
    place.write("pipeline.toml", "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

fn ask(place: &Place, query: &str) -> Ended {
    let (memory, timeout) = (format!("{MEMORY}MiB"), TIMEOUT.to_string());
    let limits = ["--memory", &memory, "--timeout", &timeout, "--threads", "2", "--format", "csv"];
    let mut command = place.command("sql", "pipeline.toml", &limits);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let (mut given, mut heard) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
    let query = query.to_owned();
    // The pipe takes less than the longest queries have; a process that is gone reads no more.
    let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut given, query.as_bytes())));
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut heard).unwrap_or_default());
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        peak = kib.map_or(peak, |kib| peak.max(kib << 10));
        if start.elapsed() > Duration::from_secs(4 * TIMEOUT) {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = start.elapsed();
    writer.join().unwrap();
    Ended { code: status.code(), took, peak, said: reader.join().unwrap() }
}

/// Asks all of them, some at once, and tells of those that ended otherwise than they should.
fn all_end(queries: Vec<String>, at_once: usize) {
    let place = place();
    let (waiting, faults) = (Mutex::new(VecDeque::from(queries)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let Some(query) = waiting.lock().unwrap().pop_front() else { return };
                    let ended = ask(&place, &query);
                    let short: String = query.chars().take(160).collect();
                    let Ended { code, took, peak, said } = &ended;
                    let line = format!("{code:?} {:.1} s {} MiB {short:?}: {:.400}", took.as_secs_f64(), peak / MIB, said);
                    let fault = ended.fault();
                    println!("{} {line}", fault.as_deref().unwrap_or("ok"));
                    faults.lock().unwrap().extend(fault.map(|fault| format!("{fault}: {line}")));
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// One query of each kind.
#[test]
fn hostile_queries_end_at_their_limits() {
    all_end(queries::few(), 2);
}

#[test]
#[ignore = "it takes a quarter of an hour"]
fn all_hostile_queries_end_at_their_limits() {
    let queries = queries::all();
    assert!(queries.len() >= 384, "{}", queries.len());
    all_end(queries, 3);
}

#[test]
fn an_interrupt_ends_hostile_queries_at_once() {
    let place = place();
    for query in queries::endless() {
        let limits = [query, "--memory", "300MiB", "--timeout", "60"];
        let mut child =
            place.command("sql", "pipeline.toml", &limits).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(child.try_wait().unwrap().is_none(), "{query} has an end");
        let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(interrupt.unwrap().success());
        let start = Instant::now();
        child.wait().unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{query}: {:?}", start.elapsed());
    }
}

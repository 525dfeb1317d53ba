//! How much memory and time a decision takes over very many files. They are made up: a listing costs the same, whatever the disk is.
//!
//! The work is done by a process of its own, whose memory is that of this alone: this executable, asked for the test [`decides`].

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use tessera_datasets::{Error, Files, Listed};

use super::*;
use crate::ask::sql::planner::Planner;
use crate::declare::file::PipelineFile;
use crate::declare::graph::Graph;
use crate::declare::plan::Plan;
use crate::engine::Engine;
use crate::store::Store;

/// What tells the other process how many files there are, and in which folder it works.
const ASKED: &str = "TESSERA_TEST_FILES";

/// Images in folders of a thousand, named as ImageNet's are.
struct Made {
    count: usize,
}

impl Files for Made {
    fn list(&self, _: &Path) -> Result<Listed, Error> {
        let mut files = Vec::with_capacity(self.count);
        let mut path = String::new();
        for at in 0..self.count {
            let (folder, random) = (at / 1000, (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            path.clear();
            let _ = write!(path, "n{folder:08}/n{folder:08}_{at:08}.JPEG");
            let time = 1_600_000_000_000_000_000 + (random >> 8) as i64;
            files.push(Entry {
                path: path.as_str().into(),
                size: 50_000 + (random >> 48),
                modified_ns: time,
                changed_ns: time + 1,
                inode: 1 + at as u64 * 3,
                e_tag: None,
            });
        }
        Ok(Listed { files, ..Listed::default() })
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        Ok([b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x20\0\0\0\x20", path.as_os_str().as_encoded_bytes()].concat())
    }

    fn read_range(&self, path: &Path, _: u64, _: u64) -> Result<Vec<u8>, Error> {
        self.read(path)
    }
}

/// What a process took.
#[derive(Debug)]
struct Cost {
    seconds: f64,
    /// The most memory it had at once, and how much it had before, in bytes.
    peak: u64,
    before: u64,
}

/// A line of what the system says of this process, in bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

/// Asks another process to decide about so many files.
fn decided(count: usize, folder: &Path) -> Cost {
    let (name, asked) =
        (format!("{}::decides", module_path!().split_once("::").unwrap().1), format!("{count} {}", folder.display()));
    let mut command = Command::new(std::env::current_exe().unwrap());
    let answer = command.args(["--exact", &name, "--nocapture"]).env(ASKED, asked).output().unwrap();
    let out = String::from_utf8(answer.stdout).unwrap();
    assert!(answer.status.success(), "{out}{}", String::from_utf8_lossy(&answer.stderr));
    let told = out.lines().find_map(|line| line.split_once("it took ")).unwrap_or_else(|| panic!("{out}")).1;
    let numbers: Vec<f64> = told.split(' ').map(|number| number.parse().unwrap()).collect();
    Cost { seconds: numbers[0], peak: numbers[1] as u64, before: numbers[2] as u64 }
}

/// What the other process does, if this is one.
#[test]
fn decides() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let (count, folder) = asked.split_once(' ').unwrap();
    let (count, folder) = (count.parse().unwrap(), PathBuf::from(folder));
    let file = folder.join("p.toml");
    std::fs::create_dir_all(folder.join("photos")).unwrap();
    std::fs::write(&file, "[stage.images]\nop = \"images\"\npath = \"photos\"\n").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let graph = Graph::resolve(PipelineFile::read(&file, &[]).unwrap());
    let files: Arc<dyn Files> = Arc::new(Made { count });
    let plan = Plan::bind(graph, &Planner { runtime: runtime.handle().clone() }, files.as_ref()).unwrap();
    let engine = Engine::new(2, files, std::env::temp_dir()).unwrap();
    let catalog = Catalog::new(plan, Store::new(&folder.join("store"), "p"), engine, None);
    let pending = BTreeSet::new();
    let ask = Ask { pending: &pending, force: false, alone: false, hash_all: true, progress: &|_, _| {} };
    let (before, start) = (memory("VmRSS"), Instant::now());
    let decision = super::super::decide(&catalog, 0, &ask).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!((decision.listing.prints.len(), decision.damaged.len()), (count, 0));
    let said: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
    println!("\nit took {seconds} {} {before}", memory("VmHWM"));
    println!("{said:?}, key {}", decision.key.unwrap().0);
}

/// A file's entry is moved into its fingerprint, and the last listing is never whole in memory.
#[test]
fn a_file_is_in_memory_once() {
    const COUNT: usize = 400_000;
    let dir = tempfile::tempdir().unwrap();
    let first = decided(COUNT, dir.path());
    let again = decided(COUNT, dir.path());
    println!("{COUNT} files: first {first:?}, again {again:?}");
    for cost in [first, again] {
        let each = (cost.peak - cost.before) / COUNT as u64;
        assert!(each < 400, "{each} bytes a file: {cost:?}");
    }
}

#[test]
#[ignore = "a benchmark"]
fn ten_million_files_are_decided_about_in_bounds() {
    const COUNT: usize = 10_000_000;
    let dir = tempfile::tempdir().unwrap();
    for what in ["listed first, all hashed", "listed again, nothing new"] {
        let cost = decided(COUNT, dir.path());
        let kept = std::fs::metadata(dir.path().join("store/p/images/listing")).unwrap().len();
        let mib = |bytes: u64| bytes >> 20;
        println!(
            "{COUNT} files {what}: {:.1} s, {} MiB at most ({} before), the listing {} MiB",
            cost.seconds,
            mib(cost.peak),
            mib(cost.before),
            mib(kept)
        );
        assert!(cost.peak < 3 << 30, "{cost:?}");
        assert!(cost.seconds < 20.0 || what.contains("first"), "{cost:?}");
    }
}

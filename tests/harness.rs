//! What tests share: folders of made images, and the binary as its users call it.

pub mod bucket;
pub mod moto;
pub mod served;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;
use tessera_pipeline::store::{Manifest, Store};
use tessera_schemas::digest::TableDigest;

/// A run that takes longer has hung.
const LIMIT_SECS: u64 = 180;
/// Colours of the classes that [`Place::images`] makes.
const CLASSES: [(&str, [u8; 3]); 3] = [("green", [40, 200, 60]), ("red", [220, 40, 40]), ("blue", [30, 60, 220])];

/// A pipeline file that decodes the images of the folder `photos` to that side; `keys` are more of `decode`, a line each, and `rest` is
/// what follows.
pub fn decoded(side: usize, keys: &str, rest: &str) -> String {
    let keys: String = keys.lines().map(|key| format!("{key}\n")).collect();
    format!(
        "[stage.images]\nop = \"images\"\npath = \"photos\"\n\n\
         [stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = {side}\n{keys}\n{rest}"
    )
}

/// From the folder `photos` to three clusters of gradients: parts are of so many rows, and pixels are kept if asked for.
pub fn clustered(part_rows: usize, keep_pixels: bool) -> String {
    let rest = r#"
[stage]
gradients = { op = "hog", input = "decoded" }
clusters = { op = "kmeans", input = "gradients", k = 3 }
assigned = { op = "assign", inputs = { features = "gradients", clusters = "clusters" } }
"#;
    let keys = if keep_pixels { "keep = true" } else { "" };
    format!("[pipeline]\npart_rows = {part_rows}\n\n{}", decoded(24, keys, rest.trim_start()))
}

/// A path of the checkout. Asked for at run time: a cache of built tests may be shared by several checkouts, and cargo takes theirs.
pub fn checkout(path: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package of a test that it runs");
    Path::new(&package).join("..").join(path)
}

/// Numbers that look random, the same each time.
pub struct Dice(pub u64);

impl Dice {
    /// A fraction of one.
    pub fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1u32 << 31)
    }
}

/// A folder with a pipeline file.
pub struct Place {
    dir: TempDir,
}

/// What a call of the binary gave.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Data.
    pub out: String,
    /// Progress and errors.
    pub err: String,
}

impl Answer {
    /// The data as JSON, after a success.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// A stage's entry in the document of `run` or `plan`.
    pub fn stage(&self, name: &str) -> Value {
        let document = self.json();
        let stages = document["stages"].as_array().expect("stages");
        stages.iter().find(|stage| stage["stage"] == name).unwrap_or_else(|| panic!("no {name} in {document}")).clone()
    }

    /// Stages and actions, `name:action`, views left out.
    pub fn actions(&self) -> Vec<String> {
        let document = self.json();
        let stages = document["stages"].as_array().expect("stages").iter();
        let text = |stage: &Value, key: &str| stage[key].as_str().expect("text").to_owned();
        stages.filter(|s| s["action"] != "view").map(|s| format!("{}:{}", text(s, "stage"), text(s, "action"))).collect()
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// An empty folder.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    /// Makes `count` images of 72 x 64 pixels in three classes, in the folder `photos`; each differs from all others.
    pub fn images(&self, count: usize) -> &Self {
        for at in 0..count {
            self.image(at);
        }
        self
    }

    /// Makes the image of that number, and says which it is.
    pub fn image(&self, at: usize) -> String {
        let (class, colour) = CLASSES[at % CLASSES.len()];
        let image = RgbImage::from_fn(72, 64, |x, y| {
            let wave = ((x as usize * (at % 7 + 1) + y as usize * (at % 5 + 1)) * 9 + at * 31) % 64;
            Rgb(colour.map(|c| c.saturating_add(wave as u8).wrapping_sub((at % 11) as u8)))
        });
        let id = format!("{class}/{at:04}.png");
        let path = self.path("photos").join(&id);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        image.save(path).expect("an image");
        id
    }

    /// Calls `tessera COMMAND pipeline.toml ARGUMENTS`.
    pub fn tessera(&self, command: &str, arguments: &[&str]) -> Answer {
        self.call(command, "pipeline.toml", arguments)
    }

    /// The same with another file.
    pub fn call(&self, command: &str, file: &str, arguments: &[&str]) -> Answer {
        run(self.command(command, file, arguments))
    }

    /// The same, not started yet.
    pub fn command(&self, command: &str, file: &str, arguments: &[&str]) -> Command {
        let mut call = Command::new(binary());
        call.arg(command).arg(file).args(arguments).current_dir(self.dir.path());
        call
    }

    /// Starts a run of one thread, and kills it as soon as `now` says so.
    pub fn kill_when(&self, mut now: impl FnMut() -> bool) {
        let mut call = self.command("run", "pipeline.toml", &["--threads", "1"]);
        let mut child = call.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
        let start = Instant::now();
        while !now() && child.try_wait().expect("the child's state").is_none() && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().expect("a child");
        child.wait().expect("its end");
    }

    /// The current snapshots of a pipeline, every part's bytes checked: what a crash must leave whole. Stages without one are
    /// left out.
    pub fn snapshots(&self, pipeline: &str) -> BTreeMap<String, Manifest> {
        self.snapshots_in(".tessera", pipeline)
    }

    /// The same in another store.
    pub fn snapshots_in(&self, store: &str, pipeline: &str) -> BTreeMap<String, Manifest> {
        let root = self.path(store);
        let Ok(folders) = fs::read_dir(root.join(pipeline)) else { return BTreeMap::new() };
        let store = Store::new(&root, pipeline);
        let folders = folders.map(|folder| folder.expect("a folder")).filter(|folder| folder.path().is_dir());
        let names = folders.map(|folder| folder.file_name().into_string().expect("text"));
        let current = |name: String| {
            let stage = store.stage(&name);
            let manifest = stage.current().unwrap_or_else(|error| panic!("{error:#}"))?;
            for part in &manifest.parts {
                stage.read(part).unwrap_or_else(|error| panic!("{error:#}"));
            }
            Some((name, manifest))
        };
        names.filter(|name| name != "runs").filter_map(current).collect()
    }

    /// The digests of a pipeline's tables.
    pub fn digests(&self, pipeline: &str) -> BTreeMap<String, TableDigest> {
        self.digests_in(".tessera", pipeline)
    }

    /// The same in another store: one that shares nothing with the first.
    pub fn digests_in(&self, store: &str, pipeline: &str) -> BTreeMap<String, TableDigest> {
        self.snapshots_in(store, pipeline).iter().map(|(name, manifest)| (name.clone(), digest(manifest))).collect()
    }

    /// Files of a pipeline's store that its current snapshots, listings and records do not account for.
    pub fn strays(&self, pipeline: &str) -> Vec<String> {
        let mut known = BTreeSet::from(["lock".to_owned(), format!("{pipeline}/owner")]);
        for (stage, manifest) in self.snapshots(pipeline) {
            let stage = format!("{pipeline}/{stage}");
            known.extend(["current", "listing"].map(|name| format!("{stage}/{name}")));
            known.insert(format!("{stage}/snapshots/{}.json", manifest.id));
            known.extend(manifest.metrics.iter().map(|_| format!("{stage}/snapshots/{}.parquet", manifest.id)));
            known.extend(manifest.parts.iter().map(|part| format!("{stage}/parts/{}", part.file)));
        }
        let mut strays = Vec::new();
        let mut open = vec![String::new()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(self.path(".tessera").join(&folder)).expect("a folder") {
                let entry = entry.expect("an entry");
                let name = entry.file_name().into_string().expect("text");
                let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                let is_record =
                    folder == format!("{pipeline}/runs") && (name.ends_with(".json") || name.ends_with(".events"));
                // What is known of files that hold many images; a run forgets those that are gone.
                let is_shard = folder.ends_with("/shards");
                if entry.path().is_dir() {
                    open.push(path);
                } else if !is_record && !is_shard && !known.contains(&path) {
                    strays.push(path);
                }
            }
        }
        strays.sort();
        strays
    }

    /// The rows of a query.
    pub fn sql(&self, query: &str) -> Vec<Value> {
        let answer = self.tessera("sql", &["--format", "json", query]);
        answer.json().as_array().expect("rows").clone()
    }

    /// The rows of a query, after a run.
    pub fn sql_after_run(&self, query: &str) -> Vec<Value> {
        let run = self.tessera("run", &["-q"]);
        assert_eq!(run.code, 0, "{}", run.err);
        self.sql(query)
    }

    /// A table's rows as text, sorted by its first column.
    pub fn rows(&self, table: &str) -> String {
        let answer = self.tessera("sql", &["--format", "csv", &format!("SELECT * FROM {table} ORDER BY 1")]);
        assert_eq!(answer.code, 0, "{}", answer.err);
        answer.out
    }
}

/// A table's digest, without the times of files: files that are made twice have two.
pub fn digest(manifest: &Manifest) -> TableDigest {
    let mut digest = manifest.digest().expect("digests");
    digest.columns.remove("modified");
    digest
}

/// Where `cargo build` put the binary: above the tests' own. One that is older than its sources would be tested in their place, and is
/// refused.
pub fn binary() -> PathBuf {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let tests = std::env::current_exe().expect("the test binary's path");
        let deps = tests.parent().expect("target/release/deps");
        let path = deps.parent().expect("target/release").join("tessera");
        let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let made = modified(&path).unwrap_or_else(|| panic!("{} is not built: `make test` builds it first", path.display()));
        let mut open: Vec<PathBuf> =
            ["schemas", "datasets", "operators", "pipeline"].map(|name| checkout(name).join("src")).to_vec();
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of sources") {
                let entry = entry.expect("an entry").path();
                if entry.is_dir() {
                    open.push(entry);
                } else if modified(&entry) > Some(made) {
                    panic!("{} is older than {}: `make test` builds it first", path.display(), entry.display());
                }
            }
        }
        path
    });
    BINARY.clone()
}

/// A message of a run, without the time with which it begins (`2026-11-28T12:20:39Z`).
pub fn untimed(line: &str) -> &str {
    let is_time =
        |text: &str| text.len() == 20 && text.ends_with('Z') && text.chars().filter(char::is_ascii_digit).count() == 14;
    line.split_once(' ').filter(|(time, _)| is_time(time)).map_or(line, |(_, rest)| rest)
}

/// Runs a command to its end, or kills it.
pub fn run(command: Command) -> Answer {
    watch(command, |_| {})
}

/// Runs a command, and says how many bytes of memory it had at most. The system keeps the peak of each process; it is asked every few
/// milliseconds, for it is gone with the process.
pub fn peak_memory(command: Command) -> (Answer, u64) {
    let mut peak = 0;
    let answer = watch(command, |process| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        peak = kib.map_or(peak, |kib| kib << 10);
    });
    assert!(peak > 0, "the system does not say what a process needs");
    (answer, peak)
}

/// Runs a command to its end, or kills it; looks at the process every few milliseconds.
fn watch(mut command: Command, mut look: impl FnMut(u32)) -> Answer {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
    let out = drain(child.stdout.take().expect("a pipe"));
    let err = drain(child.stderr.take().expect("a pipe"));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("the child's state") {
            Some(status) => break status,
            None if start.elapsed() > Duration::from_secs(LIMIT_SECS) => {
                let _ = child.kill();
                panic!("{command:?} hung");
            }
            None => {
                look(child.id());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    };
    let text = |thread: JoinHandle<Vec<u8>>| String::from_utf8_lossy(&thread.join().expect("a reader")).into_owned();
    Answer { code: status.code().unwrap_or(-1), out: text(out), err: text(err) }
}

/// Reads a pipe to its end, so that the child never waits for a reader.
fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Whether `check` finds nothing wrong with a file but that it asks for more clusters than the few images here.
pub fn is_sound(checked: &Answer) -> bool {
    let few = checked.err.matches(" images: a cluster needs at least one").count();
    let faults = if few == 1 { "1 fault in ".to_owned() } else { format!("{few} faults in ") };
    checked.code == 0 && checked.out.ends_with("stages, nothing wrong\n") || few > 0 && checked.err.contains(&faults)
}

/// A text of HTML as people read it.
pub fn read(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        rest = tag.split_once('>').map_or("", |(_, behind)| behind);
    }
    text.push_str(rest);
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

//! Store and images in a bucket: the same tables as on a disk, with few requests, whatever happens on the way.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tessera_tests::bucket::BucketServer;
use tessera_tests::{Answer, Dice, Place, run};

const FILE: &str = r#"
[pipeline]
name = "photos"
store = "STORE"
part_rows = 4

[stage.images]
op = "images"
path = "IMAGES"

[stage.decoded]
op = "decode"
input = "images"
side = 32

[stage.kept]
op = "tile"
input = "images"
side = 32
stride = 32
scale = 32
keep = true

[stage.gradients]
op = "hog"
input = "decoded"

[stage.clusters]
op = "kmeans"
input = "gradients"
k = 3

[stage.assigned]
op = "assign"
inputs = { features = "gradients", clusters = "clusters" }

[stage.labelled]
op = "sql"
inputs = { a = "assigned", i = "images" }
query = "SELECT image_id, a.cluster, i.label FROM a JOIN i USING (image_id)"
"#;
/// Tables, and their columns that have the same values wherever the images lie.
const TABLES: [(&str, &str); 6] = [
    ("images", "image_id, label, digest, width, height, format, bytes"),
    ("kept", "*"),
    ("gradients", "*"),
    ("clusters", "*"),
    ("assigned", "*"),
    ("labelled", "*"),
];

/// A folder of images and a bucket with the same ones, and a pipeline file over each: `disk.toml` and `bucket.toml`.
struct Twins {
    place: Place,
    bucket: BucketServer,
}

impl Twins {
    fn new(images: usize) -> Self {
        let twins = Self { place: Place::new(), bucket: BucketServer::new() };
        (0..images).for_each(|at| twins.add(at));
        let file = |store: &str, images: &str| FILE.replace("STORE", store).replace("IMAGES", images);
        twins.place.write("disk.toml", file(".tessera", "photos"));
        twins.place.write("bucket.toml", file("s3://bucket/tables/of photos", "s3://bucket/photos"));
        twins
    }

    fn add(&self, at: usize) {
        let id = self.place.image(at);
        let bytes = fs::read(self.place.path("photos").join(&id)).unwrap();
        self.bucket.put(&format!("photos/{id}"), bytes);
    }

    fn remove(&self, id: &str) {
        fs::remove_file(self.place.path("photos").join(id)).unwrap();
        self.bucket.delete(&format!("photos/{id}"));
    }

    fn command(&self, command: &str, arguments: &[&str]) -> Command {
        self.bucket.reached_by(self.place.command(command, "bucket.toml", arguments))
    }

    fn call(&self, command: &str, arguments: &[&str]) -> Answer {
        run(self.command(command, arguments))
    }

    /// All tables as text.
    fn tables(&self, file: &str) -> BTreeMap<&'static str, String> {
        let rows = |table: &str, columns: &str| {
            let query = format!("SELECT {columns} FROM {table} ORDER BY 1");
            let command = self.place.command("sql", file, &["--format", "csv", &query]);
            let answer = run(self.bucket.reached_by(command));
            assert!(answer.code == 0 && answer.err.is_empty(), "{table}: {}", answer.err);
            answer.out
        };
        TABLES.iter().map(|(table, columns)| (*table, rows(table, columns))).collect()
    }

    /// Runs over the disk, and says what the tables are then.
    fn on_disk(&self) -> BTreeMap<&'static str, String> {
        let run = self.place.call("run", "disk.toml", &["-q"]);
        assert_eq!(run.code, 0, "{}", run.err);
        self.tables("disk.toml")
    }
}

#[test]
fn a_bucket_holds_the_tables_that_a_disk_does() {
    let twins = Twins::new(30);
    let ran = twins.call("run", &["--format", "json"]);
    assert_eq!(ran.stage("gradients")["rows_computed"], 30, "{}", ran.err);
    assert!(twins.tables("bucket.toml") == twins.on_disk());

    // Nothing changed: the images are listed once, and what is read does not grow with them.
    twins.bucket.requests();
    let again = twins.call("run", &["--format", "json"]);
    assert!(again.actions().iter().all(|action| action.ends_with(":reuse")), "{}", again.out);
    let requests = twins.bucket.requests();
    println!("a run with nothing to do: {requests:?}");
    let stages = TABLES.len();
    assert!(
        requests["LIST"] <= stages + 4,
        "one of the images, and one a stage in place of a look at each part: {requests:?}"
    );
    assert!(requests["GET"] <= 4 * stages, "pointers, manifests, the listing: {requests:?}");
    assert!(!requests.contains_key("HEAD") && requests["PUT"] <= 4, "{requests:?}");

    // An image comes, another goes, one is written anew with other bytes.
    twins.add(30);
    twins.remove("red/0001.png");
    let bytes = fs::read(twins.place.path("photos/blue/0005.png")).unwrap();
    fs::write(twins.place.path("photos/green/0003.png"), &bytes).unwrap();
    twins.bucket.put("photos/green/0003.png", bytes);
    let ran = twins.call("run", &["--format", "json"]);
    assert_eq!(ran.stage("gradients")["rows_computed"], 1, "the other's row is that of the same bytes: {}", ran.out);
    assert!(twins.tables("bucket.toml") == twins.on_disk());

    // The same bytes put again: another time, the same version.
    twins.bucket.put("photos/green/0000.png", fs::read(twins.place.path("photos/green/0000.png")).unwrap());
    let again = twins.call("run", &["--format", "json"]);
    let others = again.actions().into_iter().filter(|action| !action.starts_with("images:")).collect::<Vec<_>>();
    assert!(others.iter().all(|action| action.ends_with(":reuse")), "{}", again.out);
}

#[test]
fn commands_over_a_bucket_answer() {
    let twins = Twins::new(9);
    let plan = twins.call("plan", &["--format", "json"]);
    assert_eq!(plan.stage("images")["action"], "run", "{}", plan.err);
    assert_eq!(twins.call("run", &["-q"]).code, 0);
    let paths = twins.call("path", &["assigned"]);
    assert!(paths.out.starts_with("s3://bucket/tables/of photos/photos/assigned/parts/"), "{}", paths.out);
    let key = paths.out.lines().next().unwrap().strip_prefix("s3://bucket/").unwrap();
    assert_eq!(&twins.bucket.get(key)[..4], b"PAR1");
    let shown = twins.place.path("out.png");
    for (command, arguments) in [
        ("status", vec![]),
        ("report", vec!["clusters"]),
        ("diff", vec!["assigned", "current", "current"]),
        ("export", vec!["assigned", "-o", "assigned.csv"]),
        ("show", vec!["decoded", "-o", shown.to_str().unwrap()]),
        ("gc", vec![]),
    ] {
        let answer = twins.call(command, &arguments);
        assert_eq!(answer.code, 0, "{command}: {}", answer.err);
    }
    // k is changed and changed back, and what nobody needs is deleted.
    let file = fs::read_to_string(twins.place.path("bucket.toml")).unwrap();
    let before = twins.tables("bucket.toml");
    twins.place.write("bucket.toml", file.replace("k = 3", "k = 2"));
    assert_eq!(twins.call("run", &["-q"]).code, 0);
    let keys = twins.bucket.keys().len();
    twins.bucket.requests();
    let gc = twins.call("gc", &["--keep-runs", "0", "--delete"]);
    let requests = twins.bucket.requests();
    let deleted = keys - twins.bucket.keys().len();
    assert!(gc.code == 0 && deleted > 5, "{deleted}: {}", gc.err);
    let deleting = ["POST", "DELETE"].map(|method| requests.get(method).copied().unwrap_or_default());
    assert!(deleting.iter().sum::<usize>() <= 4, "manifests, what else goes, and the lease: {requests:?}");
    assert_eq!(twins.call("status", &[]).code, 0);
    twins.place.write("bucket.toml", file);
    assert_eq!(twins.call("run", &["-q"]).code, 0);
    assert!(twins.tables("bucket.toml") == before);
    // A part that is replaced by other bytes is found and made anew.
    let key =
        twins.call("path", &["gradients"]).out.lines().next().unwrap().strip_prefix("s3://bucket/").unwrap().to_owned();
    let mut bytes = twins.bucket.get(&key);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    twins.bucket.put(&key, bytes);
    let broken = twins.call("sql", &["SELECT * FROM gradients"]);
    assert!(broken.code == 1 && broken.err.contains("is damaged"), "{}", broken.err);
    assert_eq!(twins.call("run", &["-q"]).code, 0);
    assert!(twins.tables("bucket.toml") == before);
}

#[test]
fn places_that_are_wrong_are_named() {
    let twins = Twins::new(3);
    let file = fs::read_to_string(twins.place.path("bucket.toml")).unwrap();
    let with = |from: &str, to: &str| {
        twins.place.write("bucket.toml", file.replace(from, to));
        twins.call("run", &["-q"])
    };
    let answer = with("s3://bucket/tables", "ftp://bucket/tables");
    assert!(answer.code == 2 && answer.err.contains("s3://bucket/folder, gs://"), "{}", answer.err);
    let answer = with("s3://bucket/photos", "http://bucket/photos");
    assert!(answer.code == 2 && answer.err.contains("s3://bucket/folder, gs://"), "{}", answer.err);
    let answer = with("s3://bucket/photos", "s3://bucket/fotos");
    assert!(answer.code == 1 && answer.err.contains("s3://bucket/fotos: nothing is there"), "{}", answer.err);
    let answer = with("s3://bucket/photos", "s3://other/photos");
    assert!(answer.code == 1 && answer.err.contains("s3://other/photos"), "{}", answer.err);
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

/// A run that is killed `kills` times over changes of the images, and ends as one over a disk.
fn killed(kills: usize, seed: u64) {
    let twins = Twins::new(24);
    let (mut dice, mut left, mut round) = (Dice(seed), kills, 0);
    while left > 0 {
        let start = Instant::now();
        let wanted = twins.on_disk();
        let whole = start.elapsed();
        for _ in 0..4.min(left) {
            left -= 1;
            let mut child = spawn(twins.command("run", &["-q"]));
            std::thread::sleep(whole.mul_f64(dice.roll() * 1.5));
            child.kill().unwrap();
            child.wait().unwrap();
            // Half a table is nobody's.
            let status = twins.call("status", &[]);
            assert!(
                status.code == 0 || status.err.contains("nothing was made") || status.err.contains("no stage"),
                "{}",
                status.err
            );
        }
        let ran = twins.call("run", &["-q"]);
        assert_eq!(ran.code, 0, "round {round}: {}", ran.err);
        assert!(twins.tables("bucket.toml") == wanted, "round {round}");
        let again = twins.call("run", &["--format", "json"]);
        assert!(again.actions().iter().all(|action| action.ends_with(":reuse")), "round {round}: {}", again.out);
        assert_eq!(twins.call("gc", &["--keep-runs", "0", "--delete"]).code, 0);
        assert!(twins.tables("bucket.toml") == wanted, "round {round}: after a collection");
        (0..3).for_each(|at| twins.add(24 + 3 * round + at));
        twins.remove(&format!("green/{:04}.png", 3 * round));
        round += 1;
    }
}

#[test]
fn killed_runs_lose_nothing() {
    killed(4, 5);
}

#[test]
#[ignore = "a minute: 20 kills"]
fn twenty_killed_runs_lose_nothing() {
    killed(20, 7);
}

#[test]
fn a_connection_that_is_lost_costs_time_and_nothing_else() {
    let twins = Twins::new(24);
    let wanted = twins.on_disk();
    let child = spawn(twins.command("run", &["-q"]));
    std::thread::sleep(Duration::from_millis(900));
    twins.bucket.cut();
    // Ten tries take two seconds at least.
    std::thread::sleep(Duration::from_millis(1500));
    twins.bucket.mend();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(twins.tables("bucket.toml") == wanted);
}

#[test]
fn a_paused_driver_that_wakes_publishes_nothing() {
    let twins = Twins::new(24);
    let wanted = twins.on_disk();
    let brief = |mut command: Command| {
        command.env("TESSERA_LEASE_MS", "8000");
        command
    };
    let paused = spawn(brief(twins.command("run", &["-q", "--threads", "1"])));
    let start = Instant::now();
    while !twins.bucket.keys().iter().any(|key| key.ends_with("images/current")) {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&paused, "STOP");
    // It renewed its lease a moment ago.
    let second = run(brief(twins.command("run", &["-q", "--wait", "1s"])));
    let holder = format!("s3://bucket/tables/of photos is in use by process {} on ", paused.id());
    assert!(second.code == 4 && second.err.contains(&holder) && second.err.contains("error: waited 1"), "{}", second.err);
    std::thread::sleep(Duration::from_millis(4200));
    let third = run(brief(twins.command("run", &["-q"])));
    assert!(third.code == 0 && third.err.contains("did not give its lease back"), "{}", third.err);
    let manifests = |keys: Vec<String>| keys.into_iter().filter(|key| key.ends_with("current")).collect::<Vec<_>>();
    let pointers: Vec<Vec<u8>> = manifests(twins.bucket.keys()).iter().map(|key| twins.bucket.get(key)).collect();
    signal(&paused, "CONT");
    let ended = paused.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{said}");
    let told = ["did not renew its lease", "could not renew its lease"];
    assert!(told.iter().any(|told| said.contains(told)), "{said}");
    let after: Vec<Vec<u8>> = manifests(twins.bucket.keys()).iter().map(|key| twins.bucket.get(key)).collect();
    assert!(pointers == after, "not a pointer was written");
    assert!(twins.tables("bucket.toml") == wanted);
    let again = twins.call("run", &["--format", "json"]);
    assert!(again.actions().iter().all(|action| action.ends_with(":reuse")), "{}", again.out);
}

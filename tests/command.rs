//! Stages that are programs, as their users run them. The programs are those that every system has: `cat` hands back what it gets.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use serde_json::json;
use tessera_pipeline::store::Store;
use tessera_schemas::{bytes, text};
use tessera_tests::{Place, binary, decoded, untimed};

static FILE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "[pipeline]\npart_rows = 2\n\n{}",
        decoded(
            32,
            "",
            r#"[stage.echoed]
op = "command"
input = "decoded"
command = ["sh", "echo.sh"]
reads = ["pixels"]
columns = { pixels = "uint8[32,32,3]" }
hand_on = ["label"]

[stage.gradients]
op = "hog"
input = "echoed"
"#
        )
    )
});

/// Images and a program that hands them back.
fn place(script: &str) -> Place {
    let place = Place::new();
    place.images(12).write("pipeline.toml", &*FILE);
    place.write("echo.sh", script);
    place
}

fn ran(place: &Place, arguments: &[&str]) -> tessera_tests::Answer {
    let run = place.tessera("run", &[&["--format", "json"], arguments].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

/// The error of a run.
fn failed(place: &Place) -> String {
    let run = place.tessera("run", &[]);
    assert_eq!(run.code, 1, "{}", run.err);
    run.err
}

#[test]
fn rows_of_a_program_are_made_once() {
    let place = place("echo hello >&2\nexec cat\n");
    let run = ran(&place, &[]);
    assert_eq!(run.stage("echoed")["rows_computed"], 12);
    assert!(run.err.lines().map(untimed).any(|line| line == "echoed: hello"), "{}", run.err);
    let same = "SELECT count(*) AS n FROM echoed e JOIN decoded d USING (image_id, pixels, label)";
    assert_eq!(place.sql(same)[0]["n"], 12);
    assert_eq!(ran(&place, &[]).actions(), ["images:reuse", "echoed:reuse", "gradients:reuse"]);
    // A row's answer follows from its pixels, whatever it is called.
    place.image(12);
    fs::rename(place.path("photos/red/0001.png"), place.path("photos/red/renamed.png")).unwrap();
    let run = ran(&place, &[]);
    assert_eq!((&run.stage("echoed")["rows_computed"], &run.stage("echoed")["rows_out"]), (&json!(1), &json!(13)));
    // Unless the program gets the name.
    place.write("pipeline.toml", FILE.replace("reads = [\"pixels\"]", "reads = [\"pixels\", \"image_id\"]"));
    assert_eq!(ran(&place, &[]).stage("echoed")["rows_computed"], 13);
    fs::rename(place.path("photos/red/renamed.png"), place.path("photos/red/0001.png")).unwrap();
    assert_eq!(ran(&place, &[]).stage("echoed")["rows_computed"], 1);
}

#[test]
fn a_change_of_what_it_uses_is_a_reason() {
    let place = place("exec cat\n");
    let file = FILE.replace("hand_on", "files = [\"lib\"]\nenvironment = [\"COLOUR\"]\nhand_on");
    place.write("pipeline.toml", &file);
    place.write("lib/used.txt", "1");
    let plan = |colour: &str| {
        let mut call = place.command("plan", "pipeline.toml", &["--format", "json"]);
        let out = call.env("COLOUR", colour).output().unwrap();
        let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        plan["stages"][2].clone()
    };
    let run = place.command("run", "pipeline.toml", &["-q"]).env("COLOUR", "red").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(plan("red")["action"], "reuse");
    assert_eq!(plan("blue")["reasons"], json!(["echoed: $COLOUR changed"]));
    place.write("lib/used.txt", "2");
    assert_eq!(plan("red")["reasons"], json!(["echoed: lib changed"]));
    place.write("lib/used.txt", "1");
    place.write("echo.sh", "exec cat -u\n");
    assert_eq!(plan("red")["reasons"], json!(["echoed: echo.sh changed"]));
    place.write("echo.sh", "exec cat\n");
    place
        .write("pipeline.toml", file.replace("hand_on", "processes = 1\ntimeout_seconds = 5\non_error = \"drop\"\nhand_on"));
    assert_eq!(plan("red")["action"], "reuse");
}

/// The bytes of batches as a stream, which a program can hand out.
fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn labels(angle: i32) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["b", "a"]));
    let angles: ArrayRef = Arc::new(Int32Array::from(vec![angle, 90]));
    RecordBatch::try_from_iter([("image_id", ids), ("angle", angles)]).unwrap()
}

#[test]
fn a_program_can_be_a_source_or_see_a_whole_table() {
    let place = Place::new();
    place.write(
        "pipeline.toml",
        r#"
        [stage.angles]
        op = "command"
        command = ["cat", "angles.arrows"]
        columns = { image_id = "utf8", angle = "int32" }

        [stage.all]
        op = "command"
        inputs = { table = "angles" }
        command = ["cat"]
        columns = { image_id = "utf8", angle = "int32" }

        [stage.each]
        op = "command"
        input = "all"
        command = ["cat"]
        columns = { angle = "int32" }
        "#,
    );
    place.write("angles.arrows", stream(&[labels(180)]));
    let rows = |angle: i32| format!("image_id,angle\na,90\nb,{angle}\n");
    ran(&place, &[]);
    for table in ["angles", "all", "each"] {
        assert_eq!(place.rows(table), rows(180), "{table}");
    }
    assert_eq!(ran(&place, &[]).actions(), ["angles:reuse", "all:reuse", "each:reuse"]);
    place.write("angles.arrows", stream(&[labels(270)]));
    let run = ran(&place, &[]);
    assert_eq!(run.stage("each")["rows_computed"], 1);
    assert_eq!(place.rows("each"), rows(270));
    place.write("angles.arrows", stream(&[labels(0), labels(1)]));
    let told = failed(&place);
    assert!(
        told.contains(
            "stage `angles`: the program `cat angles.arrows` wrote a wrong row, number 2: the image_id `b` occurs"
        ),
        "{told}"
    );
}

/// How rows lie in parts follows from the runs before, and is in no key: a program that reads a table gets them in an order of their own.
#[test]
fn a_table_comes_in_the_order_of_its_ids() {
    let place = Place::new();
    let file = "[pipeline]\npart_rows = 3\n\n[stage]\nimages = { op = \"images\", path = \"photos\" }\n\
                classes = { op = \"sql\", input = \"images\", query = \"SELECT label, count(*) AS n FROM images GROUP BY label\" }\n\
                listed = { op = \"command\", inputs = { table = \"images\" }, command = [\"cat\"], reads = [\"label\", \"image_id\"], \
                columns = { label = \"utf8?\", image_id = \"utf8\" } }\n\
                counted = { op = \"command\", inputs = { table = \"classes\" }, command = [\"cat\"], columns = { label = \"utf8?\", n = \"int64\" } }\n";
    place.images(12).write("pipeline.toml", file);
    ran(&place, &[]);
    let rows = |stage: &str, column: &str| -> Vec<String> {
        let store = Store::new(&place.path(".tessera"), "pipeline");
        let parts = &place.snapshots("pipeline")[stage].parts;
        let of = |rows: RecordBatch| text(&rows, column).unwrap().iter().flatten().map(str::to_owned).collect::<Vec<_>>();
        parts.iter().flat_map(|part| of(store.stage(stage).read(part).unwrap())).collect()
    };
    // Its row comes into a new part, behind all others.
    fs::rename(place.path("photos/red/0004.png"), place.path("photos/blue/0000.png")).unwrap();
    ran(&place, &[]);
    assert!(!rows("images", "image_id").is_sorted(), "they lie as they came");
    let listed = rows("listed", "image_id");
    assert!(listed.len() == 12 && listed.is_sorted(), "{listed:?}");
    assert_eq!(rows("counted", "label"), ["blue", "green", "red"]);
    assert_eq!(place.rows("listed").lines().next(), Some("image_id,label"));
    // Another order of the columns is another table.
    place.write(
        "pipeline.toml",
        file.replace("columns = { label = \"utf8?\", n = \"int64\" }", "columns = { n = \"int64\", label = \"utf8?\" }"),
    );
    assert_eq!(ran(&place, &[]).stage("counted")["action"], "run");
    let answer = place.tessera("sql", &["--format", "csv", "SELECT * FROM counted ORDER BY label"]);
    assert_eq!(answer.out, "n,label\n5,blue\n4,green\n3,red\n");
}

#[test]
fn encoded_images_go_to_a_program() {
    let place = place("exec cat\n");
    let file = FILE.split("[stage.decoded]").next().unwrap().to_owned()
        + r#"
        [stage.copied]
        op = "command"
        inputs = { images = "images" }
        command = ["cat"]
        reads = ["encoded"]
        columns = { encoded = "binary" }
        "#;
    place.write("pipeline.toml", file);
    ran(&place, &[]);
    let store = Store::new(&place.path(".tessera"), "pipeline");
    let mut seen = 0;
    for part in &place.snapshots("pipeline")["copied"].parts {
        let rows = store.stage("copied").read(part).unwrap();
        let encoded = bytes(&rows, "encoded").unwrap();
        for (row, id) in text(&rows, "image_id").unwrap().iter().flatten().enumerate() {
            assert_eq!(encoded.value(row), fs::read(place.path("photos").join(id)).unwrap(), "{id}");
            seen += 1;
        }
    }
    assert_eq!(seen, 12);
}

/// Whether a process is there, and no zombie.
fn lives(pid: &str) -> bool {
    let about = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    !about.is_empty() && !about.contains(") Z ")
}

fn wait(what: &str, until: impl Fn() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program that is killed fails the run by its name, and what was finished is kept.
#[test]
fn a_killed_program_is_named_and_the_next_run_goes_on() {
    // About four of the six parts go through the pipe before that; `dd` keeps none of them for itself.
    let place = place("if [ -e fails ]; then dd bs=1 count=28000 2>/dev/null; kill -9 $$; fi\nexec cat\n");
    place.write("fails", "");
    let run = place.tessera("run", &["--threads", "1"]);
    let told = "stage `echoed`: the program `sh echo.sh` was ended by signal 9 (SIGKILL: somebody, or a system without memory, killed it) ";
    assert!(run.code == 1 && run.err.contains(told), "{}", run.err);
    fs::remove_file(place.path("fails")).unwrap();
    let run = ran(&place, &[]);
    let computed = run.stage("echoed")["rows_computed"].as_u64().unwrap();
    assert!((2..=10).contains(&computed), "{}", run.stage("echoed"));
    assert_eq!(place.sql("SELECT count(*) AS n FROM echoed e JOIN decoded d USING (image_id, pixels)")[0]["n"], 12);
}

/// Neither a killed run nor an interrupted one leaves a program behind; of one that is interrupted, not what this one started either.
#[test]
fn no_program_outlives_its_run() {
    let place = place("echo $$ > program\nsleep 1000 &\necho $! > child\nwait\n");
    for signal in ["KILL", "INT", "TERM"] {
        for file in ["program", "child"] {
            let _ = fs::remove_file(place.path(file));
        }
        let mut run = Command::new(binary())
            .args(["run", "pipeline.toml", "--threads", "1", "-q"])
            .current_dir(place.path(""))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = |file: &str| fs::read_to_string(place.path(file)).unwrap_or_default();
        wait("the program starts", || pid("child").ends_with('\n'));
        let (program, child) = (pid("program"), pid("child"));
        assert!(lives(&program) && lives(&child));
        assert!(Command::new("kill").args([&format!("-{signal}"), &run.id().to_string()]).status().unwrap().success());
        run.wait().unwrap();
        wait(&format!("{signal}: the program ends"), || !lives(&program));
        if signal == "KILL" {
            let _ = Command::new("kill").args(["-9", child.trim()]).status();
        }
        wait(&format!("{signal}: what it started ends"), || !lives(&child));
    }
}

#[test]
fn faults_point_at_their_keys() {
    let place = place("exec cat\n");
    let told = |change: [&str; 2]| {
        place.write("pipeline.toml", FILE.replace(change[0], change[1]));
        let check = place.tessera("check", &[]);
        assert_eq!(check.code, 2, "{}", check.err);
        check.err.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let program = told(["\"sh\", \"echo.sh\"", "\"no-such-program\""]);
    assert!(program.contains("stage `echoed`: the program `no-such-program` is in no folder of PATH"), "{program}");
    let kind = told(["uint8[32,32,3]", "uint8[32,32,3"]);
    assert!(kind.contains("`uint8[32,32,3` is no type: an array has whole lengths"), "{kind}");
    let column = told(["reads = [\"pixels\"]", "reads = [\"pixel\"]"]);
    assert!(
        column.contains("the input has no column `pixel`") && column.contains("it has: image_id, pixels, label"),
        "{column}"
    );
    let both = told(["input = \"decoded\"\ncommand", "inputs = { rows = \"decoded\", table = \"images\" }\ncommand"]);
    assert!(both.contains("a program reads one input"), "{both}");
    let other = told(["input = \"decoded\"\ncommand", "inputs = { images = \"decoded\" }\ncommand"]);
    assert!(other.contains("`command` needs a column `encoded`"), "{other}");
}

/// A stage whose program changes under its feet makes no table.
#[test]
fn a_program_that_changes_meanwhile_is_refused() {
    let place = place("echo '# changed' >> echo.sh\nexec cat\n");
    let told = failed(&place);
    assert!(told.contains("stage `echoed`: echo.sh changed while the stage ran; run again"), "{told}");
}

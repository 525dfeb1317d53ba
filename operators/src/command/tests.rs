//! Programs that do what they should, and all kinds of others. None needs more than what every system has.

use std::time::Instant;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use serde_json::{Value, json};
use tempfile::TempDir;
use tessera_schemas::features;

use super::*;
use crate::operator::{Inputs, Scope};
use crate::trial;

mod keys;
mod whole;

/// Three rows with a vector, a number and a text.
fn table() -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        (IMAGE_ID, Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("feature", features::array(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2)),
        ("n", Arc::new(Int32Array::from(vec![7, 8, 9]))),
        ("error", Arc::new(StringArray::from(vec![None, Some("too dark"), None]))),
    ];
    let schema = Schema::new(vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        features::field("feature", 2),
        Field::new("n", DataType::Int32, false),
        Field::new("error", DataType::Utf8, true),
    ]);
    RecordBatch::try_new(Arc::new(schema), columns.map(|(_, column)| column).to_vec()).unwrap()
}

fn bind(config: Value, input: Option<&'static str>) -> Result<Command, Vec<BindError>> {
    let inputs: Vec<(&str, SchemaRef)> = input.map(|name| (name, table().schema())).into_iter().collect();
    trial::bind(config, &inputs)
}

fn shell(script: &str) -> Value {
    json!(["sh", "-c", script])
}

/// What a stage makes of the three rows, and what it left out.
fn rows(config: Value) -> Result<(RecordBatch, Vec<String>), RunError> {
    let context = Context { seed: 0, threads: 2, base: "".into(), scratch: std::env::temp_dir() };
    let Kernel::Map(map) = bind(config, Some(ROWS)).unwrap().kernel(&context)? else { panic!("a map") };
    let mut dropped = Vec::new();
    let mut worker = map.open(&Inputs::default())?;
    let made = worker.call(&table(), &mut Scope { epoch: 0, lead: None, unread: &[], dropped: &mut dropped })?;
    Ok((made, dropped.into_iter().map(|row| format!("{}: {}", row.image_id, row.reason)).collect()))
}

/// The same where the answer is this table, whatever was asked.
fn answered(answer: &[RecordBatch], columns: Value) -> Result<RecordBatch, RunError> {
    let folder = saved(answer);
    let script = format!("cat {}; cat > /dev/null", folder.path().join("answer").display());
    rows(json!({ "command": shell(&script), "columns": columns, "reads": ["n"] })).map(|(made, _)| made)
}

fn saved(batches: &[RecordBatch]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    // It waits for more to ask, as a good program does.
    let mut bytes = writer.into_inner().unwrap();
    bytes.truncate(bytes.len() - 8);
    std::fs::write(folder.path().join("answer"), bytes).unwrap();
    folder
}

fn numbers(values: &[Option<i32>]) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int32Array::from(values.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("n", values, true)]).unwrap()
}

fn message(config: Value) -> String {
    rows(config).unwrap_err().to_string()
}

#[test]
fn rows_come_back_with_their_ids() {
    let config =
        json!({ "command": ["cat"], "reads": ["feature", "n"], "columns": { "n": "int32", "feature": "float32[2]" } });
    let operator = bind(config.clone(), Some(ROWS)).unwrap();
    assert_eq!(operator.reads(ROWS, &Command::INPUTS[0]), ["feature", "n"]);
    assert!(!operator.reads_ids());
    let (made, _) = rows(config).unwrap();
    assert_eq!(made, table().project(&[0, 2, 1]).unwrap());
    let config =
        json!({ "command": ["cat"], "reads": ["n", "image_id"], "columns": { "n": "int32" }, "hand_on": ["error"] });
    assert!(bind(config.clone(), Some(ROWS)).unwrap().reads_ids());
    assert_eq!(rows(config).unwrap().0, table().project(&[0, 2, 3]).unwrap());
}

#[test]
fn a_row_with_an_error_has_no_answer() {
    let mut config = json!({ "command": ["cat"], "reads": ["n", "error"], "columns": { "n": "int32" } });
    assert_eq!(message(config.clone()), "image `b`: too dark");
    config["on_error"] = json!("drop");
    let (made, dropped) = rows(config).unwrap();
    assert_eq!((made.num_rows(), dropped), (2, vec!["b: too dark".to_owned()]));
    assert_eq!(made.column(1).as_ref(), &Int32Array::from(vec![7, 9]) as &dyn arrow::array::Array);
}

#[test]
fn one_program_answers_many_batches() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("echo started >> {}/starts; exec cat", folder.path().display());
    let config = json!({ "command": shell(&script), "reads": ["n"], "columns": { "n": "int32" } });
    let context = Context { seed: 0, threads: 1, base: "".into(), scratch: std::env::temp_dir() };
    let Kernel::Map(map) = bind(config, Some(ROWS)).unwrap().kernel(&context).unwrap() else { panic!("a map") };
    for start in 0..3 {
        let mut worker = map.open(&Inputs::default()).unwrap();
        for _ in 0..40 {
            let rows = table().slice(start, 3 - start);
            let mut scope = Scope { epoch: 0, lead: None, unread: &[], dropped: &mut Vec::new() };
            assert_eq!(worker.call(&rows, &mut scope).unwrap(), rows.project(&[0, 2]).unwrap());
        }
        let mut scope = Scope { epoch: 0, lead: None, unread: &[], dropped: &mut Vec::new() };
        assert_eq!(worker.call(&table().slice(0, 0), &mut scope).unwrap().num_rows(), 0);
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("starts")).unwrap(), "started\n");
}

/// Neither side waits for the other, however much is on its way: 64 MiB go through pipes of one.
#[test]
fn large_batches_do_not_lock_the_pipes() {
    let length = 1 << 20;
    let vectors = trial::features(&[("a", &vec![0.5; length][..]); 16]);
    let operator: Command = trial::bind(
        json!({ "command": ["cat"], "columns": { "feature": format!("float32[{length}]") } }),
        &[(ROWS, vectors.schema())],
    )
    .unwrap();
    let context = Context { seed: 0, threads: 1, base: "".into(), scratch: std::env::temp_dir() };
    let Kernel::Map(map) = operator.kernel(&context).unwrap() else { panic!("a map") };
    let mut worker = map.open(&Inputs::default()).unwrap();
    assert_eq!(trial::call_worker(worker.as_mut(), &vectors).unwrap(), vectors);
}

#[test]
fn programs_that_misbehave_are_named_with_what_they_said() {
    let fail = |script: &str| {
        message(json!({ "command": shell(script), "reads": ["n"], "columns": { "n": "int32" }, "timeout_seconds": 1 }))
    };
    let starts = |script: &str| format!("the program `sh -c {}` ", tessera_schemas::printable(script));
    let told = |script: &str, what: &str| {
        let found = fail(script);
        assert_eq!(found, starts(script) + what);
    };
    let none = "it wrote nothing to stderr";
    told("exit 3", &format!("ended with exit status 3 before it had answered a batch; {none}"));
    told("exit 0", &format!("ended with exit status 0 before it had answered a batch; {none}"));
    told(
        "echo one >&2; echo two >&2; exit 1",
        "ended with exit status 1 before it had answered a batch; its stderr ends with:\n    one\n    two",
    );
    told(
        "kill -9 $$",
        &format!(
            "was ended by signal 9 (SIGKILL: somebody, or a system without memory, killed it) before it had answered a batch; {none}"
        ),
    );
    told("kill -11 $$", &format!("was ended by signal 11 (SIGSEGV) before it had answered a batch; {none}"));
    let stderr = "print to stderr instead (in Python, `print(…, file=sys.stderr)`)";
    told("echo hello", &format!("wrote `hello` to stdout, where an Arrow stream is to come; {stderr}; {none}"));
    let hint = "it is to answer a batch, and flush its stdout, before it waits for the next (`inputs = { table = … }` is for a \
                program that reads all rows first)";
    told("sleep 100", &format!("has written nothing for 1 s (`timeout_seconds`) and was ended: {hint}; {none}"));
    told("exec >&-; sleep 100", &format!("closed its stdout before it had answered a batch; {none}"));
    told("head -c 300", &format!("ended with exit status 0 in the middle of a message of its stream; {none}"));
    let all = "ended its stream before it had answered all batches: it is to write one for each that it reads";
    let end = "printf '\\377\\377\\377\\377\\000\\000\\000\\000'; cat >/dev/null";
    told(end, &format!("{all}; {none}"));
}

/// What it writes to stderr may come faster than it is read, from itself or from what it has started.
#[test]
fn a_program_that_floods_stderr_is_ended_in_time() {
    let start = Instant::now();
    let told = |script: &str| {
        let config = json!({ "command": shell(script), "reads": ["n"], "columns": { "n": "int32" }, "timeout_seconds": 1 });
        let told = message(config);
        assert!(told.ends_with("\n    y\n    y"), "{told}");
        told.split_once("` ").unwrap().1.to_owned()
    };
    let floods = told("exec 3>&1; exec yes >&2");
    assert!(floods.starts_with("has written nothing for 1 s (`timeout_seconds`) and was ended"), "{floods}");
    let leaves = told("exec 3>&1; yes >&2 & sleep 0.1; exit 3");
    assert!(leaves.starts_with("ended with exit status 3 before it had answered a batch"), "{leaves}");
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// A batch too many is seen with the answer, or before the next batch goes out.
#[test]
fn a_batch_answers_a_batch() {
    let folder = saved(&[numbers(&[Some(1), Some(2), Some(3)]), numbers(&[Some(1)])]);
    let twice = format!("cat {}/answer; cat >/dev/null", folder.path().display());
    let config = json!({ "command": shell(&twice), "reads": ["n"], "columns": { "n": "int32" } });
    let context = Context { seed: 0, threads: 1, base: "".into(), scratch: std::env::temp_dir() };
    let Kernel::Map(map) = bind(config, Some(ROWS)).unwrap().kernel(&context).unwrap() else { panic!("a map") };
    let mut worker = map.open(&Inputs::default()).unwrap();
    let first = trial::call_worker(worker.as_mut(), &table());
    let said = first.and_then(|_| trial::call_worker(worker.as_mut(), &table())).unwrap_err().to_string();
    assert!(said.contains("wrote more than one batch for a batch that it read"), "{said}");
}

#[test]
fn only_the_last_lines_of_a_talkative_program_are_told() {
    let script = "i=0; while [ $i -lt 300 ]; do echo line $i >&2; i=$((i+1)); done; head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1";
    let told = message(json!({ "command": shell(script), "reads": ["n"], "columns": { "n": "int32" } }));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines.len(), lines[1], lines[19]), (21, "    line 281", "    line 299"), "{told}");
    assert_eq!(lines[20], format!("    {}", "x".repeat(500)));
}

#[test]
fn answers_that_do_not_fit_are_told() {
    let told = |answer: &[RecordBatch], columns: Value| {
        let told = answered(answer, columns).unwrap_err().to_string();
        told.split_once("/dev/null` ")
            .map_or(told.clone(), |(_, what)| what.to_owned())
            .replace("; it wrote nothing to stderr", "")
    };
    let good = numbers(&[Some(1), Some(2), Some(3)]);
    assert_eq!(answered(std::slice::from_ref(&good), json!({ "n": "int32" })).unwrap().column(1), good.column(0));
    assert_eq!(
        told(&[good.slice(0, 2)], json!({ "n": "int32" })),
        "answered a batch of 3 rows by one of 2: each row has one answer, in the same order"
    );
    assert_eq!(
        told(std::slice::from_ref(&good), json!({ "n": "int64" })),
        "writes `n` as int32, and `columns` declares int64"
    );
    assert_eq!(
        told(std::slice::from_ref(&good), json!({ "m": "int32" })),
        "writes a column `n`, which `columns` does not declare"
    );
    assert_eq!(
        told(std::slice::from_ref(&good), json!({ "n": "int32", "m": "utf8" })),
        "writes no column `m`, which `columns` declares"
    );
    assert_eq!(
        told(&[numbers(&[Some(1), None, Some(3)])], json!({ "n": "int32" })),
        "image `b`: the program's `n` is null (`int32?` declares a column that may be)"
    );
    assert_eq!(answered(&[numbers(&[Some(1), None, Some(3)])], json!({ "n": "int32?" })).unwrap().num_rows(), 3);
    let with_ids = |ids: [&str; 3]| {
        let ids: ArrayRef = Arc::new(StringArray::from(ids.to_vec()));
        RecordBatch::try_from_iter([("n", good.column(0).clone()), (IMAGE_ID, ids)]).unwrap()
    };
    assert_eq!(answered(&[with_ids(["a", "b", "c"])], json!({ "n": "int32" })).unwrap().num_columns(), 2);
    assert_eq!(
        told(&[with_ids(["a", "c", "b"])], json!({ "n": "int32" })),
        "image `b`: the program answered it by the row of `c`: rows come back in the order in which they were sent"
    );
}

/// A program that ends leaves nothing that it started.
#[test]
fn what_a_program_starts_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; echo hello", file.display());
    assert!(
        message(json!({ "command": shell(&script), "reads": ["n"], "columns": { "n": "int32" } })).contains("wrote `hello`")
    );
    let pid = std::fs::read_to_string(&file).unwrap();
    let gone = || {
        let about = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        about.is_empty() || about.contains(") Z ")
    };
    let start = Instant::now();
    while !gone() {
        assert!(start.elapsed().as_secs() < 10, "process {pid} lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_gets_the_variables_that_are_told_and_no_others() {
    let script = "env >&2; exit 1";
    let config = json!({
        "command": shell(script), "reads": ["n"], "columns": { "n": "int32" }, "environment": ["COLOUR=dark red", "NO_SUCH_VARIABLE", "LC_ALL=de"],
    });
    let told = message(config);
    let names: Vec<&str> = told.lines().skip(1).filter_map(|line| Some(line.trim().split_once('=')?.0)).collect();
    let shells = ["PWD", "OLDPWD", "SHLVL", "_"];
    let known =
        ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "COLOUR"];
    let is_known = |name: &&str| known.contains(name) || shells.contains(name) || name.ends_with("_NUM_THREADS");
    assert!(names.iter().all(is_known) && names.contains(&"PATH"), "{names:?}");
    assert!(told.contains("COLOUR=dark red") && told.contains("LC_ALL=de") && told.contains("OMP_NUM_THREADS=1"), "{told}");
}

#[test]
fn files_that_change_meanwhile_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("used");
    std::fs::write(&file, "1").unwrap();
    let script = format!("echo 2 > {}; exec cat", file.display());
    let config = json!({ "command": shell(&script), "reads": ["n"], "columns": { "n": "int32" }, "files": [file.display().to_string()] });
    assert_eq!(message(config), format!("{} changed while the stage ran; run again", file.display()));
}

//! Programs that do what they should, and all kinds of others. None needs more than what every system has.

use std::path::Path;
use std::time::Instant;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use serde_json::{Value, json};
use tempfile::TempDir;
use tessera_schemas::features;

use super::*;
use crate::operator::{At, Inputs, Scope};
use crate::spec::{Of, Spec};
use crate::trial::{self, Memory, Record};

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
    assert_eq!(made, table().project(&[0, 1, 2]).unwrap());
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
    assert_eq!(trial::call(operator, &[], &vectors).unwrap(), vectors);
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
    told("sleep 100", &format!("has written nothing for 1 s (`timeout_seconds`) and was ended; {none}"));
    told("exec >&-; sleep 100", &format!("closed its stdout before it had answered a batch; {none}"));
    told("head -c 300", &format!("ended with exit status 0 in the middle of a message of its stream; {none}"));
    let all = "ended its stream before it had answered all batches: it is to write one for each that it reads";
    let end = "printf '\\377\\377\\377\\377\\000\\000\\000\\000'; cat >/dev/null";
    told(end, &format!("{all}; {none}"));
    let folder = saved(&[numbers(&[Some(1), None, None]), numbers(&[Some(1)])]);
    let twice = format!("cat {}/answer; cat >/dev/null", folder.path().display());
    told(&twice, &format!("wrote more than one batch for a batch that it read; {none}"));
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
    assert_eq!(answered(&[good.clone()], json!({ "n": "int32" })).unwrap().column(1), good.column(0));
    assert_eq!(
        told(&[good.slice(0, 2)], json!({ "n": "int32" })),
        "answered a batch of 3 rows by one of 2: each row has one answer, in the same order"
    );
    assert_eq!(told(&[good.clone()], json!({ "n": "int64" })), "writes `n` as int32, and `columns` declares int64");
    assert_eq!(told(&[good.clone()], json!({ "m": "int32" })), "writes a column `n`, which `columns` does not declare");
    assert_eq!(
        told(&[good.clone()], json!({ "n": "int32", "m": "utf8" })),
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
    let known = ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "PYTHONHASHSEED", "COLOUR"];
    let is_known = |name: &&str| known.contains(name) || shells.contains(name) || name.ends_with("_NUM_THREADS");
    assert!(names.iter().all(is_known) && names.contains(&"PATH"), "{names:?}");
    assert!(told.contains("COLOUR=dark red") && told.contains("LC_ALL=de") && told.contains("OMP_NUM_THREADS=1"), "{told}");
}

/// Runs a stage that reads the table, or none.
fn whole(config: Value, input: Option<&'static str>) -> Result<Record, RunError> {
    let context = Context { seed: 0, threads: 2, base: "".into(), scratch: std::env::temp_dir() };
    let Kernel::Whole(kernel) = bind(config, input).unwrap().kernel(&context)? else { panic!("a whole kernel") };
    let mut record = Record::default();
    let tables =
        Memory(input.map(|name| (name, vec![table(), table().slice(0, 0), table().slice(0, 1)])).into_iter().collect());
    kernel.run(&tables, &mut record).map(|()| record)
}

#[test]
fn a_whole_table_goes_through() {
    let config = json!({ "command": ["cat"], "reads": ["n"], "columns": { "n": "int32" } });
    let record = whole(config, Some(TABLE)).unwrap();
    let rows: usize = record.batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!((rows, record.batches[0].clone()), (4, table().project(&[2]).unwrap()));
    assert_eq!(record.progress.last(), Some(&(4, 4)));
    // `cat` reads nothing more than this, and that is its right.
    let folder = tempfile::tempdir().unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &numbers(&[]).schema()).unwrap();
    writer.write(&numbers(&[Some(5)])).unwrap();
    std::fs::write(folder.path().join("answer"), writer.into_inner().unwrap()).unwrap();
    let file = folder.path().join("answer").display().to_string();
    for input in [Some(TABLE), None] {
        let record = whole(json!({ "command": ["cat", file], "columns": { "n": "int32" } }), input).unwrap();
        assert_eq!(record.batches, [numbers(&[Some(5)]).project(&[0]).map(|rows| declared(&rows)).unwrap()]);
    }
}

/// The rows with columns that are not null.
fn declared(rows: &RecordBatch) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("n", rows.column(0).clone(), false)]).unwrap()
}

#[test]
fn a_table_that_is_not_whole_is_refused() {
    let told = |config: Value| {
        let told = whole(config, Some(TABLE)).map(|record| record.batches.len()).unwrap_err().to_string();
        told.rsplit_once("` ").map_or(told.clone(), |(_, what)| what.to_owned()).replace("; it wrote nothing to stderr", "")
    };
    let folder = saved(&[numbers(&[Some(5)])]);
    let file = folder.path().join("answer").display().to_string();
    let open = whole(json!({ "command": ["cat", file], "columns": { "n": "int32" } }), Some(TABLE)).map(|_| ()).unwrap_err();
    assert!(
        open.to_string().contains("` has not ended its stream, and rows may be missing: close the writer (`with"),
        "{open}"
    );
    let config = |script: &str| json!({ "command": shell(script), "reads": ["n", "image_id"], "columns": { "image_id": "utf8", "n": "int32" } });
    assert_eq!(told(config("cat; exit 2")), "ended with exit status 2 after its last row");
    let twice = whole(config("cat"), Some(TABLE)).map(|_| ()).unwrap_err().to_string();
    assert!(twice.contains("` wrote a wrong row, number 3: the image_id `a` occurs for the second time"), "{twice}");
    let trailing =
        whole(config("head -c 0; exec sh -c 'cat answer 2>/dev/null; echo 3 rows'"), Some(TABLE)).map(|_| ()).unwrap_err();
    assert!(trailing.to_string().contains("` wrote `3 rows` to stdout, where an Arrow stream is to come"), "{trailing}");
}

#[test]
fn a_stopped_run_stops_its_program() {
    let context = Context { seed: 0, threads: 2, base: "".into(), scratch: std::env::temp_dir() };
    let config = json!({ "command": ["sleep", "1000"], "columns": { "n": "int32" } });
    let Kernel::Whole(kernel) = bind(config, None).unwrap().kernel(&context).unwrap() else { panic!("a whole kernel") };
    let (start, mut record) = (Instant::now(), Record { cancel: true, ..Record::default() });
    let error = kernel.run(&Memory(Default::default()), &mut record).unwrap_err();
    assert!(matches!(error, RunError::Cancelled) && start.elapsed().as_secs() < 10, "{error}");
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

#[test]
fn the_key_has_what_an_answer_follows_from() {
    let spec = Of::<Command>::new();
    let key = |config: Value| {
        let Value::Object(keys) = config else { panic!("an object") };
        let inputs = Inputs([(ROWS.to_owned(), table().schema())].into_iter().collect());
        let planner = crate::trial::NoQueries;
        let files = tessera_datasets::local::LocalFiles;
        let bound =
            spec.bind(keys, &Binding { inputs: &inputs, base: Path::new(""), planner: &planner, files: &files }).unwrap();
        (Value::Object(bound.config().clone()).to_string(), bound.content().unwrap())
    };
    let config = json!({ "command": ["cat"], "columns": { "n": "int32" } });
    let with = |name: &str, value: Value| {
        let mut config = config.clone();
        config[name] = value;
        key(config)
    };
    let plain = key(config.clone());
    for (name, value) in [("processes", json!(1)), ("timeout_seconds", json!(9)), ("on_error", json!("drop"))] {
        assert_eq!(with(name, value), plain, "{name}");
    }
    let others = [
        ("command", json!(["cat", "-u"])),
        ("command", json!(["tac"])),
        ("columns", json!({ "n": "int32?" })),
        ("reads", json!(["n"])),
        ("files", json!(["src/command.rs"])),
        ("environment", json!(["HOME"])),
        ("environment", json!(["A=1"])),
        ("hand_on", json!(["error"])),
    ];
    let mut all: std::collections::BTreeSet<_> = others.into_iter().map(|(name, value)| with(name, value)).collect();
    all.insert(plain);
    assert_eq!(all.len(), 9);
}

#[test]
fn faults_are_named() {
    let faults = |config: Value, input: Option<&'static str>| -> Vec<(At, String)> {
        let errors = bind(config, input).map(|_| ()).unwrap_err();
        errors.into_iter().map(|error| (error.at, error.message)).collect()
    };
    let at = |key: &str| At::Key(key.to_owned());
    let found = faults(
        json!({
            "command": ["no-such-program"], "columns": { "angle": "float", "image_id": "utf8", "n": "int32" }, "reads": ["pixels", "n", "n"],
            "hand_on": ["n", "image_id"], "environment": ["=1"], "processes": 0, "timeout_seconds": 0, "files": [""],
        }),
        Some(ROWS),
    );
    let places: Vec<&At> = found.iter().map(|(at, _)| at).collect();
    let expected = [
        at("processes"),
        at("timeout_seconds"),
        at("environment[0]"),
        at("files[0]"),
        at("columns.angle"),
        at("reads[0]"),
        at("reads[2]"),
        at("hand_on[0]"),
        at("hand_on[1]"),
        at("columns.image_id"),
        at("command"),
    ];
    assert_eq!(places, expected.iter().collect::<Vec<_>>(), "{found:?}");
    assert_eq!(found[5].1, "the input has no column `pixels`");
    assert_eq!(found[10].1, "the program `no-such-program` is in no folder of PATH");
    let one = |config: Value, input: Option<&'static str>| {
        let mut found = faults(config, input);
        assert_eq!(found.len(), 1, "{found:?}");
        found.pop().unwrap()
    };
    assert_eq!(
        one(json!({ "command": [], "columns": { "n": "int8" } }), None),
        (at("command"), "there is no program to run".to_owned())
    );
    assert_eq!(
        one(json!({ "command": ["cat"], "columns": {} }), None),
        (at("columns"), "the program writes no column".to_owned())
    );
    let id = json!({ "command": ["cat"], "columns": { "image_id": "int32" } });
    assert_eq!(one(id, Some(TABLE)), (at("columns.image_id"), "`image_id` names a row, and its type is utf8".to_owned()));
    let handed = json!({ "command": ["cat"], "columns": { "n": "int32" }, "hand_on": ["error"] });
    assert_eq!(one(handed, Some(TABLE)).1, "only rows that are made one of one have something to hand on");
    let both: Result<Command, _> = trial::bind(
        json!({ "command": ["cat"], "columns": { "n": "int32" } }),
        &[(ROWS, table().schema()), (TABLE, table().schema())],
    );
    let error = both.map(|_| ()).unwrap_err().remove(0);
    assert_eq!((error.at, error.message.as_str()), (At::Input(TABLE.to_owned()), "a program reads one input"));
}

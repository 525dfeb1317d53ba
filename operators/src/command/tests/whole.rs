//! Programs that see a whole table, or none.

use super::*;
use crate::trial::{Memory, Record};

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
    assert_eq!(told(config("cat; exit 2")), "ended with exit status 2");
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

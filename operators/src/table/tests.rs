use serde_json::json;
use tessera_datasets::local::LocalFiles;
use tessera_schemas::text;

use super::*;
use crate::operator::At;
use crate::trial::{bind, kernel};

fn refused(path: &Path) -> BindError {
    let mut errors = bind::<Table>(json!({"path": path}), &[]).err().expect("it should not bind");
    assert_eq!(errors.len(), 1);
    errors.remove(0)
}

#[test]
fn a_file_and_its_folder_are_the_same_table() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.csv");
    std::fs::write(&file, "word\nx\ny\n").unwrap();
    for path in [&file, dir.path()] {
        let table: Table = bind(json!({"path": path}), &[]).unwrap();
        let schema = table.schema();
        let source = kernel(table, 0, 1).unwrap();
        let entries = source.list(&LocalFiles).unwrap().files;
        assert_eq!((source.root(), &*entries[0].path), (dir.path(), "t.csv"));
        let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
        let mut rows = Vec::new();
        let mut emit = |found: Found| {
            let batch = found.rows;
            assert_eq!(batch.schema(), schema);
            let (ids, words) = (text(&batch, "image_id")?, text(&batch, "word")?);
            rows.extend(ids.iter().zip(words).map(|(id, word)| format!("{} {}", id.unwrap(), word.unwrap())));
            Ok(())
        };
        source.read(&LocalFiles, &prints, &mut emit).unwrap();
        assert_eq!(rows, ["0 x", "1 y"]);
    }
}

#[test]
fn a_store_is_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().canonicalize().unwrap().join("store");
    let stage = store.join("pipeline/features");
    for folder in ["parts", "snapshots"] {
        std::fs::create_dir_all(stage.join(folder)).unwrap();
    }
    for file in ["current", "parts/a.parquet"] {
        std::fs::write(stage.join(file), "").unwrap();
    }
    std::fs::write(store.join("lock"), "").unwrap();
    for path in ["", "pipeline", "pipeline/features", "pipeline/features/parts", "pipeline/features/parts/a.parquet"] {
        let error = refused(&store.join(path));
        assert!(error.message.contains(&format!("lies in the store `{}`", store.display())), "{path}: {}", error.message);
        assert!(error.help.unwrap().contains("tessera path"));
    }
    let plain = tempfile::tempdir().unwrap();
    std::fs::write(plain.path().join("lock"), "").unwrap();
    std::fs::write(plain.path().join("t.csv"), "word\nx\n").unwrap();
    bind::<Table>(json!({"path": plain.path().join("t.csv")}), &[]).unwrap();
}

#[test]
fn what_a_csv_file_does_not_say_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "1;x\n2;y\n").unwrap();
    let types = json!({"column_1": "text"});
    let table: Table = bind(json!({"path": path, "types": types, "separator": ";", "header": false}), &[]).unwrap();
    let kinds: Vec<String> =
        table.schema().fields().iter().map(|field| format!("{}:{}", field.name(), field.data_type())).collect();
    assert_eq!(kinds, ["image_id:Utf8", "column_1:Utf8", "column_2:Utf8"]);
    let faults = |config: serde_json::Value| -> Vec<(At, String)> {
        let errors = bind::<Table>(config, &[]).err().expect("it should not bind");
        errors.into_iter().map(|error| (error.at, error.message)).collect()
    };
    let found = faults(json!({"path": path, "types": {"a": "string", "b": "int"}, "separator": ";;"}));
    assert_eq!(found.len(), 2);
    assert_eq!((&found[0].0, &found[1].0), (&At::Key("types.a".into()), &At::Key("separator".into())));
    assert!(found[0].1.contains("known are \"text\", \"int\""), "{}", found[0].1);
    let found = faults(json!({"path": path, "types": {"b": "int"}, "header": false}));
    let message = "the table has no column `b`; there are image_id, column_1, column_2".to_owned();
    assert_eq!(found, [(At::Key("types.b".into()), message)]);
}

#[test]
fn rows_are_a_range_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "word\nx\ny\nz\n").unwrap();
    let found = |rows: &str| -> Result<Vec<String>, String> {
        let table: Table = bind(json!({"path": path, "rows": rows}), &[]).unwrap();
        let source = kernel(table, 0, 1).unwrap();
        let entries = source.list(&LocalFiles).unwrap().files;
        let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
        let mut rows = Vec::new();
        let mut emit = |found: Found| {
            let (ids, words) = (text(&found.rows, "image_id")?, text(&found.rows, "word")?);
            rows.extend(ids.iter().zip(words).map(|(id, word)| format!("{} {}", id.unwrap(), word.unwrap())));
            Ok(())
        };
        source.read(&LocalFiles, &prints, &mut emit).map_err(|error| error.to_string())?;
        Ok(rows)
    };
    assert_eq!(found("1:"), Ok(vec!["1 y".to_owned(), "2 z".to_owned()]));
    assert_eq!(found(":-2"), Ok(vec!["0 x".to_owned()]));
    let none = found("3:").unwrap_err();
    assert!(none.ends_with("has 3 rows, and none of them are in `rows` = \"3:\""), "{none}");
    // An array's header says how many rows there are before any is read.
    let array = dir.path().join("t.npy");
    let header = "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }";
    let start = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &[0; 16]].concat();
    std::fs::write(&array, start).unwrap();
    for (config, part) in [
        (json!({"path": array, "rows": "2:4"}), "has 2 rows, and none of them"),
        (json!({"path": path, "rows": "1-2"}), "is no range of rows"),
    ] {
        let errors = bind::<Table>(config, &[]).err().expect("it should not bind");
        assert_eq!(errors[0].at, At::Key("rows".into()));
        assert!(errors[0].message.contains(part), "{}", errors[0].message);
    }
    let keys = serde_json::to_value(Config {
        path,
        dataset: None,
        types: BTreeMap::new(),
        separator: None,
        header: None,
        rows: None,
    });
    assert_eq!(keys.unwrap().as_object().unwrap().keys().collect::<Vec<_>>(), ["path"], "stages without it keep their keys");
}

#[test]
fn faults_lie_at_the_path_and_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = At::Key("path".into());
    let missing = refused(&dir.path().join("none.csv"));
    assert_eq!(missing.at, at);
    assert!(missing.message.contains("none.csv` does not exist"), "{}", missing.message);
    for (name, text) in
        [("t.txt", "tables end in parquet, csv, npy, arrow, feather, h5, hdf5"), ("t.parquet", "t.parquet: ")]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, "words").unwrap();
        let error = refused(&path);
        assert_eq!(error.at, at);
        assert!(error.message.contains(text), "{}", error.message);
    }
}

//! A store that several files share, what lies in it, and paths to it.

use std::fs;
use std::os::unix::fs::symlink;

use tessera_tests::{Place, run};

const ROWS: &str = "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n";

fn place() -> Place {
    let place = Place::new();
    for project in ["one", "two"] {
        place.write(&format!("{project}/rows.csv"), format!("image_id\n{project}\n"));
        place.write(&format!("{project}/pipeline.toml"), format!("[pipeline]\nstore = \"../shared\"\n{ROWS}"));
    }
    place
}

#[test]
fn two_files_of_one_name_are_told_apart() {
    let place = place();
    let rows =
        |project: &str| place.call("sql", &format!("{project}/pipeline.toml"), &["--format", "csv", "SELECT * FROM rows"]);
    assert_eq!(place.call("run", "one/pipeline.toml", &["-q"]).code, 0);
    assert_eq!(rows("one").out, "image_id\none\n");
    for (command, arguments) in [
        ("run", vec![]),
        ("plan", vec![]),
        ("sql", vec!["SELECT * FROM rows"]),
        ("status", vec![]),
        ("gc", vec!["--delete"]),
    ] {
        let refused = place.call(command, "two/pipeline.toml", &arguments);
        assert!(refused.code == 1 && refused.out.is_empty(), "{command}: {}", refused.out);
        let said = refused.err.contains("one/pipeline.toml") && refused.err.contains("[pipeline] name");
        assert!(said, "{command}: {}", refused.err);
    }
    assert_eq!(rows("one").out, "image_id\none\n");
    let named = fs::read_to_string(place.path("two/pipeline.toml")).unwrap().replace("store", "name = \"two\"\nstore");
    fs::write(place.path("two/pipeline.toml"), named).unwrap();
    assert_eq!(place.call("run", "two/pipeline.toml", &["-q"]).code, 0);
    assert_eq!((rows("one").out.as_str(), rows("two").out.as_str()), ("image_id\none\n", "image_id\ntwo\n"));
    // The project moves: nothing is made again.
    fs::rename(place.path("one"), place.path("elsewhere")).unwrap();
    let moved = place.call("run", "elsewhere/pipeline.toml", &["--format", "json"]);
    assert_eq!(moved.actions(), ["rows:reuse"], "{}", moved.err);
}

#[test]
fn names_that_a_store_has_for_itself_are_faults() {
    let place = Place::new();
    place.write("rows.csv", "image_id\na\n");
    for name in ["lock", "Lock", "p@100"] {
        place.write("pipeline.toml", format!("[pipeline]\nname = \"{name}\"\n{ROWS}"));
        let refused = place.tessera("run", &[]);
        assert!(refused.code == 2 && refused.err.contains("pipeline.toml:2:8"), "{name}: {}", refused.err);
    }
    assert!(!place.path(".tessera").exists());
}

#[test]
fn paths_lead_up_and_home() {
    let place = place();
    fs::create_dir_all(place.path("one/deep/er")).unwrap();
    let call = |arguments: &[&str]| {
        let mut call = std::process::Command::new(tessera_tests::binary());
        call.args(arguments).current_dir(place.path("one/deep/er"));
        run(call)
    };
    let ran = call(&["run", "../../pipeline.toml", "--format", "json"]);
    assert_eq!(ran.stage("rows")["rows_out"], 1, "{}", ran.err);
    assert_eq!(call(&["sql", "../../../one/pipeline.toml", "--format", "csv", "SELECT * FROM rows"]).out, "image_id\none\n");
    place.write("home/data/rows.csv", "image_id\nhome\n");
    place.write(
        "three/pipeline.toml",
        "[pipeline]\nstore = \"~/store\"\n[stage.rows]\nop = \"table\"\npath = \"~/data/rows.csv\"\n",
    );
    let mut call = place.command("run", "three/pipeline.toml", &["--format", "json"]);
    call.env("HOME", place.path("home"));
    let ran = run(call);
    assert_eq!(ran.stage("rows")["rows_out"], 1, "{}", ran.err);
    assert!(place.path("home/store/pipeline/rows").is_dir() && !place.path("three/~").exists());
}

#[test]
fn a_lock_that_leads_elsewhere_overwrites_nothing() {
    let place = place();
    place.write("precious", "precious");
    fs::create_dir_all(place.path("shared")).unwrap();
    symlink(place.path("precious"), place.path("shared/lock")).unwrap();
    assert_eq!(place.call("run", "one/pipeline.toml", &["-q"]).code, 0);
    assert_eq!(fs::read_to_string(place.path("precious")).unwrap(), "precious");
    assert!(fs::symlink_metadata(place.path("shared/lock")).unwrap().is_file());
}

/// Whatever of the store was replaced by a folder is named, and made anew.
#[test]
fn folders_in_the_place_of_files_block_nobody() {
    let place = place();
    let (file, stage) = ("one/pipeline.toml", "shared/pipeline/rows");
    assert_eq!(place.call("run", file, &["-q"]).code, 0);
    let replaced = |path: &str| {
        fs::remove_file(place.path(path)).unwrap();
        place.write(&format!("{path}/inside"), "kept");
    };
    let id = place.snapshots_in("shared", "pipeline")["rows"].id.clone();
    for path in [
        "shared/lock".to_owned(),
        format!("{stage}/listing"),
        format!("{stage}/current"),
        format!("{stage}/snapshots/{id}.json"),
    ] {
        replaced(&path);
        let ran = place.call("run", file, &["--format", "json"]);
        assert_eq!(ran.stage("rows")["rows_out"], 1, "{path}: {}", ran.err);
        assert_eq!(place.call("sql", file, &["--format", "csv", "SELECT * FROM rows"]).out, "image_id\none\n", "{path}");
    }
}

#[test]
fn garbage_is_what_nobody_needs() {
    let place = Place::new();
    place.write("rows.csv", "image_id\na\n");
    place.write("pipeline.toml", ROWS);
    let run = |arguments: &[&str]| assert_eq!(place.tessera("run", &[&["-q"], arguments].concat()).code, 0);
    let garbage = || -> Vec<String> {
        let found = place.tessera("gc", &["--format", "json", "--keep-runs", "2"]).json();
        found.as_array().unwrap().iter().map(|file| format!("{} {}", file["stage"], file["kind"]).replace('"', "")).collect()
    };
    run(&[]);
    place.write("rows.csv", "image_id\na\nb\n");
    run(&[]);
    // Runs that made nothing do not count.
    (0..4).for_each(|_| run(&[]));
    assert_eq!(garbage(), Vec::<String>::new());
    assert_eq!(place.tessera("diff", &["rows", "--format", "json"]).json()["added"], 1);
    place.write("rows.csv", "image_id\na\nb\nc\n");
    run(&[]);
    assert_eq!(garbage(), ["rows part", "rows snapshot", "runs record", "runs record"]);
    // Nobody has to stop for a look.
    let lock = fs::File::options().write(true).open(place.path(".tessera/lock")).unwrap();
    lock.try_lock().unwrap();
    assert_eq!(garbage().len(), 4);
    assert_eq!(place.tessera("gc", &["--delete"]).code, 4, "but for deleting");
    drop(lock);
    place.images(3).write("pipeline.toml", format!("{ROWS}[stage.images]\nop = \"images\"\npath = \"photos\"\n"));
    run(&["--limit", "2", "--to", "images"]);
    let found = garbage();
    assert!(found.contains(&"pipeline@2 limited".to_owned()), "{found:?}");
    assert_eq!(place.tessera("gc", &["--delete"]).code, 0);
    assert!(!place.path(".tessera/pipeline@2").exists());
    run(&[]);
    assert_eq!(place.sql("SELECT count(*) AS n FROM rows")[0]["n"], 3);
}

/// Other programs read the current files, and those alone.
#[test]
fn the_files_of_a_table_are_printed() {
    let place = Place::new();
    place.images(6).write(
        "pipeline.toml",
        "[stage.images]\nop = \"images\"\npath = \"photos\"\n[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = 8\n\
         [stage.small]\nop = \"decode\"\ninput = \"images\"\nside = 8\nkeep = true\n",
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place.image(6);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let paths = place.tessera("path", &["small"]);
    let files: Vec<&str> = paths.out.lines().collect();
    let current = &place.snapshots("pipeline")["small"].parts;
    assert_eq!(files.len(), current.len(), "{}", paths.err);
    assert!(files.iter().zip(current).all(|(path, part)| path.starts_with('/') && path.ends_with(&part.file)));
    assert!(files.iter().all(|path| fs::metadata(path).is_ok()));
    assert_eq!(place.tessera("path", &["small", "--format", "json"]).json().as_array().unwrap().len(), files.len());
    let view = place.tessera("path", &["decoded"]);
    assert!(view.code == 2 && view.err.contains("export"), "{}", view.err);
    // A folder of parts is no table.
    place.write("table.toml", "[stage.t]\nop = \"table\"\npath = \".tessera/pipeline/small/parts\"\n");
    let check = place.call("check", "table.toml", &[]);
    assert!(check.code == 2 && check.err.contains("tessera path"), "{}", check.err);
}

//! What is in a stage's key, and what is wrong with its own keys.

use super::*;
use crate::operator::At;
use crate::spec::{Of, Spec};

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
            "hand_on": ["n", "image_id"], "environment": ["=1"], "processes": 0, "timeout_seconds": 0, "files": ["", "no-such-file"],
        }),
        Some(ROWS),
    );
    let places: Vec<&At> = found.iter().map(|(at, _)| at).collect();
    let expected = [
        at("processes"),
        at("timeout_seconds"),
        at("environment[0]"),
        at("files[0]"),
        at("files[1]"),
        at("columns.angle"),
        at("reads[0]"),
        at("reads[2]"),
        at("hand_on[0]"),
        at("hand_on[1]"),
        at("columns.image_id"),
        at("command"),
    ];
    assert_eq!(places, expected.iter().collect::<Vec<_>>(), "{found:?}");
    assert_eq!(found[4].1, "`no-such-file` does not exist");
    assert_eq!(found[6].1, "the input has no column `pixels`");
    assert_eq!(found[11].1, "the program `no-such-program` is in no folder of PATH");
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

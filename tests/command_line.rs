//! What scripts rely on: documents, exit codes, and which stream says what.

use serde_json::{Value, json};
use tessera_tests::{Answer, Place, binary, run};

mod readers;

fn place() -> Place {
    let place = Place::new();
    place.images(6).write(
        "pipeline.toml",
        r#"
[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 32

[stage.small]
op = "decode"
input = "images"
side = 8
keep = true

[stage.counts]
op = "sql"
input = "images"
query = "SELECT label, count(*) AS n FROM images GROUP BY label"
"#,
    );
    place
}

fn bare(arguments: &[&str]) -> Answer {
    let mut command = std::process::Command::new(binary());
    command.args(arguments);
    run(command)
}

fn keys(document: &Value) -> Vec<&str> {
    document.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Keys of a document may come in any order.
#[track_caller]
fn has_keys(document: &Value, expected: &[&str]) {
    let (mut found, mut expected) = (keys(document), expected.to_vec());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn documents_have_the_promised_fields() {
    let place = place();
    let planned = place.tessera("plan", &["--format", "json"]);
    has_keys(&planned.json(), &["stages"]);
    let stages = planned.json()["stages"].as_array().unwrap().clone();
    assert_eq!(
        stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect::<Vec<_>>(),
        ["images", "decoded", "small", "counts"]
    );
    for stage in &stages {
        has_keys(stage, &["stage", "action", "reasons", "parts", "stale_parts"]);
        assert!(stage["reasons"].as_array().unwrap().iter().all(Value::is_string), "{stage}");
    }
    assert_eq!(planned.stage("images")["reasons"], json!(["images: never run"]));

    let made = place.tessera("run", &["--format", "json"]);
    has_keys(&made.json(), &["stages", "seconds", "changed", "news"]);
    for stage in made.json()["stages"].as_array().unwrap() {
        let counts = ["parts_written", "rows_computed", "rows_reused", "rows_dropped"];
        has_keys(
            stage,
            &[&["stage", "action", "rows_out", "seconds", "changed", "snapshot", "previous"][..], &counts].concat(),
        );
        assert!(counts.iter().all(|key| stage[key].is_u64()) && stage["seconds"].is_f64(), "{stage}");
    }
    let decoded = made.stage("decoded");
    assert_eq!((&decoded["action"], &decoded["rows_out"]), (&json!("view"), &Value::Null));
    assert_eq!(made.stage("small")["rows_computed"], 6);

    let planned = place.tessera("plan", &["--format", "json", "--force", "counts"]);
    assert_eq!(planned.actions(), ["images:reuse", "small:reuse", "counts:run"]);
    assert_eq!(planned.stage("counts")["reasons"], json!(["counts: forced"]));
    assert_eq!(planned.stage("images")["stale_parts"], 0);
}

#[test]
fn data_goes_to_stdout_and_talk_to_stderr() {
    let place = place();
    let made = place.tessera("run", &["--format", "csv"]);
    let header = "stage,action,parts_written,rows_out,rows_computed,rows_reused,rows_dropped,seconds\n";
    assert!(made.out.starts_with(header) && made.out.lines().count() == 5, "{}", made.out);
    assert!(made.err.contains("small: run (small: never run)"), "{}", made.err);
    for more in [&[][..], &["--force", "small"]] {
        let quiet = place.tessera("run", &[&["-q"], more].concat());
        assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (0, "", ""), "no row changed");
    }
    let quiet = place.tessera("run", &["-q", "--set", "small.side=12", "--set", "decoded.side=16"]);
    assert!(quiet.code == 0 && quiet.err.is_empty() && quiet.out.starts_with("made: small\ndone in "), "{}", quiet.out);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    for (command, more) in [("check", &[][..]), ("plan", &[]), ("graph", &[]), ("status", &[]), ("sql", &["SELECT 1"])] {
        let answer = place.tessera(command, more);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{command}");
        assert!(!answer.out.is_empty() && !answer.out.contains('\u{1b}'), "{command}: {}", answer.out);
    }
}

#[test]
fn a_selection_makes_what_it_needs() {
    let place = place();
    let made = place.tessera("run", &["--format", "json", "--to", "counts"]);
    assert_eq!(made.actions(), ["images:run", "counts:run"]);
    let status = place.tessera("status", &["--format", "json"]).json();
    let of = |name: &str| status.as_array().unwrap().iter().find(|stage| stage["stage"] == name).unwrap().clone();
    assert_eq!(
        (&of("counts")["rows"], &of("small")["rows"], &of("decoded")["is_view"]),
        (&json!(3), &Value::Null, &json!(true))
    );
    let made = place.tessera("run", &["--format", "json", "--to", "small", "--to", "counts"]);
    assert_eq!(made.actions(), ["images:reuse", "small:run", "counts:reuse"]);
    let other =
        place.tessera("run", &["--format", "json", "--to", "small", "--set", "small.side=12", "--set", "decoded.side=16"]);
    assert_eq!(other.actions(), ["images:reuse", "small:run"]);
    let sides = place.tessera(
        "sql",
        &["--set", "decoded.side=16", "--format", "json", "SELECT array_length(pixels) AS n FROM decoded LIMIT 1"],
    );
    assert_eq!(sides.json(), json!([{"n": 768}]));
}

#[test]
fn usage_is_exit_code_two() {
    let place = place();
    for (command, more, said) in [
        ("run", &["--threads", "0"][..], "0 is not in 1.."),
        ("run", &["--set", "small"], "stage.key=value"),
        ("run", &["--set", "smal.side=3"], "did you mean `small`?"),
        ("run", &["--set", "small.side=big"], "`side`: invalid type: string \"big\""),
        ("run", &["--force", "smal"], "did you mean `small`?"),
        ("plan", &["--to", "nothing"], "stages: images, decoded, small, counts"),
        ("sql", &["--format", "xml", "SELECT 1"], "[possible values: text, json, csv, parquet, arrow, npy, hdf5]"),
        ("rum", &[], "a similar subcommand exists: 'run'"),
    ] {
        let answer = place.tessera(command, more);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{command} {more:?}: {}", answer.err);
        assert!(answer.err.contains(said), "{command} {more:?}: {}", answer.err);
    }
    assert!(!place.path(".tessera").exists(), "nothing ran");
    assert_eq!(bare(&[]).code, 2);
    let help = bare(&["--help"]);
    assert_eq!(help.code, 0);
    for command in [
        "init",
        "check",
        "plan",
        "run",
        "sql",
        "graph",
        "status",
        "show",
        "diff",
        "report",
        "export",
        "gc",
        "operators",
        "completions",
    ] {
        assert!(help.out.contains(&format!("\n  {command}")), "{command} is not in:\n{}", help.out);
    }
    assert_eq!(bare(&["--version"]).out, format!("tessera {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn shells_complete_all_commands() {
    for (shell, sign) in [("bash", "complete -F _tessera"), ("zsh", "#compdef tessera"), ("fish", "complete -c tessera")] {
        let script = bare(&["completions", shell]);
        assert_eq!((script.code, script.err.as_str()), (0, ""), "{shell}");
        for part in [sign, "export", "keep-runs"] {
            assert!(script.out.contains(part), "{part} is not in {shell}'s");
        }
    }
    let help = bare(&["completions", "--help"]).out;
    assert!(help.contains("~/.local/share/bash-completion/completions/tessera"), "{help}");
}

#[test]
fn one_stage_is_no_stages() {
    let place = Place::new();
    place.write("rows.csv", "image_id\na\n");
    place.write("pipeline.toml", "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n");
    assert_eq!(place.tessera("check", &[]).out, "pipeline.toml: 1 stage, nothing wrong\n");
}

#[test]
fn check_says_where_tables_and_images_lie() {
    let place = place();
    let photos = place.path("photos").to_str().unwrap().to_owned();
    let found = place.tessera("check", &["--format", "json"]).json();
    assert_eq!((&found["name"], &found["store"]), (&"pipeline".into(), &place.path(".tessera").to_str().unwrap().into()));
    let stages = found["stages"].as_array().unwrap();
    let said: Vec<_> = stages.iter().map(|stage| (stage["stage"].as_str().unwrap(), stage["path"].as_str())).collect();
    assert_eq!(said, [("images", Some(&*photos)), ("decoded", None), ("small", None), ("counts", None)]);
    assert_eq!((&stages[1]["operator"], &stages[1]["is_view"]), (&"decode".into(), &true.into()));
    let elsewhere = place.tessera("check", &["--format", "json", "--set", "pipeline.store=s3://bucket/tables"]).json();
    assert_eq!(elsewhere["store"], "s3://bucket/tables");
    let csv = place.tessera("check", &["--format", "csv"]).out;
    assert!(csv.starts_with(&format!("stage,operator,is_view,path,store\nimages,images,false,{photos},")), "{csv}");
    assert!(!place.path(".tessera").exists(), "nothing ran");
}

#[test]
fn status_knows_the_tables_of_a_sample() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q", "--limit", "2"]).code, 0);
    let rows = |more: &[&str]| {
        let status = place.tessera("status", &[&["--format", "json"], more].concat()).json();
        status.as_array().unwrap().iter().map(|stage| stage["rows"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(rows(&["--limit", "2"])[0], 2);
    assert!(rows(&[]).iter().all(Value::is_null));
}

#[test]
fn a_fault_of_the_command_line_says_so() {
    let place = place();
    let wrong = place.tessera("check", &["--set", "small.side=big"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("(from --set small.side)"), "{}", wrong.err);
    let zero = place.tessera("check", &["--set", "small.side=0"]);
    assert!(zero.code == 2 && zero.err.contains("(from --set small.side)"), "{}", zero.err);
    let other = place.tessera("check", &["--set", "small.side=9", "--set", "decoded.side=0"]);
    assert!(other.err.contains("(from --set decoded.side)") && !other.err.contains("small.side"), "{}", other.err);
}

#[test]
fn a_query_can_come_from_a_pipe() {
    let place = place();
    let line = format!("echo 'SELECT 1 AS one' | '{}' sql pipeline.toml --format csv", binary().display());
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &line]).current_dir(place.path(""));
    let answer = run(command);
    assert_eq!((answer.code, answer.out.as_str(), answer.err.as_str()), (0, "one\n1\n", ""));
}

#[test]
fn operators_are_described() {
    let all = bare(&["operators", "--format", "json"]).json();
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|operator| operator["name"].as_str().unwrap()).collect();
    let expected: Vec<&str> = tessera_operators::OPERATORS.iter().map(|operator| operator.name()).collect();
    assert_eq!(names, expected);
    let one = bare(&["operators", "kmeans"]).out;
    let told = [
        "\n  k                 whole number\n",
        "text; default \"feature\"\n",
        "\n  centroids         Optional. ",
        "\n  size  ",
    ];
    assert!(one.starts_with("kmeans: ") && told.iter().all(|told| one.contains(told)), "{one}");
    let networks = bare(&["operators", "--networks", "--side", "64", "--format", "csv"]).out;
    assert!(networks.contains("\nresnet18,conv5,512x2x2,2048,"), "{networks}");
    let unknown = bare(&["operators", "kmean"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("unknown operator `kmean`; did you mean `kmeans`?"), "{}", unknown.err);
}

#[test]
fn the_schema_of_pipeline_files_knows_each_key() {
    let schema = bare(&["schema"]).json();
    let stages = schema["properties"]["stage"]["additionalProperties"]["allOf"].as_array().unwrap();
    assert_eq!(stages.len(), tessera_operators::OPERATORS.len());
    for (stage, operator) in stages.iter().zip(tessera_operators::OPERATORS) {
        let properties = stage["then"]["properties"].as_object().unwrap();
        assert_eq!(properties["op"]["const"], operator.name());
        for key in operator.keys() {
            assert_eq!(properties[&key.name]["description"], key.meaning, "{}: {}", operator.name(), key.name);
        }
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let query = "SELECT image_id, pixels FROM decoded CROSS JOIN (SELECT unnest(range(0, 20)))";
    let line = format!("'{}' sql pipeline.toml --format csv \"{query}\" | head -c 5", binary().display());
    let mut command = std::process::Command::new("bash");
    command.args(["-o", "pipefail", "-c", &line]).current_dir(place.path(""));
    let answer = run(command);
    assert_eq!((answer.code, answer.out.as_str(), answer.err.as_str()), (0, "image", ""));
}

#[test]
fn the_reference_is_a_book() {
    let place = Place::new();
    let write = |folder: &str| bare(&["docs", place.path(folder).to_str().unwrap()]);
    assert_eq!(write("book").code, 0);
    let read = |name: &str| std::fs::read_to_string(place.path("book").join(name)).unwrap();
    let contents = read("contents.md");
    for line in contents.lines() {
        let path = line.split(['(', ')']).nth(1).unwrap();
        assert!(read(path).starts_with("# "), "{path}");
    }
    assert!(contents.contains("  - [kmeans](operators/kmeans.md)\n") && contents.contains("  - [sql](commands/sql.md)\n"));
    assert!(!contents.contains("docs"), "it is no command for users");
    assert_eq!(bare(&["operators", "kmeans", "--format", "markdown"]).out, read("operators/kmeans.md"));
    assert!(read("commands/sql.md").contains("tessera sql [OPTIONS] [FILE] [QUERY]"));
    assert!(!bare(&["--help"]).out.contains("docs"));
}

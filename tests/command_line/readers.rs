//! What commands read and write: the file that is left out, values of the command line, standard output, a want of file handles.

use super::*;

/// `tessera COMMAND` in a folder with a pipeline.toml is about that one.
#[test]
fn the_file_may_be_left_out() {
    let place = place();
    let here = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command.args(arguments).current_dir(place.path(""));
        run(command)
    };
    assert_eq!(here(&["run", "-q"]).code, 0);
    assert_eq!(here(&["check"]).out, "pipeline.toml: 4 stages, nothing wrong\n");
    assert_eq!(here(&["sql", "--format", "csv", "SELECT count(*) AS n FROM small"]).out, "n\n6\n");
    assert_eq!(here(&["sql", "pipeline.toml", "--format", "csv", "SELECT 1 AS n"]).out, "n\n1\n");
    assert_eq!(here(&["export", "counts", "-q", "-o", "-", "--format", "csv"]).out.lines().count(), 4);
    assert_eq!(here(&["diff", "counts", "current", "current", "--format", "json"]).json()["unchanged"], 3);
    assert!(here(&["path", "counts"]).out.contains("counts"));
    let help = here(&["sql", "--help"]).out;
    assert!(help.contains("Usage: tessera sql [OPTIONS] [FILE] [QUERY]"), "{help}");
    std::fs::rename(place.path("pipeline.toml"), place.path("other.toml")).unwrap();
    for arguments in [&["run"][..], &["sql", "SELECT 1"], &["export", "counts", "-o", "a.csv"]] {
        let answer = here(arguments);
        assert!(
            answer.code == 2 && answer.err.contains("there is no pipeline.toml in this folder: name the pipeline file"),
            "{}",
            answer.err
        );
    }
    let absent = here(&["sql", "another.toml", "SELECT 1"]);
    assert!(absent.code == 2 && absent.err.contains("cannot read the pipeline file another.toml"), "{}", absent.err);
}

/// With a value from the command line, an answer is of tables of that value, or there is none.
#[test]
fn readers_answer_of_the_values_that_are_set() {
    let place = Place::new();
    place.images(6).write(
        "pipeline.toml",
        r#"
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 16 }
small = { op = "decode", input = "images", side = 8, keep = true }
gradients = { op = "hog", input = "decoded", cell = 4 }
"#,
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let refuse = |command: &str, more: &[&str], said: &str| {
        let answer = place.tessera(command, more);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{command} {more:?}: {}", answer.err);
        assert!(answer.err.contains(said), "{said}: {}", answer.err);
    };
    let small = "`small` is of small.side = 8, and --set says 9";
    let set = ["--set", "small.side=9"];
    refuse("sql", &[&set[..], &["SELECT count(*) FROM small"]].concat(), small);
    refuse(
        "sql",
        &[&set[..], &["SELECT count(*) FROM small"]].concat(),
        "`tessera run pipeline.toml --set small.side=9 --to small` makes it so",
    );
    refuse("show", &[&set[..], &["small", "-o", "a.png"]].concat(), small);
    refuse("export", &[&set[..], &["small", "-o", "a.parquet"]].concat(), small);
    refuse("status", &set, small);
    refuse("path", &[&["small"], &set[..]].concat(), small);
    // Through a view, whose pixels no file has.
    let view = ["--set", "decoded.side=24", "SELECT count(*) FROM gradients"];
    refuse("sql", &view, "`gradients` is of `decoded` without --set decoded.side");
    assert!(!place.path("a.png").exists() && !place.path("a.parquet").exists());
    // What is made so, or has nothing to do with it, is answered.
    let answer = place.tessera("sql", &[&set[..], &["--format", "csv", "SELECT count(*) AS n FROM gradients"]].concat());
    assert_eq!((answer.code, answer.out.as_str(), answer.err.as_str()), (0, "n\n6\n", ""));
    assert_eq!(place.tessera("run", &[&["-q"], &set[..]].concat()).code, 0);
    let answer = place.tessera("sql", &[&set[..], &["--format", "csv", "SELECT count(*) AS n FROM small"]].concat());
    assert_eq!((answer.out.as_str(), answer.err.as_str()), ("n\n6\n", ""));
    // An edit of the file is told, and answered all the same.
    let file = std::fs::read_to_string(place.path("pipeline.toml")).unwrap();
    place.write("pipeline.toml", file.replace("side = 16", "side = 20"));
    let answer = place.tessera("sql", &["--format", "csv", "SELECT count(*) AS n FROM gradients"]);
    assert_eq!(answer.out, "n\n6\n");
    assert!(
        answer.err.contains("note: `gradients` is of an earlier `decoded`: `tessera run pipeline.toml --to gradients`"),
        "{}",
        answer.err
    );
}

#[test]
fn a_sample_has_its_own_garbage() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q", "--limit", "2"]).code, 0);
    for turn in 0..2 {
        assert_eq!(place.tessera("run", &["-q", "--limit", "2", "--force", "small"]).code, 0, "{turn}");
    }
    let garbage = |more: &[&str]| place.tessera("gc", &[&["--format", "json", "--keep-runs", "0"], more].concat()).json();
    assert!(garbage(&[]).as_array().unwrap().iter().all(|file| file["kind"] == "limited"));
    let own = garbage(&["--limit", "2", "--delete"]);
    let is_of_sample = |file: &Value| file["path"].as_str().unwrap().contains("pipeline@2");
    assert!(!own.as_array().unwrap().is_empty() && own.as_array().unwrap().iter().all(is_of_sample), "{own}");
    let status = place.tessera("status", &["--limit", "2", "--format", "json"]).json();
    assert_eq!(status[2]["rows"], 2, "{status}");
}

/// A full disk is told by the name of what is full; a reader who leaves is no error.
#[test]
fn standard_output_is_named_when_it_fails() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    for (command, more) in [
        ("sql", &["SELECT * FROM images"][..]),
        ("sql", &["--format", "json", "SELECT * FROM images"]),
        ("check", &[]),
        ("status", &[]),
        ("export", &["counts", "-q", "-o", "-", "--format", "csv"]),
        ("show", &["decoded", "-q", "-o", "-"]),
        ("run", &["--help"]),
    ] {
        let mut call = place.command(command, "pipeline.toml", more);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = call.stdout(full).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command} {more:?}: {told}");
        let said = ["cannot write to standard output: ", "No space left on device"];
        assert!(said.iter().all(|said| told.contains(said)), "{command} {more:?}: {told}");
    }
    let line =
        format!("'{}' export pipeline.toml decoded -q -o - --format arrow | head -c 5 > /dev/null", binary().display());
    let mut command = std::process::Command::new("bash");
    command.args(["-o", "pipefail", "-c", &line]).current_dir(place.path(""));
    let answer = run(command);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
}

/// A system without files to open says nothing of images: none is taken for gone or for unreadable.
#[test]
fn a_want_of_files_is_named() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let limited = |most: usize, arguments: &str| {
        let line = format!("ulimit -n {most}; '{}' {arguments}", binary().display());
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &line]).current_dir(place.path(""));
        run(command)
    };
    // How many files the process itself takes differs between systems.
    let runs = (6..20).step_by(2).map(|most| limited(most, "run pipeline.toml -q --force images --threads 1"));
    let runs: Vec<Answer> = runs.collect();
    assert!(runs.iter().any(|run| run.code == 1 && run.err.contains("`ulimit -n 4096` allows more")), "{runs:?}");
    assert_eq!(place.sql("SELECT count(*) AS n FROM images"), [json!({"n": 6})]);
    let again = place.tessera("run", &["--format", "json"]);
    assert_eq!(again.stage("images")["rows_out"], 6);
    assert_eq!(again.stage("images")["rows_dropped"], 0);
}

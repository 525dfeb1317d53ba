//! What queries may take: time, memory, depth.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tessera_tests::{Place, peak_memory};

fn place() -> Place {
    let place = Place::new();
    place.write("rows.csv", "image_id,n\na,1\nb,2\n");
    place.write("pipeline.toml", "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

#[test]
fn queries_without_end_end() {
    let place = place();
    let endless = [
        "SELECT count(*) FROM generate_series(1, 100000000000)",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b",
        "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value < b.value",
        "SELECT value FROM generate_series(1, 100000000000) WHERE value < 0",
    ];
    for query in endless {
        let start = Instant::now();
        let answer = place.tessera("sql", &["--timeout", "1", "--memory", "500MB", query]);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{query}: {}", answer.err);
        assert!(answer.err.contains("--timeout") || answer.err.contains("emory"), "{query}: {}", answer.err);
        assert!(seconds < 6.0, "{query}: {seconds} s");
    }
}

#[test]
fn queries_that_take_all_memory_are_refused() {
    let place = place();
    let greedy = [
        "SELECT length(string_agg(repeat('x', 1000000), ',')) FROM generate_series(1, 100000)",
        "SELECT array_agg(value) FROM generate_series(1, 1000000000)",
        "SELECT count(*) FROM (SELECT DISTINCT value, repeat('y', 100) FROM generate_series(1, 1000000000))",
        "SELECT repeat(repeat('x', 1000000), 1000000)",
        "WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t",
    ];
    for query in greedy {
        let (answer, peak) =
            peak_memory(place.command("sql", "pipeline.toml", &["--timeout", "15", "--memory", "300MB", query]));
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{query}: {}", answer.err);
        assert!(answer.err.contains("error: "), "{query}: {}", answer.err);
        assert!(peak < 4 << 30, "{query}: {} MiB", peak >> 20);
    }
    // What fits is answered by spilling.
    let sorted = "SELECT max(place) AS n FROM (SELECT row_number() OVER (ORDER BY repeat('z', 100) || CAST(value % 1009 AS VARCHAR)) \
                  AS place FROM generate_series(1, 3000000))";
    let answer = place.tessera("sql", &["--format", "csv", "--memory", "200MB", sorted]);
    assert_eq!((answer.code, answer.out.as_str()), (0, "n\n3000000\n"), "{}", answer.err);
}

#[test]
fn deep_queries_are_refused_and_wide_ones_answered() {
    let place = place();
    let sum = |terms: usize| format!("SELECT {} AS s", vec!["n"; terms].join(" + ")) + " FROM rows ORDER BY 1";
    let answer = place.tessera("sql", &["--format", "csv", &sum(3000)]);
    assert_eq!((answer.code, answer.out.as_str()), (0, "s\n3000\n6000\n"), "{}", &answer.err[..answer.err.len().min(300)]);
    for query in [
        sum(8000),
        format!("SELECT 1 WHERE {}", vec!["1 = 1"; 9000].join(" AND ")),
        vec!["SELECT 1"; 5000].join(" UNION ALL "),
    ] {
        let answer = place.tessera("sql", &[&query]);
        assert!(answer.code == 1 && answer.err.contains("are the most"), "{}", &answer.err[..answer.err.len().min(300)]);
    }
    let many = format!(
        "SELECT count(*) AS c FROM rows WHERE n IN ({})",
        (2..15_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
    );
    let answer = place.tessera("sql", &["--format", "csv", &many]);
    assert_eq!((answer.code, answer.out.as_str()), (0, "c\n1\n"), "{}", answer.err);
    // The same in a pipeline file.
    place.write(
        "deep.toml",
        format!(
            "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n[stage.s]\nop = \"sql\"\ninput = \"rows\"\nquery = \"{}\"\n",
            sum(8000)
        ),
    );
    let check = place.call("check", "deep.toml", &[]);
    assert!(check.code == 2 && check.err.contains("are the most"), "{}", check.err.len());
}

#[test]
fn answers_come_as_they_are_made() {
    let place = place();
    let query = "SELECT value FROM generate_series(1, 100000000000)";
    for format in ["csv", "json"] {
        let mut call = place.command("sql", "pipeline.toml", &["--format", format, query]);
        let start = Instant::now();
        let mut child = call.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = Vec::new();
        out.read_until(if format == "csv" { b'\n' } else { b'}' }, &mut line).unwrap();
        assert!(!line.is_empty());
        drop(out);
        assert_eq!(child.wait().unwrap().code(), Some(0), "a reader who left is no failure");
        assert!(start.elapsed() < Duration::from_secs(10), "{format}: {:?}", start.elapsed());
    }
}

/// The results of a pipeline file's queries are kept: they follow from their inputs alone.
#[test]
fn kept_queries_are_pure() {
    let place = place();
    let check = |query: &str| {
        place.write("sql.toml", format!("[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n[stage.q]\nop = \"sql\"\ninput = \"rows\"\nquery = \"{query}\"\n"));
        place.call("check", "sql.toml", &[])
    };
    for query in [
        "SELECT image_id, now() AS t FROM rows",
        "SELECT image_id FROM rows WHERE random() < 0.5",
        "SELECT image_id, uuid() AS u FROM rows",
        "SELECT image_id FROM rows ORDER BY random()",
        "SELECT image_id, (SELECT max(random()) FROM rows) AS r FROM rows",
        "SELECT current_date AS d, image_id FROM rows",
        "SELECT image_id FROM rows CROSS JOIN range(1, CAST(random() * 9 AS BIGINT))",
    ] {
        let refused = check(query);
        assert!(
            refused.code == 2 && refused.err.contains("gives another answer at another time"),
            "{query}: {}",
            refused.err
        );
    }
    for query in ["SELECT * FROM information_schema.tables", "SELECT image_id FROM rows, information_schema.columns"] {
        let refused = check(query);
        assert!(refused.code == 2 && refused.err.contains("only its inputs"), "{query}: {}", refused.err);
    }
    for (query, what) in [
        ("SELECT image_id FROM rows LIMIT 1", "LIMIT without ORDER BY takes rows as they lie"),
        ("SELECT array_agg(image_id) AS all FROM rows", "array_agg() without ORDER BY takes rows as they lie"),
        (
            "SELECT image_id, row_number() OVER () AS n FROM rows",
            "row_number() OVER () without ORDER BY takes rows as they lie",
        ),
    ] {
        let refused = check(query);
        let said = refused.err.split_whitespace().collect::<Vec<_>>().join(" ").replace(" │ ", " ");
        assert!(refused.code == 2 && said.contains(what), "{query}: {}", refused.err);
    }
    assert_eq!(check("SELECT image_id FROM rows ORDER BY image_id LIMIT 1").code, 0);
    let series = check("SELECT image_id || CAST(value AS VARCHAR) AS image_id FROM rows CROSS JOIN generate_series(1, 2)");
    assert_eq!(series.code, 0, "{}", series.err);
    let run = place.call("run", "sql.toml", &["--format", "json"]);
    assert_eq!(run.stage("q")["rows_out"], 4, "{}", run.err);
}

/// A report of faults is as long as somebody reads, however long the file and its lines are.
#[test]
fn reports_of_faults_are_bounded() {
    let place = place();
    let wide = format!(
        "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\nx = [{}]\nqery = \"{}\"\n",
        "1, ".repeat(40_000),
        "y".repeat(70_000)
    );
    place.write("wide.toml", wide);
    let check = place.call("check", "wide.toml", &[]);
    assert!(
        check.code == 2 && check.err.contains("unknown key `qery`") && check.err.len() < 10_000,
        "{} bytes",
        check.err.len()
    );
    assert!(check.err.contains("wide.toml:5:1"), "{}", check.err);
    let many: String = (0..20_000).map(|at| format!("[stage.s{at}]\nop = \"nothing\"\n")).collect();
    place.write("many.toml", many);
    let (check, peak) = peak_memory(place.command("check", "many.toml", &[]));
    assert!(
        check.code == 2 && check.err.contains("20000 faults in many.toml") && check.err.contains("more like these"),
        "{}",
        check.err.len()
    );
    assert!(peak < 1 << 30, "{} MiB", peak >> 20);
}

//! Questions.

use serde_json::json;
use tessera_tests::Place;

fn place() -> Place {
    let place = Place::new();
    place.write("rows.csv", "image_id,cluster,label\na,0,cat\nb,0,cat\nc,1,dog\nd,1,cat\n");
    place.write("pipeline.toml", "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

#[test]
fn formats() {
    let place = place();
    let csv = place.tessera("sql", &["--format", "csv", "SELECT image_id, cluster FROM rows WHERE cluster = 1 ORDER BY 1"]);
    assert_eq!(csv.out, "image_id,cluster\nc,1\nd,1\n");
    let nulls = place.sql(
        "SELECT image_id, CASE WHEN label = 'dog' THEN label END AS dog FROM rows WHERE image_id IN ('a', 'c') ORDER BY 1",
    );
    assert_eq!(nulls, [json!({"image_id": "a", "dog": null}), json!({"image_id": "c", "dog": "dog"})]);
    assert_eq!(place.tessera("sql", &["--format", "json", "SELECT * FROM rows WHERE false"]).out, "[]\n");
    let text = place.tessera("sql", &["SELECT count(*) AS n FROM rows"]).out;
    assert!(text.contains("| n |") && text.contains("| 4 |"), "{text}");
}

#[test]
fn agreement() {
    let rows = place().sql(
        "SELECT purity(cluster, label) p, accuracy(cluster, label) a, ari(cluster, label) r, nmi(label, label) n FROM rows",
    );
    assert_eq!((&rows[0]["p"], &rows[0]["a"], &rows[0]["n"]), (&json!(0.75), &json!(0.75), &json!(1.0)));
    // Pairs: 2 together in both, 3 in labels, 2 in clusters, of 6: (1 - 1) / (2.5 - 1).
    assert!(rows[0]["r"].as_f64().unwrap().abs() < 1e-12, "{rows:?}");
}

#[test]
fn queries_only_read() {
    let place = place();
    for query in [
        "DROP TABLE rows",
        "INSERT INTO rows VALUES ('x', 1, 'y')",
        "CREATE TABLE t AS SELECT 1",
        "COPY rows TO 'x.csv'",
        "SET x = 1",
    ] {
        let answer = place.tessera("sql", &[query]);
        assert_eq!(answer.code, 1, "{query}: {}", answer.out);
        assert!(answer.err.starts_with("error: "), "{}", answer.err);
    }
    assert!(!place.path("x.csv").exists());
    assert_eq!(place.sql("SELECT count(*) AS n FROM rows")[0]["n"], 4);
}

#[test]
fn system_tables() {
    let place = place();
    let stages = place.sql("SELECT stage, operator, is_view, rows, parts FROM stages");
    assert_eq!(stages, [json!({"stage": "rows", "operator": "table", "is_view": false, "rows": 4, "parts": 1})]);
    assert_eq!(place.sql("SELECT stage, rows FROM parts"), [json!({"stage": "rows", "rows": 4})]);
    assert_eq!(
        place.sql("SELECT stage, action, rows_out, error FROM runs"),
        [json!({"stage": "rows", "action": "run", "rows_out": 4, "error": null})]
    );
    for table in ["metrics", "dropped"] {
        assert!(place.sql(&format!("SELECT * FROM {table}")).is_empty());
    }
    assert_eq!(place.tessera("status", &["--format", "json"]).json()[0]["rows"], 4);
}

#[test]
fn a_table_that_was_never_made() {
    let place = Place::new();
    place.write("rows.csv", "image_id\na\n");
    place.write("pipeline.toml", "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n");
    let answer = place.tessera("sql", &["SELECT * FROM rows"]);
    assert_eq!(answer.code, 1);
    assert!(
        answer.err.contains("stage `rows` has no snapshot yet; make it by `tessera run pipeline.toml --to rows`"),
        "{}",
        answer.err
    );
}

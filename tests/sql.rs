//! Questions.

use image::{Rgb, RgbImage};
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

/// JSON has no such numbers; its help says so.
#[test]
fn what_is_no_number_is_null_in_json_alone() {
    let place = place();
    let query = "SELECT CAST('NaN' AS DOUBLE) AS a, CAST('-inf' AS DOUBLE) AS b, CAST(NULL AS DOUBLE) AS c";
    assert_eq!(place.sql(query), [json!({"a": null, "b": null, "c": null})]);
    assert_eq!(place.tessera("sql", &["--format", "csv", query]).out, "a,b,c\nNaN,-inf,\n");
    assert!(place.tessera("sql", &["--help"]).out.contains("JSON has no NaN"));
}

#[test]
fn agreement() {
    let place = place();
    let rows = place
        .sql("SELECT accuracy(cluster, label) a, ari(cluster, label) r, nmi(label, label) n, ami(label, label) m FROM rows");
    assert_eq!([&rows[0]["a"], &rows[0]["n"], &rows[0]["m"]], [&json!(0.75), &json!(1.0), &json!(1.0)]);
    // Pairs: 1 together in both, 3 in labels, 2 in clusters, of 6: (1 - 1) / (2.5 - 1).
    assert!(rows[0]["r"].as_f64().unwrap().abs() < 1e-12, "{rows:?}");
    // Four clusters of one image each are pure; the two labels, taken for clusters, are not.
    let rows = place.sql("SELECT purity(image_id, label) p, purity(label, image_id) q, nmi(image_id, label) n FROM rows");
    assert_eq!([&rows[0]["p"], &rows[0]["q"]], [&json!(1.0), &json!(0.5)]);
    // 2 H(label) / (H(label) + ln 4), where H(label) is that of shares 1/4 and 3/4.
    let entropy = -(0.25 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
    let nmi = rows[0]["n"].as_f64().unwrap();
    assert!((nmi - 2.0 * entropy / (entropy + 4f64.ln())).abs() < 1e-12, "{nmi}");
}

#[test]
fn queries_only_read() {
    let place = place();
    for (query, said) in [
        ("DROP TABLE rows", "DDL not supported: DropTable"),
        ("INSERT INTO rows VALUES ('x', 1, 'y')", "DML not supported: Insert Into"),
        ("CREATE TABLE t AS SELECT 1", "DDL not supported: CreateMemoryTable"),
        ("COPY rows TO 'x.csv'", "a query writes no file, as COPY would: `tessera export FILE STAGE -o OUT` writes a table"),
        ("SET x = 1", "Statement not supported: SetVariable"),
        ("EXPLAIN ANALYZE INSERT INTO rows VALUES ('x', 1, 'y')", "DML not supported: Insert Into"),
    ] {
        let answer = place.tessera("sql", &[query]);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{query}");
        assert!(answer.err.starts_with("error: ") && answer.err.contains(said), "{query}: {}", answer.err);
    }
    assert!(!place.path("x.csv").exists());
    assert_eq!(place.sql("SELECT count(*) AS n FROM rows")[0]["n"], 4);
}

#[test]
fn parameters_have_values() {
    let place = place();
    let ask = |query: &str, values: &[&str]| {
        let values: Vec<&str> = values.iter().flat_map(|value| ["--param", value]).collect();
        place.tessera("sql", &[&["--format", "csv", query][..], &values].concat())
    };
    let of_cluster = "SELECT image_id FROM rows WHERE cluster = $c AND label = $label ORDER BY 1";
    assert_eq!(ask(of_cluster, &["c=1", "label=cat"]).out, "image_id\nd\n");
    assert_eq!(ask("SELECT count(*) AS n FROM rows WHERE image_id = $1", &["1=7"]).out, "n\n0\n", "text, as the column is");
    assert_eq!(ask("SELECT image_id FROM rows ORDER BY 1 LIMIT $n", &["$n=1"]).out, "image_id\na\n");
    for (query, values, said) in [
        (
            of_cluster,
            &["c=1"][..],
            "the query has the parameter `$label` and no value for it: --param label=VALUE gives one",
        ),
        (of_cluster, &["c=one", "label=cat"], "--param c: `one` is no Int64"),
        ("SELECT 1", &["c=1"], "the query has no parameter `$c`, which --param names; it has none"),
    ] {
        let answer = ask(query, values);
        assert!(answer.code == 1 && answer.err.contains(said), "{said}: {}", answer.err);
    }
}

/// What a query is wrong about is said without the engine's own words for where it noticed.
#[test]
fn errors_speak_of_the_query() {
    let place = place();
    for (query, said) in [
        (
            "SELECT * FROM row",
            "error: there is no table `row`; did you mean `rows`? tables: dropped, metrics, parts, rows, ",
        ),
        ("SELECT * FROM public.rowz", "error: there is no table `public.rowz`; did you mean `rows`?"),
        ("SELECT labl FROM rows", "error: No field named labl. Did you mean 'rows.label'?"),
        ("SELEC 1", "error: no SQL that is known: Expected: an SQL statement, found: SELEC"),
    ] {
        let answer = place.tessera("sql", &[query]);
        assert!(answer.code == 1 && answer.err.starts_with(said), "{said}: {}", answer.err);
        assert!(!answer.err.contains("datafusion") && !answer.err.contains("planning"), "{}", answer.err);
    }
}

#[test]
fn columns_of_one_name_are_told_apart() {
    let place = place();
    let query = "SELECT a.cluster, b.cluster FROM rows a JOIN rows b ON a.image_id = b.image_id WHERE a.image_id = 'c'";
    assert_eq!(place.sql(query), [json!({"cluster": 1, "cluster_1": 1})]);
    assert_eq!(place.tessera("sql", &["--format", "csv", query]).out, "cluster,cluster_1\n1,1\n");
    assert_eq!(place.tessera("sql", &["-o", "two.parquet", query]).code, 0);
    place.write("two.toml", "[stage.two]\nop = \"table\"\npath = \"two.parquet\"\n");
    assert_eq!(place.call("run", "two.toml", &["-q"]).code, 0);
    let read = place.call("sql", "two.toml", &["--format", "csv", "SELECT cluster, cluster_1 FROM two"]);
    assert_eq!(read.out, "cluster,cluster_1\n1,1\n");
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

/// Images, decoded and cut into puzzles when somebody asks.
fn views(images: usize) -> Place {
    let place = Place::new();
    place.images(images).write(
        "pipeline.toml",
        r#"
[pipeline]
part_rows = 7

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 48

[stage.puzzles]
op = "jigsaw"
input = "decoded"
permutations = 20
"#,
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

#[test]
fn views_answer_as_tables_do() {
    let place = views(30);
    assert_eq!(place.sql("SELECT count(*) AS n FROM decoded"), [json!({"n": 30})], "no column is asked for");
    assert_eq!(place.sql("SELECT count(*) AS n FROM puzzles"), [json!({"n": 30})]);
    assert_eq!(place.sql("SELECT 1 AS one FROM puzzles LIMIT 2"), [json!({"one": 1}), json!({"one": 1})]);
    assert_eq!(place.sql("SELECT count(*) AS n FROM decoded WHERE label = 'red'"), [json!({"n": 10})]);
    assert_eq!(place.sql("SELECT count(*) AS n FROM puzzles WHERE image_id LIKE 'red/%'"), [json!({"n": 10})]);
    assert_eq!(
        place.sql("SELECT image_id FROM puzzles ORDER BY image_id LIMIT 1 OFFSET 10"),
        [json!({"image_id": "green/0000.png"})]
    );

    // A puzzle is the same whichever query makes it: alone, joined, or among others.
    let all = place.sql("SELECT image_id, permutation, occluded, gray FROM puzzles ORDER BY image_id");
    let id = all[13]["image_id"].as_str().unwrap();
    let one = place.sql(&format!("SELECT image_id, permutation, occluded, gray FROM puzzles WHERE image_id = '{id}'"));
    assert_eq!(one, all[13..14]);
    let differing = "SELECT count(*) AS n FROM puzzles a JOIN puzzles b USING (image_id) \
                     WHERE a.permutation <> b.permutation OR a.tiles <> b.tiles OR a.occluded <> b.occluded";
    assert_eq!(place.sql(differing), [json!({"n": 0})]);
    let joined = "SELECT count(*) AS n, count(DISTINCT p.image_id) AS ids FROM puzzles p JOIN decoded d ON d.image_id = p.image_id \
                  JOIN images i ON i.image_id = p.image_id WHERE d.label = i.label";
    assert_eq!(place.sql(joined), [json!({"n": 30, "ids": 30})]);

    // The pixels are those of the file: its middle, neither turned nor mirrored nor with other colours.
    let picture = RgbImage::from_fn(72, 64, |x, y| Rgb([3 * x as u8, 3 * y as u8, (x + y) as u8]));
    picture.save(place.path("photos/red/0001.png")).unwrap();
    let row = &place.sql_after_run("SELECT pixels FROM decoded WHERE image_id = 'red/0001.png'")[0];
    let pixels: Vec<f64> = row["pixels"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(pixels.len(), 48 * 48 * 3);
    // A pixel covers 64 / 48 of the file's, from its column 4 on; those at the edges are left out.
    for (y, x) in (1..47).flat_map(|y| (1..47).map(move |x| (y, x))) {
        let [right, down] = [x, y].map(|at| (at as f64 + 0.5) * 64.0 / 48.0 - 0.5);
        let expected = [3.0 * (right + 4.0), 3.0 * down, right + 4.0 + down];
        let found = &pixels[(y * 48 + x) * 3..][..3];
        assert!(
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2.0),
            "{x}, {y}: {found:?}, in the file {expected:?}"
        );
    }
}

#[test]
fn every_column_of_the_system_tables() {
    let place = views(3);
    let columns = |table: &str| {
        let csv = place.tessera("sql", &["--format", "csv", &format!("SELECT * FROM {table} LIMIT 0")]);
        assert_eq!(csv.code, 0, "{}", csv.err);
        csv.out
    };
    assert_eq!(columns("stages"), "stage,operator,is_view,snapshot,rows,parts,bytes,seconds,made,inputs\n");
    assert_eq!(columns("parts"), "stage,snapshot,part,file,rows,bytes,key,dropped,gone\n");
    assert_eq!(columns("runs"), "run,started,seconds,stage,action,rows_out,rows_computed,error,changed\n");
    assert_eq!(columns("metrics"), "stage,snapshot,epoch,step,name,value\n");
    assert_eq!(columns("dropped"), "stage,image_id,path,reason\n");
    assert_eq!(columns("images"), "image_id,source,label,digest,width,height,format,bytes,modified\n");
    assert_eq!(columns("puzzles"), "image_id,permutation,occluded,gray,tiles\n");
}

#[test]
fn a_query_comes_from_standard_input_too() {
    let place = place();
    place.write("query.sql", "SELECT cluster, count(*) AS n\nFROM rows -- by cluster\nGROUP BY cluster ORDER BY 1;\n");
    let mut command = std::process::Command::new("sh");
    let line = format!("'{}' sql pipeline.toml --format csv < query.sql", tessera_tests::binary().display());
    command.args(["-c", &line]).current_dir(place.path(""));
    let output = command.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "cluster,n\n0,2\n1,2\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn wrong_queries_say_what_is_wrong() {
    let place = place();
    for (query, said) in [
        ("SELECT clustr FROM rows", "No field named clustr. Did you mean 'rows.cluster'?"),
        ("SELECT * FROM row", "there is no table `row`; did you mean `rows`? tables: dropped, metrics, parts, rows, "),
        ("WITH a AS (SELECT * FROM absent) SELECT * FROM a", "there is no table `absent`; "),
        ("SELEC 1", "Expected: an SQL statement, found: SELEC at Line: 1, Column: 1"),
        ("SELECT 1; SELECT 2", "only supports a single SQL statement"),
        ("", "No SQL statements were provided"),
        ("SELECT purity(cluster) FROM rows", "The function 'purity' expected 2 arguments but received 1"),
    ] {
        let answer = place.tessera("sql", &["--format", "json", query]);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "`{query}`: {}", answer.err);
        assert!(answer.err.starts_with("error: ") && answer.err.contains(said), "`{query}`: {}", answer.err);
        assert!(!answer.err.contains("panicked") && !answer.err.contains("DataFusion"), "`{query}`: {}", answer.err);
    }
}

#[test]
fn text_survives_every_format() {
    let place = Place::new();
    place.write("rows.csv", "image_id,label\na,\"one, \"\"two\"\"\"\nb,żółć 猫\nc,\n");
    place.write("pipeline.toml", "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let rows = place.sql("SELECT image_id, label, char_length(label) AS n FROM rows ORDER BY 1");
    assert_eq!(rows[0], json!({"image_id": "a", "label": "one, \"two\"", "n": 10}));
    assert_eq!(rows[1], json!({"image_id": "b", "label": "żółć 猫", "n": 6}));
    assert_eq!(rows[2], json!({"image_id": "c", "label": null, "n": null}));
    let csv = place.tessera("sql", &["--format", "csv", "SELECT * FROM rows ORDER BY 1"]).out;
    assert_eq!(csv, "image_id,label\na,\"one, \"\"two\"\"\"\nb,żółć 猫\nc,\n");
    let csv = place.tessera("sql", &["--format", "csv", "SELECT make_array(1, 2) AS list, named_struct('a', 1) AS s"]).out;
    assert_eq!(csv, "list,s\n\"[1, 2]\",{a: 1}\n");
}

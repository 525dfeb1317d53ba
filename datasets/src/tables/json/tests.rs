use super::super::tests::{ids, refusal, table};
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Float64Type, Int64Type};
use tessera_schemas::{text, vector};

fn lines(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn objects_are_rows_in_their_keys_order() {
    let found = table(&[(
        "a.jsonl",
        lines(
            "\u{feff}{\"word\": \"007\", \"n\": 1, \"f\": 1, \"feature\": [1, 0.5]}\r\n\n{\"f\": 0.5, \"word\": null, \"feature\": [2.0, -3e2]}\n",
        ),
    )])
    .unwrap();
    let names: Vec<_> = found.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["image_id", "word", "n", "f", "feature"]);
    assert_eq!(ids(&found), ["0", "1"]);
    assert_eq!(text(&found, "word").unwrap().iter().collect::<Vec<_>>(), [Some("007"), None]);
    assert_eq!(found.column(2).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
    assert_eq!(found.column(3).as_primitive::<Float64Type>().values(), &[1.0, 0.5]);
    assert_eq!(vector(&found, "feature").unwrap(), ([1., 0.5, 2., -300.][..].into(), 2));
}

#[test]
fn late_values_decide_as_well_and_files_together() {
    let many = "{\"n\": 1, \"late\": null}\n".repeat(3000);
    let late = format!("{many}{{\"n\": \"word\", \"late\": 18446744073709551615}}\n");
    let found = table(&[("a.jsonl", lines(&late)), ("b.ndjson", lines("{\"late\": 2.5, \"n\": true}\n"))]).unwrap();
    let words = text(&found, "n").unwrap();
    assert_eq!((words.value(0), words.value(3000), words.value(3001)), ("1", "word", "true"));
    let late = text(&found, "late").unwrap();
    assert_eq!((late.null_count(), late.value(3000), late.value(3001)), (3000, "18446744073709551615", "2.5"));
}

/// Every key is looked for among all that are known, and few rows of long lines are a batch.
#[test]
fn many_keys_and_long_lines_take_no_more_than_they_have() {
    let keys = |from: usize| (from..from + 30_000).map(|at| format!("\"k{at}\":1")).collect::<Vec<_>>().join(",");
    let wide = format!("{{{}}}\n{{{}}}\n", keys(0), keys(15_000));
    assert_eq!(table(&[("a.jsonl", lines(&wide))]).unwrap().num_columns(), 45_001);
    let long = format!("{{\"t\": \"{}\"}}\n", "x".repeat(9 << 20)).repeat(9);
    let dir = super::super::tests::folder(&[("a.jsonl", lines(&long))]);
    let rows: Vec<usize> = super::super::tests::batches(&dir).unwrap().iter().map(|batch| batch.num_rows()).collect();
    assert_eq!(rows, [4, 4, 1]);
}

#[test]
fn ids_are_the_files_own() {
    let found = table(&[("a.jsonl", lines("{\"n\": 1, \"image_id\": \"./x\"}\n{\"n\": 2, \"image_id\": 7}\n"))]).unwrap();
    assert_eq!(ids(&found), ["./x", "7"]);
}

#[test]
fn faults_name_their_line() {
    let refused = |text: &str| refusal(&[("a.jsonl", lines(text))]);
    assert_eq!(refused("{}\n{}\n"), "a.jsonl: has no columns");
    assert_eq!(refused(""), "a.jsonl: is empty; a file of JSON lines has an object a line");
    assert_eq!(refused("{\"n\": 1}\n[1]\n"), "a.jsonl: line 2: is no object; JSON lines have an object a line: {\"n\": 1}");
    assert!(
        refused("{\"n\": 1}\n\n{\"n\": \n").starts_with("a.jsonl: line 3: EOF while parsing"),
        "{}",
        refused("{\"n\": \n")
    );
    assert_eq!(
        refused("{\"n\": [1]}\n{\"n\": 1}\n"),
        "a.jsonl: line 2: `n` is a text, number or truth value, and a list in lines before"
    );
    let ragged = "{\"feature\": [1.5, 2]}\n".repeat(1024) + "{\"feature\": [1]}\n";
    assert_eq!(refused(&ragged), "a.jsonl: row 1024: `feature` has 1 numbers, and the rows before it 2");
}

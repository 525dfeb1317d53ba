//! Earlier snapshots: their keys, their rows, and what differs between two of them.

use serde_json::{Value, json};
use tessera_tests::Place;

const ROWS: &str = "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n\n[stage.counts]\nop = \"sql\"\ninput = \"rows\"\n\
                    query = \"SELECT label, count(*) AS n FROM rows GROUP BY label\"\n";

/// A table that changed: `a` stays, `b` gets another label, `c` goes, `d` comes.
fn place() -> Place {
    let place = Place::new();
    place.write("pipeline.toml", ROWS);
    for rows in ["a,1,cat\nb,2,cat\nc,3,dog\n", "a,1,cat\nb,2,dog\nd,4,dog\n"] {
        place.write("rows.csv", format!("image_id,n,label\n{rows}"));
        assert_eq!(place.tessera("run", &["-q"]).code, 0);
    }
    place
}

fn keys(place: &Place, stage: &str) -> Vec<String> {
    let listed = place.sql(&format!("SELECT snapshot FROM snapshots WHERE stage = '{stage}' ORDER BY is_current DESC"));
    listed.iter().map(|row| row["snapshot"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn earlier_rows_can_be_asked_for() {
    let place = place();
    let listed = place.sql("SELECT stage, is_current, rows, parts, bytes > 0 AS some, made FROM snapshots ORDER BY 1, 2");
    let seen: Vec<_> =
        listed.iter().map(|row| (row["stage"].as_str().unwrap(), row["is_current"].as_bool().unwrap())).collect();
    assert_eq!(seen, [("counts", false), ("counts", true), ("rows", false), ("rows", true)]);
    assert!(listed.iter().all(|row| row["made"].as_str().unwrap().starts_with("20") && row["some"] == true), "{listed:?}");
    let [current, earlier] = &keys(&place, "rows")[..] else { panic!("two snapshots") };
    for named in [earlier, &earlier[..8], "previous"] {
        let rows = place.sql(&format!("SELECT image_id, label FROM snapshot('rows', '{named}') WHERE n > 1 ORDER BY 1"));
        assert_eq!(rows, [json!({"image_id": "b", "label": "cat"}), json!({"image_id": "c", "label": "dog"})], "{named}");
    }
    let moved = place.sql(
        "SELECT image_id, before.label AS was, now.label AS is FROM snapshot('rows', 'previous') before JOIN rows now \
         USING (image_id) WHERE before.label <> now.label",
    );
    assert_eq!(moved, [json!({"image_id": "b", "was": "cat", "is": "dog"})]);
    assert_eq!(place.sql(&format!("SELECT count(*) AS n FROM snapshot('rows', '{current}')")), [json!({"n": 3})]);
}

/// As every reader, `diff` has no answer from a table that was made without what the command line gives.
#[test]
fn a_difference_is_that_of_the_keys_that_are_given() {
    let place = place();
    let set = ["--set", "counts.query=SELECT label, count(*) AS many FROM rows GROUP BY label"];
    for more in [&["counts"][..], &["counts", "previous", "current"]] {
        let answer = place.tessera("diff", &[more, &set].concat());
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{}", answer.err);
        assert!(answer.err.contains("`counts` is of counts.query"), "{}", answer.err);
    }
    assert_eq!(place.tessera("diff", &[&["rows"][..], &set].concat()).code, 0, "it is not asked about `counts`");
    let keys = keys(&place, "counts");
    let named = place.tessera("diff", &[&["counts", keys[1].as_str(), keys[0].as_str()][..], &set].concat());
    assert_eq!(named.code, 0, "{}", named.err);
}

#[test]
fn unknown_keys_list_the_known() {
    let place = place();
    let refuse = |query: &str, said: &[&str]| {
        let answer = place.tessera("sql", &[query]);
        assert_eq!(answer.code, 1, "{query}");
        for said in said {
            assert!(answer.err.contains(said), "{said}: {}", answer.err);
        }
    };
    let [current, earlier] = &keys(&place, "rows")[..] else { panic!("two snapshots") };
    let both = [&current[..12], &earlier[..12], "UTC, current)"];
    let unknown = "stage `rows` has no snapshot `xyz`; there are: ";
    refuse("SELECT * FROM snapshot('rows', 'xyz')", &[&[unknown], &both[..]].concat());
    refuse("SELECT * FROM snapshot('rows', '')", &[&["`` begins the names of 2 snapshots"], &both[..]].concat());
    refuse("SELECT * FROM snapshot('rows')", &[&["snapshot takes a stage and a key"], &both[..]].concat());
    refuse("SELECT * FROM snapshot('row', 'x')", &["unknown stage `row`; did you mean `rows`?"]);
    refuse("SELECT * FROM snapshot(1, 'x')", &["snapshot takes a stage and a key", "found Int64(1)"]);
}

#[test]
fn rows_are_compared_by_id() {
    let place = place();
    let found = place.tessera("diff", &["rows", "--format", "json", "--rows"]).json();
    let [current, earlier] = &keys(&place, "rows")[..] else { panic!("two snapshots") };
    let row =
        |change: &str, id: &str, columns: Value| json!({"image_id": id, "row": null, "change": change, "columns": columns});
    assert_eq!(
        found,
        json!({
            "stage": "rows", "old": earlier, "new": current, "added": 1, "removed": 1, "changed": 1, "unchanged": 1,
            "columns": {"label": 1}, "added_columns": [], "removed_columns": [],
            "rows": [row("changed", "b", json!(["label"])), row("removed", "c", json!([])), row("added", "d", json!([]))],
        })
    );
    let text = place.tessera("diff", &["rows", "--rows", "2"]).out;
    for said in [
        "rows: 1 added, 1 removed, 1 changed, 1 unchanged",
        "`label` differs in 1",
        "| changed | b        | label   |",
        "and 1 more: --rows 3 lists all",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let csv = place.tessera("diff", &["rows", current, &earlier[..10], "--rows", "--format", "csv"]).out;
    assert_eq!(csv, "change,image_id,columns\nchanged,b,label\nadded,c,\nremoved,d,\n", "the other way round");
    let same = place.tessera("diff", &["rows", "current", "current", "--format", "csv"]).out;
    assert!(same.ends_with(",0,0,0,3\n"), "{same}");
}

#[test]
fn rows_without_ids_are_compared_as_wholes() {
    let place = place();
    // cat 2, dog 1 became cat 1, dog 2.
    let found = place.tessera("diff", &["counts", "--format", "json", "--rows"]).json();
    assert_eq!((&found["added"], &found["removed"], &found["changed"]), (&json!(2), &json!(2), &Value::Null));
    assert_eq!(found["rows"].as_array().unwrap().len(), 4);
    assert!(place.tessera("diff", &["counts"]).out.contains("rows: 2 added, 2 removed, 0 unchanged"));
}

#[test]
fn other_columns_are_named() {
    let place = place();
    let query = "counts.query=SELECT label, count(*) AS m FROM rows GROUP BY label";
    assert_eq!(place.tessera("run", &["-q", "--set", query]).code, 0);
    let found = place.tessera("diff", &["counts", "--format", "json"]).json();
    assert_eq!((&found["added_columns"], &found["removed_columns"]), (&json!(["m"]), &json!(["n"])));
}

#[test]
fn images_that_moved_within_parts_did_not_change() {
    let place = Place::new();
    place.images(40).write(
        "pipeline.toml",
        "[pipeline]\npart_rows = 16\n\n[stage.images]\nop = \"images\"\npath = \"photos\"\n\n[stage.decoded]\nop = \"decode\"\n\
         input = \"images\"\nside = 8\n",
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    for at in [3, 17] {
        std::fs::remove_file(place.path("photos").join(place.image(at))).unwrap();
    }
    let new = place.image(41);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let found = place.tessera("diff", &["images", "--format", "json", "--rows"]).json();
    assert_eq!((&found["added"], &found["removed"], &found["changed"]), (&json!(1), &json!(2), &json!(0)));
    assert_eq!(found["unchanged"], 38);
    assert!(found["rows"].as_array().unwrap().iter().any(|row| row["image_id"] == json!(new)), "{found}");
    let view = place.tessera("diff", &["decoded"]);
    assert_eq!(view.code, 2);
    assert!(
        view.err.contains("`decoded` is a view and has no snapshots") && view.err.contains("`images` has them"),
        "{}",
        view.err
    );
    let unknown = place.tessera("diff", &["image"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("did you mean `images`?"), "{}", unknown.err);
}

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;

use super::votes::{self, Known};
use super::*;

const KEY: &str = "b3:00112233445566778899aabbccddeeff";
const OTHER: &str = "b3:ffeeddccbbaa99887766554433221100";

fn parse(text: &str) -> Result<Names, String> {
    Names::parse(Path::new("names.csv"), text.as_bytes()).map_err(|error| error.to_string())
}

fn lines(lines: &[&str]) -> Result<Names, String> {
    parse(&format!("{HEADER}\n{}\n", lines.join("\n")))
}

fn fault(line: &str) -> String {
    let error = lines(&[line]).unwrap_err();
    error.strip_prefix("names.csv: line 2: ").unwrap_or_else(|| panic!("{error}")).to_owned()
}

fn named(key: &str, cluster: i32, name: &str, seen: &[&str], at: &str) -> Decision {
    Decision {
        stage: "clusters".into(),
        subject: Subject::Cluster { key: key.into(), cluster },
        action: Action::Name(Name::new(name).unwrap()),
        seen: seen.iter().map(|id| (*id).to_owned()).collect(),
        by: String::new(),
        at: at.into(),
    }
}

#[test]
fn a_file_says_what_was_decided() {
    let text = format!(
        "{HEADER}\nclusters,{KEY},2,split,4,,ana,2026-11-27T10:00:09Z\nclusters,{KEY},17,name,dress,\
         train/a.jpg;train/b\\;c.jpg,ana,2026-11-27T10:00:00Z\nclusters,{KEY},31,mixed,,x,,\nimage,,\"a,b.jpg\",name,\"a \"\"hat\"\"\",,,\n"
    );
    let names = parse(&text).unwrap();
    let [split, dress, mixed, hat] = names.all() else { panic!("{names:?}") };
    assert_eq!((split.action.clone(), split.cluster()), (Action::Split(4), Some((KEY, 2))));
    assert_eq!((dress.action.to_string().as_str(), &*dress.seen[1]), ("named dress", "train/b;c.jpg"));
    assert_eq!((&mixed.action, mixed.at.as_str()), (&Action::Mixed, ""));
    assert_eq!((&hat.subject, hat.action.fields().1.as_str()), (&Subject::Image("a,b.jpg".into()), "a \"hat\""));
    assert_eq!(names.text(), text, "it is written as it was");
    // As editors and spreadsheets of other systems leave it: a mark at its start, other ends of lines, empty lines, another order.
    let moved: Vec<&str> = text.lines().skip(1).collect();
    let moved = format!("\u{feff}{HEADER}\r\n\r\n{}\r\n", moved.into_iter().rev().collect::<Vec<_>>().join("\r\n"));
    assert_eq!(parse(&moved).unwrap(), names);
}

#[test]
fn no_file_and_an_empty_one_name_nothing() {
    assert_eq!(parse("").unwrap(), Names::default());
    assert_eq!(parse(&format!("{HEADER}\n")).unwrap(), Names::default());
    assert_eq!(Names::read(Path::new("/no/such/names.csv")).unwrap(), Names::default());
    let error = Names::read(Path::new("/tmp")).unwrap_err().to_string();
    assert!(error.starts_with("/tmp: it is no file"), "{error}");
}

#[test]
fn a_wrong_line_is_told_with_its_number() {
    let said = [
        (format!("clusters,{KEY},x,name,dress,,,"), "`cluster` is x, and should be a number from 0"),
        (format!("clusters,{KEY},-1,name,dress,,,"), "`cluster` is -1, and should be a number from 0"),
        (format!("clusters,{KEY},99999999999,name,dress,,,"), "`cluster` is 99999999999, and should be a number from 0"),
        (format!("clusters,{KEY},1,merge,dress,,,"), "`action` is merge, and should be `name`, `split` or `mixed`"),
        (format!("clusters,{KEY},1,split,1,,,"), "`value` is 1, and a cluster is split in 2 to 100"),
        (format!("clusters,{KEY},1,mixed,yes,,,"), "`value` is yes, and `mixed` has none"),
        (format!("clusters,{KEY},1,name,,,,"), "a name is missing: 1 to 120 characters"),
        (format!("clusters,{KEY},1,name,{},,,", "x".repeat(121)), "the name has 121 characters, and at most 120 fit"),
        (
            format!("clusters,{KEY},1,name,a\u{202e}b,,,"),
            "the name `a\\u{202e}b` has a character that cannot be seen: type it anew",
        ),
        (format!("clusters,{KEY},1,name,dress,a;;b,,"), "`seen`: an id of the list is empty"),
        (format!("clusters,{KEY},1,name,dress,a\\b,,"), "`seen`: a `\\` stands before `\\`, `;`, `n` or `r` alone"),
        (
            format!("clusters,{KEY},1,name,dress,,,yesterday"),
            "`at` is yesterday, and should be a time such as 2026-11-27T10:00:00Z",
        ),
        ("clusters,b3:9f2c,1,name,dress,,,".into(), "`key` is b3:9f2c, and should be `b3:` and 32 hexadecimal digits"),
        ("clusters,,1,name,dress,,,".into(), "`key` is empty, which is for lines that begin with `image`"),
        ("image,,a.jpg,mixed,,,,".into(), "an image can be named alone, and not be marked as mixed: write `name`"),
        ("image,,a.jpg;b.jpg,name,x,,,".into(), "2 images, and a line names one; a `;` in an id has a `\\` before it"),
        ("a,b".into(), "2 fields, and a decision has 8: clusters,key,cluster,action,value,seen,by,at"),
        ("\"a,b".into(), "the quote of field 1 is not closed; a decision is one line"),
        ("\"a\"b,c".into(), "field 1 goes on behind its quote; a quote in it is written twice"),
        ("<<<<<<< HEAD".into(), "git left a conflict here: keep the lines that are right, and take its marks away"),
    ];
    for (line, expected) in said {
        assert_eq!(fault(&line), expected, "{line}");
    }
    let error = parse("image_id,label\na,b\n").unwrap_err();
    assert_eq!(error, format!("names.csv: line 1: it should be the header `{HEADER}`"));
    let error = Names::parse(Path::new("names.csv"), b"clusters\n\xff").unwrap_err().to_string();
    assert_eq!(error, "names.csv: line 2: it is no UTF-8 text");
    let error = lines(&["a", "", "b", "c", "d", "e", "f"]).unwrap_err();
    assert!(error.contains("line 2: 1 fields") && error.contains("line 4: 1 fields") && error.ends_with("; and 1 more"));
}

#[test]
fn two_names_for_one_subject_are_an_error_with_both_lines() {
    let line = |cluster: i32, name: &str, at: &str| format!("clusters,{KEY},{cluster},name,{name},,,{at}");
    let error = lines(&[&line(1, "hat", ""), &line(17, "dress", ""), &line(17, "skirt", "")]).unwrap_err();
    assert_eq!(error, "names.csv: lines 3 and 4: cluster 17 is named dress and named skirt: keep one of the lines");
    let error = lines(&["image,,a,name,x,,,", "image,,a,name,y,,,"]).unwrap_err();
    assert_eq!(error, "names.csv: lines 2 and 3: image a is named x and named y: keep one of the lines");
    // Two people gave the same name, and git kept both lines.
    let early = line(17, "dress", "2026-11-27T10:00:00Z");
    let same = lines(&[&early, &line(17, "Dress", "2026-11-28T10:00:00Z")]).unwrap();
    assert_eq!((same.all().len(), &*same.all()[0].action.fields().1), (1, "Dress"));
}

#[test]
fn names_are_compared_without_case() {
    let same = [("Dress", "dRESS"), ("Straße", "STRASSE"), ("caf\u{e9}", "CAFE\u{301}"), (" hat ", "hat"), ("σας", "ΣΑΣ")];
    for (one, other) in same {
        assert_eq!(Name::new(one).unwrap().fold(), Name::new(other).unwrap().fold(), "{one} {other}");
    }
    assert_ne!(Name::new("hat").unwrap().fold(), Name::new("hats").unwrap().fold());
    let names = lines(&[
        &format!("clusters,{KEY},1,name,hat,,,"),
        &format!("clusters,{KEY},2,name,Hat,,,"),
        &format!("clusters,{KEY},3,name,hat,,,"),
    ]);
    assert_eq!(names.unwrap().spellings(), HashMap::from([("hat".to_owned(), "hat".to_owned())]));
}

fn cluster_of(images: &[(&str, i32)]) -> HashMap<String, i32> {
    images.iter().map(|(id, cluster)| ((*id).to_owned(), *cluster)).collect()
}

#[test]
fn the_same_key_is_exact_and_another_votes() {
    let nine: Vec<String> = (0..9).map(|n| format!("d{n}")).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    let names = Names::new([
        named(OTHER, 1, "dress", &nine, "2026-11-27T10:00:00Z"),
        named(OTHER, 2, "skirt", &["s0", "s1", "s2"], "2026-11-27T10:00:00Z"),
        named(KEY, 5, "hat", &["h0"], "2026-11-27T11:00:00Z"),
    ])
    .unwrap();
    assert!(votes::voters(&names, KEY).iter().all(|id| !id.starts_with('h')));
    // Of the dresses, six are in cluster 7 with a skirt, and three in 8 with two skirts; two votes alone are in 9.
    let now = [
        ("d0", 7),
        ("d1", 7),
        ("d2", 7),
        ("d3", 7),
        ("d4", 7),
        ("s0", 7),
        ("d6", 8),
        ("s1", 8),
        ("s2", 8),
        ("d7", 9),
        ("d8", 9),
    ];
    let known = votes::known(&names, KEY, &cluster_of(&now));
    let name = |name: &str| Action::Name(Name::new(name).unwrap());
    assert_eq!(known[&5], Known::Given(name("hat")));
    assert_eq!(known[&7], Known::Carried(name("dress"), 5.0 / 6.0));
    assert_eq!(known[&8], Known::Carried(name("skirt"), 2.0 / 3.0), "two thirds of three will do");
    assert_eq!(known[&9], Known::Unsure(name("dress"), 2.0 / 3.0), "two votes are too few");
    assert!(!known.contains_key(&1) && !known.contains_key(&2), "numbers of another table say nothing");
}

#[test]
fn an_image_votes_once_by_its_newest_decision() {
    let seen = ["a", "b", "./c"];
    let old = named(OTHER, 1, "dress", &seen, "2026-11-27T10:00:00Z");
    let new = named("b3:99999999999999999999999999999999", 1, "Skirt", &seen, "2026-11-28T10:00:00Z");
    let images = cluster_of(&[("a", 3), ("b", 3), ("c", 3)]);
    for both in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let known = votes::known(&Names::new(both).unwrap(), KEY, &images);
        assert_eq!(known[&3], Known::Carried(Action::Name(Name::new("Skirt").unwrap()), 1.0));
    }
    let mixed = Decision { action: Action::Mixed, ..new.clone() };
    let known = votes::known(&Names::new([old.clone(), mixed]).unwrap(), KEY, &images);
    assert_eq!(known[&3], Known::Carried(Action::Mixed, 1.0));
    // What is to be done about a cluster is no vote on what it shows.
    let split = Decision { action: Action::Split(2), ..new };
    let known = votes::known(&Names::new([old, split]).unwrap(), KEY, &images);
    assert_eq!(known[&3], Known::Carried(Action::Name(Name::new("dress").unwrap()), 1.0));
}

fn decisions() -> impl Strategy<Value = Decision> {
    let id = "[ -~é\\\\;\n\r\u{3b1}]{1,8}";
    let subject = prop_oneof![
        ("[0-9a-f]{32}", 0..2000i32).prop_map(|(digits, cluster)| Subject::Cluster { key: format!("b3:{digits}"), cluster }),
        id.prop_map(Subject::Image),
    ];
    let name = "[a-zA-Zé,\" ;\\\\]{0,20}[a-z]".prop_map(|text| Action::Name(Name::new(&text).expect("a name")));
    let action = prop_oneof![3 => name, 1 => (2..=MOST_PARTS).prop_map(Action::Split), 1 => Just(Action::Mixed)];
    let seen = proptest::collection::vec(id, 0..4);
    let at = prop_oneof![Just(String::new()), Just("2026-11-27T10:00:00Z".to_owned())];
    (subject, action, seen, "[a-z, \"]{0,5}", at).prop_map(|(subject, action, seen, by, at)| match subject {
        Subject::Image(_) => {
            let action = if let Action::Name(_) = action { action } else { Action::Name(Name::new("x").expect("a name")) };
            Decision { stage: IMAGE.into(), subject, action, seen: Vec::new(), by, at }
        }
        subject => Decision { stage: "clusters".into(), subject, action, seen, by, at },
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(all in proptest::collection::vec(decisions(), 0..12)) {
        let Ok(names) = Names::new(all) else { return Ok(()) };
        let text = names.text();
        prop_assert_eq!(parse(&text).map_err(TestCaseError::fail)?, names.clone());
        prop_assert_eq!(text.lines().count(), names.all().len() + 1, "a decision is one line");
        // One by one, in whatever order, it is the same file.
        let mut grown = Names::default();
        names.all().iter().rev().for_each(|decision| grown.put(decision.clone()));
        prop_assert_eq!(grown.text(), text);
        for decision in names.all() {
            prop_assert_eq!(grown.remove(&decision.subject), Some(decision.clone()));
        }
        prop_assert_eq!(grown, Names::default());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9,;\"\\\\\n:é-]{0,80}") {
        let _ = parse(&text);
        let _ = parse(&format!("{HEADER}\n{text}"));
    }

    #[test]
    fn folding_is_stable(text in "\\PC{1,20}") {
        if let Ok(name) = Name::new(&text) {
            prop_assert_eq!(Name::new(name.as_str()).unwrap(), name.clone());
            prop_assert!(!name.fold().is_empty());
        }
    }
}

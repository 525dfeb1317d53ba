//! The page where clusters are named: what it shows, what it writes, and that nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use tessera_tests::Place;
use tessera_tests::served::{Reply, Served, encoded, reply};

const FORM: &str = "application/x-www-form-urlencoded";

/// Sixty images in thirty clusters, so that there is much to name.
pub fn made(k: usize) -> Place {
    let place = Place::new();
    let file = format!(
        r#"
[pipeline]
name = "naming"

[stage]
images = {{ op = "images", path = "photos" }}
decoded = {{ op = "decode", input = "images", side = 24 }}
gradients = {{ op = "hog", input = "decoded" }}
clusters = {{ op = "kmeans", input = "gradients", k = {k} }}
assigned = {{ op = "assign", inputs = {{ features = "gradients", clusters = "clusters" }} }}
named = {{ op = "names", inputs = {{ clusters = "clusters", assigned = "assigned" }} }}
"#
    );
    place.images(60).write("pipeline.toml", file);
    let run = place.tessera("run", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    place
}

/// The page's forms: of each cluster the fields that all of its forms send.
struct Page {
    token: String,
    key: String,
    /// Clusters in the order of the queue.
    queue: Vec<i64>,
    text: String,
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

fn page(served: &Served) -> Page {
    let text = served.page("/label");
    let field = |name: &str| between(&text, &format!("name=\"{name}\" value=\""), "\"").unwrap_or_default().to_owned();
    let queue = text.split("naming\" data-cluster=\"").skip(1);
    let queue = queue.map(|rest| rest.split_once('"').unwrap().0.parse().unwrap()).collect();
    Page { token: field("token"), key: field("key"), queue, text: text.clone() }
}

/// What a form of that page sends.
fn body(page: &Page, cluster: i64, action: &str, value: &str, version: &str) -> String {
    let fields = [
        ("token", page.token.as_str()),
        ("stage", "named"),
        ("key", &page.key),
        ("cluster", &cluster.to_string()),
        ("version", version),
        ("action", action),
        ("value", value),
    ];
    fields.map(|(name, value)| format!("{name}={}", encoded(value))).join("&")
}

fn post(served: &Served, body: &str, more: &[&str]) -> Reply {
    let headers = [
        served.host(),
        format!("Origin: http://localhost:{}", served.port),
        format!("Content-Type: {FORM}"),
        format!("Content-Length: {}", body.len()),
    ];
    let headers: Vec<&str> = headers.iter().map(String::as_str).chain(more.iter().copied()).collect();
    served.ask("POST /names", &headers, body.as_bytes())
}

pub fn lines(place: &Place) -> Vec<String> {
    let text = fs::read_to_string(place.path("names.csv")).unwrap_or_default();
    text.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_form_names_a_cluster_and_a_run_gives_the_name_to_its_images() {
    let place = made(3);
    let served = Served::start(&place, &["--edit"]);
    let first = page(&served);
    assert_eq!(first.queue.len(), 3, "{}", first.text);
    assert!(first.text.contains("0 names of 0 clusters, 0 % of images"), "{}", first.text);
    let cluster = first.queue[0];
    let reply = post(&served, &body(&first, cluster, "name", " Sun hat, \"red\" ", ""), &[]);
    assert_eq!((reply.status, reply.header("location")), (303, "/label?stage=named"), "{}", reply.text());
    let [line] = &lines(&place)[..] else { panic!("{:?}", lines(&place)) };
    let expected = format!("clusters,{},{cluster},name,\"Sun hat, \"\"red\"\"\",", first.key);
    assert!(line.starts_with(&expected) && line.ends_with('Z'), "{line}");
    let seen =
        place.sql(&format!("SELECT image_id FROM assigned WHERE cluster = {cluster} ORDER BY distance, image_id LIMIT 9"));
    let seen: Vec<&str> = seen.iter().map(|row| row["image_id"].as_str().unwrap()).collect();
    assert!(line.contains(&format!(",{},", seen.join(";"))), "{line}");
    let second = page(&served);
    assert_eq!(second.queue.len(), 2);
    assert!(
        second.text.contains("1 name of 1 cluster, ") && second.text.contains("<option value=\"Sun hat, &quot;red&quot;\">"),
        "{}",
        second.text
    );
    // Marks, and back.
    assert_eq!(post(&served, &body(&first, first.queue[1], "split", "2", ""), &[]).status, 303);
    let json = post(&served, &body(&first, first.queue[2], "mixed", "", ""), &["Accept: application/json"]);
    let told: Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(told["said"], format!("cluster {}: marked as mixed", first.queue[2]));
    assert_eq!(page(&served).queue.len(), 0);
    let version = told["version"].as_str().unwrap();
    assert_eq!(post(&served, &body(&first, first.queue[2], "undo", "", version), &[]).status, 303);
    assert_eq!(page(&served).queue, [first.queue[2]]);
    let run = place.tessera("run", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let named = place.sql("SELECT DISTINCT label, cluster FROM named");
    assert_eq!(named, [serde_json::json!({ "label": "Sun hat, \"red\"", "cluster": cluster })]);
    // The strip that it shows.
    let strip = served.get(&format!("/label/strip/named/{cluster}"));
    assert_eq!((strip.status, strip.header("content-type")), (200, "image/jpeg"));
    image::load_from_memory(&strip.body).unwrap();
}

#[test]
fn of_two_tabs_the_stale_one_is_told_both_values() {
    let place = made(3);
    let served = Served::start(&place, &["--edit"]);
    let tab = page(&served);
    let cluster = tab.queue[0];
    assert_eq!(post(&served, &body(&tab, cluster, "name", "dress", ""), &[]).status, 303);
    let before = lines(&place);
    let stale = post(&served, &body(&tab, cluster, "name", "skirt", ""), &[]);
    assert_eq!(stale.status, 409);
    let text = stale.text();
    assert!(text.contains("named dress") && text.contains("named skirt"), "{text}");
    let told = post(&served, &body(&tab, cluster, "undo", "", "0123456789abcdef"), &["Accept: application/json"]);
    let json: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!((told.status, &json["theirs"], &json["yours"]), (409, &"named dress".into(), &"no decision".into()));
    assert_eq!(lines(&place), before, "nothing is lost");
    // Who agrees is no conflict, and other clusters are none.
    assert_eq!(post(&served, &body(&tab, cluster, "name", "dress", ""), &[]).status, 303);
    assert_eq!(post(&served, &body(&tab, tab.queue[1], "name", "skirt", ""), &[]).status, 303);
    assert_eq!(lines(&place).len(), 2);
    // The clusters are made anew meanwhile: numbers mean something else.
    let run = place.tessera("run", &["-q", "--set", "clusters.k=4"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let old = post(&served, &body(&tab, tab.queue[2], "name", "hat", ""), &[]);
    assert_eq!(old.status, 409, "{}", old.text());
    assert_eq!(lines(&place).len(), 2);
}

#[test]
fn what_is_no_decision_is_refused() {
    let place = made(3);
    let served = Served::start(&place, &["--edit"]);
    let tab = page(&served);
    let cluster = tab.queue[0];
    let long = "x".repeat(121);
    let refused = [
        (body(&tab, cluster, "name", "", ""), 400, "a name is missing"),
        (body(&tab, cluster, "name", &long, ""), 400, "at most 120 fit"),
        (body(&tab, cluster, "name", "a\u{202e}b", ""), 400, "cannot be seen"),
        (body(&tab, cluster, "name", "a\nb", ""), 400, "cannot be seen"),
        (body(&tab, cluster, "split", "1", ""), 400, "split in 2 to 100"),
        (body(&tab, cluster, "merge", "", ""), 400, "`name`, `split`, `mixed` or `undo`"),
        (body(&tab, 99, "name", "x", ""), 404, "no image is in cluster 99"),
        (body(&tab, cluster, "name", "x", "").replace("stage=named", "stage=clusters"), 404, "no stage that reads names"),
        (body(&tab, cluster, "name", "x", "").replace("token=", "token=0"), 403, "load the page again"),
    ];
    for (body, status, part) in refused {
        let reply = post(&served, &body, &[]);
        assert!(reply.status == status && reply.text().contains(part), "{body}: {} {}", reply.status, reply.text());
    }
    assert_eq!(lines(&place), Vec::<String>::new());
    // Hostile names are text.
    assert_eq!(post(&served, &body(&tab, cluster, "name", "<script>alert(1)</script>", ""), &[]).status, 303);
    let text = served.page("/label");
    assert!(text.contains("&lt;script&gt;alert(1)") && !text.contains("<script>alert"), "{text}");
    // A file that somebody broke by hand is told, and not written over.
    place.write("names.csv", "nonsense\n");
    let reply = post(&served, &body(&tab, tab.queue[1], "name", "x", ""), &[]);
    assert!(reply.status == 500 && reply.text().contains("names.csv: line 1"), "{} {}", reply.status, reply.text());
    assert_eq!(fs::read_to_string(place.path("names.csv")).unwrap(), "nonsense\n");
    drop(served);
    fs::remove_file(place.path("names.csv")).unwrap();
    let shown = Served::start(&place, &[]);
    let text = shown.page("/label");
    assert!(!text.contains("<form class=\"name\"") && text.contains("--edit"), "{text}");
    let token = shown.token();
    let reply = post(&shown, &body(&Page { token, ..tab }, cluster, "name", "x", ""), &[]);
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(!place.path("names.csv").exists());
}

/// The versions of the decisions that a page shows, by cluster.
fn versions(page: &Page) -> BTreeMap<i64, String> {
    let forms = page.text.split("name=\"cluster\" value=\"").skip(1);
    let one = |form: &str| {
        let (cluster, rest) = form.split_once('"')?;
        Some((cluster.parse().ok()?, between(rest, "name=\"version\" value=\"", "\"")?.to_owned()))
    };
    forms.filter_map(one).collect()
}

/// Names that were answered for are there after a kill, and the file is whole. `TESSERA_NAMES=1000` writes as many.
#[test]
fn no_name_is_lost_when_the_server_is_killed() {
    let wanted: usize = std::env::var("TESSERA_NAMES").ok().and_then(|names| names.parse().ok()).unwrap_or(60);
    let place = made(30);
    let (mut answered, mut slowest) = (0, Duration::ZERO);
    for round in 0u64.. {
        let served = Served::start(&place, &["--edit"]);
        let tab = page(&served);
        let mut versions = versions(&tab);
        let mut last: BTreeMap<i64, String> = BTreeMap::new();
        let mut under_way = None;
        std::thread::scope(|scope| {
            // Killed in the middle of the work.
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(60 + 37 * (round % 9)));
                served.kill();
            });
            for number in 0.. {
                let (cluster, name) = (number % 30, format!("name {round} {number}"));
                let version = versions.get(&cluster).cloned().unwrap_or_default();
                let start = Instant::now();
                under_way = Some((cluster, name.clone()));
                let Some(reply) = try_post(&served, &body(&tab, cluster, "name", &name, &version)) else { break };
                assert_eq!(reply.status, 200, "{}", reply.text());
                slowest = slowest.max(start.elapsed());
                let told: Value = serde_json::from_slice(&reply.body).unwrap();
                versions.insert(cluster, told["version"].as_str().unwrap().to_owned());
                last.insert(cluster, name);
                answered += 1;
            }
        });
        let there = lines(&place);
        for (cluster, name) in &last {
            let line = there.iter().find(|line| line.contains(&format!(",{cluster},name,"))).map_or("", String::as_str);
            let is_under_way =
                under_way.as_ref().is_some_and(|(of, name)| of == cluster && line.contains(&format!(",{name},")));
            assert!(line.contains(&format!(",{name},")) || is_under_way, "cluster {cluster}: {name} is not in {line:?}");
        }
        if answered >= wanted {
            break;
        }
    }
    assert_eq!(place.tessera("check", &[]).code, 0);
    println!("{answered} names, the slowest {slowest:?}");
}

/// A write that may not be answered, since the server is killed.
fn try_post(served: &Served, body: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", served.port)).ok()?;
    let head = format!(
        "POST /names HTTP/1.1\r\n{}\r\nOrigin: http://localhost:{}\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\nAccept: application/json\r\n\
         Connection: close\r\n\r\n",
        served.host(),
        served.port,
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let reply = reply(&answer);
    // An answer that the kill cut short is none.
    (reply.status > 0 && serde_json::from_slice::<Value>(&reply.body).is_ok()).then_some(reply)
}

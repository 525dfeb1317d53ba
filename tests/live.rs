//! The live pages by their requests: what is answered, what is refused, and how queries of people end.

mod refused;

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use refused::requests_of_others_are_refused;
use tessera_tests::served::{Served, reply};
use tessera_tests::{Place, read};

const PIPELINE: &str = r#"
[pipeline]
name = "live"

[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 48 }
gradients = { op = "hog", input = "decoded" }
clusters = { op = "kmeans", input = "gradients", k = 3, seed = 1 }
assigned = { op = "assign", inputs = { features = "gradients", clusters = "clusters" } }
others = { op = "kmeans", input = "gradients", k = 5, seed = 2 }
otherwise = { op = "assign", inputs = { features = "gradients", clusters = "others" } }
"#;

/// A training that does not end by itself.
const TRAINING: &str = r#"
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 48 }
puzzles = { op = "jigsaw", input = "decoded", permutations = 20 }
pretext = { op = "train", input = "puzzles", network = "small", epochs = 100000, batch = 12 }
"#;

fn made() -> Place {
    let place = Place::new();
    place.images(30).write("pipeline.toml", PIPELINE);
    let run = place.tessera("run", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    place
}

#[test]
fn pages_are_there_for_who_may_ask() {
    let place = made();
    let mut command = place.command("serve", "pipeline.toml", &[]);
    // Queries are to be ended here in less time.
    command.env("TESSERA_QUERY_SECONDS", "1");
    let served = Served::of(command);
    all_pages_are_there(&place, &served);
    requests_of_others_are_refused(&served);
    an_image_is_found_by_its_pixels(&place, &served);
    queries_of_people_are_answered_and_ended(&served);
}

fn all_pages_are_there(place: &Place, served: &Served) {
    let id = place.sql("SELECT image_id FROM images ORDER BY 1 LIMIT 1")[0]["image_id"].as_str().unwrap().to_owned();
    let pages = [
        ("/", "Where the time went"),
        ("/stage/images", "First rows"),
        ("/stage/decoded", "a view: it is computed whenever it is read"),
        ("/stage/clusters", "centroid"),
        ("/stage/assigned", "Its clusters, one by one"),
        ("/clusters", "These tables have clusters"),
        ("/clusters/assigned", "3 clusters"),
        ("/clusters/assigned?sort=purity&order=down&page=99", "largest first"),
        ("/clusters/assigned/0", "Nearest clusters"),
        (&format!("/image/{id}"), "Nearest images in gradients"),
        ("/compare", "with otherwise"),
        ("/compare/assigned/otherwise", "What became of clusters"),
        ("/confusion", "assigned against images.label"),
        ("/confusion/assigned/images.label", "accuracy of the best match"),
        ("/train", "Curves"),
        ("/train/clusters", "objective"),
        ("/sweep", "sweeps over nothing but seeds"),
        ("/find", "An image of the tables"),
        ("/sql?q=SELECT%201", "SELECT 1"),
    ];
    for (path, part) in pages {
        let text = read(&served.page(path));
        assert!(text.contains(part), "{path}: no {part:?} in {text}");
    }
    for (path, kind) in [
        ("/strip/assigned/0/card", "image/jpeg"),
        ("/strip/assigned/0/nearest", "image/jpeg"),
        ("/strip/assigned/0/border", "image/jpeg"),
        ("/picture/decoded", "image/png"),
        ("/picture/assigned", "image/png"),
        (&format!("/thumb/assigned/{}", id.replace('/', "%2F")), "image/jpeg"),
        (&format!("/pixels/decoded/{}", id.replace('/', "%2F")), "image/jpeg"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/script.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let reply = served.get(path);
        assert_eq!((reply.status, reply.header("content-type")), (200, kind), "{path}: {}", reply.text());
        if kind.starts_with("image/jpeg") || kind.starts_with("image/png") {
            image::load_from_memory(&reply.body).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }
    for path in [
        "/nowhere",
        "/stage/nowhere",
        "/clusters/images",
        "/clusters/assigned/99",
        "/image/nobody.png",
        "/image/..%2F..%2F..%2Fetc%2Fpasswd",
        "/image/../../etc/passwd",
        "/thumb/assigned/%2Fetc%2Fpasswd",
        "/pixels/decoded/..%2Fpipeline.toml",
        "/strip/assigned/99/card",
        "/strip/assigned/0/other",
        "/compare/assigned/previous",
        "/compare/assigned/snapshot:zz",
        "/confusion/assigned/label",
        "/confusion/assigned/nowhere.label",
        "/train/nowhere",
    ] {
        let reply = served.get(path);
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
    }
    assert_eq!(served.get("/clusters/assigned?sort=colour").status, 400);
    assert_eq!(served.get("/clusters/assigned/one").status, 400);
}

fn queries_of_people_are_answered_and_ended(served: &Served) {
    let token = served.token();
    let reply = served.sql(&token, "SELECT image_id, cluster, '<b>&' AS mark FROM assigned ORDER BY image_id; ", "");
    let text = reply.text();
    assert_eq!(reply.status, 200, "{text}");
    assert!(read(&text).contains("30 rows.") && text.contains("&lt;b&gt;&amp;"), "{text}");
    assert!(text.contains("<a href=\"/image/blue%2F0002.png\">"), "{text}");
    let csv = served.sql(&token, "SELECT count(*) AS n FROM images", "csv");
    assert_eq!((csv.status, csv.text().as_str()), (200, "n\n30\n"));
    assert_eq!(csv.header("content-disposition"), "attachment; filename=\"answer.csv\"");
    let parquet = served.sql(&token, "SELECT * FROM assigned", "parquet");
    assert_eq!(
        (parquet.status, &parquet.body[..4], &parquet.body[parquet.body.len() - 4..]),
        (200, &b"PAR1"[..], &b"PAR1"[..])
    );
    let many = served.sql(&token, "SELECT value FROM generate_series(1, 100000)", "");
    assert!(read(&many.text()).contains("10000 rows, and there are more"), "{}", many.text().len());
    for (status, query, file) in [(400, "SELECT nothing FROM nowhere", "csv"), (400, "SELECT", ""), (400, "", "")] {
        let reply = served.sql(&token, query, file);
        assert_eq!(reply.status, status, "{query}");
        assert!(reply.text().contains("role=\"alert\""), "{query}: {}", reply.text());
    }
    let hostile = [
        "SELECT count(*) FROM generate_series(1, 1000000000000)",
        "SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b CROSS JOIN generate_series(1, 1000000) c",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        "SELECT sum(length(repeat('a', 2000000000))) FROM generate_series(1, 20)",
        "SELECT lpad('a', 2000000000) FROM images",
        "SELECT array_agg(a.value ORDER BY a.value) FROM generate_series(1, 1000000000) a",
        "COPY (SELECT 1) TO '/tmp/tessera-should-not-be-there.csv'",
        "CREATE EXTERNAL TABLE passwords STORED AS CSV LOCATION '/etc/passwd'",
        "SET datafusion.execution.target_partitions = 1000",
        "DROP TABLE images",
        "INSERT INTO images SELECT * FROM images",
        "SELECT * FROM '/etc/passwd'",
    ];
    for query in hostile {
        let start = Instant::now();
        let reply = served.sql(&token, query, "");
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
        assert!(start.elapsed() < Duration::from_secs(8), "{query}: {:?}", start.elapsed());
    }
    // A regular expression of a megabyte is more text than a query may have, and one of 60 kB is compiled or refused.
    let long = format!("SELECT 'a' ~ '{}'", "(a{1,100}){1,100}".repeat(60_000));
    assert_eq!(served.sql(&token, &long, "").status, 413);
    let start = Instant::now();
    let reply = served.sql(&token, &format!("SELECT 'a' ~ '{}'", "(a{1,100}){1,100}".repeat(3_000)), "");
    assert!([200, 400].contains(&reply.status) && start.elapsed() < Duration::from_secs(8), "{}", reply.status);
    assert!(!std::path::Path::new("/tmp/tessera-should-not-be-there.csv").exists());
    // The server has none of it, and goes on.
    assert!(served.peak() < 1 << 30, "{} MiB", served.peak() >> 20);
    assert_eq!(served.get("/").status, 200);
}

fn an_image_is_found_by_its_pixels(place: &Place, served: &Served) {
    let token = served.token();
    let id = "red/0004.png";
    let bytes = std::fs::read(place.path("photos").join(id)).unwrap();
    let reply = served.post("/find", "image/png", &token, &bytes);
    let text = reply.text();
    assert_eq!(reply.status, 200, "{}", read(&text));
    let first = text.split("<ul class=\"thumbs\">").nth(1).unwrap().split("</li>").next().unwrap();
    assert!(first.contains("/image/red%2F0004.png") && first.ends_with("<br>0"), "{first}");
    for bytes in [&b"no image"[..], &bytes[..40], b"", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"] {
        let reply = served.post("/find", "image/svg+xml", &token, bytes);
        assert_eq!(reply.status, 400, "{}", reply.text());
    }
    assert_eq!(served.post("/find", "image/png", "wrong", &bytes).status, 403);
    assert_eq!(served.post("/find?table=nowhere", "image/png", &token, &bytes).status, 404);
}

#[test]
fn a_reload_shows_what_a_run_has_published() {
    let place = made();
    let served = Served::start(&place, &[]);
    assert!(read(&served.page("/clusters/assigned")).contains("3 clusters"));
    place.write("pipeline.toml", PIPELINE.replace("k = 3", "k = 4"));
    assert!(read(&served.page("/clusters/assigned")).contains("3 clusters"));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert!(read(&served.page("/clusters/assigned")).contains("4 clusters"));
    // Features of other stages than the file's are no place to look for an image.
    let token = served.token();
    let image = std::fs::read(place.path("photos/red/0004.png")).unwrap();
    assert_eq!(served.post("/find", "image/png", &token, &image).status, 200);
    let other = PIPELINE.replace("k = 3", "k = 4").replace("\"hog\", input", "\"hog\", cell = 4, input");
    place.write("pipeline.toml", other);
    let reply = served.post("/find", "image/png", &token, &image);
    assert!(reply.status == 400 && read(&reply.text()).contains("is of gradients.cell = "), "{}", read(&reply.text()));
    assert!(read(&served.page("/compare/assigned/previous")).contains("3 clusters became 4"));
    // A file that is wrong by now: its tables are there.
    place.write("pipeline.toml", PIPELINE.replace("\"hog\"", "\"hug\""));
    let page = read(&served.page("/clusters/assigned"));
    assert!(page.contains("4 clusters") && page.contains("without views"), "{page}");
    place.write("pipeline.toml", "[pipeline");
    assert_eq!(served.get("/").status, 500);
    place.write("pipeline.toml", PIPELINE.replace("k = 3", "k = 4"));
    assert_eq!(served.get("/").status, 200);
}

#[test]
fn who_may_do_what_is_said_at_the_start() {
    let place = made();
    for (arguments, part) in [
        (&["--bind", "0.0.0.0"][..], "give --token TOKEN"),
        (&["--bind", "0.0.0.0", "--token", "short"], "16 characters or more"),
        (&["--token", "0123456789abcdef;secret"], "letters, digits"),
    ] {
        let answer = place.tessera("serve", arguments);
        assert!(answer.code == 2 && answer.err.contains(part), "{arguments:?}: {answer:?}");
    }
    let token = "0123456789abcdef";
    let served = Served::start(&place, &["--edit", "--bind", "0.0.0.0", "--token", token]);
    assert!(served.address.ends_with(&format!("/?token={token}")), "{}", served.address);
    assert_eq!(served.get("/").status, 401);
    let reply = served.get(&format!("/?token={token}"));
    assert_eq!((reply.status, reply.header("location")), (303, "/"));
    let cookie = format!("Cookie: {}", reply.header("set-cookie").split(';').next().unwrap());
    let page = served.ask("GET /sql", &[&served.host(), &cookie], b"");
    assert_eq!(page.status, 200);
    let text = page.text();
    let own = text.split("name=\"tessera-token\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    let edit = |token: &str| {
        let body = format!("{{\"token\": \"{token}\"}}");
        let headers = [
            served.host(),
            cookie.clone(),
            format!("Origin: http://localhost:{}", served.port),
            "Content-Type: application/json".to_owned(),
            format!("Content-Length: {}", body.len()),
        ];
        served.ask("POST /edit", &headers.each_ref().map(String::as_str), body.as_bytes()).status
    };
    assert_eq!((edit(own), edit("another")), (204, 403));
    // The next port is taken by another server.
    let next = Served::start(&place, &["--port", &served.port.to_string()]);
    assert!(next.port > served.port && next.get("/").status == 200);
}

#[test]
fn it_ends_at_once_with_its_streams() {
    let place = made();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let served = Served::start(&place, &[]);
        let mut stream = served.connect();
        write!(stream, "GET /events HTTP/1.1\r\n{}\r\n\r\n", served.host()).unwrap();
        let mut begun = String::new();
        while !begun.contains("data: {") {
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "{begun}");
            begun.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        assert!(begun.contains("content-type: text/event-stream") && begun.contains("\"run\":null"), "{begun}");
        let (found, took) = served.signal(signal);
        assert!(found == Some(code) && took < Duration::from_secs(1), "{found:?} {took:?}");
    }
}

#[test]
fn a_run_is_seen_as_it_goes_on_and_as_killed() {
    let place = Place::new();
    place.images(24).write("pipeline.toml", TRAINING);
    assert_eq!(place.tessera("run", &["-q", "--to", "images"]).code, 0);
    let served = Served::start(&place, &[]);
    let mut call = place.command("run", "pipeline.toml", &["-q", "--threads", "1"]);
    let mut child = call.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // A stream each time: what there is comes at once.
    let told = |part: &str| {
        let start = Instant::now();
        loop {
            let mut stream = served.connect();
            write!(stream, "GET /events HTTP/1.1\r\n{}\r\n\r\n", served.host()).unwrap();
            let mut said = String::new();
            while !said.contains("}\n\n") {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).unwrap();
                assert!(count > 0, "{said}");
                said.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            if said.contains(part) {
                return said;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let said = told("\"stage\":\"pretext\"");
    assert!(said.contains("\"killed\":false"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    let said = told("\"killed\":true");
    assert!(said.contains("\"stage\":\"pretext\""), "{said}");
}

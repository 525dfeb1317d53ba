//! The live pages by their requests: what is answered, what is refused, and how queries of people end.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tessera_tests::Place;
use tessera_tests::served::{Served, reply};

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

/// A page's texts.
fn read(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        rest = tag.split_once('>').map_or("", |(_, behind)| behind);
    }
    text.push_str(rest);
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
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

/// What every answer says to browsers, errors included.
fn assert_guarded(reply: &tessera_tests::served::Reply, what: &str) {
    let policy = reply.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{what}: {policy}");
    for (name, value) in [
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
    ] {
        assert_eq!(reply.header(name), value, "{what}: {name}");
    }
    let kept = reply.header("cache-control");
    assert!(kept == "no-store" || kept.starts_with("private"), "{what}: {kept}");
    assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{what}");
}

fn requests_of_others_are_refused(served: &Served) {
    let port = served.port;
    let own = served.host();
    let form = [
        own.clone(),
        format!("Origin: http://localhost:{port}"),
        "Content-Type: application/x-www-form-urlencoded".to_owned(),
        "Content-Length: 10".to_owned(),
    ];
    let form: Vec<&str> = form.iter().map(String::as_str).collect();
    let with = |replaced: usize, by: &'static str| {
        let mut form = form.clone();
        form[replaced] = by;
        form
    };
    let token = served.token();
    let query = format!("q=SELECT+1&token={token}");
    let long = format!("GET /?{}", "a".repeat(10_000));
    let evil = format!("Host: evil.example:{port}");
    let absolute = format!("GET http://localhost:{port}/");
    let table: Vec<(u16, &str, Vec<&str>, &[u8])> = vec![
        (421, "GET /", vec![&evil], b""),
        (421, "GET /", vec![], b""),
        (421, &absolute, vec![&own], b""),
        (421, "GET http://evil.example/", vec![&own], b""),
        (400, "GET /", vec![&own, &evil], b""),
        (403, "GET /", vec![&own, "Sec-Fetch-Site: cross-site"], b""),
        (403, "GET /events", vec![&own, "Sec-Fetch-Site: same-site"], b""),
        (403, "GET /strip/assigned/0/card", vec![&own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: image"], b""),
        (414, &long, vec![&own], b""),
        (405, "OPTIONS /sql", vec![&own], b""),
        (405, "DELETE /", vec![&own], b""),
        (405, "POST /", form.clone(), b"q=SELECT+1"),
        (403, "POST /sql", form.clone(), b"q=SELECT+1"),
        (403, "POST /sql", with(1, "Origin: http://evil.example"), b"q=SELECT+1"),
        (403, "POST /sql", with(1, "Origin: null"), b"q=SELECT+1"),
        (415, "POST /sql", with(2, "Content-Type: text/plain"), b"q=SELECT+1"),
        (413, "POST /sql", with(3, "Content-Length: 900000000"), b"q=SELECT+1"),
        (411, "POST /sql", with(3, "Transfer-Encoding: chunked"), b"a\r\nq=SELECT+1\r\n0\r\n\r\n"),
        (400, "GET /", vec![&own, "Content-Length: 5"], b"GET /"),
        (403, "POST /edit", form.clone(), b"q=SELECT+1"),
    ];
    for (status, line, headers, body) in table {
        let reply = served.ask(line, &headers, body);
        assert_eq!(reply.status, status, "{line} {headers:?}: {}", reply.text());
        assert_guarded(&reply, line);
    }
    // What the server's own machinery refuses: requests that are none, and lengths that contradict each other.
    for text in [
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{own}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        format!("POST /sql HTTP/1.1\r\n{own}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        "\x16\x03\x01\x02\x00\x01\x00".to_owned(),
    ] {
        let status = reply(&served.raw(text.as_bytes())).status;
        assert!([0, 400, 411, 421].contains(&status), "{status}: {text:?}");
    }
    // A second request behind one that is refused is not read.
    let smuggled = format!(
        "POST /sql HTTP/1.1\r\n{own}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /stage/images HTTP/1.1\r\n{own}\r\n\r\n"
    );
    let answer = String::from_utf8_lossy(&served.raw(smuggled.as_bytes())).into_owned();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    // And with all that a page of its own would send, it is answered.
    let all = served.post("/sql", "application/x-www-form-urlencoded", "", query.as_bytes());
    assert_eq!(all.status, 403, "the header comes first, and it is empty");
    for path in ["/", "/nowhere", "/stage/nowhere", "/style.css", "/strip/assigned/0/card", "/clusters/assigned/x"] {
        assert_guarded(&served.get(path), path);
    }
    assert_guarded(&served.sql(&token, "SELECT 1", ""), "an answer");
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

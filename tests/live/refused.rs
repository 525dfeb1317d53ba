//! Requests that are refused, and what every answer says to browsers.

use super::*;

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

pub fn requests_of_others_are_refused(served: &Served) {
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

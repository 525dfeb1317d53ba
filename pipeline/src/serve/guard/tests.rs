//! Requests that are refused, and those that are not.

use axum::http::Request as Made;

use super::*;

fn guard(bound: &str, token: Option<&str>) -> Guard {
    Guard { bound: bound.parse().unwrap(), port: 7878, token: token.map(str::to_owned) }
}

/// A request of a line for its method and target, and a line for each header.
fn request(text: &str) -> Parts {
    let mut lines = text.lines().map(str::trim);
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut made = Made::builder().method(method).uri(target);
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""))) {
        made = made.header(name, value);
    }
    made.body(()).unwrap().into_parts().0
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\nContent-Length: 9\nOrigin: http://localhost:7878";

/// Of each request its answer's status; 200 stands for one that goes on to a page.
#[test]
fn requests_are_refused_by_where_they_come_from() {
    let own = "Host: localhost:7878";
    let post = |path: &str, more: &str| format!("POST {path}\n{own}\n{more}");
    let long = format!("GET /?{}\n{own}", "x".repeat(9000));
    let table: Vec<(u16, String)> = vec![
        // What is answered.
        (200, format!("GET /\n{own}")),
        (200, "GET /\nHost: 127.0.0.1:7878".into()),
        (200, "GET /\nHost: [::1]:7878".into()),
        (200, "GET /\nHost: LocalHost:7878".into()),
        (200, format!("HEAD /clusters/a\n{own}")),
        (200, format!("GET /\n{own}\nSec-Fetch-Site: none\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document")),
        (
            200,
            format!(
                "GET /strip/a/1/card\n{own}\nSec-Fetch-Site: same-origin\nSec-Fetch-Mode: no-cors\nSec-Fetch-Dest: image"
            ),
        ),
        (200, format!("GET /events\n{own}\nSec-Fetch-Site: same-origin\nSec-Fetch-Mode: cors\nSec-Fetch-Dest: empty")),
        (200, format!("GET /image/..%2f..%2fetc%2fpasswd\n{own}")),
        (200, post("/sql", FORM)),
        (200, post("/edit", &FORM.replace("x-www-form-urlencoded", "json; charset=utf-8"))),
        (200, post("/find", "Content-Type: image/png\nContent-Length: 67108864\nOrigin: http://localhost:7878")),
        // A name that somebody else owns, and points at this machine.
        (421, "GET /\nHost: evil.example:7878".into()),
        (421, "GET /\nHost: evil.example".into()),
        (421, "GET /\nHost: localhost.evil.example:7878".into()),
        (421, "GET /\nHost: 127.0.0.1.evil.example:7878".into()),
        (421, "GET /\nHost: evil.example:7878@localhost:7878".into()),
        (421, "GET /\nHost: localhost:7878.evil.example".into()),
        (421, "GET /\nHost: localhost".into()),
        (421, "GET /\nHost: localhost:78780".into()),
        (421, "GET /\nHost: 127.0.0.2:7878".into()),
        (421, "GET /\nHost: 0.0.0.0:7878".into()),
        (421, "GET /\nHost: 192.168.1.7:7878".into()),
        (421, "GET /".into()),
        (421, "GET /\nHost:".into()),
        (400, format!("GET /\n{own}\nHost: evil.example")),
        (400, format!("GET /\n{own}\n{own}")),
        (421, format!("GET http://localhost:7878/\n{own}")),
        (421, format!("GET http://evil.example/\n{own}")),
        (421, format!("CONNECT evil.example:443\n{own}")),
        // Another site's page.
        (403, format!("GET /\n{own}\nSec-Fetch-Site: cross-site")),
        (403, format!("GET /\n{own}\nSec-Fetch-Site: same-site")),
        (403, format!("GET /\n{own}\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document")),
        (403, format!("GET /strip/a/1/card\n{own}\nSec-Fetch-Site: cross-site\nSec-Fetch-Dest: image")),
        (403, format!("GET /events\n{own}\nSec-Fetch-Site: cross-site\nSec-Fetch-Dest: empty")),
        (403, format!("GET /\n{own}\nSec-Fetch-Site: Same-Origin")),
        (403, format!("GET /\n{own}\nSec-Fetch-Site: same-origin\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: iframe")),
        (403, format!("GET /\n{own}\nSec-Fetch-Site: same-origin\nSec-Fetch-Mode: nested-navigate\nSec-Fetch-Dest: object")),
        (400, format!("GET /\n{own}\nSec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site")),
        // Forms of others.
        (403, post("/sql", &FORM.replace("http://localhost:7878", "http://evil.example"))),
        (403, post("/sql", &FORM.replace("http://localhost:7878", "http://localhost:3000"))),
        (403, post("/sql", &FORM.replace("http://localhost:7878", "https://localhost:7878"))),
        (403, post("/sql", &FORM.replace("http://localhost:7878", "http://127.0.0.1:7878"))),
        (403, post("/sql", &FORM.replace("http://localhost:7878", "null"))),
        (403, post("/sql", FORM.rsplit_once('\n').unwrap().0)),
        (400, post("/sql", &format!("{FORM}\nOrigin: http://evil.example"))),
        // What they hold.
        (415, post("/sql", &FORM.replace("application/x-www-form-urlencoded", "text/plain"))),
        (415, post("/sql", &FORM.replace("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"))),
        (415, post("/sql", &FORM.replace("Content-Type: application/x-www-form-urlencoded\n", ""))),
        (415, post("/find", FORM)),
        (415, post("/find", &FORM.replace("application/x-www-form-urlencoded", "text/html"))),
        (413, post("/sql", &FORM.replace(": 9", ": 262145"))),
        (413, post("/find", &FORM.replace("application/x-www-form-urlencoded", "image/png").replace(": 9", ": 67108865"))),
        (413, post("/sql", &FORM.replace(": 9", ": 18446744073709551615"))),
        (400, post("/sql", &FORM.replace(": 9", ": 18446744073709551616"))),
        (400, post("/sql", &FORM.replace(": 9", ": -1"))),
        (400, post("/sql", &format!("{FORM}\nContent-Length: 9"))),
        (411, post("/sql", &FORM.replace("Content-Length: 9\n", ""))),
        (411, post("/sql", &format!("{FORM}\nTransfer-Encoding: chunked"))),
        (411, format!("GET /\n{own}\nTransfer-Encoding: chunked")),
        (400, format!("GET /\n{own}\nContent-Length: 30")),
        // Other methods, and long addresses.
        (405, format!("OPTIONS /sql\n{own}\nOrigin: http://evil.example\nAccess-Control-Request-Method: POST")),
        (405, format!("PUT /sql\n{own}")),
        (405, format!("DELETE /stage/a\n{own}")),
        (405, format!("TRACE /\n{own}")),
        (405, format!("PATCH /\n{own}")),
        (405, format!("BREW /\n{own}")),
        (414, long),
    ];
    assert!(table.iter().filter(|(status, _)| *status != 200).count() >= 40);
    let guard = guard("127.0.0.1", None);
    for (status, text) in table {
        let found = guard.check(&request(&text)).map_or_else(|Refused(status, _)| status.as_u16(), |()| 200);
        assert_eq!(found, status, "{text}");
    }
}

#[test]
fn other_machines_use_an_address_and_the_token() {
    let token = "0123456789abcdef";
    let bound = guard("0.0.0.0", Some(token));
    let answered = |host: &str| bound.check(&request(&format!("GET /\nHost: {host}"))).is_ok();
    assert!(answered("192.168.1.7:7878") && answered("localhost:7878") && answered("[fe80::1]:7878"));
    assert!(!answered("server.example:7878") && !answered("192.168.1.7:80") && !answered("192.168.1.7"));
    let one = guard("192.168.1.7", Some(token));
    assert!(one.check(&request("GET /\nHost: 192.168.1.7:7878")).is_ok());
    assert!(one.check(&request("GET /\nHost: 192.168.1.8:7878")).is_err());

    let knows = |more: &str| bound.knows(&request(&format!("GET /\nHost: localhost:7878{more}")));
    let pass = pass(token);
    assert!(knows(&format!("\nAuthorization: Bearer {token}")));
    assert!(knows(&format!("\nCookie: other=1; tessera-7878={pass}; more=2")));
    for wrong in [
        String::new(),
        "\nAuthorization: Bearer 0123456789abcdeF".into(),
        "\nAuthorization: Basic 0123456789abcdef".into(),
        "\nAuthorization: Bearer ".into(),
        format!("\nCookie: tessera-7878={token}"),
        format!("\nCookie: tessera-7879={pass}"),
        format!("\nCookie: tessera-7878={}", &pass[1..]),
    ] {
        assert!(!knows(&wrong), "{wrong}");
    }
    let admitted = |target: &str| bound.admitted(&request(&format!("GET {target}\nHost: localhost:7878")));
    let response = admitted(&format!("//evil.example/a?x=1&token={token}")).unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((response.status().as_u16(), header("location")), (303, "/evil.example/a?x=1".into()));
    assert_eq!(header("set-cookie"), format!("tessera-7878={pass}; Path=/; HttpOnly; SameSite=Strict"));
    assert!(admitted("/?token=wrong").is_none() && admitted("/").is_none());
    assert!(guard("127.0.0.1", None).knows(&request("GET /\nHost: localhost:7878")));
}

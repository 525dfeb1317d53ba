//! The live pages, as a browser or any other program asks for them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Place;

/// A server, until dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// Its port, on loopback.
    pub port: u16,
    /// The address that it printed.
    pub address: String,
}

/// What it answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers, their names in small letters.
    pub headers: Vec<(String, String)>,
    /// The rest.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Served {
    /// Serves a place's `pipeline.toml`.
    pub fn start(place: &Place, arguments: &[&str]) -> Self {
        Self::of(place.command("serve", "pipeline.toml", arguments))
    }

    /// Serves as a command line says.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary");
        let mut address = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        out.read_line(&mut address).expect("an address");
        let address = address.trim().to_owned();
        let port = address.split(':').nth(2).and_then(|rest| rest.split('/').next()).and_then(|port| port.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("no address: {address:?}")), address }
    }

    /// Sends bytes, and reads all that comes until the server closes or nothing more comes for a while.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // A server that refuses early may close before all is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
    }

    /// Sends a request of these lines, and a body.
    pub fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Reply {
        let mut text = format!("{line} HTTP/1.1\r\n");
        headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
        text.push_str("Connection: close\r\n\r\n");
        reply(&self.raw(&[text.as_bytes(), body].concat()))
    }

    /// The `Host` header of its own pages.
    pub fn host(&self) -> String {
        format!("Host: localhost:{}", self.port)
    }

    /// A page.
    pub fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), &[&self.host()], b"")
    }

    /// A page that must be there, as text.
    pub fn page(&self, path: &str) -> String {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.text()
    }

    /// The token that stands in its pages.
    pub fn token(&self) -> String {
        let page = self.page("/sql");
        let token = page.split("name=\"tessera-token\" content=\"").nth(1).and_then(|rest| rest.split('"').next());
        token.expect("a token").to_owned()
    }

    /// What its own page's form would send.
    pub fn post(&self, path: &str, kind: &str, token: &str, body: &[u8]) -> Reply {
        let headers = [
            self.host(),
            format!("Origin: http://localhost:{}", self.port),
            format!("Content-Type: {kind}"),
            format!("Content-Length: {}", body.len()),
            format!("X-Tessera-Token: {token}"),
        ];
        self.ask(&format!("POST {path}"), &headers.each_ref().map(String::as_str), body)
    }

    /// A query of the SQL page; `file` names a kind of file, or nothing for the page.
    pub fn sql(&self, token: &str, query: &str, file: &str) -> Reply {
        let body = format!("q={}&file={file}", encoded(query));
        self.post("/sql", "application/x-www-form-urlencoded", token, body.as_bytes())
    }

    /// Bytes of memory that the server has at most had.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
    }

    /// Kills it as a power cut would.
    pub fn kill(&self) {
        let sent = Command::new("kill").args(["-KILL", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    /// Ends it by a signal, and says how it ended and how long that took.
    pub fn signal(mut self, signal: &str) -> (Option<i32>, Duration) {
        let start = Instant::now();
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        let code = self.child.wait().expect("its end").code();
        (code, start.elapsed())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A text as a value of a form.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// An answer's parts.
pub fn reply(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok()).unwrap_or(0);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = bytes.get(end + 4..).unwrap_or_default();
    let is_chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_vec() };
    Reply { status, headers, body }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let Ok(length) = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16) else { break };
        let Some(chunk) = bytes.get(end + 2..end + 2 + length) else { break };
        all.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + length..).unwrap_or_default();
        if length == 0 {
            break;
        }
    }
    all
}

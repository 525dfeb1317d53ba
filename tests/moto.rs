//! An S3 server for tests: `moto`, from PyPI, on a port of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server, until dropped.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    /// Where it listens, on loopback.
    pub port: u16,
}

impl Moto {
    /// Starts one, which has no bucket yet.
    pub fn start() -> Self {
        let script = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])";
        let mut command = Command::new("python3");
        command.args(["-c", script]).env("PYTHONPATH", installed()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut out = child.stdout.take().expect("a pipe");
        let port = loop {
            let line = lines.next().expect("moto says where it listens").expect("text");
            if let Some((_, behind)) = line.split_once("Running on http://127.0.0.1:") {
                break behind.trim().parse().expect("a port");
            }
        };
        // Nobody reads on, and it must not wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        Self { child, port }
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("moto listens");
        let request = format!("PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("moto listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `tests/moto.sh` put it.
fn installed() -> PathBuf {
    let named = std::env::var_os("TESSERA_MOTO").map(PathBuf::from);
    let cached = std::env::var_os("TESSERA_CACHE").map(|cache| Path::new(&cache).join("moto"));
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package of a test that it runs");
    let own = Path::new(&package).join("../.moto");
    let found = [named, cached, Some(own)].into_iter().flatten().find(|dir| dir.is_dir());
    found.expect("`make test` installs moto; without it: tests/moto.sh DIR, and TESSERA_MOTO=DIR")
}

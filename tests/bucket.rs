//! Pipelines over a bucket: a server, and before it a wire that counts requests and can be cut.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::runtime::Runtime;

use crate::moto::Moto;

/// The bucket's name.
const NAME: &str = "bucket";

/// An empty bucket.
pub struct BucketServer {
    _server: Moto,
    wire: Arc<Wire>,
    port: u16,
    runtime: Runtime,
    store: Box<dyn ObjectStore>,
}

/// What lies between a process and the server.
#[derive(Default)]
struct Wire {
    counts: Mutex<BTreeMap<String, usize>>,
    streams: Mutex<Vec<TcpStream>>,
    is_cut: AtomicBool,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// Passes bytes on, both ways, until one side ends; counts requests by their method, `LIST` among them.
    fn pass(self: Arc<Self>, mut near: TcpStream, server: u16) {
        let Ok(far) = TcpStream::connect(("127.0.0.1", server)) else { return };
        held(&self.streams).extend([near.try_clone().expect("a stream"), far.try_clone().expect("a stream")]);
        let (mut back, mut out) = (far.try_clone().expect("a stream"), near.try_clone().expect("a stream"));
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut back, &mut out);
            let _ = out.shutdown(Shutdown::Both);
        });
        let mut far = far;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = near.read(&mut buffer) {
            self.count(&buffer[..read]);
            if far.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = far.shutdown(Shutdown::Both);
    }

    /// A request's head comes at the start of what is read: clients wait for an answer before they ask again.
    fn count(&self, bytes: &[u8]) {
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let words: Vec<&str> = line.split(' ').collect();
        if let [method, path, "HTTP/1.1"] = words[..] {
            let method = if path.contains("list-type=2") { "LIST" } else { method };
            *held(&self.counts).entry(method.to_owned()).or_default() += 1;
        }
    }
}

impl Default for BucketServer {
    fn default() -> Self {
        Self::new()
    }
}

impl BucketServer {
    /// A server with an empty bucket.
    pub fn new() -> Self {
        let server = Moto::start();
        server.make_bucket(NAME);
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (wire, behind) = (Arc::new(Wire::default()), server.port);
        let passing = wire.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let passing = passing.clone();
                if !passing.is_cut.load(Ordering::Relaxed) {
                    std::thread::spawn(move || passing.pass(near, behind));
                }
            }
        });
        let builder = AmazonS3Builder::new().with_bucket_name(NAME).with_region("us-east-1");
        let builder = builder.with_endpoint(format!("http://127.0.0.1:{}", server.port)).with_allow_http(true);
        let store = builder.with_access_key_id("key").with_secret_access_key("secret").build().expect("a client");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        Self { _server: server, wire, port, runtime, store: Box::new(store) }
    }

    /// Has a call of the binary reach the bucket.
    pub fn reached_by(&self, mut call: Command) -> Command {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let variables = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "us-east-1")];
        call.envs(variables).envs([("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
        call
    }

    /// Puts an object.
    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        let key = Path::parse(key).expect("a key");
        self.runtime.block_on(self.store.put(&key, bytes.into())).expect("it is put");
    }

    /// An object's bytes.
    pub fn get(&self, key: &str) -> Vec<u8> {
        let key = Path::parse(key).expect("a key");
        let bytes = self.runtime.block_on(async { self.store.get(&key).await?.bytes().await });
        bytes.expect("it is there").into()
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) {
        let key = Path::parse(key).expect("a key");
        self.runtime.block_on(self.store.delete(&key)).expect("it is deleted");
    }

    /// All keys.
    pub fn keys(&self) -> Vec<String> {
        let found = self.runtime.block_on(futures::TryStreamExt::try_collect::<Vec<_>>(self.store.list(None)));
        let mut keys: Vec<String> =
            found.expect("they are listed").into_iter().map(|meta| meta.location.to_string()).collect();
        keys.sort();
        keys
    }

    /// Requests by method since this was asked last.
    pub fn requests(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *held(&self.wire.counts))
    }

    /// Breaks all connections, and refuses new ones until it is mended.
    pub fn cut(&self) {
        self.wire.is_cut.store(true, Ordering::Relaxed);
        for stream in held(&self.wire.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.wire.is_cut.store(false, Ordering::Relaxed);
    }
}

//! Buckets of object stores: S3, Google Cloud Storage, Azure.
//!
//! A URL is `SCHEME://BUCKET/KEY`, its key taken as it is written, as their own tools do. Credentials and endpoints come from the
//! environment, by the names that `object_store` knows: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`,
//! `AWS_ALLOW_HTTP`, …, `GOOGLE_SERVICE_ACCOUNT`, …, `AZURE_STORAGE_ACCOUNT_NAME`, …. A request that fails for a reason that may pass is
//! made again, up to ten times in two seconds to half a minute.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use tokio::runtime::Runtime;

/// Threads that drive requests: they wait more than they work.
const DRIVERS: usize = 2;

/// What drives all requests of the process, so that whoever waits for one may be on any thread.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(DRIVERS).thread_name("requests").enable_all().build();
    built.expect("the system gives threads")
});

/// Waits for a request, on a thread that may block.
pub fn wait<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> T {
    let (tell, told) = mpsc::sync_channel(1);
    RUNTIME.spawn(async move {
        let _ = tell.send(request.await);
    });
    told.recv().expect("a request ends, with an answer or an error")
}

/// Begins a request that nobody waits for yet.
pub fn begin<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    RUNTIME.spawn(request)
}

/// A bucket, and where its names begin.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// What speaks to it.
    pub store: Arc<dyn ObjectStore>,
    /// As it was written, without a slash at its end.
    pub url: String,
    prefix: String,
    /// What a person should know of where its credentials come from.
    hint: Option<&'static str>,
}

impl Bucket {
    /// A bucket by its URL; asks it nothing yet.
    ///
    /// # Errors The URL is not of a known kind, or the environment lacks a variable or has a wrong one.
    pub fn of(url: &str) -> io::Result<Self> {
        static OPEN: LazyLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> = LazyLock::new(Mutex::default);
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {why}"));
        let (root, key) = parted(url).map_err(&wrong)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match open.get(root) {
            Some(store) => store.clone(),
            None => {
                let store = connect(root).map_err(|error| wrong(error.to_string()))?;
                open.insert(root.to_owned(), store.clone());
                store
            }
        };
        Ok(Self { hint: hint(root), ..Self::over(store, url, key) })
    }

    /// A bucket that something speaks to.
    pub fn over(store: Arc<dyn ObjectStore>, url: &str, prefix: &str) -> Self {
        let (url, prefix) = (url.trim_end_matches('/').to_owned(), prefix.trim_matches('/').to_owned());
        Self { store, url, prefix, hint: None }
    }

    /// The key of a name; of an empty one, where all begin.
    ///
    /// # Errors
    /// No object can have that key.
    pub fn key(&self, name: &str) -> io::Result<Path> {
        let key = match (self.prefix.as_str(), name) {
            (prefix, "") => prefix.to_owned(),
            ("", name) => name.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        };
        Path::parse(&key).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
    }

    /// A key as a name, if it is one below this.
    pub fn name<'a>(&self, key: &'a Path) -> Option<&'a str> {
        let key = key.as_ref();
        if self.prefix.is_empty() { Some(key) } else { key.strip_prefix(&self.prefix)?.strip_prefix('/') }
    }

    /// Where a name lies.
    pub fn place(&self, name: &str) -> String {
        if name.is_empty() { self.url.clone() } else { format!("{}/{name}", self.url) }
    }

    /// A refusal, with what was tried and where.
    pub fn refused(&self, action: &str, name: &str, error: object_store::Error) -> io::Error {
        let why = self.why(error);
        io::Error::new(why.kind(), format!("cannot {action} {}: {why}", self.place(name)))
    }

    /// What a refusal means.
    pub fn why(&self, error: object_store::Error) -> io::Error {
        use object_store::Error as E;
        let hint = self.hint.map_or_else(String::new, |hint| format!(" ({hint})"));
        let (kind, said) = match &error {
            E::NotFound { .. } => (io::ErrorKind::NotFound, "nothing is there".to_owned()),
            E::AlreadyExists { .. } => (io::ErrorKind::AlreadyExists, "something is there".to_owned()),
            E::Precondition { .. } => (io::ErrorKind::ResourceBusy, "it was written meanwhile".to_owned()),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                (io::ErrorKind::PermissionDenied, format!("the credentials do not allow it{hint}: {error}"))
            }
            _ => (io::ErrorKind::Other, format!("{error}{hint}")),
        };
        io::Error::new(kind, said)
    }
}

/// What can speak to a bucket.
fn connect(root: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
    let scheme = root.split("://").next().unwrap_or_default();
    // The library's own pauses may add up to one second, in which a server does not start again.
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(5), base: 2.5 };
    let retry = RetryConfig { backoff, ..RetryConfig::default() };
    Ok(match scheme {
        "gs" => Arc::new(GoogleCloudStorageBuilder::from_env().with_url(root).with_retry(retry).build()?),
        "s3" | "s3a" => Arc::new(AmazonS3Builder::from_env().with_url(root).with_retry(retry).build()?),
        _ => Arc::new(MicrosoftAzureBuilder::from_env().with_url(root).with_retry(retry).build()?),
    })
}

/// Which credentials are not given, where a cloud's own machines would have others.
fn hint(root: &str) -> Option<&'static str> {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let lacks = |names: &[&str]| !names.iter().any(|name| is_set(name));
    match root.split("://").next().unwrap_or_default() {
        "s3" | "s3a" => lacks(&["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"])
            .then_some("AWS_ACCESS_KEY_ID is not set, so that this machine's role was asked for"),
        "gs" => lacks(&["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"])
            .then_some("GOOGLE_APPLICATION_CREDENTIALS is not set"),
        _ => lacks(&["AZURE_STORAGE_ACCOUNT_NAME"]).then_some("AZURE_STORAGE_ACCOUNT_NAME is not set"),
    }
}

/// A URL's bucket with its scheme, and the key behind it.
fn parted(url: &str) -> Result<(&str, &str), String> {
    let wrong = || format!("no object store has that URL; it should look like {}", tessera_datasets::URL_EXAMPLES);
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    if !tessera_datasets::URL_SCHEMES.contains(&scheme) {
        return Err(wrong());
    }
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(format!("the URL names no bucket; it should look like {}", tessera_datasets::URL_EXAMPLES));
    }
    Ok((&url[..scheme.len() + "://".len() + bucket.len()], key))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn urls_are_parted_as_they_are_written() {
        assert_eq!(parted("s3://bucket/a b/c#1?%20.jpg"), Ok(("s3://bucket", "a b/c#1?%20.jpg")));
        assert_eq!(parted("gs://bucket"), Ok(("gs://bucket", "")));
        assert_eq!(parted("az://container/"), Ok(("az://container", "")));
        for wrong in ["ftp://host/x", "s3:/bucket", "s3:///x", "bucket", "S3://bucket"] {
            let why = parted(wrong).unwrap_err();
            assert!(why.contains("s3://bucket/folder"), "{wrong}: {why}");
        }
    }

    #[test]
    fn names_are_keys_below_the_prefix() {
        let bucket = |prefix: &str| Bucket::over(Arc::new(InMemory::new()), &format!("s3://b/{prefix}"), prefix);
        for prefix in ["", "x", "x/y"] {
            let bucket = bucket(prefix);
            let key = bucket.key("a/b.c").unwrap();
            assert_eq!(bucket.name(&key), Some("a/b.c"));
            assert_eq!(bucket.place("a"), format!("{}/a", bucket.url));
            assert_eq!(bucket.key("").unwrap().as_ref(), prefix);
        }
        assert_eq!(bucket("x").name(&Path::parse("xy/a").unwrap()), None);
        assert_eq!(bucket("x").key("a//b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

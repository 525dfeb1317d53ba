//! A bucket in memory that does with requests what a test says.

use std::fmt;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    GetResult, ListResult, MultipartUpload, ObjectStore, PutMultipartOptions, PutResult, RenameOptions, Result as Answer,
};

use super::super::*;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    Answered,
    /// It does not arrive.
    Refused,
    /// It arrives, and its answer does not.
    Lost,
    /// The same, and what asks again is told that the object is there.
    AskedAgain,
    Late(Duration),
    /// Somebody writes the same bytes first, so that the version is another.
    Rewritten,
}

pub type Judge = Box<dyn Fn(&'static str, &Path) -> Fate + Send + Sync>;

/// A bucket in memory, with requests of which a test decides what becomes of them.
pub struct Faulty {
    inner: InMemory,
    judge: Mutex<Judge>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

fn unavailable() -> Error {
    Error::Generic { store: "S3", source: "503 Service Unavailable".into() }
}

impl Faulty {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: InMemory::new(), judge: Mutex::new(Box::new(|_, _| Fate::Answered)) })
    }

    pub fn judged(&self, judge: impl Fn(&'static str, &Path) -> Fate + Send + Sync + 'static) {
        *self.judge.lock().unwrap() = Box::new(judge);
    }

    /// What becomes of a request, once it has waited for it.
    async fn fate(&self, what: &'static str, key: &Path) -> Answer<Fate> {
        let fate = self.judge.lock().unwrap()(what, key);
        match fate {
            Fate::Refused => Err(unavailable()),
            Fate::Late(by) => {
                tokio::time::sleep(by).await;
                Ok(Fate::Answered)
            }
            fate => Ok(fate),
        }
    }
}

fn told<T>(fate: Fate, key: &Path, answer: Answer<T>) -> Answer<T> {
    match fate {
        Fate::Lost => answer.and_then(|_| Err(unavailable())),
        Fate::AskedAgain => answer.and_then(|_| Err(Error::AlreadyExists { path: key.to_string(), source: "412".into() })),
        _ => answer,
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Answer<PutResult> {
        let fate = self.fate("put", key).await?;
        if fate == Fate::Rewritten
            && let Ok(there) = self.inner.get(key).await
        {
            self.inner.put(key, there.bytes().await?.into()).await?;
        }
        told(fate, key, self.inner.put_opts(key, payload, options).await)
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Answer<Box<dyn MultipartUpload>> {
        let fate = self.fate("upload", key).await?;
        told(fate, key, self.inner.put_multipart_opts(key, options).await)
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Answer<GetResult> {
        let fate = self.fate("get", key).await?;
        told(fate, key, self.inner.get_opts(key, options).await)
    }

    fn delete_stream(&self, keys: BoxStream<'static, Answer<Path>>) -> BoxStream<'static, Answer<Path>> {
        let fate = self.judge.lock().unwrap()("delete", &Path::default());
        let lost = move |answer: Answer<Path>| match fate {
            Fate::Lost => answer.and_then(|_| Err(unavailable())),
            _ => answer,
        };
        if fate == Fate::Refused {
            return futures::stream::once(async { Err(unavailable()) }).boxed();
        }
        self.inner.delete_stream(keys).map(lost).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        let key = prefix.cloned().unwrap_or_default();
        let fate = self.fate("list", &key).await?;
        told(fate, &key, self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Answer<()> {
        let fate = self.fate("copy", to).await?;
        told(fate, to, self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Answer<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

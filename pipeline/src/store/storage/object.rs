//! A store in a bucket: conditional puts in place of renames, a lease in place of a lock.
//!
//! A put is there whole or not at all. What is long goes up in pieces ([`upload`]), several at once, and is there when the last
//! of them is; pieces of an upload that was killed are no object, and the bucket's own rule for them takes them away. Several
//! processes may read while one writes. A reader that is under way when `gc` deletes what it reads is told that it is gone.

pub mod bucket;
mod lease;
mod upload;

use std::fmt::Debug;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, ObjectMeta, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};

use self::bucket::{Bucket, wait};
use self::lease::{Guard, LAPSE, Lease};
use self::upload::{Log, Uploading};
use super::{Item, Locking, Ranges, Storage, Upload, Version, meanwhile};

/// The longest range that stays at hand for the next one.
const KEPT: usize = 1 << 20;

/// How long what is not known to be put is put again, and how long is waited in between.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How many objects are deleted by one request: S3's most.
const REMOVED_TOGETHER: usize = 1000;
/// The variable that has leases lapse sooner, in milliseconds; for tests.
const LAPSE_VARIABLE: &str = "TESSERA_LEASE_MS";

/// A store in a bucket.
#[derive(Debug, Clone)]
pub struct Objects {
    bucket: Bucket,
    /// How long its lease holds that is not renewed.
    lapse: Duration,
    /// The lease that this process has, if it writes.
    lease: Arc<Mutex<Option<Arc<Lease>>>>,
}

impl Objects {
    /// A store in a bucket, which is asked nothing yet.
    pub fn new(bucket: Bucket) -> Self {
        let lapse = std::env::var(LAPSE_VARIABLE).ok().and_then(|text| text.parse().ok());
        Self { bucket, lapse: lapse.map_or(LAPSE, Duration::from_millis), lease: Arc::default() }
    }

    /// Whether this process, if it took the right to write, still has it.
    fn check(&self) -> io::Result<()> {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lease.map_or(Ok(()), |lease| lease.check())
    }

    /// Makes a request about a name, and waits for it.
    fn ask<T, F>(&self, action: &'static str, name: &str, request: impl FnOnce(Bucket, Path) -> F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let key = self.bucket.key(name)?;
        wait(request(self.bucket.clone(), key)).map_err(|error| self.bucket.refused(action, name, error))
    }

    /// Puts an object. The library does not ask again where it cannot know what came of a conditional put; whoever reads what is there then
    /// can, so that it is asked again here.
    fn put_bytes(&self, name: &str, bytes: &Bytes, mode: &PutMode) -> io::Result<Version> {
        let put = self.patiently(|| {
            let (bytes, options) = (PutPayload::from(bytes.clone()), PutOptions::from(mode.clone()));
            self.ask("write", name, |bucket, key| async move { bucket.store.put_opts(&key, bytes, options).await })
        });
        Ok(version(&UpdateVersion::from(put?)))
    }

    /// Asks again for a while, as long as nobody answers, for what may be asked twice and the library asks once.
    fn patiently<T>(&self, request: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            self.check()?;
            match request() {
                Err(error) if error.kind() == io::ErrorKind::Other && start.elapsed() < PATIENCE => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                answer => return answer,
            }
        }
    }
}

fn version(of: &UpdateVersion) -> Version {
    // Both are texts without line ends.
    Version(format!("{}\n{}", of.e_tag.as_deref().unwrap_or_default(), of.version.as_deref().unwrap_or_default()))
}

fn update(version: &Version) -> UpdateVersion {
    let (e_tag, version) = version.0.split_once('\n').unwrap_or((&version.0, ""));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    UpdateVersion { e_tag: some(e_tag), version: some(version) }
}

fn item(name: String, meta: &ObjectMeta) -> Item {
    Item { name, is_folder: false, bytes: meta.size, modified: meta.last_modified.into() }
}

impl Storage for Objects {
    fn place(&self, name: &str) -> PathBuf {
        self.bucket.place(name).into()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.read_version(name)?.0)
    }

    fn read_version(&self, name: &str) -> io::Result<(Vec<u8>, Version)> {
        let (bytes, meta) = self.ask("read", name, |bucket, key| async move {
            let got = bucket.store.get(&key).await?;
            let meta = got.meta.clone();
            Ok((got.bytes().await?, meta))
        })?;
        Ok((bytes.into(), version(&UpdateVersion { e_tag: meta.e_tag, version: meta.version })))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Ranges>> {
        Ok(Box::new(Open { objects: self.clone(), name: name.to_owned(), last: Mutex::default() }))
    }

    fn look(&self, name: &str) -> io::Result<Item> {
        let meta = self.ask("look at", name, |bucket, key| async move { bucket.store.head(&key).await })?;
        Ok(item(name.to_owned(), &meta))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Item>> {
        let found = self.ask("list", folder, |bucket, key| async move {
            bucket.store.list_with_delimiter(Some(&key).filter(|key| !key.as_ref().is_empty())).await
        })?;
        let name = |key: &Path| self.bucket.name(key).map(str::to_owned);
        let folders = found
            .common_prefixes
            .iter()
            .filter_map(|key| Some(Item { name: name(key)?, is_folder: true, bytes: 0, modified: UNIX_EPOCH }));
        let objects = found.objects.iter().filter_map(|meta| Some(item(name(&meta.location)?, meta)));
        let mut items: Vec<Item> = folders.chain(objects).collect();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(items)
    }

    fn put(&self, name: &str) -> io::Result<Box<dyn Upload>> {
        Ok(Box::new(Uploading::new(self, name)))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_bytes(name, &Bytes::copy_from_slice(bytes), &PutMode::Overwrite).map(drop)
    }

    fn replace_if(&self, name: &str, bytes: &[u8], expected: Option<&Version>) -> io::Result<Version> {
        let mode = expected.map_or(PutMode::Create, |version| PutMode::Update(update(version)));
        match self.put_bytes(name, &Bytes::copy_from_slice(bytes), &mode) {
            Err(error) if is_other(&error) => {
                self.check()?;
                // It may be one's own, of which the answer was lost: then its bytes are these.
                match self.read_version(name) {
                    Ok((there, version)) if there == bytes => Ok(version),
                    Ok(_) => Err(meanwhile(&self.place(name))),
                    Err(missing) if missing.kind() == io::ErrorKind::NotFound => Err(meanwhile(&self.place(name))),
                    Err(error) => Err(error),
                }
            }
            other => other,
        }
    }

    fn link(&self, from: &str, to: &str, _: u64) -> io::Result<()> {
        self.check()?;
        match self.look(to) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, self.bucket.place(to))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let from = self.bucket.key(from)?;
        self.ask("copy to", to, |bucket, to| async move {
            bucket.store.copy_opts(&from, &to, CopyOptions::new().with_mode(CopyMode::Overwrite)).await
        })
    }

    fn settle(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        // S3 has objects deleted by a POST, which the library asks for once.
        self.patiently(|| self.ask("delete", name, |bucket, key| async move { bucket.store.delete(&key).await }))
    }

    fn remove_all(&self, names: &[&str]) -> io::Result<()> {
        for names in names.chunks(REMOVED_TOGETHER) {
            let keys = names.iter().map(|name| self.bucket.key(name)).collect::<io::Result<Vec<_>>>()?;
            self.patiently(|| {
                let (store, keys) = (self.bucket.store.clone(), keys.clone());
                let removed = async move {
                    let mut removed = store.delete_stream(futures::stream::iter(keys.into_iter().map(Ok)).boxed());
                    while let Some(key) = removed.next().await {
                        match key {
                            // It is gone since the request before, whose answer was lost.
                            Ok(_) | Err(Error::NotFound { .. }) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    Ok(())
                };
                wait(removed).map_err(|error| self.bucket.refused("delete", names[0], error))
            })?;
        }
        Ok(())
    }

    fn remove_folder(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn log(&self, name: &str) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(Log::new(self, name)))
    }

    fn lock(&self, with: &Locking<'_>) -> anyhow::Result<Box<dyn Debug + Send>> {
        let held = |lease: &Arc<Lease>| {
            *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease.clone());
        };
        let mut taken = Held { lease: self.lease.clone(), guard: None };
        taken.guard = Some(Lease::take(&self.bucket, self.lapse, with, held)?);
        Ok(Box::new(taken))
    }

    fn holder(&self) -> io::Result<Option<String>> {
        lease::holder_of(&self.bucket)
    }
}

/// Whether a conditional put was refused because of what is there.
fn is_other(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy | io::ErrorKind::NotFound)
}

/// The lease of this process, until dropped.
#[derive(Debug)]
struct Held {
    lease: Arc<Mutex<Option<Arc<Lease>>>>,
    guard: Option<Guard>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard = None;
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// An object that is read in ranges.
#[derive(Debug)]
struct Open {
    objects: Objects,
    name: String,
    /// The last range, if it is short: what is asked for next often lies in it.
    last: Mutex<Option<(u64, Bytes)>>,
}

impl Ranges for Open {
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((start, bytes)) = &*last()
            && *start <= range.start
            && range.end <= start + bytes.len() as u64
        {
            return Ok(bytes.slice((range.start - start) as usize..(range.end - start) as usize));
        }
        let (asked, length) = (GetRange::Bounded(range.clone()), range.end - range.start);
        let bytes = self.objects.ask("read", &self.name, |bucket, key| async move {
            let options = GetOptions { range: Some(asked), ..GetOptions::default() };
            bucket.store.get_opts(&key, options).await?.bytes().await
        });
        let short =
            || io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} is shorter", self.objects.bucket.place(&self.name)));
        let bytes = match bytes {
            Ok(bytes) if bytes.len() as u64 == length => bytes,
            Ok(_) => return Err(short()),
            // A range that begins behind the end is refused, in each store's own words.
            Err(error) if error.kind() == io::ErrorKind::Other => {
                let size = self.objects.look(&self.name)?.bytes;
                return Err(if size < range.end { short() } else { error });
            }
            Err(error) => return Err(error),
        };
        if bytes.len() <= KEPT {
            *last() = Some((range.start, bytes.clone()));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;

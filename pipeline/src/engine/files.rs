//! Files by path or URL: on the disk, and in buckets.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use futures::TryStreamExt as _;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt as _};
use tessera_datasets::local::LocalFiles;
use tessera_datasets::{Entry, Error, Files, Listed, Read, as_url};
use tokio::sync::Semaphore;

use crate::store::storage::object::bucket::{Bucket, begin, wait};

/// Requests for files that are under way at once, of the whole process.
const AT_ONCE: usize = 64;

/// Files on the disk, and in buckets.
#[derive(Debug, Default)]
pub struct AnyFiles {
    /// By the folder that files were asked for of, which are few.
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl AnyFiles {
    /// The bucket of a URL, and the name of a file in it.
    fn bucket(&self, url: &str) -> io::Result<(Bucket, String)> {
        let behind = url.split_once("://").map_or(0, |(scheme, _)| scheme.len() + "://".len());
        let end = url[behind..].find('/').map_or(url.len(), |at| behind + at);
        let (root, name) = (&url[..end], url[end..].trim_matches('/'));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = match buckets.get(root) {
            Some(bucket) => bucket.clone(),
            None => buckets.entry(root.to_owned()).or_insert(Bucket::of(root)?).clone(),
        };
        Ok((bucket, name.to_owned()))
    }

    /// Begins to read a file.
    fn begin(&self, read: &Read, url: &str) -> io::Result<impl Future<Output = io::Result<Vec<u8>>> + Send + 'static> {
        static FREE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(AT_ONCE));
        let (bucket, name) = self.bucket(url)?;
        let (key, range) = (bucket.key(&name)?, read.range);
        Ok(async move {
            let _place = FREE.acquire().await;
            let range = range.map(|(offset, length)| GetRange::Bounded(offset..offset + length));
            let options = GetOptions { range, ..GetOptions::default() };
            let get = async { bucket.store.get_opts(&key, options).await?.bytes().await };
            let bytes = get.await.map_err(|error| bucket.why(error))?;
            Ok(bytes.into())
        })
    }

    fn remote(&self, read: &Read, url: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.begin(read, url).and_then(wait);
        bytes.and_then(|bytes| whole(read, bytes)).map_err(|error| Error::io(&read.path, error))
    }
}

/// Refuses fewer bytes than a range has.
fn whole(read: &Read, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    match read.range {
        Some((_, length)) if bytes.len() as u64 != length => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(bytes),
    }
}

fn entry(path: &str, meta: &ObjectMeta) -> Entry {
    let modified_ns = meta.last_modified.timestamp_nanos_opt().unwrap_or(0);
    // A store that has no ETags has times.
    let e_tag = meta.e_tag.as_deref().map(Into::into);
    Entry { path: path.into(), size: meta.size, modified_ns, changed_ns: modified_ns, inode: 0, e_tag }
}

/// The objects below a folder, or the one that has its name.
async fn list(bucket: Bucket, folder: String) -> io::Result<Listed> {
    let refused = |error| bucket.why(error);
    let root = bucket.key(&folder)?;
    let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut listed = Listed::default();
    let mut found = bucket.store.list(Some(&root).filter(|root| !root.as_ref().is_empty()));
    let mut is_there = false;
    while let Some(meta) = found.try_next().await.map_err(refused)? {
        is_there = true;
        let Some(path) = meta.location.as_ref().strip_prefix(&below) else { continue };
        // Some tools make empty objects in place of folders: their keys end with a slash, which the library takes away.
        if path.is_empty() || path.split('/').any(|part| part.starts_with('.')) {
            continue;
        }
        listed.files.push(entry(path, &meta));
    }
    if !is_there {
        let meta = bucket.store.head(&root).await.map_err(refused)?;
        let name = folder.rsplit('/').next().unwrap_or(&folder);
        listed.files.push(entry(name, &meta));
    }
    listed.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    drop_folders(&mut listed);
    Ok(listed)
}

/// What lies in a folder itself, with whether it is a folder.
async fn names(bucket: Bucket, folder: String) -> io::Result<Vec<(String, bool)>> {
    let root = bucket.key(&folder)?;
    let prefix = Some(&root).filter(|root| !root.as_ref().is_empty());
    let found = bucket.store.list_with_delimiter(prefix).await.map_err(|error| bucket.why(error))?;
    let files = found.objects.iter().map(|meta| (meta.location.filename(), false));
    let folders = found.common_prefixes.iter().map(|path| (path.filename(), true));
    let shown = files.chain(folders).filter_map(|(name, is_folder)| Some((name?, is_folder)));
    Ok(shown.filter(|(name, _)| !name.starts_with('.')).map(|(name, is_folder)| (name.to_owned(), is_folder)).collect())
}

/// Takes away empty objects that stand for folders: others lie below them.
fn drop_folders(listed: &mut Listed) {
    let files = &listed.files;
    let is_folder = |file: &Entry| {
        let below = format!("{}/", file.path);
        let next = files.partition_point(|file| *file.path < *below);
        files.get(next).is_some_and(|file| file.path.starts_with(&below))
    };
    let folders: Vec<bool> = files.iter().map(|file| file.size == 0 && is_folder(file)).collect();
    let mut at = folders.into_iter();
    listed.files.retain(|_| !at.next().unwrap_or(false));
}

impl Files for AnyFiles {
    fn list(&self, root: &Path) -> Result<Listed, Error> {
        let Some(url) = as_url(root) else { return LocalFiles.list(root) };
        let listed = self.bucket(url).and_then(|(bucket, folder)| wait(list(bucket, folder)));
        listed.map_err(|error| Error::io(root, error))
    }

    fn names(&self, root: &Path, visit: &mut dyn FnMut(&str, bool) -> bool) -> Result<(), Error> {
        let Some(url) = as_url(root) else { return LocalFiles.names(root, visit) };
        let found = self.bucket(url).and_then(|(bucket, folder)| wait(names(bucket, folder)));
        let found = found.map_err(|error| Error::io(root, error))?;
        let _ = found.iter().all(|(name, is_folder)| visit(name, *is_folder));
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let Some(url) = as_url(path) else { return LocalFiles.read(path) };
        self.remote(&Read { path: path.to_owned(), range: None }, url)
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let Some(url) = as_url(path) else { return LocalFiles.read_range(path, offset, length) };
        if length == 0 {
            return Ok(Vec::new());
        }
        self.remote(&Read { path: path.to_owned(), range: Some((offset, length)) }, url)
    }

    fn read_each(&self, reads: &[Read]) -> Vec<Result<Vec<u8>, Error>> {
        // All of them begin before the first is waited for.
        let begun: Vec<_> =
            reads.iter().map(|read| as_url(&read.path).map(|url| self.begin(read, url).map(begin))).collect();
        let finish = |(read, begun): (&Read, Option<io::Result<tokio::task::JoinHandle<_>>>)| match begun {
            None => match read.range {
                None => LocalFiles.read(&read.path),
                Some((offset, length)) => LocalFiles.read_range(&read.path, offset, length),
            },
            Some(begun) => {
                let bytes = begun.and_then(|begun| wait(begun).map_err(io::Error::other)?);
                bytes.and_then(|bytes| whole(read, bytes)).map_err(|error| Error::io(&read.path, error))
            }
        };
        reads.iter().zip(begun).map(finish).collect()
    }

    fn at_once(&self, root: &Path) -> usize {
        if as_url(root).is_some() { AT_ONCE } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    /// A bucket of objects with these keys.
    fn files(keys: &[(&str, &[u8])]) -> AnyFiles {
        let bucket = Bucket::over(Arc::new(InMemory::new()), "s3://b", "");
        for (key, bytes) in keys {
            let (bucket, key, bytes) = (bucket.clone(), bucket.key(key).unwrap(), bytes.to_vec());
            wait(async move { bucket.store.put(&key, bytes.into()).await }).unwrap();
        }
        AnyFiles { buckets: Mutex::new([("s3://b".to_owned(), bucket)].into()) }
    }

    #[test]
    fn objects_are_listed_like_files() {
        let keys =
            ["d/b.jpg", "d/a/z z.jpg", "d/a/b/c#1%20.jpg", "d/.hidden/x.jpg", "d/a/.x.jpg", "dd/other.jpg", "d/é.jpg"];
        let mut all: Vec<(&str, &[u8])> = keys.iter().map(|key| (*key, &b"xyz"[..])).collect();
        all.push(("d/a", b""));
        let files = files(&all);
        for root in ["s3://b/d", "s3://b/d/"] {
            let listed = files.list(Path::new(root)).unwrap();
            let paths: Vec<&str> = listed.files.iter().map(|e| &*e.path).collect();
            assert_eq!(paths, ["a/b/c#1%20.jpg", "a/z z.jpg", "b.jpg", "é.jpg"]);
            assert!(listed.files.iter().all(|e| e.size == 3 && e.modified_ns > 0 && e.e_tag.is_some()));
            let first = Path::new(root).join(&*listed.files[0].path);
            assert_eq!(files.read(&first).unwrap(), b"xyz");
        }
        assert_eq!(files.list(Path::new("s3://b/d/b.jpg")).unwrap().files[0].path.as_ref(), "b.jpg");
        assert_eq!(files.list(Path::new("s3://b")).unwrap().files.len(), 5);
        let missing = files.list(Path::new("s3://b/e")).unwrap_err().to_string();
        assert_eq!(missing, "s3://b/e: nothing is there");
    }

    #[test]
    fn many_are_read_in_their_order() {
        let keys: Vec<(String, Vec<u8>)> = (0..200_u32).map(|at| (format!("d/{at}"), at.to_le_bytes().to_vec())).collect();
        let files = files(&keys.iter().map(|(key, bytes)| (key.as_str(), &bytes[..])).collect::<Vec<_>>());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), b"0123456789").unwrap();
        let read = |path: &str, range| Read { path: path.into(), range };
        let mut reads: Vec<Read> = keys.iter().map(|(key, _)| read(&format!("s3://b/{key}"), None)).collect();
        reads.push(read("s3://b/d/7", Some((0, 1))));
        reads.push(read("s3://b/d/7", Some((2, 9))));
        reads.push(read("s3://b/none", None));
        reads.push(read(dir.path().join("f").to_str().unwrap(), Some((3, 4))));
        let mut found = files.read_each(&reads);
        assert_eq!(found.pop().unwrap().unwrap(), b"3456");
        assert!(found.pop().unwrap().unwrap_err().to_string().contains("nothing is there"));
        assert!(found.pop().unwrap().is_err(), "it ends before");
        assert_eq!(found.pop().unwrap().unwrap(), [7]);
        assert!(found.into_iter().map(Result::unwrap).eq(keys.into_iter().map(|(_, bytes)| bytes)));
    }
}

//! Files that queries and sorted scans spill to. They have no name: the system removes them with the process, however that ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::{Stream, stream};
use tokio::task::spawn_blocking;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Makes the files of one query, in a folder that is there.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    /// Bytes that all of them may have.
    most: u64,
    used: Arc<AtomicU64>,
}

impl Files {
    /// Without any file yet; all files together may have at most `most` bytes.
    pub fn new(folder: PathBuf, most: u64) -> Self {
        Self { folder, most, used: Arc::default() }
    }
}

impl TempFileFactory for Files {
    fn create_temp_file(&self, _: &str) -> Result<Arc<dyn SpillFile>> {
        let (most, used) = (self.most, self.used.clone());
        Ok(Arc::new(Spilled(Arc::new(Inner { file: nameless(&self.folder)?, bytes: AtomicU64::new(0), most, used }))))
    }
}

/// A new file without a name.
fn nameless(folder: &Path) -> io::Result<File> {
    tempfile::tempfile_in(folder).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))
}

#[derive(Debug)]
struct Inner {
    file: File,
    bytes: AtomicU64,
    most: u64,
    used: Arc<AtomicU64>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// One file.
struct Spilled(Arc<Inner>);

impl SpillFile for Spilled {
    fn size(&self) -> Option<u64> {
        Some(self.0.bytes.load(Ordering::Acquire))
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        Ok(Box::pin(stream::try_unfold((self.0.clone(), 0), |(inner, at)| async move {
            let reader = inner.clone();
            let read = spawn_blocking(move || read(&reader.file, at)).await;
            let bytes = read.map_err(|error| DataFusionError::External(error.into()))??;
            let next = at + bytes.len() as u64;
            Ok((!bytes.is_empty()).then_some((bytes, (inner, next))))
        })))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(Writer(self.0.clone())))
    }
}

/// The next bytes from a place on; none at the end.
fn read(file: &File, at: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; READ_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.into())
}

/// Writes to a file's end.
struct Writer(Arc<Inner>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Inner { file, bytes: size, most, used } = self.0.as_ref();
        let written = file.write_at(bytes, size.load(Ordering::Relaxed))?;
        size.fetch_add(written as u64, Ordering::Release);
        if used.fetch_add(written as u64, Ordering::Relaxed) + written as u64 > *most {
            let gib = most >> 30;
            return Err(io::Error::other(format!("the query's temporary files take more than {gib} GiB")));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_counted() {
        let files = Files::new(std::env::temp_dir(), 2 << 20);
        let file = files.create_temp_file("a sort").unwrap();
        let bytes: Vec<u8> = (0..READ_BYTES * 3 + 7).map(|at| (at % 251) as u8).collect();
        let mut writer = file.open_writer().unwrap();
        writer.write_all(&bytes).unwrap();
        writer.finish().unwrap();
        assert_eq!(file.size(), Some(bytes.len() as u64));
        for _ in 0..2 {
            let found: Vec<Bytes> = file.read_stream().unwrap().try_collect().await.unwrap();
            assert!(found.concat() == bytes);
        }
        let other = files.create_temp_file("another").unwrap();
        let refused = other.open_writer().unwrap().write_all(&vec![0; 2 << 20]).unwrap_err();
        assert!(refused.to_string().contains("temporary files take more than"), "{refused}");
        drop((writer, file, other));
        assert_eq!(files.used.load(Ordering::Relaxed), 0);
    }
}

//! What all targets share: files in memory, and what must hold of a data set or a table, whatever its bytes are.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use arrow::array::{Array as _, RecordBatch};
use tessera_datasets::formats::{Format, Options};
use tessera_datasets::layout::Role;
use tessera_datasets::tables::{self, Reading};
use tessera_datasets::tar::unpacked::is_packed;
use tessera_datasets::{Error, FileDigest, Files as _, Fingerprint};
use tessera_schemas::images::{self, Source};
use tessera_schemas::text;

pub use files::{Memory, ROOT};

mod files;
mod memory;

#[global_allocator]
static MEMORY: memory::Bounded = memory::Bounded;

/// Rows that are looked at: a few bytes may stand for any number.
const MOST_ROWS: usize = 50_000;

/// A fuzzer's program that hands its inputs to a function. Before the first one, it is seen to it that a panic in our own crates ends the
/// process, even where a reader catches those of a library.
#[macro_export]
macro_rules! fuzz {
    (|$data:ident| $body:expr) => {
        libfuzzer_sys::fuzz_target!(init: $crate::begin(), |$data: &[u8]| {
            $body;
        });
    };
}

/// What comes before the first input.
pub fn begin() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or("", |place| place.file());
        let is_ours = !place.contains("/.cargo/") && !place.contains("/rustc/");
        // Where nobody catches it, the fuzzer ends the process.
        eprintln!("{panic}");
        if is_ours {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
    }));
    // A child that HDF5's library makes crash dies of it, as it does elsewhere; the fuzzer's handlers would tell of it instead.
    // SAFETY: the handler calls nothing but `signal`.
    unsafe {
        libc::pthread_atfork(None, None, Some(forget_handlers));
    }
}

unsafe extern "C" fn forget_handlers() {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGILL, libc::SIGFPE, libc::SIGXCPU, libc::SIGALRM] {
        // SAFETY: the default is a handler of every signal.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Parts of an input, between lines of `---`.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    const BETWEEN: &[u8] = b"\n---\n";
    let mut rest = data;
    std::array::from_fn(|at| {
        let end = rest.windows(BETWEEN.len()).position(|found| found == BETWEEN).filter(|_| at + 1 < N);
        let (part, behind) = end.map_or((rest, &[][..]), |end| (&rest[..end], &rest[end + BETWEEN.len()..]));
        rest = behind;
        part
    })
}

/// Lists a data set, makes its rows and reads its images.
pub fn images(files: &Memory, format: Format, path: &str, options: &Options) {
    let path = if path.is_empty() { ROOT.into() } else { Path::new(ROOT).join(path) };
    if let Err(error) = read_images(files, format, &path, options) {
        said(&error);
    }
}

fn read_images(files: &Memory, format: Format, path: &Path, options: &Options) -> Result<(), Error> {
    let recognised = Format::recognise(files, path);
    let opened = format.open(files, path, options)?;
    recognised?;
    let (layout, root) = (opened.layout, opened.root);
    let listed = layout.list(files)?;
    let images = listed.files.iter().filter(|entry| layout.role(&entry.path) != Role::Beside);
    images.for_each(|entry| inner(&entry.path));
    assert!(listed.files.is_sorted_by(|one, two| one.path < two.path), "twice, or in no order: {listed:?}");
    let sizes: BTreeMap<&str, u64> = listed.files.iter().map(|entry| (&*entry.path, entry.size)).collect();
    let prints: Vec<Fingerprint> = listed.files.iter().map(|entry| files.print(&root, entry)).collect();
    let unpacked = tempfile::tempdir_in("/dev/shm").expect("there is room in memory");
    let (mut failed, mut rows) = (None, 0);
    for found in layout.rows(files, &prints)? {
        let found = match found {
            Ok(found) => found.rows,
            Err(error) => {
                said(&error);
                failed = Some(error);
                continue;
            }
        };
        assert_eq!(found.schema(), layout.schema());
        rows += found.num_rows();
        check(&found);
        if rows > MOST_ROWS {
            return Ok(());
        }
        let sources: Vec<Source<'_>> = images::sources(&found).expect("rows have sources").collect();
        let bytes = layout.access().read_each(files, &root, unpacked.path(), &sources);
        let digests = text(&found, "digest").expect("rows have digests");
        assert_eq!(bytes.len(), sources.len());
        for ((source, bytes), digest) in sources.iter().zip(bytes).zip(digests) {
            let size = *sizes.get(source.path).unwrap_or_else(|| panic!("no listed file: {source:?}"));
            let range = source.offset.filter(|_| !is_packed(source.path)).zip(source.length);
            let ends = range.map_or(Some(0), |(offset, length)| offset.checked_add(length));
            assert!(ends.is_some_and(|end| end <= size), "{source:?} of {size} bytes");
            let bytes = bytes.unwrap_or_else(|error| panic!("{source:?} is listed, and cannot be read: {error}"));
            assert_eq!(digest, Some(&*FileDigest::of(&blake3::hash(&bytes)).to_string()), "{source:?}");
            assert!(source.length.is_none_or(|length| length == bytes.len() as u64), "{source:?} has {}", bytes.len());
        }
    }
    let count = |role| listed.files.iter().filter(|entry| layout.role(&entry.path) == role).count();
    let images = count(Role::Image);
    assert!(failed.is_some() || count(Role::Shard) > 0 || rows == images, "{rows} rows of {images} images");
    Ok(())
}

/// Reads files as a table, which is one whatever is asked first.
pub fn table(files: &Memory, reading: &Reading) {
    if let Err(error) = read_table(files, reading) {
        said(&error);
    }
}

fn read_table(files: &Memory, reading: &Reading) -> Result<(), Error> {
    let root = Path::new(ROOT);
    let entries = tables::tables(root, files.list(root)?)?;
    let schema = tables::schema(files, root, &entries, reading)?;
    let prints: Vec<Fingerprint> = entries.iter().map(|entry| files.print(root, entry)).collect();
    let read = |reading: &Reading| {
        let (mut batches, mut rows) = (Vec::new(), 0);
        let mut take = |batch| -> Result<(), Error> {
            rows += RecordBatch::num_rows(&batch);
            batches.push(batch);
            if rows > MOST_ROWS { Err(Error::format(ROOT, "enough")) } else { Ok(()) }
        };
        tables::read(files, root, &prints, &schema, reading, &mut take).map(|()| batches)
    };
    let batches = read(reading)?;
    let mut ids = HashSet::new();
    for batch in &batches {
        assert_eq!(batch.schema(), schema);
        check(batch);
        for id in images::ids(batch).expect("a table has ids") {
            assert!(ids.insert(id.expect("no id is null")), "twice: {id:?}");
        }
    }
    let again = read(&Reading { threads: 3, ..reading.clone() })?;
    assert_eq!(format!("{batches:?}"), format!("{again:?}"), "read again, it is another table");
    Ok(())
}

/// Columns are what their types say, and are as strings of UTF-8 as they should be.
fn check(batch: &RecordBatch) {
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        column.to_data().validate_full().unwrap_or_else(|error| panic!("{field:?}: {error}"));
    }
}

/// A path of a listing stays below its root.
fn inner(path: &str) {
    let leads_out = path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..");
    assert!(!leads_out, "a path leads out of its root: {path:?}");
}

/// What is said of a file that cannot be read is fit to be shown.
fn said(error: &Error) {
    let said = error.to_string();
    assert!(said.contains(": ") && !said.starts_with(':'), "it names no file: {said}");
    assert!(!said.contains(char::is_control), "it is not fit to be shown: {said:?}");
    assert!(said.len() < 16 << 10, "a message of {} bytes", said.len());
}

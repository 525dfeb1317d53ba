//! What all pages share: the tables as they are now, answers, small images, and who may do what.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::answers::Answers;
use super::clusters::Known;
use super::events::Tail;
use super::foretold::Foretold;
use super::guard::Guard;
use super::strips::Strips;
use crate::ask::meanwhile;
use crate::ask::page::answer::Answer;
use crate::engine::catalog::Catalog;
use crate::store::Store;
use crate::store::generation;

/// What handlers get as their state.
pub type Shared = Arc<Site>;

/// How long what was read of a bucket holds: each look at it is a request for each stage.
const LOOK: Duration = Duration::from_secs(2);
/// Queries of one person that run at once.
const QUERIES: usize = 2;

/// A pipeline's tables, read anew.
pub struct Read {
    /// The stages, with a generation of snapshots.
    pub catalog: Arc<Catalog>,
    /// What is to be known of them.
    pub note: Option<String>,
}

/// Reads a pipeline's file and its tables; may block.
pub type Reader = Box<dyn Fn() -> Result<Read> + Send + Sync>;

/// Says what a run would do about each stage; may block.
pub type Foretell = Box<dyn Fn() -> Vec<crate::ask::page::figures::State> + Send + Sync>;

/// A generation of tables: all that a request reads.
#[derive(Clone)]
pub struct Now {
    /// The stages.
    pub catalog: Arc<Catalog>,
    /// What tells this generation and this file from others.
    pub version: Arc<str>,
    /// What is to be known of it: of tables that are of another file than this one, say.
    pub notes: Arc<Vec<String>>,
}

/// The state of all pages.
pub struct Site {
    /// The pipeline's file as commands name it, with `--limit` if that is given.
    pub arguments: String,
    /// The pipeline's file.
    pub file: PathBuf,
    /// The words of a command line behind the command that name the same tables.
    pub words: Vec<OsString>,
    /// Who is answered.
    pub guard: Guard,
    /// What stands in the forms of this process's pages.
    pub token: String,
    /// Whether pages may change anything.
    pub edit: bool,
    /// Answers of queries.
    pub answers: Answers,
    /// Rows of small images.
    pub strips: Strips,
    /// What a run would do.
    pub foretold: Foretold,
    /// Tables of clusters.
    pub clusters: Known,
    /// What was read of a run's events.
    pub tail: Tail,
    /// Bounds how many queries of people run at once.
    pub queries: Arc<Semaphore>,
    store: Store,
    reader: Reader,
    is_remote: bool,
    known: Mutex<Option<(Instant, Now)>>,
}

/// What a site is made of.
pub struct Parts {
    /// The pipeline's file as commands name it.
    pub arguments: String,
    /// The pipeline's file.
    pub file: PathBuf,
    /// The words of a command line behind the command that name the same tables.
    pub words: Vec<OsString>,
    /// Who is answered.
    pub guard: Guard,
    /// Whether pages may change anything.
    pub edit: bool,
    /// The store.
    pub store: Store,
    /// Reads the tables.
    pub reader: Reader,
    /// Says what a run would do.
    pub foretell: Foretell,
}

impl Site {
    /// The state of pages over a pipeline; the store is not read yet.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(parts: Parts) -> Result<Self> {
        let Parts { arguments, file, words, guard, edit, store, reader, foretell } = parts;
        Ok(Self {
            arguments,
            file,
            words,
            guard,
            token: random()?,
            edit,
            answers: Answers::default(),
            strips: Strips::default(),
            foretold: Foretold::new(foretell),
            clusters: Known::default(),
            tail: Tail::default(),
            queries: Arc::new(Semaphore::new(QUERIES)),
            is_remote: tessera_datasets::as_url(&store.place()).is_some(),
            store,
            reader,
            known: Mutex::default(),
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The newest generation: whatever a run has published before this is asked is in it.
    ///
    /// # Errors
    /// The store or the file cannot be read, and no table is there to show all the same.
    pub async fn now(self: &Arc<Self>) -> Result<Now> {
        let site = self.clone();
        spawn_blocking(move || site.look()).await.context("the tables could not be read")?
    }

    fn look(&self) -> Result<Now> {
        // One at a time: the others find what the first has read.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, now)) = known.as_ref()
            && self.is_remote
            && at.elapsed() < LOOK
        {
            return Ok(now.clone());
        }
        let version = self.version()?;
        if let Some((at, now)) = known.as_mut()
            && *now.version == version
        {
            *at = Instant::now();
            return Ok(now.clone());
        }
        let Read { catalog, note } = (self.reader)()?;
        let all = (0..catalog.plan.graph.nodes.len()).collect();
        let notes = note.into_iter().chain(meanwhile::notes(&catalog, &all)?).collect();
        let now = Now { catalog, version: version.into(), notes: Arc::new(notes) };
        *known = Some((Instant::now(), now.clone()));
        Ok(now)
    }

    /// What tells the tables and the file as they are from all others. It is looked up before they are read, so that what changes meanwhile
    /// is read again.
    fn version(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for (stage, snapshot) in generation::names(&self.store)? {
            hasher.update(format!("{stage}\0{snapshot}\0").as_bytes());
        }
        if let Ok(found) = std::fs::metadata(&self.file) {
            let modified = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            hasher.update(format!("{} {modified:?}", found.len()).as_bytes());
        }
        Ok(hasher.finalize().to_hex()[..16].to_owned())
    }

    /// The answer to a query of a page.
    ///
    /// # Errors
    /// A table is not there or damaged, or the query takes more than a page's may.
    pub async fn answer(&self, now: &Now, sql: String) -> Result<Arc<Answer>> {
        self.answers.of(now, sql).await
    }
}

/// Text that nobody guesses.
fn random() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    let mut source = std::fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    source.read_exact(&mut bytes).context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

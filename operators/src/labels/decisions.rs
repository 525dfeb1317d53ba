//! The file of decisions as a stage has it: where it lies, what it said when the stage was planned, and its part of the stage's key.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use blake3::Hasher;
use tessera_datasets::as_url;
use tessera_datasets::names::{Decision, Names};
use tessera_schemas::clusters;

use crate::operator::{BindError, Binding, RunError};

/// Decisions of which a key has a line each; more are known by one digest.
const TOLD: usize = 5000;

/// Where names are looked for, unless a stage says.
pub const USUAL: &str = "names.csv";

/// The same, as configs have it.
pub fn usual() -> PathBuf {
    USUAL.into()
}

/// A file of decisions, read once: what a stage's key says and what its kernel works with are the same, whatever is written meanwhile.
pub struct Decisions {
    place: PathBuf,
    /// As messages name it.
    name: String,
    read: OnceLock<Names>,
}

impl Decisions {
    /// Of a stage's `path`.
    ///
    /// # Errors
    /// It lies in a bucket, or names no file.
    pub fn new(path: &Path, inputs: &Binding<'_>) -> Result<Self, BindError> {
        let name = path.to_string_lossy().into_owned();
        if as_url(path).is_some() {
            let error = BindError::key("path", "names are written to a file on a disk, and this is a URL");
            return Err(error.help("path = \"names.csv\" is a file beside the pipeline file"));
        }
        if path.file_name().is_none() {
            return Err(BindError::key("path", format!("`{name}` names no file")).help("path = \"names.csv\""));
        }
        Ok(Self { place: inputs.resolve(path), name, read: OnceLock::new() })
    }

    /// What the file said when this was asked first.
    ///
    /// # Errors
    /// It cannot be read, or a line is wrong.
    pub fn names(&self) -> Result<&Names, RunError> {
        match self.read.get() {
            Some(names) => Ok(names),
            None => {
                let names = Names::read(&self.place)?;
                Ok(self.read.get_or_init(|| names))
            }
        }
    }

    /// What a key has of the decisions that count: for each a digest, with what it says.
    ///
    /// # Errors
    /// As [`names`](Self::names).
    pub fn content(&self, counts: impl Fn(&Decision) -> bool) -> Result<Vec<String>, RunError> {
        let lines: Vec<&Decision> = self.names()?.all().iter().filter(|decision| counts(decision)).collect();
        if lines.len() > TOLD {
            let mut hasher = Hasher::new();
            lines.iter().for_each(|decision| add(&mut hasher, decision));
            return Ok(vec![format!("{} {}", short(&hasher), self.name)]);
        }
        let one = |decision: &&Decision| {
            let mut hasher = Hasher::new();
            add(&mut hasher, decision);
            format!("line {} {}: {} {}", short(&hasher), self.name, decision.subject, decision.action)
        };
        Ok(lines.iter().map(one).collect())
    }

    /// Refuses decisions about clusters that the table with their key does not have.
    ///
    /// # Errors
    /// There is one: its number is wrong.
    pub fn check(&self, key: &str, clusters: &clusters::Sorted) -> Result<(), RunError> {
        let own = self.names()?.all().iter().filter_map(Decision::cluster).filter(|(other, _)| *other == key);
        match own.map(|(_, number)| number).find(|number| clusters.numbers.binary_search(number).is_err()) {
            None => Ok(()),
            Some(number) => {
                let message =
                    format!("it has a line about cluster {number}, and the clusters with its key have none of that number");
                Err(RunError::Format { path: self.place.clone(), message })
            }
        }
    }
}

/// All that a result can follow from: who decided is not among it.
fn add(hasher: &mut Hasher, decision: &Decision) {
    let line = Decision { by: String::new(), stage: String::new(), ..decision.clone() }.line();
    hasher.update(&(line.len() as u64).to_le_bytes());
    hasher.update(line.as_bytes());
}

fn short(hasher: &Hasher) -> String {
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The clusters of a table, and its key.
///
/// # Errors
/// The table is empty, has a number twice, or is not one of clusters.
pub fn keyed(batches: &[arrow::array::RecordBatch]) -> Result<(clusters::Sorted, String), RunError> {
    let sorted = clusters::sorted(batches)?;
    if sorted.numbers.is_empty() {
        return Err(RunError::Input("the table of clusters is empty: there is nothing to name".into()));
    }
    if let Some(pair) = sorted.numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(RunError::Input(format!("`clusters` has cluster {} twice", pair[0])));
    }
    let key = sorted.key();
    Ok((sorted, key))
}

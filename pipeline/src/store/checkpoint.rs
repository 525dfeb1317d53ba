//! Checkpoints: what a long stage has reached, so that an interrupted run goes on from there.
//!
//! A stage has at most one a key, `STAGE/checkpoints/KEY`: the operator's state as it gave it, then what the engine holds for it
//! (numbers, left-out rows), then the length and the hash of all that. It is replaced by rename, so that a crash while one is written
//! leaves the one before.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tessera_schemas::metrics::Metric;

use super::storage::Storage;
use super::{CHECKPOINTS, DroppedRow, StageStore};

/// The end of a checkpoint: the length of the engine's part, and the hash of everything before the hash.
const LENGTH_BYTES: usize = 8;
const HASH_BYTES: usize = 32;

/// What a stage had reached.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// The operator's own.
    pub state: Vec<u8>,
    /// Numbers that it had recorded.
    pub metrics: Vec<Metric>,
    /// Rows that its scans had left out.
    pub dropped: Vec<DroppedRow>,
}

/// The engine's part, as it is written.
#[derive(Serialize, Deserialize)]
struct Held {
    /// Epoch, step, name, and the bits of the value: no number changes on the way through text.
    metrics: Vec<(i64, i64, String, u64)>,
    dropped: Vec<DroppedRow>,
}

/// Where a stage keeps the checkpoint of one key.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    storage: Arc<dyn Storage>,
    name: String,
}

impl StageStore {
    /// The place of a key's checkpoint.
    pub fn checkpoint(&self, key: &str) -> CheckpointFile {
        CheckpointFile { storage: self.storage.clone(), name: self.name(&format!("{CHECKPOINTS}/{key}")) }
    }
}

impl CheckpointFile {
    /// Where it lies.
    pub fn place(&self) -> PathBuf {
        self.storage.place(&self.name)
    }

    /// Reads it, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is damaged; the message names it.
    pub fn read(&self) -> Result<Option<Checkpoint>> {
        let bytes = match self.storage.read(&self.name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the checkpoint {}", self.place().display()));
            }
        };
        decode(bytes).map(Some).with_context(|| format!("the checkpoint {} is damaged", self.place().display()))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// It cannot be written; the one before is still there.
    pub fn write(&self, checkpoint: Checkpoint) -> Result<()> {
        Ok(self.storage.replace(&self.name, &encode(checkpoint)?)?)
    }

    /// Removes it, if it is there.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match self.storage.remove(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete the checkpoint {}", self.place().display()))
            }
            _ => Ok(()),
        }
    }
}

/// Appends to the state, which may be large, rather than copy it.
fn encode(checkpoint: Checkpoint) -> Result<Vec<u8>> {
    let Checkpoint { state: mut bytes, metrics, dropped } = checkpoint;
    let bits = |metric: Metric| (metric.epoch, metric.step, metric.name, metric.value.to_bits());
    let held = Held { metrics: metrics.into_iter().map(bits).collect(), dropped };
    let held = serde_json::to_vec(&held).context("a checkpoint's numbers")?;
    bytes.extend_from_slice(&held);
    bytes.extend_from_slice(&(held.len() as u64).to_le_bytes());
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    Ok(bytes)
}

fn decode(mut bytes: Vec<u8>) -> Result<Checkpoint> {
    let Some(end) = bytes.len().checked_sub(HASH_BYTES + LENGTH_BYTES) else { bail!("it has only {} bytes", bytes.len()) };
    let (content, hash) = bytes.split_at(end + LENGTH_BYTES);
    if blake3::hash(content).as_bytes() != hash {
        bail!("its {} bytes are not those that were written", bytes.len());
    }
    let length = u64::from_le_bytes(content[end..].try_into().expect("eight bytes"));
    let start = end.checked_sub(length as usize).context("its parts are longer than it is")?;
    let held: Held = serde_json::from_slice(&content[start..end]).context("its numbers cannot be read")?;
    bytes.truncate(start);
    let metric = |(epoch, step, name, bits)| Metric { epoch, step, name, value: f64::from_bits(bits) };
    Ok(Checkpoint { state: bytes, metrics: held.metrics.into_iter().map(metric).collect(), dropped: held.dropped })
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    fn checkpoint() -> Checkpoint {
        let metric = |value| Metric { epoch: 1, step: 7, name: "loss".to_owned(), value };
        let dropped = DroppedRow { stage: "s".into(), image_id: "a".into(), path: None, reason: "broken".into() };
        Checkpoint {
            state: (0..=255).collect(),
            metrics: vec![metric(0.1 + 0.2), metric(f64::INFINITY), metric(5e-324)],
            dropped: vec![dropped],
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = Store::new(folder.path(), "p").stage("s").checkpoint("key");
        assert_eq!(file.read().unwrap(), None);
        file.remove().unwrap();
        file.write(Checkpoint::default()).unwrap();
        assert_eq!(file.read().unwrap(), Some(Checkpoint::default()));
        file.write(checkpoint()).unwrap();
        assert_eq!(file.read().unwrap(), Some(checkpoint()));
        file.remove().unwrap();
        assert_eq!(file.read().unwrap(), None);
    }

    #[test]
    fn any_damage_is_found_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = Store::new(folder.path(), "p").stage("s").checkpoint("key");
        file.write(checkpoint()).unwrap();
        let whole = std::fs::read(file.place()).unwrap();
        for at in [0, 100, 256, 300, whole.len() - 41, whole.len() - 40, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(file.place(), bytes).unwrap();
            let error = format!("{:#}", file.read().unwrap_err());
            assert!(error.contains("checkpoints/key is damaged: its "), "{at}: {error}");
        }
        for length in [0, 39, 40, whole.len() - 1] {
            std::fs::write(file.place(), &whole[..length]).unwrap();
            assert!(file.read().is_err(), "{length}");
        }
    }
}

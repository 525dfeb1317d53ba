//! Manifests: what a snapshot is made of.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tessera_schemas::digest::{Digest, TableDigest};

use super::health::BLOCK_BYTES;
use super::key::KeyParts;
use super::seal;
use super::storage::Storage;

/// The newest format of a manifest; what has a higher number is left alone. The second one is that of manifests with parts that lack rows
/// of their files; earlier versions would show those. The third one is that of parts that say how long their blocks are; earlier versions
/// would take them for damaged.
pub const FORMAT: u32 = 3;

/// A published table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The lowest of the formats whose readers understand it: see [`FORMAT`].
    pub format: u32,
    /// Its name: the stage's key, with an attempt behind it if that was taken.
    pub id: String,
    /// The stage's name.
    pub stage: String,
    /// The stage's key.
    pub key: String,
    /// What the key is made of.
    pub parts_of_key: KeyParts,
    /// The rows, part by part.
    pub parts: Vec<Part>,
    /// Seconds since 1970.
    pub created: u64,
    /// Which run made it.
    pub run: String,
    /// How long that took.
    pub seconds: f64,
    /// Hash of the file of its metrics, if it has one.
    pub metrics: Option<String>,
    /// Where it was made, if its values depend on that to their last digits; not known of snapshots of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// The snapshot of the same stage whose table it goes on from. No part of the key.
    #[serde(default)]
    pub started_from: Option<String>,
    /// The snapshot of the same stage whose rows these are, in files that hold no others: see [`StageStore::compact`](super::StageStore::compact).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite_of: Option<String>,
    /// Its columns; not known of snapshots of earlier versions, whose parts have them.
    #[serde(default, with = "super::schema::known")]
    pub schema: Option<SchemaRef>,
    /// The stages whose snapshots it was made from, through views as well, by input; none of snapshots of earlier versions.
    #[serde(default)]
    pub inputs: BTreeMap<String, Vec<String>>,
}

/// What the last digits of a snapshot depend on beside its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// How many threads worked at once.
    pub threads: usize,
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, threads } = self;
        write!(f, "{device} with {threads} {}", if *threads == 1 { "thread" } else { "threads" })
    }
}

/// An immutable file of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the stage's folder of parts.
    pub file: String,
    /// Its key.
    pub key: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Hash of the file.
    pub checksum: String,
    /// Hashes of its blocks, so that who reads some columns checks no more than what is read; none of parts of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<String>,
    /// Bytes of a block, if it is not [`BLOCK_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<NonZeroU64>,
    /// Column digests of its rows.
    pub digests: BTreeMap<String, String>,
    /// Its smallest and largest `image_id`.
    pub ids: Option<(String, String)>,
    /// For a part of a map: the key of the stages that made it, whatever they read.
    pub recipe: String,
    /// The contents of the upstream snapshot's parts that it was made from.
    pub made_from: Vec<String>,
    /// Rows that were left out on the way.
    pub dropped: Vec<DroppedRow>,
    /// The places of rows that are in the file and no longer in the table, in order. `rows` and `digests` are without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<u32>,
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DroppedRow {
    /// The stage that could not handle it.
    pub stage: String,
    /// Whose row.
    pub image_id: String,
    /// Where its bytes lie.
    pub path: Option<String>,
    /// Why.
    pub reason: String,
}

impl Part {
    /// Bytes of a block.
    pub fn block_bytes(&self) -> u64 {
        self.block_bytes.map_or(BLOCK_BYTES, NonZeroU64::get)
    }

    /// Its digests.
    ///
    /// # Errors
    /// They are not written as digests.
    pub fn digest(&self) -> Result<TableDigest> {
        let parse = |(name, text): (&String, &String)| {
            let digest: Digest = text.parse().map_err(|message: String| anyhow::anyhow!(message))?;
            Ok((name.clone(), digest))
        };
        Ok(TableDigest { rows: self.rows, columns: self.digests.iter().map(parse).collect::<Result<_>>()? })
    }
}

/// A manifest that this Tessera cannot read.
#[derive(Debug, thiserror::Error)]
#[error("{} has format {format}, and this Tessera knows up to {FORMAT}: use a newer one", path.display())]
pub struct Newer {
    path: PathBuf,
    format: u32,
}

impl Manifest {
    pub(super) fn read(storage: &dyn Storage, name: &str) -> Result<Self> {
        let bytes = seal::read_file(storage, "manifest", name)?;
        let path = storage.place(name);
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        // A newer format may be sealed in another way: the version comes first.
        if let Ok(Version { format }) = serde_json::from_slice(&bytes)
            && format > FORMAT
        {
            return Err(Newer { path, format }.into());
        }
        Ok(seal::parse("manifest", &path, &bytes)?)
    }

    /// The manifest under another stage's name, which its left-out rows then have as well.
    pub fn of_stage(mut self, stage: &str) -> Self {
        let before = std::mem::replace(&mut self.stage, stage.to_owned());
        let dropped = self.parts.iter_mut().flat_map(|part| &mut part.dropped);
        dropped.filter(|row| row.stage == before).for_each(|row| stage.clone_into(&mut row.stage));
        self
    }

    /// The snapshot that a run made with these rows: itself, or the one that it is a rewrite of.
    pub fn original(&self) -> &str {
        self.rewrite_of.as_ref().unwrap_or(&self.id)
    }

    /// Rows of the table.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// The table's digests.
    ///
    /// # Errors
    /// A part's digests are damaged.
    pub fn digest(&self) -> Result<TableDigest> {
        let mut sum = TableDigest::default();
        for part in &self.parts {
            sum.add(&part.digest().with_context(|| format!("part {}", part.file))?);
        }
        Ok(sum)
    }

    /// Rows that were left out, each once.
    pub fn dropped(&self) -> std::collections::BTreeSet<&DroppedRow> {
        self.parts.iter().flat_map(|part| &part.dropped).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use serde_json::json;

    use super::*;

    /// As the first versions wrote it.
    fn earlier() -> serde_json::Value {
        json!({
            "format": 1, "id": "a", "stage": "s", "key": "k", "created": 7, "run": "r", "seconds": 0.5, "metrics": null,
            "parts_of_key": {
                "operator": "table", "version": 1, "config": {}, "seed": null, "files": [], "inputs": {}, "listing": null,
            },
            "parts": [{
                "file": "p.parquet", "key": "k", "rows": 1, "bytes": 9, "checksum": "c", "digests": {}, "ids": null,
                "recipe": "", "made_from": [], "dropped": [],
            }],
        })
    }

    #[test]
    fn manifests_of_earlier_versions_are_read() {
        let manifest: Manifest = serde_json::from_value(earlier()).unwrap();
        assert_eq!((&manifest.schema, manifest.inputs.len(), manifest.parts[0].blocks.len()), (&None, 0, 0));
        assert_eq!((manifest.machine, manifest.started_from, manifest.rewrite_of), (None, None, None));
    }

    #[test]
    fn a_schema_comes_back_with_all_that_is_noted_of_it() {
        let noted = |key: &str| [(key.to_owned(), "value".to_owned())].into();
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let fields = vec![
            Field::new("image_id", DataType::Utf8, false),
            Field::new("feature", DataType::FixedSizeList(item, 3), true).with_metadata(noted("tessera.of")),
        ];
        let schema = Arc::new(Schema::new_with_metadata(fields, noted("tessera.network")));
        let mut manifest: Manifest = serde_json::from_value(earlier()).unwrap();
        manifest.schema = Some(schema.clone());
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap().schema, Some(schema));
        let broken = text.replace("\"schema\":\"/////", "\"schema\":\"AAAA/");
        assert!(broken != text && serde_json::from_str::<Manifest>(&broken).is_err());
    }
}

//! `weights`: a network's tensors from a safetensors file.
//!
//! Input: none. Output: one row a tensor. Config: below; what the file does not say of its network (name, normalisation of images)
//! becomes the table's metadata. Exact.
//!
//! The format: <https://github.com/huggingface/safetensors>.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use tessera_datasets::{Entry, Files, Fingerprint};
use tessera_schemas::weights::{self as table, Weight};

use super::network::Name;
use super::tensors;
use crate::operator::{BindError, Binding, Context, Kernel, Operator, Port, RunError, Source};

/// Keys of a `weights` stage.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The safetensors file.
    path: PathBuf,
    /// The network whose tensors these are. Default: not said, and `infer` must say it.
    #[serde(default)]
    network: Option<Name>,
    /// The mean that images were normalised with: red, green, blue, in 0..1. Default: not said.
    #[serde(default)]
    mean: Option<[f32; 3]>,
    /// The standard deviation of the same. Default: not said.
    #[serde(default)]
    deviation: Option<[f32; 3]>,
}

/// What is wrong with a mean and a deviation, which go together.
pub(super) fn normalisation_faults(mean: Option<[f32; 3]>, deviation: Option<[f32; 3]>) -> Vec<BindError> {
    let mut faults = Vec::new();
    match (mean, deviation) {
        (Some(_), None) => faults.push(BindError::key("mean", "is of no use without `deviation`")),
        (None, Some(_)) => faults.push(BindError::key("deviation", "is of no use without `mean`")),
        _ => {}
    }
    if deviation.is_some_and(|deviation| !deviation.iter().all(|value| *value > 0.0 && value.is_finite())) {
        faults.push(BindError::key("deviation", "must be above 0 for each channel"));
    }
    if mean.is_some_and(|mean| !mean.iter().all(|value| (0.0..=1.0).contains(value))) {
        let fault = BindError::key("mean", "must be in 0..1 for each channel");
        faults.push(fault.help("divide by 255 what was measured on bytes"));
    }
    faults
}

/// The bound operator.
#[derive(Debug)]
pub struct Weights {
    file: PathBuf,
    folder: PathBuf,
    schema: SchemaRef,
}

impl Operator for Weights {
    const NAME: &'static str = "weights";
    const SUMMARY: &'static str = "a network's tensors from a safetensors file";
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[];
    const NEUTRAL: &'static [&'static str] = &["path"];
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut faults = normalisation_faults(config.mean, config.deviation);
        let file = inputs.resolve(&config.path);
        if !file.is_file() {
            let fault = BindError::key("path", format!("there is no file {}", file.display()));
            faults.push(fault.help("paths start from the folder of the pipeline file"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let schema = table::schema(&table::Network {
            name: config.network.map(|name| name.text().to_owned()),
            mean: config.mean,
            deviation: config.deviation,
            normalisation: None,
        });
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { file, folder, schema })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn kernel(self, _: &Context) -> Result<Kernel, RunError> {
        Ok(Kernel::Source(Box::new(self)))
    }
}

impl Source for Weights {
    fn root(&self) -> &Path {
        &self.folder
    }

    fn list(&self, files: &dyn Files) -> Result<Vec<Entry>, RunError> {
        Ok(files.list(&self.file)?)
    }

    fn read(
        &self,
        files: &dyn Files,
        _: &[Fingerprint],
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let bytes = files.read(&self.file)?;
        let malformed =
            |error| RunError::Format { path: self.file.clone(), message: format!("is no safetensors file: {error}") };
        let held = SafeTensors::deserialize(&bytes).map_err(malformed)?;
        let mut tensors = held.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let dtypes: Vec<_> = tensors.iter().map(|(_, view)| view.dtype().to_string()).collect();
        let weights = tensors.iter().zip(&dtypes).map(|((name, view), dtype)| Weight {
            tensor: name,
            shape: view.shape().iter().map(|&side| side as i64).collect(),
            dtype,
            data: view.data(),
        });
        tensors::batches(&self.schema, weights)?.into_iter().try_for_each(emit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use safetensors::tensor::{Dtype, TensorView, serialize};
    use serde_json::json;

    use super::*;
    use crate::operator::{At, Inputs, QueryPlanner};

    struct NoPlanner;
    impl QueryPlanner for NoPlanner {
        fn plan(&self, _: &str, _: &Inputs<SchemaRef>) -> Result<(SchemaRef, BTreeMap<String, Vec<String>>), String> {
            Err("no query here".to_owned())
        }
    }

    struct Disk;
    impl Files for Disk {
        fn list(&self, root: &Path) -> Result<Vec<Entry>, tessera_datasets::Error> {
            Ok(vec![Entry { path: root.file_name().unwrap().to_str().unwrap().to_owned(), size: 0, modified_ns: 0 }])
        }
        fn read(&self, path: &Path) -> Result<Vec<u8>, tessera_datasets::Error> {
            std::fs::read(path).map_err(|source| tessera_datasets::Error::Io { path: path.to_owned(), source })
        }
        fn read_range(&self, path: &Path, _: u64, _: u64) -> Result<Vec<u8>, tessera_datasets::Error> {
            self.read(path)
        }
    }

    fn bind(base: &Path, config: serde_json::Value) -> Result<Weights, Vec<BindError>> {
        let binding = Binding { inputs: &Inputs(BTreeMap::new()), base, planner: &NoPlanner };
        Weights::bind(serde_json::from_value(config).unwrap(), &binding)
    }

    fn read(weights: &Weights) -> Result<Vec<RecordBatch>, RunError> {
        let mut batches = Vec::new();
        weights.read(&Disk, &[], &mut |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }

    #[test]
    fn a_file_becomes_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensors = [
            ("b.weight", TensorView::new(Dtype::F32, vec![2, 2], &bytes).unwrap()),
            ("a.steps", TensorView::new(Dtype::I64, vec![], &bytes[..8]).unwrap()),
        ];
        std::fs::write(folder.path().join("w.safetensors"), serialize(tensors, None).unwrap()).unwrap();
        let config =
            json!({"path": "w.safetensors", "network": "small", "mean": [0.4, 0.5, 0.6], "deviation": [0.2, 0.2, 0.2]});
        let weights = bind(folder.path(), config).unwrap();
        let network = table::network(&weights.schema()).unwrap();
        assert_eq!((network.name.as_deref(), network.mean), (Some("small"), Some([0.4, 0.5, 0.6])));
        assert_eq!((weights.root(), weights.list(&Disk).unwrap()[0].path.as_str()), (folder.path(), "w.safetensors"));
        let batches = read(&weights).unwrap();
        let rows = table::rows(&batches[0]).unwrap();
        assert_eq!(batches.len(), 1);
        assert_eq!(rows[0], Weight { tensor: "a.steps", shape: vec![], dtype: "I64", data: &bytes[..8] });
        assert_eq!(rows[1], Weight { tensor: "b.weight", shape: vec![2, 2], dtype: "F32", data: &bytes });
    }

    #[test]
    fn a_malformed_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w.safetensors"), b"PK\x03\x04 a zip, not tensors").unwrap();
        let error = read(&bind(folder.path(), json!({"path": "w.safetensors"})).unwrap()).unwrap_err().to_string();
        assert!(error.contains("w.safetensors: is no safetensors file"), "{error}");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let faults = bind(Path::new("/nowhere"), json!({"path": "w", "mean": [100.0, 0.0, 0.0]})).unwrap_err();
        let at: Vec<_> = faults.iter().map(|fault| fault.at.clone()).collect();
        assert_eq!(at, [At::Key("mean".into()), At::Key("mean".into()), At::Key("path".into())], "{faults:?}");
        let faults = bind(Path::new("/nowhere"), json!({"path": "w", "deviation": [1.0, 0.0, 1.0]})).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}

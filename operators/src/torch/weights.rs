//! `weights`: a network's tensors from a safetensors file, or random ones.
//!
//! Input: none. Output: one row a tensor. Config: below; what the file does not say of its network (name, normalisation of images)
//! becomes the table's metadata. Exact.
//!
//! Without a file, the tensors are those that `train` starts from with the pipeline's seed: a baseline for what was learnt.
//!
//! The format: <https://github.com/huggingface/safetensors>.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use tessera_datasets::{Files, Fingerprint, Listed};
use tessera_schemas::weights::{self as table, Weight};

use super::input::Normalisation;
use super::network::{Name, Parameter, walk};
use super::tensors;
use crate::config::Limits;
use crate::operator::{BindError, Binding, Context, Kernel, Operator, Port, RunError, Source};

/// Keys of a `weights` stage.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The safetensors file. Default: none, and the weights of `network` are random.
    #[serde(default)]
    path: Option<PathBuf>,
    /// The network whose tensors these are. Default: not said, and `infer` must say it.
    #[serde(default)]
    network: Option<Name>,
    /// Of random weights: how many classes the network names. Default: none, and it has those layers only that `infer` knows.
    #[serde(default)]
    classes: Option<usize>,
    /// The mean that images were normalised with: red, green, blue, in 0..1. Default: not said.
    #[serde(default)]
    mean: Option<[f32; 3]>,
    /// The standard deviation of the same. Default: not said.
    #[serde(default)]
    deviation: Option<[f32; 3]>,
    /// In place of `mean` and `deviation`: `tile` or `tile-channel`, each image by its own mean and deviation, or `none`. Default: not
    /// said.
    #[serde(default)]
    normalisation: Option<String>,
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
    origin: Origin,
    schema: SchemaRef,
}

/// Where the tensors come from.
#[derive(Debug)]
enum Origin {
    /// A safetensors file.
    File { file: PathBuf, folder: PathBuf },
    /// The pipeline's seed.
    Seed(Vec<Parameter>),
}

impl Operator for Weights {
    const NAME: &'static str = "weights";
    const SUMMARY: &'static str = "a network's tensors from a safetensors file, or random ones";
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[];
    const SEEDED: bool = true;
    const NEUTRAL: &'static [&'static str] = &["path"];
    const LIMITS: Limits = &[("classes", 1e6), ("deviation", 1e3)];
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut faults = normalisation_faults(config.mean, config.deviation);
        if let Some(name) = &config.normalisation {
            if Normalisation::of_tiles(name).is_none() {
                let fault = BindError::key("normalisation", format!("`{name}` is unknown"));
                faults.push(fault.help("known: tile, tile-channel, none"));
            } else if config.mean.is_some() {
                faults.push(BindError::key("normalisation", "says what `mean` says too").help("leave one of the two away"));
            }
        }
        let origin = match (&config.path, config.network) {
            (Some(path), _) => of_file(inputs.resolve(path), config.classes),
            (None, Some(network)) => of_seed(network, config.classes),
            (None, None) => {
                let fault = BindError::stage("has neither a `path` to weights nor a `network` for random ones");
                Err(fault.help(format!("path = \"….safetensors\", or network = \"…\", one of: {}", Name::known())))
            }
        };
        match origin.map_err(|fault| faults.push(fault)) {
            Ok(origin) if faults.is_empty() => {
                let schema = table::schema(&table::Network {
                    name: config.network.map(|name| name.text().to_owned()),
                    mean: config.mean,
                    deviation: config.deviation,
                    normalisation: config.normalisation,
                });
                Ok(Self { origin, schema })
            }
            _ => Err(faults),
        }
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn kernel(self, context: &Context) -> Result<Kernel, RunError> {
        Ok(Kernel::Source(Box::new(Tensors { weights: self, seed: context.seed, base: context.base.clone() })))
    }
}

fn of_file(file: PathBuf, classes: Option<usize>) -> Result<Origin, BindError> {
    if classes.is_some() {
        return Err(BindError::key("classes", "is for random weights: a file has what it has").help("leave the key away"));
    }
    if !file.is_file() {
        let fault = BindError::key("path", format!("there is no file {}", file.display()));
        return Err(fault.help("paths start from the folder of the pipeline file"));
    }
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Origin::File { file, folder })
}

fn of_seed(network: Name, classes: Option<usize>) -> Result<Origin, BindError> {
    /// Of the images that all networks here take; no tensor's shape depends on it.
    const SIDE: usize = 224;
    let parameters = match classes {
        Some(0) => return Err(BindError::key("classes", "must be at least 1, is 0")),
        Some(classes) => network.network().classifier([SIDE; 2], classes).parameters(),
        None => walk(&network.network().trunk, &[3, SIDE, SIDE]).map(|(_, parameters)| parameters),
    };
    parameters.map(Origin::Seed).map_err(|error| BindError::key("network", error.to_string()))
}

/// The kernel.
struct Tensors {
    weights: Weights,
    seed: u64,
    base: PathBuf,
}

impl Source for Tensors {
    fn root(&self) -> &Path {
        match &self.weights.origin {
            Origin::File { folder, .. } => folder,
            Origin::Seed(_) => &self.base,
        }
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, RunError> {
        match &self.weights.origin {
            Origin::File { file, .. } => Ok(files.list(file)?),
            Origin::Seed(_) => Ok(Listed::default()),
        }
    }

    fn read(
        &self,
        files: &dyn Files,
        _: &[Fingerprint],
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let schema = &self.weights.schema;
        let file = match &self.weights.origin {
            Origin::File { file, .. } => file,
            Origin::Seed(parameters) => {
                let tensors = tensors::Tensors::initial(parameters, self.seed, tch::Device::Cpu)?;
                return tensors.write(schema)?.into_iter().try_for_each(emit);
            }
        };
        let bytes = files.read(file)?;
        let malformed = |error| RunError::Format { path: file.clone(), message: format!("is no safetensors file: {error}") };
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
        tensors::batches(schema, weights)?.into_iter().try_for_each(emit)
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
        fn list(&self, root: &Path) -> Result<Listed, tessera_datasets::Error> {
            tessera_datasets::local::LocalFiles.list(root)
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

    fn source(weights: Weights, seed: u64) -> Box<dyn Source> {
        match weights.kernel(&Context { seed, threads: 1, base: "/base".into(), scratch: std::env::temp_dir() }).unwrap() {
            Kernel::Source(source) => source,
            _ => panic!("`weights` is a source"),
        }
    }

    fn read(source: &dyn Source) -> Result<Vec<RecordBatch>, RunError> {
        let mut batches = Vec::new();
        source.read(&Disk, &[], &mut |batch| {
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
        let source = source(weights, 1);
        assert_eq!((source.root(), source.list(&Disk).unwrap().files[0].path.as_str()), (folder.path(), "w.safetensors"));
        let batches = read(&*source).unwrap();
        let rows = table::rows(&batches[0]).unwrap();
        assert_eq!(batches.len(), 1);
        assert_eq!(rows[0], Weight { tensor: "a.steps", shape: vec![], dtype: "I64", data: &bytes[..8] });
        assert_eq!(rows[1], Weight { tensor: "b.weight", shape: vec![2, 2], dtype: "F32", data: &bytes });
    }

    #[test]
    fn a_malformed_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w.safetensors"), b"PK\x03\x04 a zip, not tensors").unwrap();
        let weights = bind(folder.path(), json!({"path": "w.safetensors"})).unwrap();
        let error = read(&*source(weights, 1)).unwrap_err().to_string();
        assert!(error.contains("w.safetensors: is no safetensors file"), "{error}");
    }

    #[test]
    fn without_a_file_the_seed_decides() {
        let of = |config: serde_json::Value, seed| {
            let source = source(bind(Path::new("/base"), config).unwrap(), seed);
            assert_eq!((source.list(&Disk).unwrap(), source.root()), (Listed::default(), Path::new("/base")));
            read(&*source).unwrap()
        };
        let small = json!({"network": "small", "normalisation": "tile"});
        assert_eq!(of(small.clone(), 1), of(small.clone(), 1));
        assert_ne!(of(small.clone(), 1), of(small.clone(), 2));
        let batches = of(small, 1);
        let network = table::network(batches[0].schema_ref()).unwrap();
        assert_eq!((network.name.as_deref(), network.normalisation.as_deref()), (Some("small"), Some("tile")));
        let names = |batches: &[RecordBatch]| {
            let rows =
                batches.iter().flat_map(|batch| table::rows(batch).unwrap().into_iter().map(|row| row.tensor.to_owned()));
            rows.collect::<Vec<_>>()
        };
        assert!(names(&batches).contains(&"conv5.weight".to_owned()) && !names(&batches).contains(&"fc.weight".to_owned()));
        let whole = of(json!({"network": "small", "classes": 7}), 1);
        assert!(names(&whole).contains(&"fc.weight".to_owned()));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let faults = bind(Path::new("/nowhere"), json!({"path": "w", "mean": [100.0, 0.0, 0.0]})).unwrap_err();
        let at: Vec<_> = faults.iter().map(|fault| fault.at.clone()).collect();
        assert_eq!(at, [At::Key("mean".into()), At::Key("mean".into()), At::Key("path".into())], "{faults:?}");
        let faults = bind(Path::new("/nowhere"), json!({"path": "w", "deviation": [1.0, 0.0, 1.0]})).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        let fault = |config| bind(Path::new("/nowhere"), config).unwrap_err().remove(0);
        assert!(fault(json!({})).help.unwrap().contains("one of: alexnet, "));
        assert_eq!(fault(json!({"network": "small", "classes": 0})).at, At::Key("classes".into()));
        assert_eq!(fault(json!({"path": "w", "classes": 2})).at, At::Key("classes".into()));
        assert_eq!(fault(json!({"network": "small", "normalisation": "image"})).at, At::Key("normalisation".into()));
    }
}

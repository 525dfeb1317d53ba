//! `weights`: a network's tensors from a file, or random ones.
//!
//! Input: none. Output: one row a tensor. Config: below. Files are safetensors, and what `torch.save` writes of tensors by name
//! (`tensor_file`), of which nothing is run. Which network's the tensors are and how images are normalised for them becomes the table's
//! metadata: as the file says it (`tessera export` writes it there), or else as the config does; that they say different things is a
//! fault. So is a file whose tensors are not that network's: all this is known before any tensor is read. Exact.
//!
//! Without a file, the tensors are those that `train` starts from with the pipeline's seed: a baseline for what was learnt.

mod file;

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_datasets::layout::Found;
use tessera_datasets::{Files, Fingerprint, Listed};
use tessera_schemas::weights::{self as table, Weight};

pub use self::file::NORMALISATIONS;
use super::network::{Name, OTHERS, Parameter, walk};
use super::normalisation::{self, Normalisation};
use super::tensors;
use crate::config::Limits;
use crate::operator::{BindError, Binding, Context, Operator, Port, RunError, Source};
use crate::tensor_file::{Entry, Header, TensorFile};

/// Keys of a `weights` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file: safetensors, or what `torch.save` wrote of tensors by name. Default: none, and the weights of `network` are random.
    #[serde(default)]
    path: Option<PathBuf>,
    /// Of a file that `torch.save` wrote of several dictionaries of tensors (`{"student": …, "teacher": …}`): which one is meant, by its
    /// key; of a dictionary further in, by all keys that lead to it, as `"model.trunk"`; `""` is the file's own. Default: the only one
    /// that has matrices or kernels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// The network whose tensors these are; one of another architecture runs as a TorchScript `model` of `infer`. Default: the one that the file names, as `tessera export` writes it; if the file names
    /// none, `infer` has to.
    #[serde(default)]
    network: Option<Name>,
    /// Of random weights: how many classes the network's last layer has. Default: the network has only the layers that `infer` knows.
    #[serde(default)]
    classes: Option<usize>,
    /// The mean that images were normalised with: red, green, blue, in 0..1. Default: what the file says, if it says something.
    #[serde(default)]
    mean: Option<[f32; 3]>,
    /// The standard deviation that images were normalised with. Default: what the file says, if it says something.
    #[serde(default)]
    deviation: Option<[f32; 3]>,
    /// In place of `mean` and `deviation`. With `tile`, an image is normalised by the mean and the deviation of its own values, as each
    /// tile of a puzzle is; with `tile-channel`, each of its channels by its own; with `none`, images stay as they are. Default: what
    /// the file says, if it says something.
    #[serde(default)]
    normalisation: Option<String>,
}

/// The bound operator.
#[derive(Debug)]
pub struct Weights {
    origin: Origin,
    /// Which network's the tensors are, and how its images are normalised.
    network: table::Network,
    /// The prefix of the tensors' names in the file, which is removed; tensors of other names are then left out.
    prefix: String,
    schema: SchemaRef,
}

/// Where the tensors come from.
#[derive(Debug)]
enum Origin {
    /// A file, the dictionary in it that was asked for, and its header when the stage was bound.
    File { file: PathBuf, folder: PathBuf, state: Option<String>, header: Header },
    /// The pipeline's seed.
    Seed(Vec<Parameter>),
}

impl Operator for Weights {
    const NAME: &'static str = "weights";
    const SUMMARY: &'static str = "a network's tensors from a file (safetensors, or PyTorch's .pth), or random ones";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("tensor", "its name, as torchvision has it"),
        ("shape", "its dimensions"),
        ("dtype", "the type of its numbers"),
        ("data", "its numbers, row by row, as bytes"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.teacher]
op = "weights"
path = "teacher.safetensors"
network = "vgg16"
mean = [0.485, 0.456, 0.406]
deviation = [0.229, 0.224, 0.225]
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[];
    const SEEDED: bool = true;
    const NEUTRAL: &'static [&'static str] = &["path"];
    const LIMITS: Limits = &[("classes", 1e6), ("deviation", 1e3)];
    type Config = Config;
    type Kernel = Box<dyn Source>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut faults = normalisation::faults(config.mean, config.deviation);
        if let Some(name) = &config.normalisation {
            if Normalisation::of_tiles(name).is_none() {
                let fault = BindError::key("normalisation", format!("`{name}` is unknown"));
                faults.push(fault.help("known: tile, tile-channel, none"));
            } else if config.mean.is_some() {
                faults.push(BindError::key("normalisation", "says what `mean` says too").help("remove one of the two"));
            }
        }
        if config.state.is_some() && config.path.is_none() {
            let fault = BindError::key("state", "is for a file of several dictionaries of tensors, and there is no `path`");
            faults.push(fault.help("remove the key"));
        }
        let origin = match (&config.path, config.network) {
            (Some(path), _) => of_file(inputs.resolve(path), config.state, config.classes),
            (None, Some(network)) => of_seed(network, config.classes),
            (None, None) => {
                let fault = BindError::stage("has neither a `path` to weights nor a `network` for random ones");
                Err(fault.help(format!(
                    "path = \"….safetensors\" or \"….pth\", or network = \"…\", one of: {}; {OTHERS}",
                    Name::known()
                )))
            }
        };
        let given = table::Network {
            name: config.network.map(|name| name.text().to_owned()),
            mean: config.mean,
            deviation: config.deviation,
            normalisation: config.normalisation,
        };
        let origin = origin.map_err(|fault| faults.push(fault)).ok();
        let (network, prefix) = match &origin {
            Some(Origin::File { header, .. }) => file::network(header, given).unwrap_or_else(|more| {
                faults.extend(more);
                (table::Network::default(), String::new())
            }),
            Some(Origin::Seed(_)) | None => (given, String::new()),
        };
        match origin {
            Some(origin) if faults.is_empty() => {
                let schema = table::schema(&network);
                Ok(Self { origin, network, prefix, schema })
            }
            _ => Err(faults),
        }
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        let table::Network { name, mean, deviation, normalisation } = &self.network;
        let mut settled = vec![
            ("network", serde_json::json!(name)),
            ("mean", serde_json::json!(mean)),
            ("deviation", serde_json::json!(deviation)),
            ("normalisation", serde_json::json!(normalisation)),
        ];
        if let Origin::File { header: Header { state: Some(state), .. }, .. } = &self.origin {
            settled.push(("state", serde_json::json!(state)));
        }
        settled
    }

    fn notes(&self) -> Result<Vec<String>, RunError> {
        Ok(match &self.origin {
            Origin::File { header, .. } => file::notes(header, &self.network, &self.prefix),
            Origin::Seed(_) => Vec::new(),
        })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Source>, RunError> {
        Ok(Box::new(Tensors { weights: self, seed: context.seed, base: context.base.clone() }))
    }
}

fn of_file(file: PathBuf, state: Option<String>, classes: Option<usize>) -> Result<Origin, BindError> {
    if classes.is_some() {
        return Err(BindError::key("classes", "is for random weights, and this stage reads a file").help("remove the key"));
    }
    if !file.is_file() {
        let fault = BindError::key("path", format!("there is no file {}", file.display()));
        return Err(fault.help("paths start from the folder of the pipeline file"));
    }
    let found = TensorFile::open(&file, state.as_deref()).map_err(|error| {
        let key = if error.is_choice() { "state" } else { "path" };
        BindError::key(key, format!("{} {error}", file.display())).help(error.help(&file))
    })?;
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Origin::File { file, folder, state, header: found.header })
}

fn of_seed(network: Name, classes: Option<usize>) -> Result<Origin, BindError> {
    /// The side of images that all networks here take; no tensor's shape depends on it.
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
        _: &dyn Files,
        _: &[Fingerprint],
        emit: &mut dyn FnMut(Found) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let schema = &self.weights.schema;
        let (file, state, header) = match &self.weights.origin {
            Origin::File { file, state, header, .. } => (file, state, header),
            Origin::Seed(parameters) => {
                let tensors = tensors::Tensors::initial(parameters, self.seed, tch::Device::Cpu)?;
                return tensors.write(schema)?.into_iter().try_for_each(|batch| emit(batch.into()));
            }
        };
        let refused = |message: String| RunError::Format { path: file.clone(), message };
        let found = TensorFile::open(file, state.as_deref()).map_err(|error| refused(error.to_string()))?;
        // The table's metadata, and all that was checked, is of the header that was there when the stage was bound.
        if found.header != *header {
            return Err(refused("was replaced by another while the pipeline was checked: run again".to_owned()));
        }
        let prefix = self.weights.prefix.as_str();
        let all = header.tensors.iter();
        let wanted: Vec<(&str, &Entry)> =
            all.filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor))).collect();
        for batch in tensors::cuts(wanted.iter().map(|(_, tensor)| tensor.bytes())) {
            let mut held = Vec::new();
            for &(name, tensor) in &wanted[batch] {
                let data = found.data(tensor).map_err(|error| refused(format!("cannot be read: {error}")))?;
                if let Some(value) = not_finite(&tensor.dtype, &data) {
                    let message =
                        format!("its tensor `{prefix}{name}` has the value {value}: such weights give no sound features");
                    return Err(refused(message));
                }
                held.push((name, tensor, data));
            }
            let rows = held.iter().map(|(name, tensor, data)| Weight {
                tensor: name,
                shape: tensor.shape.iter().map(|&side| side as i64).collect(),
                dtype: &tensor.dtype,
                data,
            });
            emit(table::batch(schema, &rows.collect::<Vec<_>>())?.into())?;
        }
        Ok(())
    }
}

/// A value of a tensor that is infinite or no number.
fn not_finite(dtype: &str, data: &[u8]) -> Option<f64> {
    let wide = |value: f32| Some(f64::from(value)).filter(|value| !value.is_finite());
    match dtype {
        "F32" => data.chunks_exact(4).find_map(|b| wide(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        "BF16" => data.chunks_exact(2).find_map(|b| wide(f32::from_le_bytes([0, 0, b[0], b[1]]))),
        "F64" => {
            let values = data.chunks_exact(8).filter_map(|b| b.try_into().ok().map(f64::from_le_bytes));
            values.into_iter().find(|value| !value.is_finite())
        }
        // Five bits of exponent, all of them set.
        "F16" => data.chunks_exact(2).find_map(|b| {
            let bits = u16::from_le_bytes([b[0], b[1]]);
            let value =
                if bits & 0x3ff != 0 { f64::NAN } else { f64::INFINITY.copysign(if bits >> 15 == 1 { -1.0 } else { 1.0 }) };
            (bits & 0x7c00 == 0x7c00).then_some(value)
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

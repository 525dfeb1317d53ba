//! `infer`: a network's features of images.
//!
//! Inputs: `images` (`image_id`, `pixels`), and `weights` of a known network unless `model` names a TorchScript file. Output:
//! `image_id` and one vector an image: `feature`, or with a list of layers one column each, all from one pass. A feature map is
//! pooled if asked for, and flattened C, H, W. A layer is taken after its ReLU. Config: below.
//!
//! Rows are exact, whatever the batches and threads: images go through the network in blocks of a fixed number of rows, the last
//! padded with black images, on one thread of libtorch a worker.

use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{IMAGE_ID, features, pixels, weights};

use super::device::Device;
use super::network::{Name, OTHERS, Parameter, Step, dimensions, walk};
use super::normalisation::{self, Normalisation};
use super::tensors;
use super::weights::NORMALISATIONS;
use crate::config::Limits;
use crate::operator::{BindError, BindErrors, Binding, Column, ColumnKind, Context, Map, Operator, Port, RunError};

mod layers;
mod output;
mod run;
mod script;

use layers::Layers;
use output::Output;
use run::Inference;
use script::Script;

/// The port of images.
const IMAGES: &str = "images";
/// The port of weights.
const WEIGHTS: &str = "weights";

/// Keys of an `infer` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// One layer's name, or a list of names. Required with weights; a TorchScript model has none.
    #[serde(default)]
    layer: Option<Layers>,
    /// The side of the pooled maps: each feature map, whatever its size, becomes `pool` x `pool` values. (It is not the side of the
    /// pooling kernel.) With 0, maps are not pooled.
    #[serde(default)]
    pool: usize,
    /// In place of `pool`: the most values of a layer's feature. The maps of each layer are pooled to the largest side at which
    /// channels x side x side is no more. (The paper probes features of under 9,000 values, tables 4 and 6.) Default: no limit.
    #[serde(default)]
    values: Option<usize>,
    /// What is taken of the values that are pooled to one.
    #[serde(default)]
    pooling: Pooling,
    /// The mean to normalise images with: red, green, blue, in 0..1. Default: what the weights' table says.
    #[serde(default)]
    mean: Option<[f32; 3]>,
    /// The standard deviation to normalise images with. Default: what the weights' table says.
    #[serde(default)]
    deviation: Option<[f32; 3]>,
    /// A TorchScript file, in place of weights: takes `N x 3 x H x W`, and yields one tensor, or several. Default: none.
    #[serde(default)]
    model: Option<PathBuf>,
    /// Of a model that yields several tensors, which one is the feature: its place in a tuple or a list, from 0, or its key in a
    /// dictionary. Default: the model yields one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<Output>,
    /// The network that the weights are of. Default: what their table says.
    #[serde(default)]
    network: Option<Name>,
    /// Where it computes: `auto` (the first CUDA device, else the CPU), `cpu` or `cuda:N`.
    #[serde(default)]
    device: Device,
}

/// What is taken of the values that are pooled to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Their maximum.
    #[default]
    Max,
    /// Their mean.
    Avg,
}

/// The bound operator.
#[derive(Debug)]
pub struct Infer {
    plan: Plan,
    device: Device,
    schema: SchemaRef,
}

/// What every worker does.
#[derive(Debug)]
struct Plan {
    body: Body,
    size: [usize; 2],
    normalisation: Normalisation,
    /// Values a side, of each column; 0 where maps stay as they are.
    pools: Vec<usize>,
    pooling: Pooling,
}

/// The network.
#[derive(Debug)]
enum Body {
    /// Steps over tensors from the weights' table.
    Steps { steps: Vec<Step>, parameters: Vec<Parameter>, layers: Vec<String> },
    /// A TorchScript model.
    Script(Script),
}

impl Operator for Infer {
    const NAME: &'static str = "infer";
    const SUMMARY: &'static str = "a network's features of images";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", ""),
        (
            "feature",
            "the layer's values after its ReLU, channel by channel; a list of layers makes a column for each, with the layer's name",
        ),
    ];
    const EXAMPLE: &'static str = r#"
[stage.features]
op = "infer"
inputs = { images = "decoded", weights = "pretext" }
layer = "conv4"
pool = 4
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::stream(IMAGES, &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(pixels::PIXELS, ColumnKind::Octets)]),
        Port::side(WEIGHTS, &tensors::COLUMNS).optional(),
    ];
    const NEUTRAL: &'static [&'static str] = &["device"];
    const FILES: &'static [&'static str] = &["model"];
    const LIMITS: Limits = &[("pool", 1024.0), ("values", 1e7), ("deviation", 1e3)];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn faults(config: &Config) -> Vec<BindError> {
        let mut faults = normalisation::faults(config.mean, config.deviation);
        if config.values.is_some() && config.pool > 0 {
            faults.push(BindError::key("values", "says how to pool, and so does `pool`").help("remove one of the two"));
        }
        faults
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut faults = BindErrors::default();
        faults.extend(Self::faults(&config));
        let size = pixels::size(inputs.inputs.required(IMAGES)).map(<[usize; 2]>::from);
        let size =
            faults.keep(size.map_err(|error| BindError::input(IMAGES, error.to_string()).help("`decode` makes pixels")));
        let given = config.mean.zip(config.deviation).map(|(mean, deviation)| Normalisation::Fixed { mean, deviation });
        let bound = match (&config.model, inputs.inputs.get(WEIGHTS)) {
            (Some(_), Some(_)) => {
                let fault =
                    BindError::key("model", "a TorchScript model has its own weights, and the stage has an input `weights`");
                faults.push(fault.help("remove one of the two"));
                None
            }
            (None, None) => {
                let fault = BindError::stage("has no network: neither an input `weights` nor a key `model`");
                faults.push(
                    fault.help("inputs = { images = \"…\", weights = \"…\" }, where `train` and `weights` make weights"),
                );
                None
            }
            (Some(model), None) => Self::with_model(&config, inputs.resolve(model), size, given, &mut faults),
            (None, Some(weights)) => Self::with_weights(&config, weights, size, given, &mut faults),
        };
        let bound = bound.map(|(plan, vectors)| {
            let schema = features::schema(vectors.iter().map(|(name, length)| (name.as_str(), *length)));
            Self { plan, device: config.device, schema }
        });
        faults.or(bound)
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        let _ = input;
        port.columns.iter().map(|column| column.name.to_owned()).filter(|name| name != IMAGE_ID).collect()
    }

    fn passes(&self) -> Vec<String> {
        vec![IMAGE_ID.to_owned()]
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        let device = self.device.find()?;
        let mut plan = self.plan;
        if let Body::Script(script) = &mut plan.body {
            script.move_to(device)?;
        }
        Ok(Box::new(Inference::new(plan, device, self.schema)))
    }
}

/// A plan and its vector columns; none if there are faults.
type Bound = Option<(Plan, Vec<(String, usize)>)>;

impl Infer {
    fn with_weights(
        config: &Config,
        weights: &SchemaRef,
        size: Option<[usize; 2]>,
        given: Option<Normalisation>,
        faults: &mut BindErrors,
    ) -> Bound {
        if config.output.is_some() {
            let fault =
                BindError::key(output::KEY, "chooses among a TorchScript model's outputs, and the network is of weights");
            faults.push(fault.help("remove the key: `layer` says which of a network's layers is the feature"));
        }
        let said = weights::network(weights)
            .map_err(|error| BindError::input(WEIGHTS, error.to_string()).help("`train` and `weights` make weights"));
        let said = faults.keep(said).unwrap_or_default();
        let network = faults.keep(network_of(config, &said)).map(|name| (name, name.network()));
        let normalisation = given.or_else(|| Normalisation::of_weights(&said));
        if is_unsaid(config, normalisation) {
            let fault = BindError::maker(WEIGHTS, "does not say how images are normalised for its network");
            faults.push(fault.help(NORMALISATIONS));
        }
        match (&network, &config.layer) {
            (Some((name, network)), Some(layers)) => faults.extend(layers.faults(&network.layers(), *name)),
            (Some((_, network)), None) => {
                let fault = BindError::stage("needs `layer`: which layer's output is the feature");
                faults.push(fault.help(format!("known: {}", network.layers().join(", "))));
            }
            (None, _) => {}
        }
        if !faults.is_empty() {
            return None;
        }
        let ((name, network), layers, normalisation, size) = (network?, config.layer.as_ref()?, normalisation?, size?);
        let steps = network.up_to(layers.names()).to_vec();
        let walked = walk(&steps, &[3, size[0], size[1]]).map_err(|error| {
            let message = format!("its images of {}x{} px are too small for `{}`: {error}", size[0], size[1], name.text());
            BindError::input(IMAGES, message)
        });
        let (shapes, parameters) = faults.keep(walked)?;
        let (mut vectors, mut pools) = (Vec::new(), Vec::new());
        for (i, layer) in layers.names().iter().enumerate() {
            let place = steps.iter().position(|step| step.name == Some(layer)).expect("a known layer");
            let pool = faults.keep(config.pool(&shapes[place]))?;
            let length = faults.keep(length(&shapes[place], pool))?;
            pools.push(pool);
            vectors.push((layers.place(i).1.to_owned(), length));
        }
        let body = Body::Steps { steps, parameters, layers: layers.names().to_vec() };
        Some((Plan { body, size, normalisation, pools, pooling: config.pooling }, vectors))
    }

    fn with_model(
        config: &Config,
        file: PathBuf,
        size: Option<[usize; 2]>,
        given: Option<Normalisation>,
        faults: &mut BindErrors,
    ) -> Bound {
        if config.layer.is_some() {
            let fault = BindError::key("layer", "a TorchScript model has no named layers: its output is the feature");
            faults.push(fault.help(
                "remove the key, and script a model that ends at that layer, or has it as one of its outputs: output = …",
            ));
        }
        if config.network.is_some() {
            faults.push(BindError::key("network", "a TorchScript model is its own network").help("remove the key"));
        }
        if is_unsaid(config, given) {
            let fault = "needs `mean` and `deviation`: a TorchScript model does not say how images were normalised";
            faults.push(BindError::stage(fault).help(NORMALISATIONS));
        }
        let (script, shape) = faults.keep(Script::load(file, config.output.clone(), size))??;
        let pool = faults.keep(config.pool(&shape))?;
        let length = faults.keep(length(&shape, pool))?;
        if !faults.is_empty() {
            return None;
        }
        let (size, normalisation) = (size?, given?);
        let plan = Plan { body: Body::Script(script), size, normalisation, pools: vec![pool], pooling: config.pooling };
        Some((plan, vec![(features::FEATURE.to_owned(), length)]))
    }
}

impl Config {
    /// Values a side that an output of that shape is pooled to; 0 if it stays as it is.
    fn pool(&self, shape: &[usize]) -> Result<usize, BindError> {
        let Some(values) = self.values else { return Ok(self.pool) };
        if shape.iter().product::<usize>() <= values {
            return Ok(0);
        }
        let side = match *shape {
            [channels, height, width] => (values / channels).isqrt().min(height).min(width),
            _ => 0,
        };
        if side == 0 {
            let message = format!("cannot pool {} to no more than {values} values", dimensions(shape));
            return Err(BindError::key("values", message).help("maps can be pooled to one value a channel"));
        }
        Ok(side)
    }
}

/// The network that a stage's weights are of.
fn network_of(config: &Config, said: &weights::Network) -> Result<Name, BindError> {
    match (config.network, said.name.as_deref()) {
        (Some(name), Some(said)) if said != name.text() => {
            let message = format!("the weights are of `{said}`, not of `{}`", name.text());
            Err(BindError::key("network", message).help("remove the key"))
        }
        (Some(name), _) => Ok(name),
        (None, Some(said)) => {
            let fault = || BindError::input(WEIGHTS, format!("its network `{said}` is unknown"));
            Name::find(said).ok_or_else(|| fault().help(format!("known: {}; {OTHERS}", Name::known())))
        }
        (None, None) => {
            let fault = BindError::maker(WEIGHTS, "does not say which network its tensors are of");
            Err(fault.help(format!("network = \"…\", one of: {}; {OTHERS}", Name::known())))
        }
    }
}

/// Whether a stage says as little about normalisation as its network does. Values are not assumed.
fn is_unsaid(config: &Config, found: Option<Normalisation>) -> bool {
    found.is_none() && config.mean.is_none() && config.deviation.is_none()
}

/// The length of a feature: an output of that shape, pooled if asked for.
fn length(shape: &[usize], pool: usize) -> Result<usize, BindError> {
    let length = match *shape {
        _ if pool == 0 => shape.iter().product(),
        [channels, height, width] if pool <= height.min(width) => channels * pool * pool,
        _ => {
            let message = format!("cannot pool {} to {pool} values a side", dimensions(shape));
            return Err(BindError::key("pool", message).help("maps can be pooled, and not to more than their side"));
        }
    };
    match i32::try_from(length) {
        Ok(_) => Ok(length),
        Err(_) => Err(BindError::key("pool", format!("a feature of {length} values is too long")).help("pool it")),
    }
}

#[cfg(test)]
mod tests;

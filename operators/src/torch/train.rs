//! `train`: a network that solves puzzles, or names the classes of images.
//!
//! Input: `examples`, either `puzzles` (`permutation`, `tiles`; its metadata says how tiles are normalised), or images (`pixels` and a
//! column of whole numbers, their classes: `assign`'s pseudo-labels, for one; or a column a class, as PASCAL VOC has them). The table
//! decides which form of the network learns.
//! Output: the network's weights, with its name and the normalisation as metadata. Config: see [`Config`].
//!
//! Metrics: `loss`, `accuracy` (share of a step's answers that were right), `learning_rate`, `images_per_second` (of the steps alone) every
//! `metrics_every` steps, and at each epoch's end `epoch_loss` and `epoch_accuracy`. With an input `validation`, examples that it
//! does not learn from: also `validation_loss` and `validation_accuracy`, over all of them each time, and of images in more than five
//! classes `validation_top5`. With an input `probe`, labelled images: `knn_accuracy`, see [`Probe`]. Where the last epoch's loss and
//! accuracy are no better than chance, it warns, and there is `at_chance` (or `validation_at_chance`) with the value 1.
//!
//! With a column a class, each class is a question of its own: the loss is the sum of their logistic losses, those of 0 left out, and
//! the accuracy the share of all known answers that were right; `validation_map` is the mean over classes of VOC 2007's average precision, and
//! `validation_ap_CLASS` each one's.
//!
//! With an input `weights`, of the same network, it starts from them: tensors of the same name and shape are taken, the others (a
//! head for other classes) start anew, and images are normalised as they were for those weights: fine-tuning. With `freeze`, only what
//! follows a layer is trained, and anew: the paper's non-linear probes (table 5). With `take = "all"` too, it is trained on.
//!
//! Each epoch is one shuffled scan. Weights start by seed and tensor name; libtorch's generator (dropout) is seeded anew each step.
//! The result is exact for one device and number of threads, also if the run was interrupted: it goes on from its last checkpoint,
//! behind the last example of that step. A loss that is no number stops it. The learning rate runs over the examples that come, not over
//! those that views leave out.
//!
//! Noroozi, Vinjimoor, Favaro, Pirsiavash, "Boosting Self-Supervised Learning via Knowledge Transfer", section 4,
//! <https://arxiv.org/abs/1805.00385>.

mod chance;
mod checkpoint;
mod config;
mod keeper;
mod mean;
mod measure;
mod pace;
mod pass;
mod probe;
mod run;
mod settings;
mod state;
mod step;
mod transfer;
mod validate;

use arrow::datatypes::SchemaRef;
use tessera_schemas::{IMAGE_ID, weights};

pub use self::config::Config;
use self::config::Sampling;
use self::probe::Probe;
use self::run::Training;
use self::settings::{Images, Settings};
use super::examples::{Content, Layout};
use super::network::{Form, Name, Parameter};
use super::normalisation::{self, Normalisation};
use super::precision::Precision;
use super::tensors;
use crate::config::Limits;
use crate::names::Names;
use crate::operator::{BindError, BindErrors, Binding, Column, ColumnKind, Context, Operator, Port, RunError, Whole};

/// The port of examples.
const EXAMPLES: &str = "examples";
/// The port of examples that are not learnt from.
const VALIDATION: &str = "validation";
/// The port of images that features are measured on.
const PROBE: &str = "probe";
/// The port of weights to start from.
const WEIGHTS: &str = "weights";
/// What each of them has.
const COLUMNS: [Column; 1] = [Column::new(IMAGE_ID, ColumnKind::Text)];

/// The bound operator.
#[derive(Debug)]
pub struct Train {
    settings: Settings,
    layout: Layout,
    form: Form,
    parameters: Vec<Parameter>,
    probe: Option<Probe>,
    /// What `auto` is on this machine.
    precision: Precision,
    schema: SchemaRef,
}

impl Operator for Train {
    const NAME: &'static str = "train";
    const SUMMARY: &'static str = "a network's weights, from learning puzzles or classes";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("tensor", "its name, as torchvision has it"),
        ("shape", "its dimensions"),
        ("dtype", "the type of its numbers"),
        ("data", "its numbers, row by row, as bytes"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.pretext]
op = "train"
inputs = { examples = "puzzles" }
network = "alexnet"
epochs = 90
"#;
    const VERSION: u32 = 4;
    const INPUTS: &'static [Port] = &[
        Port::scan(EXAMPLES, &COLUMNS),
        Port::scan(VALIDATION, &COLUMNS).optional(),
        Port::scan(PROBE, &COLUMNS).optional(),
        Port::side(WEIGHTS, &tensors::COLUMNS).optional(),
    ];
    const SEEDED: bool = true;
    const NEUTRAL: &'static [&'static str] = &["checkpoint_minutes", "device", "metrics_every"];
    const LIMITS: Limits = &[
        ("classes", 1e6),
        ("deviation", 1e3),
        ("epochs", 1e6),
        ("batch", 1e5),
        ("learning_rate", 1e6),
        ("clip", 1e12),
        ("step_every", 1e6),
        ("probe_every", 1e6),
        ("metrics_every", 1e9),
        ("checkpoint_minutes", 1e6),
    ];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn faults(config: &Config) -> Vec<BindError> {
        let settings = Settings::from(config.clone());
        let mut faults = settings.faults();
        faults.extend(normalisation::faults(settings.images.mean, settings.images.deviation));
        faults
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let start = inputs.inputs.get(WEIGHTS);
        let mut faults = BindErrors::default();
        faults.extend(Self::faults(&config));
        let settings = Settings::from(config);
        let normalisation = faults.keep(transfer::normalisation(&settings, start));
        let normalisation = normalisation.unwrap_or_else(|| settings.images.normalisation());
        let layout_of = |port: &str, schema: &SchemaRef| layout_of(&settings.images, normalisation, port, schema);
        let Some(layout) = faults.keep(layout_of(EXAMPLES, inputs.inputs.required(EXAMPLES))) else {
            return faults.or(None);
        };
        faults.extend(unfit(&settings, &layout.content));
        let network = settings.network.network();
        let mut form = match layout.content {
            Content::Puzzles { .. } => network.puzzle(layout.pieces, layout.side[0], layout.classes),
            Content::Images { .. } | Content::Presence { .. } => network.classifier(layout.side, layout.classes),
        };
        form.frozen = faults.keep(transfer::frozen(&settings, start)).unwrap_or(form.frozen);
        let parameters = faults.keep(parameters(&form, settings.network, &layout)).unwrap_or_default();
        if let Some(schema) = inputs.inputs.get(VALIDATION)
            && let Some(found) = faults.keep(layout_of(VALIDATION, schema))
            && found != layout
        {
            let fault = BindError::input(VALIDATION, "its examples are not like those of `examples`");
            faults.push(fault.help("make both by stages of the same keys, from images of one size"));
        }
        let probe = inputs.inputs.get(PROBE).map(|schema| Probe::bind(&settings, schema, layout.normalisation));
        let probe = probe.transpose().map_err(|more| faults.extend(more)).ok();
        faults.or(probe.map(|probe| {
            let precision = settings.learning.precision.on(settings.device);
            let schema = schema(settings.network, &layout);
            Self { settings, layout, form, parameters, probe, precision, schema }
        }))
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        match (input, &self.probe) {
            (WEIGHTS, _) => port.columns.iter().map(|column| column.name.to_owned()).collect(),
            (PROBE, Some(probe)) => [IMAGE_ID].into_iter().chain(probe.columns()).map(str::to_owned).collect(),
            _ => self.layout.columns().into_iter().map(str::to_owned).collect(),
        }
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        let layout = &self.layout;
        let (target, classes) = match &layout.content {
            Content::Puzzles { .. } => (None, None),
            Content::Images { target } => (Some(Names::One(target.clone())), Some(layout.classes)),
            Content::Presence { targets } => (Some(Names::Several(targets.clone())), None),
        };
        let mut settled = self.settings.settled();
        settled.extend([("target", serde_json::json!(target)), ("classes", serde_json::json!(classes))]);
        settled.push(("precision", serde_json::json!(self.precision)));
        settled
    }

    fn device(&self) -> Option<String> {
        Some(self.settings.device.here())
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Whole>, RunError> {
        let device = self.settings.device.find()?;
        Ok(Box::new(Training { train: self, device, seed: context.seed, threads: context.threads }))
    }
}

impl Train {
    /// The column of classes that come equally often, if they do.
    fn balanced(&self) -> Option<&str> {
        match (&self.layout.content, self.settings.images.sampling) {
            (Content::Images { target }, Sampling::Classes) => Some(target),
            _ => None,
        }
    }
}

/// What examples of a table are, with faults at the keys and at the input.
fn layout_of(images: &Images, normalisation: Normalisation, port: &str, schema: &SchemaRef) -> Result<Layout, BindError> {
    Layout::of(schema, images.target.as_ref(), images.classes, normalisation).map_err(|fault| {
        let error = match fault.key {
            Some(key) => BindError::key(key, fault.message),
            None => BindError::input(port, fault.message),
        };
        error.help(fault.help)
    })
}

/// Keys that do not go with such examples.
fn unfit(settings: &Settings, content: &Content) -> Vec<BindError> {
    let mut faults = Vec::new();
    let unbalanced = match content {
        Content::Puzzles { .. } => Some("is of images, and the input is a table of puzzles: each has any permutation"),
        Content::Presence { .. } => Some("is of images with one class each, and these have a column a class"),
        Content::Images { .. } => None,
    };
    if let Some(message) = unbalanced.filter(|_| settings.images.sampling == Sampling::Classes) {
        faults.push(BindError::key("sampling", message).help("remove it"));
    }
    if settings.learning.smoothing > 0.0 && matches!(content, Content::Presence { .. }) {
        let fault = BindError::key("label_smoothing", "is of one column of classes, and these images have a column a class");
        faults.push(fault.help("remove it"));
    }
    faults
}

/// The tensors of a network for such examples.
fn parameters(form: &Form, network: Name, layout: &Layout) -> Result<Vec<Parameter>, BindError> {
    form.parameters().map_err(|error| {
        let (name, [height, width]) = (network.text(), layout.side);
        let what =
            if layout.pieces > 1 { format!("tiles of {height} px") } else { format!("images of {height}x{width} px") };
        let fault = BindError::key("network", format!("`{name}` cannot take {what}: {error}"));
        fault.help("larger tiles or images, or a network with less pooling")
    })
}

/// The weights table of what learns from such examples.
fn schema(network: Name, layout: &Layout) -> SchemaRef {
    let name = Some(network.text().to_owned());
    weights::schema(&match &layout.content {
        Content::Puzzles { normalisation } => {
            weights::Network { name, normalisation: Some(normalisation.clone()), ..weights::Network::default() }
        }
        Content::Images { .. } | Content::Presence { .. } => weights::Network { name, ..layout.normalisation.said() },
    })
}

#[cfg(test)]
mod tests;

//! The `output` key: which of a TorchScript model's outputs is the feature.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use tch::{IValue, Tensor};

use super::super::network::dimensions;
use crate::operator::BindError;

/// The key.
pub const KEY: &str = "output";
/// Outputs that a message lists.
const SHOWN: usize = 12;

/// One of several outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Output {
    /// The output's place in a tuple or a list, from 0; or its key in a dictionary with whole numbers as keys.
    Place(usize),
    /// The output's key in a dictionary.
    Name(String),
}

/// By hand, for a message that says both.
impl<'de> Deserialize<'de> for Output {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Output;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an output's place, from 0, or its name")
            }
            fn visit_u64<E: de::Error>(self, place: u64) -> Result<Output, E> {
                usize::try_from(place)
                    .map(Output::Place)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(place), &self))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Output, E> {
                Ok(Output::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Place(place) => write!(f, "{place}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// Why a model's result is no feature.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The model yields something else than tensors.
    #[error("yields {0}, and should yield a tensor, N x …")]
    Nothing(&'static str),
    /// The model has several outputs, and the stage does not name one.
    #[error("yields several outputs, and it is not said which of them is the feature: {0}")]
    Several(String),
    /// The model has one output, and the stage names one of several.
    #[error("chooses among a model's outputs, and this one yields a single tensor")]
    Single,
    /// The model has no output of that name or place.
    #[error("is {asked}, and the model yields {known}")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
}

impl Fault {
    /// The fault of a stage, at the key that is wrong.
    pub fn at_key(self, model: &str) -> BindError {
        let (key, help) = match &self {
            Self::Nothing(_) => (model, "script a model whose `forward` returns the feature"),
            Self::Several(_) => (model, "output = …, a number of a tuple's or a list's, or a dictionary's \"key\""),
            Self::Single => (KEY, "remove the key"),
            Self::Unknown { .. } => (KEY, "output = …, one of these that is a tensor"),
        };
        BindError::key(key, self.to_string()).help(help)
    }
}

/// The tensor that is the feature.
///
/// # Errors
/// It is none, or it is not clear which.
pub fn choose(result: IValue, asked: Option<&Output>) -> Result<Tensor, Fault> {
    let outputs: Vec<(Output, IValue)> = match (result, asked) {
        (IValue::Tensor(tensor), None) => return Ok(tensor),
        (IValue::Tensor(_), Some(_)) => return Err(Fault::Single),
        (IValue::Tuple(values) | IValue::GenericList(values), _) => numbered(values),
        (IValue::TensorList(tensors), _) => numbered(tensors.into_iter().map(IValue::Tensor)),
        (IValue::GenericDict(entries), _) => {
            entries.into_iter().filter_map(|(key, value)| Some((key_of(key)?, value))).collect()
        }
        (other, _) => return Err(Fault::Nothing(describe(&other))),
    };
    let Some(asked) = asked else { return Err(Fault::Several(listed(&outputs))) };
    let known = listed(&outputs);
    match outputs.into_iter().find(|(output, _)| output == asked) {
        Some((_, IValue::Tensor(tensor))) => Ok(tensor),
        _ => Err(Fault::Unknown { asked: asked.to_string(), known }),
    }
}

fn numbered(values: impl IntoIterator<Item = IValue>) -> Vec<(Output, IValue)> {
    values.into_iter().enumerate().map(|(place, value)| (Output::Place(place), value)).collect()
}

fn key_of(key: IValue) -> Option<Output> {
    match key {
        IValue::String(name) => Some(Output::Name(name)),
        IValue::Int(place) => usize::try_from(place).ok().map(Output::Place),
        _ => None,
    }
}

/// Outputs by their names, with the shapes of those that are tensors.
fn listed(outputs: &[(Output, IValue)]) -> String {
    let shown = outputs.iter().take(SHOWN).map(|(output, value)| match value {
        IValue::Tensor(tensor) => {
            let sides: Vec<usize> = tensor.size().iter().map(|&side| side as usize).collect();
            format!("{output} ({})", if sides.is_empty() { "a number".to_owned() } else { dimensions(&sides) })
        }
        other => format!("{output} ({})", describe(other)),
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match outputs.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{shown}, and {} more", count - SHOWN),
        _ => shown,
    }
}

/// What is no tensor, in words.
fn describe(value: &IValue) -> &'static str {
    match value {
        IValue::None => "nothing",
        IValue::Tensor(_) => "a tensor",
        IValue::Double(_) | IValue::Int(_) | IValue::Bool(_) => "a number",
        IValue::String(_) => "text",
        IValue::Tuple(_) | IValue::GenericList(_) | IValue::TensorList(_) => "a list",
        IValue::IntList(_) | IValue::DoubleList(_) | IValue::BoolList(_) => "a list of numbers",
        IValue::StringList(_) => "a list of texts",
        IValue::GenericDict(_) => "a dictionary",
        _ => "an object",
    }
}

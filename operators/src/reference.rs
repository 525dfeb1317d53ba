//! The reference of an operator's keys: their types, values and defaults, and their docs.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Map, Value};

use crate::torch::network::{Name, ShapeError, pytorch, walk};

/// A key of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What its value is: `whole number`, `list of texts`; of a key with a few [`values`](Self::values), `one of`.
    pub kind: String,
    /// The values that it may have, if they are few.
    pub values: Vec<Choice>,
    /// The value that it has where a stage does not say; none where that follows from the input, or the key has to be there.
    pub default: Option<Value>,
    /// Whether a stage must have it.
    pub is_required: bool,
    /// What it means.
    pub meaning: String,
}

impl Key {
    /// What its value is, in words: its type, or the few values that it may have.
    pub fn values_in_words(&self) -> String {
        match &self.values[..] {
            [] => self.kind.clone(),
            values => values.iter().map(|choice| format!("\"{}\"", choice.value)).collect::<Vec<_>>().join(", "),
        }
    }

    /// The key in one line, for who wrote something else: its values, its default, and the first sentence of what it means.
    pub fn in_short(&self) -> String {
        let default = match &self.default {
            _ if self.is_required => "; required".to_owned(),
            Some(default) => format!("; default {}", written(default)),
            None => String::new(),
        };
        let first = self.meaning.split_inclusive(". ").next().unwrap_or_default().trim_end();
        format!("`{}`: {}{default}. {first}", self.name, self.values_in_words())
    }
}

/// A value as a pipeline file has it.
pub fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Number(number) => match number.as_f64() {
            // What is a float of 32 bits has no digits behind those.
            Some(float) if number.is_f64() => format!("{float:?}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// A value that a key may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The value as it is written, without quotes.
    pub value: String,
    /// What it means.
    pub meaning: String,
}

/// The keys of a config as a JSON schema (draft 2020-12), each described by its docs.
pub fn schema<C: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<C>().to_value();
    tidy(&mut schema);
    schema
}

/// The keys of a config, in their order.
pub fn keys<C: JsonSchema>() -> Vec<Key> {
    let schema = schema::<C>();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let key = |(name, about): (&String, &Value)| Key {
        name: name.clone(),
        kind: kind(about),
        values: choices(about),
        default: about.get("default").filter(|value| !value.is_null()).cloned(),
        is_required: required.contains(&name.as_str()),
        meaning: meaning(about),
    };
    schema["properties"].as_object().into_iter().flatten().map(key).collect()
}

/// The type of a key that takes a whole number or a text, with what it means.
pub(crate) fn number_or_text() -> Schema {
    json_schema!({ "type": ["integer", "string"] })
}

/// Removes what schemars says of types in Rust, and makes docs plain text.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let of_rust = ["uint", "uint8", "uint16", "uint32", "uint64", "int", "int32", "int64", "float", "double"];
            if object.get("format").and_then(Value::as_str).is_some_and(|format| of_rust.contains(&format)) {
                object.remove("format");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = plain(text);
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// A doc comment as one paragraph of plain text, without its links.
fn plain(text: &str) -> String {
    let mut plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some(start) = plain.find("[`") {
        let Some(end) = plain[start..].find("`]").map(|end| start + end) else { break };
        let target = plain[end + 2..].starts_with('(').then(|| plain[end..].find(')')).flatten();
        let behind = target.map_or(end + 2, |target| end + target + 1);
        plain = format!("{}`{}`{}", &plain[..start], &plain[start + 2..end], &plain[behind..]);
    }
    plain.replace(['<', '>'], "")
}

fn meaning(about: &Value) -> String {
    about.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The schemas that a value may fit, without that of none at all.
fn alternatives(about: &Value) -> Vec<&Value> {
    let any = about.get("anyOf").or_else(|| about.get("oneOf")).and_then(Value::as_array);
    any.into_iter().flatten().filter(|one| one["type"] != "null").collect()
}

fn choices(about: &Value) -> Vec<Choice> {
    let choice = |value: &Value, meaning: String| value.as_str().map(|value| Choice { value: value.to_owned(), meaning });
    if let Some(values) = about.get("enum").and_then(Value::as_array) {
        return values.iter().filter_map(|value| choice(value, String::new())).collect();
    }
    let alternatives = alternatives(about);
    match &alternatives[..] {
        [only] if only.get("const").is_none() => choices(only),
        several => several.iter().filter_map(|one| choice(one.get("const")?, meaning(one))).collect(),
    }
}

fn kind(about: &Value) -> String {
    if !choices(about).is_empty() {
        return "one of".to_owned();
    }
    let alternatives = alternatives(about);
    if !alternatives.is_empty() {
        return alternatives.into_iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match &about["type"] {
        Value::Array(types) => {
            let kinds =
                types.iter().filter(|one| *one != "null").map(|one| of_type(one.as_str().unwrap_or_default(), about));
            kinds.collect::<Vec<_>>().join(" or ")
        }
        one => of_type(one.as_str().unwrap_or_default(), about),
    }
}

fn of_type(name: &str, about: &Value) -> String {
    match name {
        "integer" => "whole number".to_owned(),
        "number" => "number".to_owned(),
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => {
            let items = kind(&about["items"]);
            match (about["minItems"].as_u64(), about["maxItems"].as_u64()) {
                (Some(least), Some(most)) if least == most => format!("list of {least} {items}s"),
                _ => format!("list of {items}s"),
            }
        }
        "object" => format!("table of {}s", kind(&about["additionalProperties"])),
        _ => "any value".to_owned(),
    }
}

/// A layer of a network that `infer` can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The network's name.
    pub network: &'static str,
    /// The layer's.
    pub layer: &'static str,
    /// Channels, rows and columns of its output.
    pub shape: Vec<usize>,
    /// Numbers in the network's tensors up to it, statistics of batch normalisation included.
    pub parameters: usize,
}

/// The layers of all networks, for images of that side; those of a network for which it is too small are left out, and why is told.
pub fn networks(side: usize) -> (Vec<Layer>, Vec<String>) {
    let (mut layers, mut faults) = (Vec::new(), Vec::new());
    for &name in Name::ALL {
        let trunk = name.network().trunk;
        let ends = trunk.iter().enumerate().filter_map(|(at, step)| Some((at, step.name?)));
        let found = ends.map(|(at, layer)| {
            let (mut shapes, parameters) = walk(&trunk[..=at], &[3, side, side])?;
            let parameters = parameters.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
            Ok(Layer { network: name.text(), layer, shape: shapes.pop().unwrap_or_default(), parameters })
        });
        match found.collect::<Result<Vec<_>, ShapeError>>() {
            Ok(found) => layers.extend(found),
            Err(error) => faults.push(format!("{}: images of {side}x{side} are too small: {error}", name.text())),
        }
    }
    (layers, faults)
}

/// The source of a Python module: the networks that torchvision does not have, for PyTorch.
pub fn pytorch() -> String {
    pytorch::source()
}

/// The schema of a stage of one operator: what is its alone, `op` aside.
pub fn properties<C: JsonSchema>() -> (Map<String, Value>, Vec<Value>) {
    let mut schema = schema::<C>();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut).map(std::mem::take);
    (properties.unwrap_or_default(), schema["required"].as_array().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::OPERATORS;

    /// Ways to go.
    #[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Way {
        /// As [`Key`] goes,
        /// or [`keys`](self::keys).
        #[default]
        ThereAndBack,
        /// Not back.
        There,
    }

    fn three() -> usize {
        3
    }

    #[derive(Debug, Deserialize, Serialize, JsonSchema)]
    struct Config {
        /// How many
        /// there are.
        count: usize,
        /// More.
        #[serde(default = "three")]
        more: usize,
        /// Which way.
        #[serde(default)]
        way: Way,
        /// Another way. Default: none.
        #[serde(default)]
        other: Option<Way>,
        /// Places.
        #[serde(default)]
        places: Option<[f32; 3]>,
        /// Names.
        #[serde(default)]
        names: Vec<String>,
    }

    #[test]
    fn a_key_is_told_by_its_type_and_its_docs() {
        let keys = keys::<Config>();
        let told: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.kind.as_str(), key.is_required)).collect();
        let expected = [
            ("count", "whole number", true),
            ("more", "whole number", false),
            ("way", "one of", false),
            ("other", "one of", false),
            ("places", "list of 3 numbers", false),
            ("names", "list of texts", false),
        ];
        assert_eq!(told, expected);
        assert_eq!((keys[0].meaning.as_str(), &keys[1].default), ("How many there are.", &Some(json!(3))));
        assert_eq!((&keys[2].default, keys[2].meaning.as_str()), (&Some(json!("there-and-back")), "Which way."));
        let ways: Vec<_> = keys[3].values.iter().map(|choice| (choice.value.as_str(), choice.meaning.as_str())).collect();
        assert_eq!(ways, [("there-and-back", "As `Key` goes, or `keys`."), ("there", "Not back.")]);
        assert_eq!((&keys[3].default, &keys[4].default), (&None, &None));
        assert_eq!(keys[0].in_short(), "`count`: whole number; required. How many there are.");
        assert_eq!(keys[2].in_short(), "`way`: \"there-and-back\", \"there\"; default \"there-and-back\". Which way.");
        assert_eq!(keys[3].in_short(), "`other`: \"there-and-back\", \"there\". Another way.");
    }

    #[test]
    fn values_are_written_as_in_a_pipeline_file() {
        assert_eq!(written(&json!([0.08, 1.0])), "[0.08, 1.0]");
        let found = [written(&json!("a")), written(&json!(1e-4)), written(&json!(3)), written(&json!(true))];
        assert_eq!(found, ["\"a\"", "0.0001", "3", "true"]);
    }

    #[test]
    fn layers_are_told_with_their_shapes_and_parameters() {
        let (layers, faults) = networks(224);
        assert!(faults.is_empty());
        let found = layers.iter().find(|layer| layer.network == "resnet18" && layer.layer == "conv5").unwrap();
        // torchvision's, without the last layer's 513,000 and with the statistics' 9,620 numbers: means, variances and counters.
        assert_eq!(found.shape, [512, 7, 7]);
        assert!((11_176_512..11_176_512 + 9_700).contains(&found.parameters), "{}", found.parameters);
        let (layers, faults) = networks(16);
        assert!(layers.iter().any(|layer| layer.network == "small"));
        assert!(faults.iter().any(|fault| fault.starts_with("alexnet: images of 16x16 are too small: ")), "{faults:?}");
    }

    /// The reference is complete: no key without a meaning, and none that is left out without a word of what holds then.
    #[test]
    fn each_key_of_each_operator_has_a_meaning_and_a_default() {
        for operator in OPERATORS {
            let keys = operator.keys();
            assert_eq!(
                keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(),
                operator.fields(),
                "{}",
                operator.name()
            );
            for key in keys {
                let at = format!("{}: {key:?}", operator.name());
                assert!(key.meaning.ends_with('.') && !key.kind.is_empty() && !key.kind.contains("any value"), "{at}");
                let tells = key.meaning.contains("Default: ") || key.meaning.contains("Required");
                let is_settled = key.is_required || key.default.is_some();
                assert!(is_settled != tells, "its default is told once, by serde or by its docs: {at}");
                assert!(!key.meaning.contains("(default)") && !key.meaning.contains("Default "), "{at}");
                for choice in &key.values {
                    assert!(choice.meaning.ends_with('.') && !choice.meaning.contains('['), "{at}");
                }
            }
        }
    }
}

//! Values of the command line: `--set stage.key=value`.

use toml::de::DeValue;

use super::{Declaration, PipelineFile, Reader, Text};
use crate::declare::faults::Fault;
use crate::declare::sweep;

/// `--set stage.key=value`. On a key that is swept, the axis then has this one value; `--set sweep.stage.key=[…]` gives an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The stage, `pipeline` or `sweep`.
    pub stage: String,
    /// The key; of `sweep`, `stage.key`.
    pub key: String,
    /// The value, as TOML has it; text that is no TOML value is taken as a string.
    pub value: String,
}

impl std::str::FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || format!("`{text}` is not of the form stage.key=value");
        let (place, value) = text.split_once('=').ok_or_else(usage)?;
        let (stage, key) = place.split_once('.').ok_or_else(usage)?;
        Ok(Self { stage: stage.trim().into(), key: key.trim().into(), value: value.trim().into() })
    }
}

impl PipelineFile {
    fn stage(&mut self, name: &str) -> Option<&mut Declaration> {
        self.stages.iter_mut().find(|stage| stage.name.text == name)
    }
}

impl Reader {
    pub(super) fn set(&mut self, file: &mut PipelineFile, set: &Override) {
        let written = set.value.as_str();
        // A bare word is a string: `--set decoded.on_error=drop`.
        let quoted = format!("{:?}", set.value);
        let parsed = DeValue::parse(written).or_else(|_| DeValue::parse(&quoted));
        let Ok(value) = parsed else {
            return self.fault(0..0, format!("--set {}.{}: `{written}` is no TOML value", set.stage, set.key));
        };
        let before = self.faults.len();
        let path = format!("{}.{}", set.stage, set.key);
        if set.stage == "sweep" {
            sweep::set(self, &mut file.axes, &set.key, &value);
        } else if file.axes.iter().any(|axis| axis.path == path) {
            sweep::fix(self, &mut file.axes, &path, &value);
        } else if set.stage == "pipeline" {
            self.pipeline_key(file, &set.key, 0..0, &value);
        } else if let (Some(stage), Some(port)) = (file.stage(&set.stage), set.key.strip_prefix("inputs.")) {
            if let Some(from) = self.text(&set.key, &value) {
                let span = stage.name.span.clone();
                stage.inputs.retain(|(name, _)| name.text != port);
                stage.inputs.push((Text { text: port.to_owned(), span: span.clone() }, Text { span, ..from }));
                stage.set.insert("inputs".to_owned());
            }
        } else if let Some(stage) = file.stage(&set.stage) {
            if set.key == "inputs" {
                stage.inputs.clear();
            }
            self.stage_key(stage, &set.key, 0..0, &value);
            stage.set.insert(set.key.clone());
            // Spans of the command line's text mean nothing in the file: point at the stage.
            let span = stage.name.span.clone();
            if let ("seed", Some(seed)) = (set.key.as_str(), &mut stage.seed) {
                seed.1 = span.clone();
            }
            stage.places.retain(|path, _| path.split(['.', '[', '=']).next() != Some(set.key.as_str()));
            if set.key == "input" {
                stage.inputs.clear();
            }
            for text in [Some(&mut stage.op), stage.input.as_mut()].into_iter().flatten() {
                if set.key == "op" || set.key == "input" {
                    text.span = span.clone();
                }
            }
        } else {
            let names: Vec<&str> = file.stages.iter().map(|stage| stage.name.text.as_str()).collect();
            let message = format!("--set names the unknown stage `{}`", set.stage);
            self.faults.push(Fault::new(0..0, message).known(&set.stage, names));
        }
        for fault in &mut self.faults[before..] {
            fault.span = 0..0;
            fault.message = format!("{} (from --set {}.{})", fault.message, set.stage, set.key);
        }
    }
}

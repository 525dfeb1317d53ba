//! Values of the command line: `--set stage.key=value`.

use std::fmt;

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
        let parts = split(text).filter(|(names, _)| names.len() > 1 && names.iter().all(|name| !name.is_empty()));
        let (names, value) = parts.ok_or_else(|| format!("`{text}` is not of the form stage.key=value"))?;
        let path = names.join(".");
        let (stage, key) = path.split_once('.').unwrap_or((&path, ""));
        Ok(Self { stage: stage.into(), key: key.into(), value: value.into() })
    }
}

/// The names of a dotted key as TOML writes it, such as `sweep."clusters.k"`, and what stands behind its `=`. What stands in quotes may have
/// dots.
fn split(text: &str) -> Option<(Vec<String>, &str)> {
    let (mut names, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start();
        let (name, behind) = match rest.chars().next()? {
            quote @ ('"' | '\'') => rest[1..].split_once(quote)?,
            _ => rest.split_at(rest.find(['.', '='])?),
        };
        names.push(name.trim().to_owned());
        let behind = behind.trim_start();
        if let Some(value) = behind.strip_prefix('=') {
            return Some((names, value.trim()));
        }
        rest = behind.strip_prefix('.')?;
    }
}

/// As a command line has it behind `--set`.
impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}={}", self.stage, self.key, self.value)
    }
}

impl Override {
    /// The same for a shell to read.
    pub fn quoted(&self) -> String {
        argument(&self.to_string())
    }

    /// Whether it says what tables are to be of, and not only where they lie.
    pub fn is_of_tables(&self) -> bool {
        self.stage != "pipeline" || self.key == "seed"
    }
}

/// A text as an argument of a shell.
pub fn argument(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

impl PipelineFile {
    /// The file as a command names it, with what the command line gives.
    pub fn arguments(&self) -> String {
        let set: String = self.overrides.iter().map(|set| format!(" --set {}", set.quoted())).collect();
        argument(&self.path.display().to_string()) + &set
    }

    fn stage(&mut self, name: &str) -> Option<&mut Declaration> {
        self.stages.iter_mut().find(|stage| stage.name.text == name)
    }
}

/// The same of a key that is written with its table, `stage.clusters.k`.
fn without_table(file: &PipelineFile, set: &Override) -> Override {
    let is_stage = file.stages.iter().any(|stage| stage.name.text == set.stage);
    match set.key.split_once('.') {
        Some((stage, key)) if set.stage == "stage" && !is_stage => {
            Override { stage: stage.to_owned(), key: key.to_owned(), value: set.value.clone() }
        }
        _ => set.clone(),
    }
}

impl Reader {
    pub(super) fn set(&mut self, file: &mut PipelineFile, set: &Override) {
        let set = &without_table(file, set);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(String, String, String)> {
        let Override { stage, key, value } = text.parse().ok()?;
        Some((stage, key, value))
    }

    #[test]
    fn keys_are_written_as_in_the_file() {
        let part = |stage: &str, key: &str, value: &str| Some((stage.to_owned(), key.to_owned(), value.to_owned()));
        assert_eq!(parts("clusters.k = 5"), part("clusters", "k", "5"));
        assert_eq!(parts(r#"sweep."clusters.k"=[5, 6]"#), part("sweep", "clusters.k", "[5, 6]"));
        assert_eq!(parts("sweep.'a.inputs.b' = [\"c=d\"]"), part("sweep", "a.inputs.b", "[\"c=d\"]"));
        assert_eq!(parts(r#""clusters".k=5"#), part("clusters", "k", "5"));
        assert_eq!(parts("decoded.on_error=a=b"), part("decoded", "on_error", "a=b"));
        for wrong in ["clusters", "clusters.k", "k=5", ".k=5", "a..b=5", "\"clusters.k=5", "\"a\"b.c=5", "=5", ""] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_shell_reads_what_was_written() {
        let quoted = |text: &str| text.parse::<Override>().unwrap().quoted();
        assert_eq!(quoted("clusters.k=5"), "clusters.k=5");
        assert_eq!(quoted("sweep.clusters.k=[5, 6]"), "'sweep.clusters.k=[5, 6]'");
        assert_eq!(quoted("a.path=it's"), "'a.path=it'\\''s'");
        let found = ["a/b.toml", "my file.toml", "$(x).toml", ""].map(argument);
        assert_eq!(found, ["a/b.toml", "'my file.toml'", "'$(x).toml'", "''"]);
    }
}

//! The pipeline file: TOML to stages as they are written, every value with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::faults::{Fault, Faults};

/// Rows of a part, unless the file says otherwise.
const PART_ROWS: usize = 1024;
/// Table names that stages cannot have, since SQL has them already.
pub const SYSTEM_TABLES: [&str; 6] = ["stages", "snapshots", "parts", "runs", "metrics", "dropped"];

/// A parsed pipeline file. Names are not resolved yet.
#[derive(Debug)]
pub struct PipelineFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The folder that its relative paths start from.
    pub base: PathBuf,
    /// Its text.
    pub text: String,
    /// `[pipeline] name`, or the file's stem.
    pub name: String,
    /// `[pipeline] store`, from `base`.
    pub store: PathBuf,
    /// `[pipeline] seed`.
    pub seed: u64,
    /// `[pipeline] part_rows`: no result depends on it.
    pub part_rows: usize,
    /// The stages, in the order of the text.
    pub stages: Vec<Declaration>,
    /// What is wrong so far; [`Plan::bind`](crate::plan::Plan::bind) reports it with what the later phases find.
    pub faults: Vec<Fault>,
}

/// A stage as it is written.
#[derive(Debug)]
pub struct Declaration {
    /// Its name, and where it stands.
    pub name: Text,
    /// The operator's name.
    pub op: Text,
    /// `input = "…"`.
    pub input: Option<Text>,
    /// `inputs = { name = "…" }`: input names and stages.
    pub inputs: Vec<(Text, Text)>,
    /// `keep = …`.
    pub keep: Option<(bool, Range<usize>)>,
    /// All other keys: the operator's config.
    pub config: Map<String, Value>,
    /// Keys whose values `--set` gave.
    pub set: BTreeSet<String>,
    /// Places of the config's values, by path (`layer`, `layer[1]`), and of its keys, by name with `=` behind.
    pub places: BTreeMap<String, Range<usize>>,
}

/// Text and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// What it says, after `${VAR}` was put in.
    pub text: String,
    /// Where it stands.
    pub span: Range<usize>,
}

impl Declaration {
    /// The place of a config key, by its path, or of the nearest thing around it.
    pub fn place(&self, path: &str) -> Range<usize> {
        let mut path = path;
        loop {
            if let Some(span) = self.places.get(path) {
                return span.clone();
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.name.span.clone(),
            }
        }
    }

    /// The place of a config key's name.
    pub fn place_of_key(&self, key: &str) -> Range<usize> {
        self.places.get(&format!("{key}=")).cloned().unwrap_or_else(|| self.name.span.clone())
    }
}

/// `--set stage.key=value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The stage, or `pipeline`.
    pub stage: String,
    /// The key.
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
    /// Reads and parses a file.
    ///
    /// # Errors
    /// It cannot be read, or is not TOML.
    pub fn read(path: &Path, overrides: &[Override]) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the pipeline file {}", path.display()))?;
        Ok(Self::parse(path, text, overrides)?)
    }

    /// Parses a text.
    ///
    /// # Errors
    /// It is not TOML.
    pub fn parse(path: &Path, text: String, overrides: &[Override]) -> Result<Self, Faults> {
        let (root, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            let fault = |error: &toml::de::Error| {
                let message = error.message().lines().next().unwrap_or_default();
                Fault::new(error.span().unwrap_or(0..0), format!("not TOML: {message}"))
            };
            return Err(Faults::new(path, text.clone(), errors.iter().map(fault).collect()));
        }
        let mut reader = Reader { faults: Vec::new() };
        let mut parsed = reader.file(path, &text, root.get_ref(), overrides);
        parsed.faults = reader.faults;
        Ok(parsed)
    }
}

struct Reader {
    faults: Vec<Fault>,
}

type Key<'a, 'i> = &'a Spanned<std::borrow::Cow<'i, str>>;
type Entry<'a, 'i> = (Key<'a, 'i>, &'a Spanned<DeValue<'i>>);

/// A table's entries in the order of the text.
fn entries<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Entry<'a, 'i>> {
    let mut all: Vec<Entry<'a, 'i>> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all
}

impl Reader {
    fn file(&mut self, path: &Path, text: &str, root: &DeTable<'_>, overrides: &[Override]) -> PipelineFile {
        let base = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_else(|| "pipeline".into());
        let mut file = PipelineFile {
            path: path.to_owned(),
            store: base.join(".tessera"),
            base,
            text: text.to_owned(),
            name: stem,
            seed: 0,
            part_rows: PART_ROWS,
            stages: Vec::new(),
            faults: Vec::new(),
        };
        for (key, value) in entries(root) {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("pipeline", DeValue::Table(table)) => self.pipeline(&mut file, table),
                ("stage", DeValue::Table(table)) => self.stages(&mut file, table),
                ("pipeline" | "stage", other) => {
                    self.fault(value.span(), format!("`{}` should be a table, found {}", key.get_ref(), other.type_str()));
                }
                (other, _) => {
                    let fault =
                        Fault::new(key.span(), format!("unknown table `{other}`")).known(other, ["pipeline", "stage"]);
                    self.faults.push(fault);
                }
            }
        }
        if file.stages.is_empty() && self.faults.is_empty() {
            let fault = Fault::new(0..text.len().min(1), "the file declares no stage");
            self.faults.push(fault.help("a stage looks like this: [stage.images] op = \"images\" path = \"photos\""));
        }
        for set in overrides {
            self.set(&mut file, set);
        }
        file
    }

    fn fault(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.faults.push(Fault::new(span, message));
    }

    fn pipeline(&mut self, file: &mut PipelineFile, table: &DeTable<'_>) {
        for (key, value) in entries(table) {
            self.pipeline_key(file, key.get_ref(), key.span(), value);
        }
    }

    fn pipeline_key(&mut self, file: &mut PipelineFile, key: &str, key_span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        const KNOWN: [&str; 4] = ["name", "store", "seed", "part_rows"];
        match key {
            "name" => {
                if let Some(name) = self.text(key, value) {
                    if name.text.is_empty() || name.text.contains(['/', '\\']) || name.text.starts_with('.') {
                        self.fault(name.span, "a pipeline's name names a folder of its store: no slashes, no leading dot");
                    } else {
                        file.name = name.text;
                    }
                }
            }
            "store" => {
                if let Some(store) = self.text(key, value) {
                    if store.text.contains("://") {
                        let message =
                            format!("the store `{}` is not a folder; object stores are not supported yet", store.text);
                        self.fault(store.span, message);
                    } else {
                        file.store = file.base.join(store.text);
                    }
                }
            }
            "seed" => {
                if let Some(seed) = self.whole_number(key, value) {
                    file.seed = seed;
                }
            }
            "part_rows" => match self.whole_number(key, value) {
                Some(0) => self.fault(value.span(), "a part has at least one row"),
                Some(rows) => file.part_rows = rows as usize,
                None => {}
            },
            other => {
                self.faults.push(Fault::new(key_span, format!("unknown key `{other}` of [pipeline]")).known(other, KNOWN));
            }
        }
    }

    fn whole_number(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        let span = value.span();
        let found = self.value(value, "", &mut BTreeMap::new());
        let number = found.as_u64();
        if number.is_none() {
            self.fault(span, format!("`{key}` should be a whole number of at least 0, found {found}"));
        }
        number
    }

    fn stages(&mut self, file: &mut PipelineFile, table: &DeTable<'_>) {
        for (name, value) in entries(table) {
            let span = name.span();
            let stage = name.get_ref().as_ref();
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !stage.starts_with(|c: char| c.is_ascii_lowercase()) || !stage.chars().all(fits) {
                let fault = Fault::new(span.clone(), format!("`{stage}` cannot name a stage"));
                self.faults.push(fault.help("a stage is a table in SQL: use lower-case letters, digits and `_`"));
            } else if SYSTEM_TABLES.contains(&stage) {
                let fault = Fault::new(span.clone(), format!("`{stage}` cannot name a stage: it is a system table"));
                self.faults.push(fault.help(format!("system tables: {}", SYSTEM_TABLES.join(", "))));
            }
            match value.get_ref() {
                DeValue::Table(keys) => {
                    if let Some(declaration) = self.stage(Text { text: stage.to_owned(), span }, keys) {
                        file.stages.push(declaration);
                    }
                }
                other => self.fault(value.span(), format!("stage `{stage}` should be a table, found {}", other.type_str())),
            }
        }
    }

    fn stage(&mut self, name: Text, table: &DeTable<'_>) -> Option<Declaration> {
        let mut declaration = Declaration {
            op: Text { text: String::new(), span: name.span.clone() },
            input: None,
            inputs: Vec::new(),
            keep: None,
            config: Map::new(),
            set: BTreeSet::new(),
            places: BTreeMap::new(),
            name,
        };
        for (key, value) in entries(table) {
            self.stage_key(&mut declaration, key.get_ref(), key.span(), value);
        }
        if declaration.op.text.is_empty() {
            let fault = Fault::new(declaration.name.span, format!("stage `{}` has no `op`", declaration.name.text));
            self.faults.push(fault.help("`op` names what the stage does; `tessera operators` lists them"));
            return None;
        }
        Some(declaration)
    }

    fn stage_key(&mut self, stage: &mut Declaration, key: &str, key_span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        match (key, value.get_ref()) {
            ("op", _) => {
                if let Some(op) = self.text(key, value) {
                    stage.op = op;
                }
            }
            ("input", _) => stage.input = self.text(key, value),
            ("inputs", DeValue::Table(inputs)) => {
                for (input, upstream) in entries(inputs) {
                    if let Some(upstream) = self.text(input.get_ref(), upstream) {
                        stage.inputs.push((Text { text: input.get_ref().to_string(), span: input.span() }, upstream));
                    }
                }
            }
            ("inputs", _) => {
                let fault = Fault::new(value.span(), "`inputs` should be a table of names and stages");
                self.faults.push(fault.help("for example: inputs = { images = \"decoded\", weights = \"pretext\" }"));
            }
            ("keep", DeValue::Boolean(keep)) => stage.keep = Some((*keep, key_span)),
            ("keep", other) => {
                self.fault(value.span(), format!("`keep` should be true or false, found {}", other.type_str()))
            }
            _ => {
                stage.places.insert(format!("{key}="), key_span);
                let value = self.value(value, key, &mut stage.places);
                stage.config.insert(key.to_owned(), value);
            }
        }
    }

    fn text(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Text> {
        match self.value(value, "", &mut BTreeMap::new()) {
            Value::String(text) => Some(Text { text, span: value.span() }),
            other => {
                self.fault(value.span(), format!("`{key}` should be a string, found {other}"));
                None
            }
        }
    }

    /// A TOML value as JSON, its places noted under its path.
    fn value(&mut self, value: &Spanned<DeValue<'_>>, path: &str, places: &mut BTreeMap<String, Range<usize>>) -> Value {
        places.insert(path.to_owned(), value.span());
        match value.get_ref() {
            DeValue::String(text) => Value::String(self.interpolate(text, value.span())),
            DeValue::Integer(number) => {
                let parse = |text: &str| i64::from_str_radix(text, number.radix()).ok();
                match parse(number.as_str()) {
                    Some(number) => Value::Number(number.into()),
                    None => {
                        self.fault(value.span(), format!("the number {number} is too large"));
                        Value::Null
                    }
                }
            }
            DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
                Some(number) => Value::Number(number),
                None => {
                    self.fault(value.span(), format!("{number} is no finite number"));
                    Value::Null
                }
            },
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Array(items) => Value::Array(
                items.iter().enumerate().map(|(i, item)| self.value(item, &format!("{path}[{i}]"), places)).collect(),
            ),
            DeValue::Table(table) => Value::Object(
                entries(table)
                    .into_iter()
                    .map(|(key, item)| {
                        let key = key.get_ref().to_string();
                        let value = self.value(item, &format!("{path}.{key}"), places);
                        (key, value)
                    })
                    .collect(),
            ),
        }
    }

    /// Puts environment variables in for `${NAME}`; `$${` stays `${`.
    fn interpolate(&mut self, text: &str, span: Range<usize>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, behind) = (&rest[..at], &rest[at + 2..]);
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = behind;
                continue;
            }
            out.push_str(before);
            let Some(end) = behind.find('}') else {
                self.fault(span, "`${` without its `}`");
                return out;
            };
            let name = &behind[..end];
            match std::env::var(name) {
                Ok(value) => out.push_str(&value),
                Err(_) => {
                    let fault = Fault::new(span.clone(), format!("the environment variable `{name}` is not set"));
                    self.faults
                        .push(fault.help("`${NAME}` takes its value from the environment; `$${` writes a plain `${`"));
                }
            }
            rest = &behind[end + 1..];
        }
        out.push_str(rest);
        out
    }

    fn set(&mut self, file: &mut PipelineFile, set: &Override) {
        let written = set.value.as_str();
        // A bare word is a string: `--set decoded.on_error=drop`.
        let quoted = format!("{:?}", set.value);
        let parsed = DeValue::parse(written).or_else(|_| DeValue::parse(&quoted));
        let Ok(value) = parsed else {
            return self.fault(0..0, format!("--set {}.{}: `{written}` is no TOML value", set.stage, set.key));
        };
        let before = self.faults.len();
        if set.stage == "pipeline" {
            self.pipeline_key(file, &set.key, 0..0, &value);
        } else if let Some(stage) = file.stages.iter_mut().find(|stage| stage.name.text == set.stage) {
            self.stage_key(stage, &set.key, 0..0, &value);
            stage.set.insert(set.key.clone());
            // Spans of the command line's text mean nothing in the file: point at the stage.
            let span = stage.name.span.clone();
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

//! The pipeline file: TOML to stages as they are written, every value with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::declare::faults::{Fault, Faults};
use crate::declare::sweep::{self, Axis, Coordinate};

mod overrides;
mod settings;
mod values;

pub use overrides::{Override, argument};

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
    /// `[pipeline] part_rows`: no result depends on it. Without it, a part of narrow rows has more of them than one of wide rows.
    pub part_rows: Option<usize>,
    /// The stages, in the order of the text.
    pub stages: Vec<Declaration>,
    /// `[sweep]`, in the order of the text.
    pub axes: Vec<Axis>,
    /// What the command line says in place of the file.
    pub overrides: Vec<Override>,
    /// What is wrong so far; [`Plan::bind`](crate::declare::plan::Plan::bind) reports it with what the later phases find.
    pub faults: Vec<Fault>,
}

/// A stage as it is written, or a cell of one that is swept.
#[derive(Debug, Clone)]
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
    /// `seed = …`, in place of the pipeline's.
    pub seed: Option<(u64, Range<usize>)>,
    /// All other keys: the operator's config.
    pub config: Map<String, Value>,
    /// Keys whose values `--set` gave.
    pub set: BTreeSet<String>,
    /// Places of the config's values, by path (`layer`, `layer[1]`), and of its keys, by name with `=` behind.
    pub places: BTreeMap<String, Range<usize>>,
    /// Of a cell: its value on each axis that it depends on.
    pub cell: Vec<Coordinate>,
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
    /// The name that the file has for it: a cell's is its stage's.
    pub fn base(&self) -> &str {
        if self.cell.is_empty() { &self.name.text } else { sweep::base(&self.name.text) }
    }

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

    /// What a file says of its name and its store, whatever else is wrong with it: enough to find the tables that were made. Its stages
    /// are left out.
    ///
    /// # Errors
    /// It cannot be read, or what is wrong may be just that.
    pub fn read_place(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the pipeline file {}", path.display()))?;
        let (root, errors) = DeTable::parse_recoverable(&text);
        let mut reader = Reader { faults: Vec::new() };
        let mut file = Self::bare(path, &text);
        match root.get_ref().get("pipeline").map(|value| (value.span(), value.get_ref())) {
            Some((_, DeValue::Table(table))) => {
                for (key, value) in
                    entries(table).into_iter().filter(|(key, _)| ["name", "store"].contains(&key.get_ref().as_ref()))
                {
                    reader.pipeline_key(&mut file, key.get_ref(), key.span(), value);
                }
            }
            // Half a table may be all of what was meant.
            _ if !errors.is_empty() && text.contains("[pipeline]") => {
                reader.fault(0..0, "not TOML: what it says of `[pipeline]` cannot be read");
            }
            _ => {}
        }
        if reader.faults.is_empty() { Ok(file) } else { Err(Faults::new(path, text, reader.faults).into()) }
    }

    /// A file that says nothing.
    fn bare(path: &Path, text: &str) -> Self {
        let base = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_else(|| "pipeline".into());
        Self {
            path: path.to_owned(),
            store: base.join(".tessera"),
            base,
            text: text.to_owned(),
            name: stem,
            seed: 0,
            part_rows: None,
            stages: Vec::new(),
            axes: Vec::new(),
            overrides: Vec::new(),
            faults: Vec::new(),
        }
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

pub(crate) struct Reader {
    pub(crate) faults: Vec<Fault>,
}

pub(crate) type Key<'a, 'i> = &'a Spanned<std::borrow::Cow<'i, str>>;
pub(crate) type Entry<'a, 'i> = (Key<'a, 'i>, &'a Spanned<DeValue<'i>>);

/// A table's entries in the order of the text.
pub(crate) fn entries<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Entry<'a, 'i>> {
    let mut all: Vec<Entry<'a, 'i>> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all
}

impl Reader {
    fn file(&mut self, path: &Path, text: &str, root: &DeTable<'_>, overrides: &[Override]) -> PipelineFile {
        let mut file = PipelineFile::bare(path, text);
        for (key, value) in entries(root) {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("pipeline", DeValue::Table(table)) => self.pipeline(&mut file, table),
                ("stage", DeValue::Table(table)) => self.stages(&mut file, table),
                ("sweep", DeValue::Table(table)) => file.axes = sweep::read(self, table),
                ("pipeline" | "stage" | "sweep", other) => {
                    self.fault(value.span(), format!("`{}` should be a table, found {}", key.get_ref(), other.type_str()));
                }
                (other, _) => {
                    let fault = Fault::new(key.span(), format!("unknown table `{other}`"));
                    self.faults.push(fault.known(other, ["pipeline", "stage", "sweep"]));
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
        file.overrides = overrides.to_vec();
        sweep::expand(&mut file, self);
        file
    }

    pub(crate) fn fault(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.faults.push(Fault::new(span, message));
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
            seed: None,
            config: Map::new(),
            set: BTreeSet::new(),
            places: BTreeMap::new(),
            cell: Vec::new(),
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
            ("seed", _) => stage.seed = self.whole_number(key, value).map(|seed| (seed, key_span)),
            _ => {
                stage.places.insert(format!("{key}="), key_span);
                let value = self.value(value, key, &mut stage.places);
                stage.config.insert(key.to_owned(), value);
            }
        }
    }
}

//! [`Operator`] without its type parameters, for the pipeline to hold in one table.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value};

use crate::config;
use crate::operator::{At, BindError, Binding, Context, Kernel, Operator, Port, RunError, Shape, ShapeName};
use crate::reference::{self, Key};

/// An operator as the pipeline sees it.
pub trait Spec: Sync {
    /// [`Operator::NAME`].
    fn name(&self) -> &'static str;
    /// [`Operator::SUMMARY`].
    fn summary(&self) -> &'static str;
    /// [`Operator::OUTPUT`].
    fn output(&self) -> &'static [(&'static str, &'static str)];
    /// [`Operator::EXAMPLE`], without an empty line around it.
    fn example(&self) -> &'static str;
    /// [`Operator::VERSION`].
    fn version(&self) -> u32;
    /// [`Operator::INPUTS`].
    fn inputs(&self) -> &'static [Port];
    /// [`Operator::SEEDED`].
    fn seeded(&self) -> bool;
    /// [`Operator::VIEW`].
    fn view(&self) -> bool;
    /// [`Operator::LOOKS_BACK`].
    fn looks_back(&self) -> bool;
    /// [`Operator::MULTIPLIES`].
    fn multiplies(&self) -> bool;
    /// [`Operator::DECISIONS`].
    fn decisions(&self) -> Option<(&'static str, &'static str)>;
    /// The config's field names.
    fn fields(&self) -> &'static [&'static str];
    /// The config's fields, as the reference tells of them.
    fn keys(&self) -> Vec<Key>;
    /// The keys as JSON schemas by name, and the names of the keys that have to be there.
    fn properties(&self) -> (Map<String, Value>, Vec<Value>);
    /// What is wrong with a config taken alone, before any input is known.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    fn check(&self, keys: Map<String, Value>) -> Result<(), Vec<BindError>>;
    /// [`Operator::bind`], after reading the config.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    fn bind(&self, keys: Map<String, Value>, inputs: &Binding<'_>) -> Result<Box<dyn Bound>, Vec<BindError>>;
}

/// A bound operator as the pipeline sees it.
pub trait Bound: Send + Sync {
    /// [`Operator::schema`].
    fn schema(&self) -> SchemaRef;
    /// [`Operator::reads`].
    fn reads(&self, input: &str, port: &'static Port) -> Vec<String>;
    /// [`Operator::reads_ids`].
    fn reads_ids(&self) -> bool;
    /// [`Operator::content`].
    ///
    /// # Errors
    /// A file cannot be read.
    fn content(&self) -> Result<Vec<String>, RunError>;
    /// [`Operator::passes`].
    fn passes(&self) -> Vec<String>;
    /// [`Operator::refuses_drops`].
    fn refuses_drops(&self) -> bool;
    /// [`Operator::goes_on_from`].
    fn goes_on_from(&self) -> Option<&'static str>;
    /// [`Operator::fits`].
    ///
    /// # Errors
    /// An earlier table of that schema will not do.
    fn fits(&self, last: &SchemaRef) -> Result<(), String>;
    /// The config after defaults, less [`Operator::NEUTRAL`] and [`Operator::FILES`] fields: its part of the key.
    fn config(&self) -> &Map<String, Value>;
    /// The files that the config names, whose bytes are part of the key.
    fn files(&self) -> &[PathBuf];
    /// [`Operator::device`].
    fn device(&self) -> Option<String>;
    /// [`Operator::enough`].
    ///
    /// # Errors
    /// An input of at most so many rows will not do.
    fn enough(&self, input: &str, rows: u64) -> Result<(), BindError>;
    /// [`Operator::notes`].
    ///
    /// # Errors
    /// It cannot do what is asked of it.
    fn notes(&self) -> Result<Vec<String>, RunError>;
    /// [`Operator::kernel`].
    ///
    /// # Errors
    /// Something that it needs is not there.
    fn kernel(self: Box<Self>, context: &Context) -> Result<Kernel, RunError>;
}

/// Refuses [content](Operator::content) that is not what it was.
///
/// # Errors
/// Something is another by now; the message names it.
pub fn same_content(was: &[String], is: &[String]) -> Result<(), RunError> {
    let other = is.iter().find(|entry| !was.contains(entry)).or_else(|| was.iter().find(|entry| !is.contains(entry)));
    let name = |entry: &String| content_name(entry).map_or_else(|| entry.clone(), |named| named.name.to_owned());
    other.map_or(Ok(()), |entry| Err(RunError::Input(format!("{} changed while the stage ran; run again", name(entry)))))
}

/// What an entry of [content](Operator::content) is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentName<'a> {
    /// The file's name, or the line as it is told.
    pub name: &'a str,
    /// Whether it is a line.
    pub is_line: bool,
}

/// What an entry of [content](Operator::content) is of, if it says so.
pub fn content_name(entry: &str) -> Option<ContentName<'_>> {
    let (entry, is_line) = entry.strip_prefix("line ").map_or((entry, false), |line| (line, true));
    let (_, name) = entry.split_once(' ')?;
    Some(ContentName { name, is_line })
}

/// Erases one operator's type.
pub(crate) struct Of<O>(pub(crate) std::marker::PhantomData<fn() -> O>);

impl<O: Operator> Of<O> {
    pub(crate) const fn new() -> Self {
        const {
            if let Some(fault) = <O::Kernel as Shape>::NAME.fault(O::INPUTS) {
                panic!("{}", fault);
            }
            let is_map = matches!(<O::Kernel as Shape>::NAME, ShapeName::Map);
            assert!(is_map || !(O::VIEW || O::LOOKS_BACK), "only maps are views, or look back");
        }
        Self(std::marker::PhantomData)
    }
}

struct BoundTo<O> {
    operator: O,
    config: Map<String, Value>,
    files: Vec<PathBuf>,
}

impl<O: Operator> Spec for Of<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }
    fn summary(&self) -> &'static str {
        O::SUMMARY
    }
    fn output(&self) -> &'static [(&'static str, &'static str)] {
        O::OUTPUT
    }
    fn example(&self) -> &'static str {
        O::EXAMPLE.trim()
    }
    fn version(&self) -> u32 {
        O::VERSION
    }
    fn inputs(&self) -> &'static [Port] {
        O::INPUTS
    }
    fn seeded(&self) -> bool {
        O::SEEDED
    }
    fn view(&self) -> bool {
        O::VIEW
    }
    fn looks_back(&self) -> bool {
        O::LOOKS_BACK
    }
    fn multiplies(&self) -> bool {
        O::MULTIPLIES
    }
    fn decisions(&self) -> Option<(&'static str, &'static str)> {
        O::DECISIONS
    }
    fn fields(&self) -> &'static [&'static str] {
        config::fields::<O::Config>()
    }
    fn keys(&self) -> Vec<Key> {
        reference::keys::<O::Config>()
    }
    fn properties(&self) -> (Map<String, Value>, Vec<Value>) {
        reference::properties::<O::Config>()
    }
    fn check(&self, keys: Map<String, Value>) -> Result<(), Vec<BindError>> {
        let (parsed, errors) = config::read::<O::Config>(keys.clone(), O::LIMITS);
        let errors = with_others(&keys, errors, parsed.map(|config| O::faults(&config)).unwrap_or_default());
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
    fn bind(&self, keys: Map<String, Value>, inputs: &Binding<'_>) -> Result<Box<dyn Bound>, Vec<BindError>> {
        let (parsed, errors) = config::read::<O::Config>(keys.clone(), O::LIMITS);
        let parsed = match parsed {
            Some(parsed) if errors.is_empty() => parsed,
            Some(parsed) => return Err(with_others(&keys, errors, O::bind(parsed, inputs).err().unwrap_or_default())),
            None => return Err(errors),
        };
        let whole = serde_json::to_value(&parsed).map_err(|e| vec![BindError::stage(e.to_string())])?;
        let Value::Object(mut config) = whole else {
            return Err(vec![BindError::stage("the config of an operator is a table of keys")]);
        };
        let files = O::FILES
            .iter()
            .filter_map(|field| config.remove(*field))
            .filter_map(|path| path.as_str().map(|path| inputs.resolve(Path::new(path))))
            .collect();
        let operator = O::bind(parsed, inputs)?;
        config.extend(operator.settled().into_iter().map(|(key, value)| (key.to_owned(), value)));
        config.retain(|key, _| !O::NEUTRAL.contains(&key.as_str()));
        Ok(Box::new(BoundTo { operator, config, files }))
    }
}

/// What is wrong with a config's keys, and what else was found of what is right of it. Where keys are left out for being wrong, their
/// defaults stand in: then what was found is told if it is of a key that is there and right, or of an input.
fn with_others(keys: &Map<String, Value>, wrong: Vec<BindError>, found: Vec<BindError>) -> Vec<BindError> {
    let is_told = |error: &BindError| match &error.at {
        _ if wrong.is_empty() => true,
        At::Stage | At::Unknown(_) => false,
        At::Input(_) | At::Table(_) | At::Maker(_) => true,
        At::Key(_) => config::faulted(error)
            .is_some_and(|key| keys.contains_key(key) && !wrong.iter().any(|wrong| config::faulted(wrong) == Some(key))),
    };
    let told: Vec<BindError> = found.into_iter().filter(is_told).collect();
    wrong.into_iter().chain(told).collect()
}

impl<O: Operator> Bound for BoundTo<O> {
    fn schema(&self) -> SchemaRef {
        self.operator.schema()
    }
    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        self.operator.reads(input, port)
    }
    fn reads_ids(&self) -> bool {
        self.operator.reads_ids()
    }
    fn content(&self) -> Result<Vec<String>, RunError> {
        self.operator.content()
    }
    fn passes(&self) -> Vec<String> {
        self.operator.passes()
    }
    fn refuses_drops(&self) -> bool {
        self.operator.refuses_drops()
    }
    fn goes_on_from(&self) -> Option<&'static str> {
        self.operator.goes_on_from()
    }
    fn fits(&self, last: &SchemaRef) -> Result<(), String> {
        self.operator.fits(last)
    }
    fn config(&self) -> &Map<String, Value> {
        &self.config
    }
    fn files(&self) -> &[PathBuf] {
        &self.files
    }
    fn device(&self) -> Option<String> {
        self.operator.device()
    }
    fn enough(&self, input: &str, rows: u64) -> Result<(), BindError> {
        self.operator.enough(input, rows)
    }
    fn notes(&self) -> Result<Vec<String>, RunError> {
        self.operator.notes()
    }
    fn kernel(self: Box<Self>, context: &Context) -> Result<Kernel, RunError> {
        self.operator.kernel(context).map(Into::into)
    }
}

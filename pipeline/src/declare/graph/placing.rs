//! Operators' complaints as faults of the file, each at its place.

use tessera_operators::operator::{At, BindError};
use tessera_operators::spec::Spec;

use crate::declare::faults::Fault;
use crate::declare::file::{Declaration, Text};

/// An operator's complaint as a fault of the file, which has these stages. What is known of a key is told along.
pub fn place(stage: &Declaration, all: &[Declaration], error: BindError) -> Fault {
    let name = &stage.name.text;
    if let At::Maker(port) = &error.at
        && let Some(maker) = upstream(stage, port).and_then(|from| all.iter().find(|other| other.name.text == from.text))
    {
        let message = format!("stage `{}`: {}, and stage `{name}` needs it", maker.name.text, error.message);
        let fault = Fault::new(maker.name.span.clone(), message).of(name);
        return match error.help {
            Some(help) => fault.help(help),
            None => fault,
        };
    }
    let span = match &error.at {
        At::Stage => stage.name.span.clone(),
        At::Unknown(key) => stage.place_of_key(key),
        At::Key(path) => stage.place(path),
        At::Input(port) | At::Table(port) | At::Maker(port) => upstream(stage, port).unwrap_or(&stage.name).span.clone(),
    };
    let whose = match &error.at {
        At::Table(port) | At::Maker(port) => {
            upstream(stage, port).map_or_else(String::new, |from| format!("`{}` ", from.text))
        }
        _ => String::new(),
    };
    let given = given(stage, &error.at).map(|key| format!(" (from --set {}.{key})", stage.base())).unwrap_or_default();
    let fault = Fault::new(span, format!("stage `{name}`: {whose}{}{given}", error.message)).of(name);
    let Some(spec) = tessera_operators::find(&stage.op.text) else { return fault };
    match (&error.at, error.help) {
        (At::Unknown(key), _) => unknown(fault, key, spec),
        (_, Some(help)) => fault.help(help),
        (At::Key(path), None) => {
            let root = path.split(['.', '[']).next().unwrap_or_default();
            match spec.keys().into_iter().find(|key| key.name == root) {
                Some(key) => fault.help(format!("{} {}", key.in_short(), more(spec))),
                None => fault,
            }
        }
        (_, None) => fault,
    }
}

/// The same of a key that the operator does not know.
fn unknown(fault: Fault, key: &str, spec: &'static dyn Spec) -> Fault {
    let general = ["op", "input", "inputs", "keep"].into_iter().chain(spec.seeded().then_some("seed"));
    let fault = fault.known(key, spec.fields().iter().copied().chain(general));
    let known = fault.help.clone().unwrap_or_default();
    fault.help(format!("{known}; {}", more(spec)))
}

/// Where there is more to read.
fn more(spec: &'static dyn Spec) -> String {
    format!("`tessera operators {}` describes all keys", spec.name())
}

/// The key that `--set` gave, if a complaint is about that.
fn given<'a>(stage: &Declaration, at: &'a At) -> Option<&'a str> {
    let key = match at {
        At::Stage => None,
        At::Key(path) | At::Unknown(path) => path.split(['.', '[']).next(),
        At::Input(_) | At::Table(_) | At::Maker(_) => ["input", "inputs"].into_iter().find(|key| stage.set.contains(*key)),
    };
    key.filter(|key| stage.set.contains(*key))
}

/// The stage that an input reads, as the file names it.
fn upstream<'a>(stage: &'a Declaration, port: &str) -> Option<&'a Text> {
    let named = stage.inputs.iter().find(|(name, _)| name.text == port).map(|(_, from)| from);
    named.or(stage.input.as_ref())
}

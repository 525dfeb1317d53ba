//! The dictionary of tensors that is meant: a file's own, or one within it, as training leaves them beside an optimizer's.

use std::collections::HashMap;

use tessera_datasets::pickle::{Pickle, Value};

use super::tensors::{Found, tensor};
use super::{Fault, Storages, listed, shown};
use crate::tensor_file::file::Header;

/// Dictionaries within each other that are looked through.
const DEPTH: usize = 8;
/// Dictionaries that are looked at, each as often as it is named.
const MOST_STATES: usize = 100_000;
/// Entries of a dictionary that are kept: large networks have some thousands.
const MOST_ENTRIES: usize = 200_000;

/// A dictionary under a name.
#[derive(Clone, Copy)]
struct Named {
    /// The dictionary that it lies in, by its number, and its key there; `None` for the outermost one.
    above: Option<(usize, usize)>,
    depth: usize,
    place: usize,
}

/// Dictionaries, those further out first.
struct States<'a> {
    pickle: &'a Pickle,
    named: Vec<Named>,
    /// Numbers of those that have tensors, and whether they have matrices or kernels, as a network's have: beside those a file may have
    /// single numbers.
    found: Vec<(usize, bool)>,
}

/// The tensors of the dictionary of that name, or of the only one.
///
/// # Errors
/// There is none, or there are several; or a tensor is not sound.
pub fn header(pickle: &Pickle, storages: &Storages, state: Option<&str>) -> Result<Header, Fault> {
    let states = States::find(pickle, storages)?;
    if states.found.is_empty() {
        return Err(none(pickle));
    }
    let all = || states.found.iter().map(|&(number, _)| number);
    let fitting: Vec<usize> = match state {
        Some(state) => all().filter(|&number| states.name(number) == state).collect(),
        None => {
            let any = states.found.iter().any(|&(_, is_network)| is_network);
            states.found.iter().filter(|&&(_, is_network)| is_network == any).map(|&(number, _)| number).collect()
        }
    };
    let place = |number: usize| states.named[number].place;
    match (fitting.first(), state) {
        // Of one dictionary under several names, any will do.
        (Some(&first), _) if fitting.iter().all(|&number| place(number) == place(first)) => {
            tensors(pickle, storages, states.name(first), place(first))
        }
        (None, Some(state)) => Err(Fault::Unknown { state: state.to_owned(), known: states.listed(all()) }),
        _ => Err(Fault::Several { count: fitting.len(), known: states.listed(fitting.into_iter()) }),
    }
}

impl<'a> States<'a> {
    fn find(pickle: &'a Pickle, storages: &Storages) -> Result<Self, Fault> {
        let mut named = vec![Named { above: None, depth: 0, place: pickle.top() }];
        let mut found = Vec::new();
        // What was found in those that were looked at already: one may have several names.
        let mut known: HashMap<usize, Option<bool>> = HashMap::new();
        let mut number = 0;
        while let Some(&Named { depth, place, .. }) = named.get(number) {
            let has = match known.get(&place) {
                Some(&has) => has,
                None => {
                    let mut has: Option<bool> = None;
                    for &(key, value) in dictionary(pickle, place).unwrap_or_default() {
                        if pickle.text(key).is_none() {
                            continue;
                        }
                        match tensor(pickle, storages, value) {
                            Ok(Some(Found::Tensor(entry))) => {
                                let is_network = entry.shape.len() > 1 && entry.dtype.contains('F');
                                has = Some(is_network || has == Some(true));
                            }
                            Ok(Some(Found::Other(_))) | Err(_) => has = has.or(Some(false)),
                            Ok(None) if depth < DEPTH && dictionary(pickle, value).is_some() => {
                                if named.len() == MOST_STATES {
                                    let message =
                                        format!("its pickle has more than {MOST_STATES} dictionaries in each other");
                                    return Err(Fault::Archive(message));
                                }
                                named.push(Named { above: Some((number, key)), depth: depth + 1, place: value });
                            }
                            Ok(None) => {}
                        }
                    }
                    known.insert(place, has);
                    has
                }
            };
            found.extend(has.map(|is_network| (number, is_network)));
            number += 1;
        }
        Ok(Self { pickle, named, found })
    }

    /// The keys that lead to a dictionary, with dots between them; empty for the file's own.
    fn name(&self, mut number: usize) -> String {
        let mut keys = Vec::new();
        while let Some((above, key)) = self.named[number].above {
            keys.push(self.pickle.text(key).unwrap_or_default());
            number = above;
        }
        keys.reverse();
        keys.join(".")
    }

    fn listed(&self, numbers: impl Iterator<Item = usize>) -> String {
        listed(numbers.map(|number| self.name(number)))
    }
}

/// The tensors of a dictionary.
fn tensors(pickle: &Pickle, storages: &Storages, state: String, place: usize) -> Result<Header, Fault> {
    let mut header = Header { state: Some(state), ..Header::default() };
    for &(key, value) in dictionary(pickle, place).unwrap_or_default() {
        let Some(name) = pickle.text(key) else {
            header.left_out.insert(describe(pickle, key), "which is no name".to_owned());
            continue;
        };
        let name = name.to_owned();
        // Of a key that comes twice, the last entry counts.
        header.tensors.remove(&name);
        header.left_out.remove(&name);
        match tensor(pickle, storages, value) {
            Ok(Some(Found::Tensor(entry))) => drop(header.tensors.insert(name, entry)),
            Ok(Some(Found::Other(what))) => drop(header.left_out.insert(name, what)),
            Ok(None) => drop(header.left_out.insert(name, describe(pickle, value))),
            Err(why) => return Err(Fault::Tensor { name, why }),
        }
        if header.tensors.len() + header.left_out.len() > MOST_ENTRIES {
            return Err(Fault::Archive(format!("a dictionary of tensors has more than {MOST_ENTRIES} entries")));
        }
    }
    Ok(header)
}

/// The entries of a dictionary, of Python's own kind or of one that is made by a call.
fn dictionary(pickle: &Pickle, place: usize) -> Option<&[(usize, usize)]> {
    match pickle.value(place) {
        Value::Dict(entries) => Some(entries),
        Value::Object(object) => {
            let is_empty = object.entries.is_empty() && pickle.global(object.maker) != Some("collections OrderedDict");
            (!is_empty).then_some(&object.entries)
        }
        _ => None,
    }
}

/// The fault of a file without any tensors by name.
fn none(pickle: &Pickle) -> Fault {
    let top = pickle.top();
    let Some(entries) = dictionary(pickle, top) else {
        return match module(pickle, top) {
            Some(class) => Fault::Object { class, key: None },
            None => Fault::NoTensors(describe(pickle, top)),
        };
    };
    let modules = entries.iter().filter_map(|&(key, value)| Some((pickle.text(key)?, module(pickle, value)?)));
    if let Some((key, class)) = modules.into_iter().next() {
        return Fault::Object { class, key: Some(key.to_owned()) };
    }
    let keys = || entries.iter().filter_map(|&(key, _)| pickle.text(key).map(str::to_owned));
    let has = |name: &str| keys().any(|key| key == name);
    Fault::NoTensors(match () {
        () if has("state") && has("param_groups") => "an optimizer's state alone".to_owned(),
        () if entries.is_empty() => "an empty dictionary".to_owned(),
        () => format!("a dictionary of {}", listed(keys())),
    })
}

/// The class of a network that was saved as an object.
fn module(pickle: &Pickle, place: usize) -> Option<String> {
    let Value::Object(object) = pickle.value(place) else { return None };
    let state = dictionary(pickle, object.state?)?;
    let is_module = state.iter().any(|&(key, _)| pickle.text(key) == Some("_modules"));
    is_module.then(|| dotted(pickle.global(object.maker).unwrap_or("?")))
}

/// What a value is, in words.
fn describe(pickle: &Pickle, place: usize) -> String {
    match pickle.value(place) {
        Value::None => "nothing".to_owned(),
        Value::Bool(_) | Value::Float(_) | Value::Huge => "a number".to_owned(),
        Value::Int(number) => format!("the number {number}"),
        Value::Bytes(_) | Value::Far { .. } | Value::FarText => "text or bytes".to_owned(),
        Value::Tuple(_) | Value::List(_) => "a list".to_owned(),
        Value::Dict(_) => "a dictionary".to_owned(),
        Value::Global(name) => format!("the name `{}`", dotted(name)),
        Value::Object(object) => match pickle.global(object.maker) {
            Some("torch._utils _rebuild_tensor_v2" | "torch._utils _rebuild_tensor_v3") => "a single tensor".to_owned(),
            Some(name) => format!("an object that `{}` makes", dotted(name)),
            None => "an object".to_owned(),
        },
        Value::Persistent(_) => "a storage".to_owned(),
    }
}

/// Something of a module, as Python names it.
fn dotted(name: &str) -> String {
    shown(name).replace(' ', ".")
}

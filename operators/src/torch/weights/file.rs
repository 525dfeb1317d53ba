//! What the header of a file of tensors tells: which network's its tensors are, how images are normalised for it, and whether the
//! tensors are that network's at all.

use tessera_schemas::weights as table;

use super::super::network::{Name, OTHERS, Parameter, dimensions, walk};
use super::super::normalisation::Normalisation;
use crate::operator::BindError;
use crate::tensor_file::{self, Header};

/// Differences, and names of a file, that a message lists.
const SHOWN: usize = 4;
/// Types of tensors that networks compute with.
const FLOATS: [&str; 4] = ["F32", "F16", "BF16", "F64"];

/// What is known of the network: what the file says, and what the config gives where the file says nothing; and what its tensors' names begin
/// with in the file.
///
/// # Errors
/// Both say something, and not the same; or the tensors are not those of the network.
pub fn network(header: &Header, given: table::Network) -> Result<(table::Network, String), Vec<BindError>> {
    let mut faults = Vec::new();
    let mut said = tensor_file::network(&header.metadata).unwrap_or_else(|message| {
        faults.push(BindError::key("path", message).help("correct the file's metadata, or write the file without"));
        table::Network::default()
    });
    // A name that nobody here knows was not written by `export`, and means something else.
    said.name = said.name.filter(|name| Name::find(name).is_some());
    if let (Some(said), Some(given)) = (&said.name, &given.name)
        && said != given
    {
        let message = format!("is `{given}`, and the file says that its tensors are of `{said}`");
        faults.push(BindError::key("network", message).help("remove the key"));
    }
    let key = if given.normalisation.is_some() { "normalisation" } else { "mean" };
    let (of_file, of_config) = (Normalisation::of_weights(&said), Normalisation::of_weights(&given));
    if let (Some(of_file), Some(of_config)) = (of_file, of_config)
        && of_file != of_config
    {
        let message = format!("the file says that images are normalised otherwise for its network: {}", told(&said));
        faults.push(BindError::key(key, message).help("remove the key"));
    }
    let chosen = if of_config.is_some() { &given } else { &said };
    let known = table::Network {
        name: given.name.clone().or_else(|| said.name.clone()),
        mean: chosen.mean,
        deviation: chosen.deviation,
        normalisation: chosen.normalisation.clone(),
    };
    let mut before = String::new();
    if let Some(name) = known.name.as_deref().and_then(Name::find).filter(|_| faults.is_empty()) {
        match (unlike(header, name), prefix(header, name)) {
            (Some(_), Some(prefix)) => before = prefix,
            (fault, _) => faults.extend(fault),
        }
    }
    if faults.is_empty() { Ok((known, before)) } else { Err(faults) }
}

/// What `check` says of a file that says too little to be used as it is.
pub fn notes(header: &Header, known: &table::Network, prefix: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if !prefix.is_empty() {
        let others: Vec<&String> = header.tensors.keys().filter(|name| !name.starts_with(prefix)).collect();
        let shown = others.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let more = if others.len() > SHOWN { format!(" and {} more", others.len() - SHOWN) } else { String::new() };
        let left = if others.is_empty() { String::new() } else { format!("; others are left out: {shown}{more}") };
        notes.push(format!("the tensors' names begin with `{prefix}` in the file, which is left out{left}"));
    }
    if !header.left_out.is_empty() {
        let shown: Vec<String> =
            header.left_out.iter().take(SHOWN).map(|(name, what)| format!("`{name}`, {what}")).collect();
        let more = if header.left_out.len() > SHOWN {
            format!("; and {} more", header.left_out.len() - SHOWN)
        } else {
            String::new()
        };
        notes.push(format!(
            "the file also holds what is no tensor that can be read, which is left out: {}{more}",
            shown.join("; ")
        ));
    }
    if known.name.is_none() {
        let with_prefix = || Name::ALL.iter().copied().find(|&name| self::prefix(header, name).is_some());
        let fitting = fitting(header).or_else(with_prefix).map_or_else(
            || format!("none of {} has such tensors ({}): {OTHERS}", Name::known(), names(header)),
            |name| format!("they are those of `{0}`: network = \"{0}\"", name.text()),
        );
        notes.push(format!("the file does not say which network its tensors are of; {fitting}"));
    }
    if Normalisation::of_weights(known).is_none() {
        notes.push(format!("the file does not say how images are normalised for its network; {NORMALISATIONS}"));
    }
    notes
}

/// The advice for weights whose normalisation is not known.
pub const NORMALISATIONS: &str = "only who made the weights knows: torchvision's networks have mean = [0.485, 0.456, 0.406], \
    deviation = [0.229, 0.224, 0.225]; those that `train` made of puzzles have normalisation = \"tile\" in their stage `weights`";

/// A network's normalisation as the keys that say it.
fn told(network: &table::Network) -> String {
    match (&network.normalisation, network.mean, network.deviation) {
        (_, Some(mean), Some(deviation)) => format!("mean = {mean:?}, deviation = {deviation:?}"),
        (Some(name), ..) => format!("normalisation = \"{name}\""),
        _ => "not said".to_owned(),
    }
}

/// The tensors that every form of a network has, whatever it was trained for.
fn trunk(name: Name) -> Vec<Parameter> {
    /// The side of images that all networks here take; no tensor's shape depends on it.
    const SIDE: usize = 224;
    walk(&name.network().trunk, &[3, SIDE, SIDE]).map(|(_, parameters)| parameters).unwrap_or_default()
}

/// The fault of a file whose tensors are not a network's: the first few that differ.
fn unlike(header: &Header, name: Name) -> Option<BindError> {
    let all = differences(header, name, "");
    if all.is_empty() {
        return None;
    }
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    let more = if all.len() > SHOWN { format!("; and {} more", all.len() - SHOWN) } else { String::new() };
    let message = format!("the file's tensors are not those of `{}`: {shown}{more}; it has {}", name.text(), names(header));
    let help = match fitting(header) {
        Some(other) => format!("they are those of `{0}`: network = \"{0}\"", other.text()),
        None => format!(
            "rename the tensors, or write `network` in the stage `infer` and not here: it needs only the tensors of its layers; {OTHERS}"
        ),
    };
    Some(BindError::key("path", message).help(help))
}

/// In what a file differs from a network, whose tensors' names begin with a prefix there.
fn differences(header: &Header, name: Name, prefix: &str) -> Vec<String> {
    let one = |parameter: &Parameter| {
        let (name, expected) = (format!("{prefix}{}", parameter.name), dimensions(&parameter.shape));
        match header.tensors.get(&name) {
            None => Some(match header.left_out.get(&name) {
                Some(what) => format!("`{name}` is {what}"),
                None => format!("there is no `{name}` ({expected})"),
            }),
            Some(found) if found.shape != parameter.shape => {
                Some(format!("`{name}` should be {expected}, found {}", dimensions(&found.shape)))
            }
            Some(found) if !FLOATS.contains(&found.dtype.as_str()) => {
                Some(format!("`{name}` is of type {}, and {} can be used", found.dtype, FLOATS.join(", ")))
            }
            Some(_) => None,
        }
    };
    trunk(name).iter().filter_map(one).collect()
}

/// The network whose tensors a file has.
fn fitting(header: &Header) -> Option<Name> {
    Name::ALL.iter().copied().find(|&name| differences(header, name, "").is_empty())
}

/// What each tensor's name begins with in a file that else has a network's, as PyTorch's wrappers leave it (`module.`).
fn prefix(header: &Header, name: Name) -> Option<String> {
    let first = trunk(name).first()?.name.clone();
    let prefixes = header.tensors.keys().filter_map(|found| found.strip_suffix(&first)).filter(|prefix| !prefix.is_empty());
    prefixes.map(str::to_owned).find(|prefix| differences(header, name, prefix).is_empty())
}

/// The first names in a file.
fn names(header: &Header) -> String {
    let shown: Vec<String> = header.tensors.keys().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match header.tensors.len() {
        0 => "no tensor".to_owned(),
        count if count > SHOWN => format!("{}, and {} more", shown.join(", "), count - SHOWN),
        _ => shown.join(", "),
    }
}

//! What a file of tensors says of the network that they are of, beside the tensors themselves.

use std::collections::BTreeMap;

use tessera_schemas::{meta, weights};

/// The keys under which a file says what [`weights::Network`] holds.
const NETWORK: &str = "network";
const MEAN: &str = "mean";
const DEVIATION: &str = "deviation";
const NORMALISATION: &str = "normalisation";

/// Entries that say which network's the tensors are, and how its images are normalised.
pub fn entries(network: &weights::Network) -> BTreeMap<String, String> {
    let entries = [
        // What PyTorch's loaders look for.
        ("format", Some("pt".to_owned())),
        (NETWORK, network.name.clone()),
        (MEAN, network.mean.map(|mean| meta::join(&mean))),
        (DEVIATION, network.deviation.map(|deviation| meta::join(&deviation))),
        (NORMALISATION, network.normalisation.clone()),
    ];
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// The network that a file's metadata name.
///
/// # Errors
/// A mean or deviation is not three numbers; a fragment that names it.
pub fn network(metadata: &BTreeMap<String, String>) -> Result<weights::Network, String> {
    let numbers = |key: &str| {
        let parse = |text: &String| -> Option<[f32; 3]> {
            let values: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
            values.ok()?.try_into().ok()
        };
        let of = |text| {
            parse(text).ok_or_else(|| format!("its `{key}` is `{text}`, and should be three numbers: red,green,blue"))
        };
        metadata.get(key).map(of).transpose()
    };
    Ok(weights::Network {
        name: metadata.get(NETWORK).cloned(),
        mean: numbers(MEAN)?,
        deviation: numbers(DEVIATION)?,
        normalisation: metadata.get(NORMALISATION).cloned(),
    })
}

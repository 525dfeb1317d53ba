//! How images are normalised before a network sees them: what keys and tables say of it, and what cannot be meant.

use tessera_schemas::weights;

use crate::operator::BindError;

/// How bytes become a network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalisation {
    /// By each image's or tile's own mean and standard deviation, over all its channels together.
    Own,
    /// Each channel of a piece is normalised by its own mean and deviation.
    OwnPerChannel,
    /// `(value / 255 - mean) / deviation`, the same for all, a channel each.
    Fixed {
        /// Means.
        mean: [f32; 3],
        /// Standard deviations.
        deviation: [f32; 3],
    },
}

impl Normalisation {
    /// What the tables' metadata calls `tile`, `tile-channel` and `none`.
    pub fn of_tiles(text: &str) -> Option<Self> {
        match text {
            "tile" => Some(Self::Own),
            "tile-channel" => Some(Self::OwnPerChannel),
            "none" => Some(Self::Fixed { mean: [0.0; 3], deviation: [1.0; 3] }),
            _ => None,
        }
    }

    /// The normalisation as a table of weights notes it.
    pub fn said(self) -> weights::Network {
        let tiles = |name: &str| weights::Network { normalisation: Some(name.to_owned()), ..weights::Network::default() };
        match self {
            Self::Own => tiles("tile"),
            Self::OwnPerChannel => tiles("tile-channel"),
            Self::Fixed { mean, deviation } => {
                weights::Network { mean: Some(mean), deviation: Some(deviation), ..weights::Network::default() }
            }
        }
    }

    /// The normalisation that a table of weights notes.
    pub fn of_weights(network: &weights::Network) -> Option<Self> {
        let fixed = network.mean.zip(network.deviation).map(|(mean, deviation)| Self::Fixed { mean, deviation });
        fixed.or_else(|| network.normalisation.as_deref().and_then(Self::of_tiles))
    }
}

/// ImageNet's means and deviations, which torchvision's networks expect.
pub const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// What is wrong with a mean and a deviation of images' values in 0..1: they go together, and are measured.
pub fn faults(mean: Option<[f32; 3]>, deviation: Option<[f32; 3]>) -> Vec<BindError> {
    let mut faults = Vec::new();
    match (mean, deviation) {
        (Some(_), None) => faults.push(BindError::key("mean", "is of no use without `deviation`")),
        (None, Some(_)) => faults.push(BindError::key("deviation", "is of no use without `mean`")),
        _ => {}
    }
    if let Some(fault) = mean.and_then(|mean| mistaken(mean, deviation)) {
        faults.push(fault);
        return faults;
    }
    let divide = "divide by 255 what was measured on bytes";
    if deviation.is_some_and(|deviation| !deviation.iter().all(|value| *value > 0.0 && value.is_finite())) {
        faults.push(BindError::key("deviation", "must be above 0 for each channel"));
    } else if deviation.is_some_and(|deviation| !deviation.iter().all(|value| *value <= 1.0)) {
        // No values in 0..1 deviate by more than 0.5 from their mean; 1 leaves them as they are.
        let fault = BindError::key("deviation", "must be at most 1 for each channel: it is of values from 0 to 1");
        faults.push(fault.help(divide));
    }
    if mean.is_some_and(|mean| !mean.iter().all(|value| (0.0..=1.0).contains(value))) {
        faults.push(BindError::key("mean", "must be 0 to 1 for each channel").help(divide));
    }
    faults
}

/// The fault of ImageNet's values written wrongly. No values in 0..1 of a mean of 0.229 deviate by 0.485: mean and deviation that
/// are swapped are no measurement. A mean of other order is one, unless it is ImageNet's to the last digit.
fn mistaken(mean: [f32; 3], deviation: Option<[f32; 3]>) -> Option<BindError> {
    let within = |values: [f32; 3], known: [f32; 3], most: f32| values.iter().zip(known).all(|(a, b)| (a - b).abs() < most);
    let [red, green, blue] = IMAGENET.0;
    let swapped = |deviation| within(mean, IMAGENET.1, 0.01) && within(deviation, IMAGENET.0, 0.01);
    let message = if deviation.is_some_and(swapped) {
        "and `deviation` are ImageNet's, swapped"
    } else if within(mean, [blue, green, red], 1e-5) {
        "is ImageNet's as blue, green, red, and channels are red, green, blue here"
    } else {
        return None;
    };
    let right = format!("mean = {:?}, deviation = {:?}", IMAGENET.0, IMAGENET.1);
    Some(BindError::key("mean", message).help(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::At;

    #[test]
    fn what_is_surely_no_normalisation_is_a_fault() {
        let faults = |mean: [f32; 3], deviation: [f32; 3]| {
            let faults = super::faults(Some(mean), Some(deviation));
            faults.into_iter().map(|fault| (fault.at, fault.message)).collect::<Vec<_>>()
        };
        let (mean, deviation) = IMAGENET;
        for (mean, deviation) in [
            (mean, deviation),
            ([0.5; 3], [0.5; 3]),
            ([0.0; 3], [1.0; 3]),
            // Dark images, and blue ones.
            ([0.23, 0.22, 0.22], [0.18, 0.17, 0.17]),
            ([0.41, 0.45, 0.48], [0.2; 3]),
        ] {
            assert_eq!(faults(mean, deviation), [], "{mean:?} {deviation:?}");
        }
        let key = |key: &str| At::Key(key.to_owned());
        for (mean, deviation, at) in [
            (deviation, mean, "mean"),
            ([0.23, 0.22, 0.23], [0.49, 0.46, 0.41], "mean"),
            ([0.406, 0.456, 0.485], [0.225, 0.224, 0.229], "mean"),
            (mean, [58.4, 57.1, 57.4], "deviation"),
            ([123.7, 116.3, 103.5], [0.2; 3], "mean"),
        ] {
            let found = faults(mean, deviation);
            assert_eq!(found.iter().map(|fault| fault.0.clone()).collect::<Vec<_>>(), [key(at)], "{found:?}");
        }
        assert!(faults(deviation, mean)[0].1.contains("swapped"));
    }
}

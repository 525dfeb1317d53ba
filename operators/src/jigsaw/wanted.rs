//! Which permutations a config asks for, and whether they can be had.

use super::{Config, LARGEST_GRID, file, permutations};
use crate::operator::{BindError, Binding, RunError};

/// To find more permutations than that, or to count how far they are from each other, takes longer than anybody would wait.
pub const MOST_PERMUTATIONS: usize = 10_000;
/// The paper's number of permutations, and their smallest distance.
const PERMUTATIONS: usize = 701;
/// See [`PERMUTATIONS`].
const MIN_DISTANCE: usize = 3;

/// The permutations that are asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// To be found: so many, with that distance.
    Found { count: usize, min_distance: usize },
    /// From a file.
    Given(Vec<Vec<u8>>),
}

impl Wanted {
    /// How many.
    pub fn count(&self) -> usize {
        match self {
            Self::Found { count, .. } => *count,
            Self::Given(permutations) => permutations.len(),
        }
    }

    /// The permutations, tile by place.
    ///
    /// # Errors
    /// They were not found.
    pub fn permutations(&self, places: usize) -> Result<Vec<Vec<u8>>, RunError> {
        match self {
            Self::Given(permutations) => Ok(permutations.clone()),
            &Self::Found { count, min_distance } => permutations::choose(places, count, min_distance).map_err(|reached| {
                RunError::Input(format!(
                    "{count} permutations of {places} tiles that differ in at least {min_distance} places were not found, only \
                     {reached}: ask for fewer, or nearer ones"
                ))
            }),
        }
    }
}

/// The permutations that a config asks for; if they cannot be had, `errors` say why.
pub fn wanted(config: &Config, inputs: &Binding<'_>, errors: &mut Vec<BindError>) -> Option<Wanted> {
    let before = errors.len();
    let mut refuse = |key: &str, message: String| errors.push(BindError::key(key, message));
    if config.permutations.is_some_and(|count| count < 2) {
        refuse("permutations", format!("{} leaves nothing to tell apart: at least 2", config.permutations?));
    }
    if !(2..=LARGEST_GRID).contains(&config.grid) {
        return None;
    }
    let places = config.grid * config.grid;
    let distance = config.min_distance.unwrap_or(if config.permutations_file.is_some() { 0 } else { MIN_DISTANCE });
    if distance > places {
        refuse("min_distance", format!("{distance} places: the puzzle has {places}"));
        return None;
    }
    if let Some(path) = &config.permutations_file {
        let mut permutations =
            file::read(&inputs.resolve(path), places).map_err(|message| refuse("permutations_file", message)).ok()?;
        let (count, held) = (config.permutations.unwrap_or(permutations.len()), permutations.len());
        if count > held {
            refuse("permutations", format!("{count}, and the file holds {held}"));
            return None;
        }
        if count > MOST_PERMUTATIONS {
            let advice = format!("`permutations = {MOST_PERMUTATIONS}` takes the first of them");
            refuse("permutations_file", format!("{held} permutations, and {MOST_PERMUTATIONS} are the most: {advice}"));
            return None;
        }
        permutations.truncate(count);
        if count < 2 && config.permutations.is_none() {
            refuse("permutations_file", format!("{held} permutations leave nothing to tell apart: at least 2"));
        }
        let nearest = permutations::distances(&permutations).iter().position(|count| *count > 0).unwrap_or(places);
        if nearest < distance {
            refuse("min_distance", format!("{distance}, and two of the file's first {count} differ in {nearest} places"));
        }
        return (errors.len() == before).then_some(Wanted::Given(permutations));
    }
    let count = config.permutations.unwrap_or(PERMUTATIONS);
    let most = permutations::most(places, distance);
    if count as u128 > most {
        let message = format!("{count} of {places} tiles with `min_distance` {distance}: there are at most {most}");
        refuse("permutations", message);
    } else if let Some(reach) = permutations::reach(places, distance).filter(|reach| *reach < count) {
        let message = format!(
            "{count} of {places} tiles with `min_distance` {distance}: the search finds {reach}, and there are at most {most}"
        );
        let error = BindError::key("permutations", message);
        errors.push(error.help("ask for fewer or nearer ones, or name a `permutations_file`"));
    }
    (errors.len() == before).then_some(Wanted::Found { count, min_distance: distance })
}

//! Which of a file's datasets hold the images, and which lie beside them.

use std::collections::BTreeMap;

use hdf5_metno::{Group, LocationType};
use tessera_schemas::pixels;

use super::super::describe::{Found, choices, find, members, single, stored};
use super::super::driver;
use super::super::picture::Picture;
use super::super::walk::Walk;
use super::{DEEPEST, MOST_PICTURES, Opened, holds_encoded, is_single};
use crate::Error;
use crate::header::Header;
use crate::tables::raw::Raw;

/// What images are.
const IMAGES: &str = "images are uint8, N x H x W x 3, N x 3 x H x W or N x H x W, or files' bytes, one of them a row";
/// Datasets of single pictures after which a group is one of pictures.
const MANY: usize = 64;
/// Bytes of datasets of single pictures that are looked at to know them; and what the smallest counts as.
const LOOKED_BYTES: u64 = 1 << 30;
const LEAST_LOOKED_BYTES: u64 = 1 << 20;

/// A dataset that may be of use.
struct Seen {
    path: String,
    rows: u64,
    /// How many axes it has, if it may hold pixels.
    picture: Option<usize>,
    /// Whether a row may be a file's bytes.
    is_encoded: bool,
    /// Whether all of it may be a file's bytes.
    is_single: bool,
}

/// What a file has.
#[derive(Default)]
struct Look {
    seen: Vec<Seen>,
    groups: Vec<String>,
    /// The datasets, for people.
    choices: String,
}

/// The dataset of images, under the name `pixels`, and those of its group that have as many rows, under theirs; or a group of pictures,
/// a dataset each. `column` names the images' dataset; with `None` it is the only one that can hold images, and one of pixels comes
/// before one of files' bytes.
///
/// # Errors
/// There is none, or there are several; the message lists what there is.
pub(crate) fn choose(raw: Raw<'_>, column: Option<&str>) -> Result<BTreeMap<String, String>, Error> {
    super::super::check(raw)?;
    let found = driver::with_file(raw, |file| {
        let Found::Group(root) = find(file, "/")? else { return Err("has no root".to_owned()) };
        let mut found = Look { groups: vec![String::new()], ..Look::default() };
        look(&Walk::new(file, false), &root, "", 0, &mut found)?;
        found.choices = choices(file);
        Ok(found)
    })?;
    let alone = |path: &str| BTreeMap::from([(pixels::PIXELS.to_owned(), path.to_owned())]);
    let image = match column {
        Some(named) => {
            let named = named.trim_matches('/');
            let path = format!("/{named}");
            if named.is_empty() || found.groups.contains(&path) {
                return Ok(alone(&path));
            }
            named_image(&found, &path).map_err(|message| raw.error(message))?
        }
        None => match unnamed(raw, &found)? {
            Some(image) => image,
            None => {
                // Many files, a dataset each.
                let mut left = LOOKED_BYTES;
                let mut singles = found.seen.iter().filter(|one| one.is_single).take_while(|one| {
                    left = left.saturating_sub(one.rows.max(LEAST_LOOKED_BYTES));
                    left > 0
                });
                if singles.any(|one| begins_as_image(raw, &one.path, true)) {
                    return Ok(alone("/"));
                }
                return Err(raw.error(format!("has no dataset of images: {IMAGES}; {}", found.choices)));
            }
        },
    };
    let (group, _) = image.path.rsplit_once('/').unwrap_or_default();
    let mut chosen = alone(&image.path);
    for one in found.seen.iter().filter(|one| one.rows == image.rows && one.path != image.path) {
        match one.path.rsplit_once('/') {
            Some((of, name)) if of == group && name != pixels::PIXELS => {
                chosen.insert(name.to_owned(), one.path.clone());
            }
            _ => {}
        }
    }
    Ok(chosen)
}

fn named_image<'a>(found: &'a Look, path: &str) -> Result<&'a Seen, String> {
    let one = found.seen.iter().find(|one| one.path == path);
    let one = one.ok_or_else(|| format!("has no dataset `{path}` with rows; {}", found.choices))?;
    if one.picture.is_none() && !one.is_encoded {
        return Err(format!("`{path}` holds no images: {IMAGES}; {}", found.choices));
    }
    Ok(one)
}

/// The only dataset that may hold the images.
fn unnamed<'a>(raw: Raw<'_>, found: &'a Look) -> Result<Option<&'a Seen>, Error> {
    // Those with channels go before those that may be anything else.
    let most = found.seen.iter().filter_map(|one| one.picture).max();
    let mut images: Vec<&Seen> = found.seen.iter().filter(|one| one.picture.is_some() && one.picture == most).collect();
    if images.is_empty() {
        images = found.seen.iter().filter(|one| one.is_encoded && begins_as_image(raw, &one.path, false)).collect();
    }
    match images[..] {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        _ => {
            let names: Vec<&str> = images.iter().map(|one| one.path.as_str()).collect();
            let (names, first) = (names.join(", "), names[0]);
            Err(raw.error(format!("several datasets may be the images: {names}; column = {first:?} says which")))
        }
    }
}

/// Whether the first row of a dataset, or all of it, is an image's bytes.
fn begins_as_image(raw: Raw<'_>, path: &str, is_single: bool) -> bool {
    let opened = if is_single {
        Opened::single(raw, path)
    } else {
        Opened::new(raw, &BTreeMap::from([(pixels::PIXELS.to_owned(), path.to_owned())]))
    };
    let first = opened.and_then(|opened| if opened.rows() > 0 { opened.encoded(raw, 0..1) } else { Ok(Vec::new()) });
    first.is_ok_and(|first| first.into_iter().flatten().any(|first| Header::of(&first.bytes).format.is_some()))
}

fn look(walk: &Walk<'_>, group: &Group, path: &str, depth: usize, found: &mut Look) -> Result<(), String> {
    let is_new = walk.enter(group);
    let mut singles = 0;
    for (name, kind) in members(group, MOST_PICTURES)? {
        if !is_new {
            walk.step()?;
        }
        let path = format!("{path}/{name}");
        let unread = |error: hdf5_metno::Error| format!("is damaged: `{path}` cannot be read: {error}");
        match kind {
            LocationType::Dataset if singles < MANY => {
                let dataset = group.dataset(&name).map_err(unread)?;
                let is_single = single(&dataset, &path, false).is_ok_and(|values| is_single(&values));
                singles += usize::from(is_single);
                // One of a kind that is not read is no image.
                let (rows, picture, is_encoded) = match stored(&dataset, &path, false) {
                    Ok(values) => {
                        let picture = Picture::may_be(&values.kind, &values.shape).then_some(values.shape.len());
                        (values.rows(), picture, holds_encoded(&values))
                    }
                    Err(_) if is_single => (1, None, false),
                    Err(_) => continue,
                };
                found.seen.push(Seen { path, rows, picture, is_encoded, is_single });
            }
            LocationType::Group if depth < DEEPEST => {
                let inner = group.group(&name).map_err(unread)?;
                found.groups.push(path.clone());
                look(walk, &inner, &path, depth + 1, found)?;
            }
            _ => {}
        }
    }
    Ok(())
}

//! What a file has, and where: all that the library is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use hdf5_metno::dataset::Dataset;
use hdf5_metno::{Attribute, File, Group, LinkType, LocationType};
use hdf5_metno_sys::h5a::H5Aread;
use hdf5_metno_sys::h5d::{H5D_layout_t, H5Dchunk_iter, H5Dget_offset, H5Dread};
use hdf5_metno_sys::h5p::{
    H5P_DEFAULT, H5Pget_chunk, H5Pget_external_count, H5Pget_fill_value, H5Pget_filter2, H5Pget_layout, H5Pget_nfilters,
};
use hdf5_metno_sys::h5s::H5S_ALL;

use super::driver::why;
use super::filters::Filter;
use super::kind::{Kind, sides};
use super::stored::{Chunk, Chunks, Place, Stored};
use super::walk::Walk;

/// Datasets that an error lists.
const LISTED: usize = 12;
/// Groups within groups that are looked through for that.
const DEEPEST: usize = 6;
/// Objects of a group that are looked at.
pub const MOST_MEMBERS: usize = 10_000;
/// Chunks of a dataset: more than that would not be an index but the data.
const MOST_CHUNKS: usize = 50_000_000;
/// Bytes of an attribute that is read.
const ATTRIBUTE_BYTES: usize = 1 << 20;

/// What lies under a path.
pub enum Found {
    /// A dataset.
    Dataset(Dataset),
    /// A group.
    Group(Group),
}

/// What lies under a path. Links to other files are not followed, whatever they name.
///
/// # Errors
/// Nothing does; the message lists what there is.
pub fn find(file: &File, path: &str) -> Result<Found, String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut group = file.group("/").map_err(|error| format!("is damaged: its root cannot be read: {error}"))?;
    let mut at = String::new();
    for (count, part) in parts.iter().enumerate() {
        at.push('/');
        at.push_str(part);
        let unread = |error: hdf5_metno::Error| format!("`{at}` cannot be read: {error}");
        let link = link(&group, part).ok_or_else(|| format!("has no `{at}`; {}", choices(file)))?;
        if link == LinkType::External {
            return Err(format!("`{at}` is a link to another file, which is not followed: name that file"));
        }
        let kind = group.loc_type_by_name(part).map_err(|error| match link {
            LinkType::Soft => format!("`{at}` is a link that leads nowhere in this file; {}", choices(file)),
            _ => unread(error),
        })?;
        match kind {
            LocationType::Group => group = group.group(part).map_err(unread)?,
            LocationType::Dataset if count + 1 == parts.len() => {
                return Ok(Found::Dataset(group.dataset(part).map_err(unread)?));
            }
            LocationType::Dataset => {
                return Err(format!("has no `{path}`: `{at}` is a dataset, not a group; {}", choices(file)));
            }
            _ => return Err(format!("`{at}` is neither dataset nor group; {}", choices(file))),
        }
    }
    Ok(Found::Group(group))
}

/// What kind of link a group has under a name.
fn link(group: &Group, name: &str) -> Option<LinkType> {
    // A group may have millions of members; they are not listed for one.
    use hdf5_metno_sys::h5l::{H5L_info2_t, H5L_type_t, H5Lget_info2};
    let name = std::ffi::CString::new(name).ok()?;
    let mut info = std::mem::MaybeUninit::<H5L_info2_t>::zeroed();
    // SAFETY: the group is open, the lock held; what the library does not fill in is zero.
    let info = unsafe {
        if H5Lget_info2(group.id(), name.as_ptr(), info.as_mut_ptr(), H5P_DEFAULT) < 0 {
            return None;
        }
        info.assume_init()
    };
    Some(match info.type_ {
        H5L_type_t::H5L_TYPE_HARD => LinkType::Hard,
        H5L_type_t::H5L_TYPE_SOFT => LinkType::Soft,
        _ => LinkType::External,
    })
}

/// The names in a group, if they are no more than `most`, and what each is, in the order of names; links to other files and links that
/// lead nowhere are left out.
///
/// # Errors
/// The group cannot be read.
pub fn members(group: &Group, most: usize) -> Result<Vec<(String, LocationType)>, String> {
    let mut names = Vec::new();
    let visited = group.iter_visit_default(|name, link| {
        if names.len() >= most {
            return Err(hdf5_metno::Error::from("too many"));
        }
        if link.link_type != LinkType::External {
            names.push(name.to_owned());
        }
        Ok(())
    });
    if names.len() >= most {
        return Err(format!("`{}` has more than {most} members", group.name()));
    }
    visited.map_err(|error| format!("is damaged: `{}` cannot be listed: {error}", group.name()))?;
    names.sort();
    let kind = |name: String| group.loc_type_by_name(&name).ok().map(|kind| (name, kind));
    Ok(names.into_iter().filter_map(kind).collect())
}

/// A sentence with the datasets of a file, their types and shapes.
pub fn choices(file: &File) -> String {
    let mut found = Vec::new();
    if let Ok(root) = file.group("/") {
        list(&Walk::new(file, false), &root, "", DEEPEST, &mut found);
    }
    if found.is_empty() {
        return "there are no datasets in it".into();
    }
    let more = if found.len() > LISTED { ", …" } else { "" };
    found.truncate(LISTED);
    format!("datasets: {}{more}", found.join(", "))
}

fn list(walk: &Walk<'_>, group: &Group, path: &str, depth: usize, found: &mut Vec<String>) {
    for (name, kind) in members(group, MOST_MEMBERS).unwrap_or_default() {
        if found.len() > LISTED || walk.step().is_err() {
            return;
        }
        let path = format!("{path}/{name}");
        match kind {
            LocationType::Dataset => {
                let Ok(dataset) = group.dataset(&name) else { continue };
                let shape = match dataset.space().ok().filter(|space| space.is_simple()) {
                    Some(space) if space.ndim() > 0 => format!(" {}", sides(&shape(&dataset))),
                    _ => " without rows".into(),
                };
                let kind = dataset.dtype().map_err(|error| error.to_string()).and_then(|kind| Kind::of(&kind));
                let kind = kind.map_or_else(|what| what, |kind| kind.to_string());
                found.push(format!("`{path}` ({kind}{shape})"));
            }
            LocationType::Group if depth > 0 => {
                if let Ok(group) = group.group(&name) {
                    list(walk, &group, &path, depth - 1, found);
                }
            }
            _ => {}
        }
    }
}

fn shape(dataset: &Dataset) -> Vec<u64> {
    dataset.shape().into_iter().map(|side| side as u64).collect()
}

/// A dataset's type and shape, and, `whole`, where its values lie.
///
/// # Errors
/// It is no table's column; the message says why.
pub fn stored(dataset: &Dataset, path: &str, whole: bool) -> Result<Stored, String> {
    if dataset.space().is_ok_and(|space| space.ndim() == 0 && !space.is_null()) {
        return Err(format!("`{path}` is a single value; a table's columns have a row each"));
    }
    single(dataset, path, whole)
}

/// Describes a dataset as [`stored`] does; one that is a single value is one row.
///
/// # Errors
/// Its values can be in no column; the message says why.
pub fn single(dataset: &Dataset, path: &str, whole: bool) -> Result<Stored, String> {
    let unread = |error: hdf5_metno::Error| format!("is damaged: `{path}` cannot be read: {error}");
    let space = dataset.space().map_err(unread)?;
    if space.is_null() {
        return Err(format!("`{path}` is empty: it has a type and no values"));
    }
    let kind = dataset.dtype().map_err(unread)?;
    let described = Kind::of(&kind).map_err(|what| format!("`{path}` holds {what}, which no column has"))?;
    let layout = Layout::of(dataset, path)?;
    layout.filters(path)?;
    let fill = if whole && !described.in_heap() { layout.fill(kind.id(), described.bytes()) } else { Vec::new() };
    let shape = if space.ndim() == 0 { vec![1] } else { shape(dataset) };
    let place = if whole { layout.place(dataset, path, &described, &shape)? } else { Place::Nowhere };
    Stored { path: path.to_owned(), kind: described, shape, fill, place }.check()
}

/// A dataset's list of properties.
struct Layout(hdf5_metno::plist::DatasetCreate);

impl Layout {
    fn of(dataset: &Dataset, path: &str) -> Result<Self, String> {
        let list = dataset.dcpl().map_err(|error| format!("is damaged: `{path}` cannot be read: {error}"))?;
        // SAFETY: the list is open, the lock held.
        let (layout, external) = unsafe { (H5Pget_layout(list.id()), H5Pget_external_count(list.id())) };
        if external > 0 {
            return Err(format!("`{path}` keeps its values in another file, which is not read: `h5repack` writes one file"));
        }
        match layout {
            H5D_layout_t::H5D_VIRTUAL => {
                Err(format!("`{path}` is virtual, made of datasets in other files; name those files or their folder"))
            }
            H5D_layout_t::H5D_COMPACT | H5D_layout_t::H5D_CONTIGUOUS | H5D_layout_t::H5D_CHUNKED => Ok(Self(list)),
            _ => Err(format!("is damaged: `{path}` has no layout that is known")),
        }
    }

    /// The value of what was never written; nothing if it is zero.
    fn fill(&self, kind: i64, bytes: usize) -> Vec<u8> {
        let mut value = vec![0; bytes];
        // SAFETY: the value has the type's number of bytes.
        let found = unsafe { H5Pget_fill_value(self.0.id(), kind, value.as_mut_ptr().cast()) } >= 0;
        if found && value.iter().any(|&byte| byte != 0) { value } else { Vec::new() }
    }

    fn place(&self, dataset: &Dataset, path: &str, kind: &Kind, shape: &[u64]) -> Result<Place, String> {
        // SAFETY of all calls here: dataset and list are open, the lock is held.
        match unsafe { H5Pget_layout(self.0.id()) } {
            H5D_layout_t::H5D_COMPACT => {
                let values = shape.iter().try_fold(kind.bytes() as u64, |all, &side| all.checked_mul(side));
                // The library keeps them in a message of up to 64 KiB.
                let bytes = values.filter(|&bytes| bytes < 1 << 16).ok_or(format!("is damaged: `{path}` is too large"))?;
                if kind.in_heap() {
                    return Err(format!(
                        "`{path}` keeps {kind} in its header; `h5repack -l CONTI IN OUT` writes such a file anew"
                    ));
                }
                let mut values = vec![0; bytes as usize];
                let mine = dataset.dtype().map_err(|error| error.to_string())?;
                let read =
                    unsafe { H5Dread(dataset.id(), mine.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.as_mut_ptr().cast()) };
                if read < 0 {
                    Err(format!("is damaged: `{path}` cannot be read: {}", why()))
                } else {
                    Ok(Place::Here(values))
                }
            }
            H5D_layout_t::H5D_CONTIGUOUS => {
                let address = unsafe { H5Dget_offset(dataset.id()) };
                Ok(if address == u64::MAX { Place::Nowhere } else { Place::At(address) })
            }
            _ => self.chunks(dataset, path, shape).map(Place::Chunks),
        }
    }

    fn chunks(&self, dataset: &Dataset, path: &str, shape: &[u64]) -> Result<Chunks, String> {
        let mut sides = [0_u64; 32];
        let rank = unsafe { H5Pget_chunk(self.0.id(), 32, sides.as_mut_ptr()) };
        let sides = sides.get(..rank.max(0) as usize).unwrap_or_default().to_vec();
        if sides.len() != shape.len() || sides.contains(&0) {
            return Err(format!("is damaged: `{path}` has no shape of chunks"));
        }
        let filters = self.filters(path)?;
        let mut found = Index { grid: Vec::new(), sides, written: HashMap::new(), wrong: None };
        found.grid = shape.iter().zip(&found.sides).map(|(&side, &chunk)| side.div_ceil(chunk)).collect();
        let into = std::ptr::from_mut(&mut found).cast();
        let read = unsafe { H5Dchunk_iter(dataset.id(), H5P_DEFAULT, Some(on_chunk), into) };
        if let Some(wrong) = found.wrong {
            return Err(format!("is damaged: the chunks of `{path}`: {wrong}"));
        }
        if read < 0 {
            return Err(format!("is damaged: the chunks of `{path}` cannot be found: {}", why()));
        }
        Ok(Chunks { shape: found.sides, filters, written: found.written, kept: Mutex::default() })
    }

    fn filters(&self, path: &str) -> Result<Vec<Filter>, String> {
        let count = unsafe { H5Pget_nfilters(self.0.id()) };
        let one = |at: i32| {
            let (mut flags, mut parameters, mut used, mut config) = (0, [0_u32; 32], 32, 0);
            let number = unsafe {
                H5Pget_filter2(
                    self.0.id(),
                    at as u32,
                    &mut flags,
                    &mut used,
                    parameters.as_mut_ptr(),
                    0,
                    std::ptr::null_mut(),
                    &mut config,
                )
            };
            let filter = Filter::of(number, &parameters[..used.min(32)]);
            filter.map_err(|message| format!("`{path}` cannot be read: {message}"))
        };
        (0..count.clamp(0, 32)).map(one).collect()
    }
}

/// Chunks as the library names them.
struct Index {
    grid: Vec<u64>,
    sides: Vec<u64>,
    written: HashMap<u64, Chunk>,
    wrong: Option<String>,
}

unsafe extern "C" fn on_chunk(
    offset: *const u64,
    skipped: u32,
    address: u64,
    bytes: u64,
    index: *mut std::ffi::c_void,
) -> i32 {
    // SAFETY: `chunks` hands in its index, and the library as many numbers as there are axes.
    let index = unsafe { &mut *index.cast::<Index>() };
    let start = unsafe { std::slice::from_raw_parts(offset, index.sides.len()) };
    if index.written.len() >= MOST_CHUNKS {
        index.wrong = Some(format!("there are more than {MOST_CHUNKS}"));
        return -1;
    }
    let mut number = 0_u64;
    for ((&start, &side), &count) in start.iter().zip(&index.sides).zip(&index.grid) {
        if start % side != 0 {
            index.wrong = Some(format!("one begins at {start}, which is no multiple of {side}"));
            return -1;
        }
        if start / side >= count {
            // The dataset was made smaller: such a chunk is no longer part of it.
            return 0;
        }
        number = number.saturating_mul(count).saturating_add(start / side);
    }
    if index.written.insert(number, Chunk { address, bytes, skipped }).is_some() {
        index.wrong = Some(format!("two have one place, number {number}"));
        return -1;
    }
    0
}

/// An object's attributes that are texts of a fixed length, as [`with_metadata`](super) looks for them.
pub fn texts(object: &hdf5_metno::Location) -> BTreeMap<String, String> {
    let names = object.attr_names().unwrap_or_default();
    let one = |name: String| Some((text(&object.attr(&name).ok()?)?, name));
    names.into_iter().filter_map(one).map(|(text, name)| (name, text)).collect()
}

fn text(attribute: &Attribute) -> Option<String> {
    if !attribute.space().ok()?.is_scalar() {
        return None;
    }
    let kind = attribute.dtype().ok()?;
    let Kind::Text { bytes, .. } = Kind::of(&kind).ok()? else { return None };
    if bytes > ATTRIBUTE_BYTES {
        return None;
    }
    let mut value = vec![0_u8; bytes];
    // SAFETY: the attribute is open, the lock held, and the value has the type's number of bytes.
    if unsafe { H5Aread(attribute.id(), kind.id(), value.as_mut_ptr().cast()) } < 0 {
        return None;
    }
    let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    value.truncate(end);
    String::from_utf8(value).ok()
}

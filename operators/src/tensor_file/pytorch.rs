//! What `torch.save` writes since PyTorch 1.6: a zip archive of a pickle and of the storages that its tensors lie in.
//!
//! Nothing of the pickle is run (`tessera_datasets::pickle`): tensors are what it would have PyTorch make by functions that are known
//! here, and all else is of no meaning. What it says of sizes is held against the storages that are there.
//!
//! | member | holds |
//! | --- | --- |
//! | `NAME/data.pkl` | the pickle |
//! | `NAME/data/KEY` | the bytes of a storage, as they are |
//! | `NAME/byteorder` | `little` or `big`; since PyTorch 2.1 |
//!
//! Reference: PyTorch's `torch/serialization.py` and `torch/_utils.py`.

#[cfg(test)]
mod golden;
mod states;
mod tensors;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rawzip::{CompressionMethod, ErrorKind, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive};
use tessera_datasets::Error;
use tessera_datasets::pickle::Pickle;
use tessera_schemas::printable;

use super::file::{Header, HeaderError};
use super::kind::in_python;

/// How the name of the pickle ends.
const PICKLE: &str = "/data.pkl";
/// The longest pickle that is read; a network's has some 200 bytes a tensor.
const PICKLE_BYTES: u64 = 256 << 20;
/// The longest word for the order of bytes.
const ORDER_BYTES: u64 = 64;
/// Characters of a name that a message shows.
const SHOWN: usize = 100;
/// The longest end of an archive, behind which there may be a comment.
const END_BYTES: u64 = (1 << 16) + 128;

/// What is wrong with such a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The archive is none, or holds what `torch.save` does not write.
    #[error("is no sound file of `torch.save`'s: {0}")]
    Archive(String),
    /// The file was written on a machine with the other order of bytes.
    #[error("was written on a machine that keeps the high bytes of numbers first")]
    ByteOrder,
    /// A tensor is not as it should be.
    #[error("is no sound file of `torch.save`'s: its tensor `{}` {why}", shown(name))]
    Tensor {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file holds an object, which can only be read with its class.
    #[error("holds an object of the class `{}`, which only a program that has this class can read", shown(class))]
    Object {
        /// Which class's.
        class: String,
        /// The key that it lies under; `None` if the file has no other.
        key: Option<String>,
    },
    /// There are no tensors by name.
    #[error("holds no dictionary of tensors by name, but {0}")]
    NoTensors(String),
    /// There are several dictionaries.
    #[error("holds {count} dictionaries of tensors, and it is not said which of them is meant")]
    Several {
        /// How many.
        count: usize,
        /// Their names.
        known: String,
    },
    /// The dictionary that was asked for is not there.
    #[error("has no dictionary of tensors `{}`", shown(state))]
    Unknown {
        /// Which.
        state: String,
        /// Names of those that are there.
        known: String,
    },
}

impl Fault {
    /// Advice for a file of that path.
    pub fn help(&self, path: &Path) -> String {
        let file = path.display().to_string();
        match self {
            Self::Archive(_) | Self::Tensor { .. } => {
                "fetch it anew if it was cut off or damaged; else write it again: torch.save(model.state_dict(), \"weights.pth\")"
                    .to_owned()
            }
            Self::ByteOrder => in_python(&format!(
                "import torch; torch.save(torch.load({file:?}, map_location=\"cpu\", weights_only=True), \"weights.pth\")"
            )),
            Self::Object { key, .. } => {
                let key = key.as_ref().map_or_else(String::new, |key| format!("[{key:?}]"));
                let line = format!(
                    "import torch; torch.save(torch.load({file:?}, map_location=\"cpu\", weights_only=False){key}.state_dict(), \
                     \"weights.pth\")"
                );
                format!("{}, where the class can be imported; it runs what the file says, so only if you trust it", in_python(&line))
            }
            Self::NoTensors(_) => "a network's are written by torch.save(model.state_dict(), \"weights.pth\")".to_owned(),
            Self::Several { known, .. } | Self::Unknown { known, .. } => format!("state = \"…\", one of: {known}"),
        }
    }
}

/// Names in a list that is not too long.
fn listed(mut names: impl Iterator<Item = String>) -> String {
    /// How many names a message lists.
    const NAMED: usize = 12;
    let named: Vec<String> = names.by_ref().take(NAMED).map(|name| format!("`{}`", shown(&name))).collect();
    let named = named.join(", ");
    match names.count() {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

/// A name as messages have it: of a long one, the beginning. What a pickle names once may be meant any number of times.
fn shown(name: &str) -> String {
    let mut short: String = name.chars().take(SHOWN).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    printable(&short).into_owned()
}

/// Where the bytes of each storage lie in the file, by its key.
type Storages = HashMap<String, Range<u64>>;

/// Reads what a file says of its tensors; `state` names the dictionary that is meant where there are several.
///
/// # Errors
/// It is no sound file, or it is not clear which tensors are meant.
pub fn header(file: &File, state: Option<&str>) -> Result<Header, HeaderError> {
    let mut members = members(file)?;
    let mut data = members.extract_if(|name, _| name.ends_with(PICKLE));
    let (Some((name, place)), None) = (data.next(), data.next()) else {
        return Err(Fault::Archive("it should have one member `data.pkl`".to_owned()).into());
    };
    drop(data);
    let root = &name[..name.len() - PICKLE.len()];
    if let Some(place) = members.get(&format!("{root}/byteorder"))
        && read(file, place, ORDER_BYTES)?.trim_ascii() != b"little"
    {
        return Err(Fault::ByteOrder.into());
    }
    let program = read(file, &place, PICKLE_BYTES)?;
    let pickle = Pickle::read(Cursor::new(&program[..]), Path::new(&name)).map_err(|error| match error {
        Error::Format { message, .. } => Fault::Archive(message),
        Error::Io { source, .. } => Fault::Archive(source.to_string()),
    })?;
    let folder = format!("{root}/data/");
    let storages = members.into_iter().filter_map(|(name, place)| Some((name.strip_prefix(&folder)?.to_owned(), place)));
    Ok(states::header(&pickle, &storages.collect(), state)?)
}

/// The members of an archive, each with the place of its bytes in the file.
fn members(file: &File) -> Result<HashMap<String, Range<u64>>, HeaderError> {
    let damaged = |error: rawzip::Error| match error.into_kind() {
        ErrorKind::IO(error) if error.kind() != io::ErrorKind::UnexpectedEof => HeaderError::Io(error),
        ErrorKind::IO(_) => Fault::Archive(ErrorKind::Eof.to_string()).into(),
        kind => Fault::Archive(kind.to_string()).into(),
    };
    let length = file.metadata()?.len();
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive = ZipArchive::with_max_search_space(END_BYTES).locate_in_file(file.try_clone()?, &mut buffer);
    let archive = archive.map_err(|(_, error)| damaged(error))?;
    let mut entries = archive.entries(&mut buffer);
    let (mut members, mut count) = (HashMap::new(), 0);
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        count += 1;
        let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        if entry.compression_method() != CompressionMethod::STORE || entry.flags().is_encrypted() {
            return Err(Fault::Archive(format!("its member `{name}` is compressed or encrypted")).into());
        }
        let (start, end) = archive.get_entry(entry.wayfinder()).map_err(damaged)?.compressed_data_range();
        if end > length {
            return Err(Fault::Archive(format!("its member `{name}` of {} bytes is cut off", end - start)).into());
        }
        members.insert(name, start..end);
    }
    // As many as there should be, and of as many names.
    if count != archive.entries_hint() || count != members.len() as u64 {
        let message = format!("it has {} members of {} names", archive.entries_hint(), members.len());
        return Err(Fault::Archive(message).into());
    }
    Ok(members)
}

/// A member's bytes, if they are not too many.
fn read(file: &File, place: &Range<u64>, most: u64) -> Result<Vec<u8>, HeaderError> {
    let length = place.end - place.start;
    if length > most {
        return Err(Fault::Archive(format!("a member has {length} bytes, and {most} are the most")).into());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, place.start)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;

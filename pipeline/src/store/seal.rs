//! Sealed JSON: an object whose first key, `seal`, is the checksum of the rest, so that a flipped bit is seen, and not only a missing half.

use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::health::Damaged;
use super::storage::Storage;

/// What stands before the checksum, and behind it.
const BEFORE: &str = "{\"seal\":\"";
const BEHIND: &str = "\",";
/// Hexadecimal digits of a checksum.
const DIGITS: usize = 64;

/// Writes a value, atomically; `what` is what messages call it.
///
/// # Errors
/// The disk says no.
pub(super) fn write(storage: &dyn Storage, what: &str, name: &str, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).with_context(|| what.to_owned())?;
    Ok(storage.replace(name, &seal(&json))?)
}

/// Writes a sealed file under a name that nothing has yet.
///
/// # Errors
/// The disk says no, or [something has it](is_taken).
pub(super) fn create(storage: &dyn Storage, what: &str, name: &str, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).with_context(|| what.to_owned())?;
    storage.replace_if(name, &seal(&json), None)?;
    Ok(())
}

/// Whether writing failed because something has the name.
pub(super) fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
}

/// Reads a value back.
///
/// # Errors
/// It cannot be read, or it is [`Damaged`].
pub(super) fn read<T: DeserializeOwned>(storage: &dyn Storage, what: &'static str, name: &str) -> Result<T> {
    let bytes = read_file(storage, what, name)?;
    Ok(parse(what, &storage.place(name), &bytes)?)
}

/// The bytes under a name.
///
/// # Errors
/// There are none, they cannot be read, or a folder lies in their place: then it is [`Damaged`].
pub(super) fn read_file(storage: &dyn Storage, what: &'static str, name: &str) -> Result<Vec<u8>> {
    let place = || storage.place(name);
    match storage.read(name) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            Err(Damaged::new(what, &place(), "a file", "a folder").into())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the {what} {}", place().display())),
    }
}

/// The value in a file's bytes.
pub(super) fn parse<T: DeserializeOwned>(what: &'static str, path: &Path, bytes: &[u8]) -> Result<T, Damaged> {
    let damaged = |found: String| Damaged::new(what, path, "a sealed JSON object", found);
    let whole = unseal(bytes).map_err(&damaged)?;
    serde_json::from_slice(whole).map_err(|error| damaged(error.to_string()))
}

fn seal(json: &[u8]) -> Vec<u8> {
    let rest = json.strip_prefix(b"{").unwrap_or(json);
    let mut sealed = format!("{BEFORE}{}{BEHIND}", blake3::hash(rest).to_hex()).into_bytes();
    sealed.extend_from_slice(rest);
    sealed
}

/// The object with its checksum, if that holds.
fn unseal(bytes: &[u8]) -> Result<&[u8], String> {
    let sealed = bytes.strip_prefix(BEFORE.as_bytes()).and_then(|rest| rest.split_at_checked(DIGITS));
    let sealed = sealed.and_then(|(sum, rest)| Some((sum, rest.strip_prefix(BEHIND.as_bytes())?)));
    match sealed {
        _ if bytes.is_empty() => Err("an empty file".into()),
        None => Err(format!("{} bytes that do not begin with a checksum", bytes.len())),
        Some((sum, rest)) if sum == blake3::hash(rest).to_hex().as_bytes() => Ok(bytes),
        Some(_) => Err(format!("{} bytes that do not fit their checksum", bytes.len())),
    }
}

/// Whether reading failed because there is no file.
pub(super) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::store::storage::disk::Disk;

    #[test]
    fn every_flipped_bit_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, path) = (Disk::new(dir.path()), dir.path().join("a.json"));
        let value = json!({"format": 1, "list": [1.5, "x"], "none": null, "checksum": "a key of its own"});
        write(&disk, "thing", "a.json", &value).unwrap();
        let whole = disk.read("a.json").unwrap();
        let mut back: Value = read(&disk, "thing", "a.json").unwrap();
        assert!(back.as_object_mut().unwrap().shift_remove("seal").is_some(), "it is JSON as before");
        assert_eq!(back, value);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let found = parse::<Value>("thing", &path, &bytes);
            assert!(found.is_err(), "byte {at}");
            assert!(parse::<Value>("thing", &path, &whole[..at]).is_err(), "cut at {at}");
        }
        let message = parse::<Value>("thing", &path, b"").unwrap_err().to_string();
        assert!(message.contains("the thing") && message.contains("a.json is damaged"), "{message}");
    }
}

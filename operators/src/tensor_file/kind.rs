//! The kind of a file, by its first bytes: files that people give as weights or as a model, and advice for files of other kinds.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::safetensors_file;

/// Bytes at a zip archive's end in which the names of its members are looked for.
const DIRECTORY_BYTES: u64 = 4 << 20;
/// What older versions of `torch.save` write first, behind the protocol: a number of theirs.
const LEGACY: &[u8] = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";

/// The kinds that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tensors by name.
    Safetensors,
    /// Whatever `torch.save` was given: `.pt`, `.pth`, `.ckpt`, `.bin`.
    Torch,
    /// A file that `torch.save` of versions before 1.6 wrote.
    TorchLegacy,
    /// A model with its code, as `torch.jit.save` writes it.
    TorchScript,
    /// Another of Python's pickles.
    Pickle,
    /// NumPy's arrays.
    Numpy,
    /// HDF5, as of Keras.
    Hdf5,
    /// Parquet: a snapshot's part, say.
    Parquet,
    /// llama.cpp's format.
    Gguf,
    /// A zip archive of something else.
    Zip,
    /// Compressed as a whole.
    Compressed,
    /// A page in place of the file, as a download that needed a login leaves it.
    Page,
    /// What Git keeps in place of a large file that was not fetched.
    Pointer,
    /// Nothing.
    Empty,
    /// None of these.
    Unknown,
}

impl Kind {
    /// The kind of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::of_file(&mut File::open(path)?)
    }

    /// The kind of an open file, whose position is somewhere else then.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_file(file: &mut File) -> io::Result<Self> {
        let mut head = Vec::new();
        file.rewind()?;
        file.by_ref().take(512).read_to_end(&mut head)?;
        let begins = |magic: &[u8]| head.starts_with(magic);
        Ok(match () {
            () if head.is_empty() => Self::Empty,
            () if is_safetensors(&head) => Self::Safetensors,
            () if begins(b"PK\x03\x04") => Self::of_archive(file, &head)?,
            // Pickle's second protocol and later ones, a version each.
            () if matches!(head[..], [0x80, 2..=5, ..]) => {
                if head[2..].starts_with(LEGACY) {
                    Self::TorchLegacy
                } else {
                    Self::Pickle
                }
            }
            () if begins(b"\x93NUMPY") => Self::Numpy,
            () if begins(b"\x89HDF\r\n\x1a\n") => Self::Hdf5,
            () if begins(b"PAR1") => Self::Parquet,
            () if begins(b"GGUF") => Self::Gguf,
            () if begins(b"\x1f\x8b") || begins(b"\x28\xb5\x2f\xfd") || begins(b"BZh") || begins(b"\xfd7zXZ") => {
                Self::Compressed
            }
            () if begins(b"version https://git-lfs") => Self::Pointer,
            () if head.trim_ascii_start().starts_with(b"<") => Self::Page,
            () => Self::Unknown,
        })
    }

    /// By the names of a zip archive's members, which stand as they are in the directory at its end; where that is cut off, by the
    /// first member's, with which an archive begins.
    fn of_archive(file: &mut File, head: &[u8]) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(DIRECTORY_BYTES)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let in_end = |name: &[u8]| memchr::memmem::find(&end, name).is_some();
        let has = |name: &[u8]| in_end(name) || memchr::memmem::find(head, name).is_some();
        Ok(match () {
            // A model has code and constants beside its data.
            () if in_end(b"/constants.pkl") => Self::TorchScript,
            () if has(b"/data.pkl") => Self::Torch,
            () if has(b".npy") => Self::Numpy,
            () => Self::Zip,
        })
    }

    /// What it is, as messages say it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Safetensors => "a safetensors file",
            Self::Torch => "a file that `torch.save` wrote",
            Self::TorchLegacy => "a file that `torch.save` wrote before PyTorch 1.6, or as it did then",
            Self::TorchScript => "a TorchScript model",
            Self::Pickle => "a pickle of Python's that `torch.save` did not write",
            Self::Numpy => "a file of NumPy's",
            Self::Hdf5 => "an HDF5 file",
            Self::Parquet => "a Parquet file",
            Self::Gguf => "a GGUF file",
            Self::Zip => "a zip archive",
            Self::Compressed => "a compressed file",
            Self::Page => "a web page, or another text with tags",
            Self::Pointer => "what Git LFS keeps in place of a file that was not fetched",
            Self::Empty => "empty",
            Self::Unknown => "of no known kind",
        }
    }

    /// Advice where a file of weights is needed, and the file of that path is none.
    pub fn to_weights(self, path: &Path) -> String {
        let file = path.display().to_string();
        match self {
            Self::TorchLegacy => in_python(&format!(
                "import torch; torch.save(torch.load({file:?}, map_location=\"cpu\", weights_only=True), \"weights.pth\")"
            )),
            Self::Pickle => in_python(&format!(
                "import pickle, torch; torch.save({{name: torch.as_tensor(values) for name, values in \
                 pickle.load(open({file:?}, \"rb\")).items()}}, \"weights.pth\")"
            )),
            Self::TorchScript => "`infer` reads it without a stage `weights`: model = \"…\"".to_owned(),
            Self::Pointer => "`git lfs pull` fetches it".to_owned(),
            Self::Page | Self::Empty => "fetch it anew: the download went wrong".to_owned(),
            Self::Compressed | Self::Zip => "unpack it".to_owned(),
            Self::Parquet => "`tessera export STAGE -o weights.safetensors` writes a table of weights".to_owned(),
            Self::Safetensors | Self::Torch | Self::Numpy | Self::Hdf5 | Self::Gguf | Self::Unknown => {
                "`tessera export STAGE -o weights.safetensors` writes such files, and so do `safetensors.torch.save_file` and \
                 `torch.save(model.state_dict(), …)`"
                    .to_owned()
            }
        }
    }

    /// Advice where a model with its code is needed, and the file of that path is none.
    pub fn to_model(self, path: &Path) -> String {
        match self {
            Self::Safetensors | Self::Torch => {
                "a stage `weights` reads tensors, as the input `weights` of this one; a model is written by \
                 torch.jit.trace(model.eval(), torch.zeros(1, 3, H, W)).save(\"model.pt\")"
                    .to_owned()
            }
            Self::Pointer | Self::Page | Self::Empty | Self::Compressed => self.to_weights(path),
            _ => in_python("torch.jit.trace(model.eval(), torch.zeros(1, 3, H, W)).save(\"model.pt\")"),
        }
    }
}

/// Advice that is a line of Python.
pub fn in_python(line: &str) -> String {
    format!("once, in Python: `{line}`")
}

/// Whether a file begins as safetensors files do: with the length of a header, and that with a brace.
fn is_safetensors(head: &[u8]) -> bool {
    match head.split_first_chunk() {
        Some((length, [b'{', ..])) => u64::from_le_bytes(*length) <= safetensors_file::HEADER_BYTES,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let archive = |member: &str| {
            let local = [b"PK\x03\x04".as_slice(), &[0; 26], b"archive/version", &[0; 99]].concat();
            [local, [b"PK\x01\x02".as_slice(), &[0; 42], member.as_bytes(), b"PK\x05\x06", &[0; 18]].concat()].concat()
        };
        for (bytes, expected) in [
            (archive("archive/data.pkl"), Kind::Torch),
            (b"PK\x03\x04 archive/data.pkl, cut off".to_vec(), Kind::Torch),
            (archive("archive/data.pkl archive/code/__torch__.py archive/constants.pkl"), Kind::TorchScript),
            (archive("weight.npy"), Kind::Numpy),
            (archive("readme.txt"), Kind::Zip),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec(), Kind::TorchLegacy),
            (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.".to_vec(), Kind::Pickle),
            (b"\x02\0\0\0\0\0\0\0{}".to_vec(), Kind::Safetensors),
            (b"\0\0\0\0\0\0\0\x01{}".to_vec(), Kind::Unknown),
            (b"\x93NUMPY\x01\0".to_vec(), Kind::Numpy),
            (b"\x89HDF\r\n\x1a\n".to_vec(), Kind::Hdf5),
            (b"PAR1".to_vec(), Kind::Parquet),
            (b"\n<!DOCTYPE html><html>".to_vec(), Kind::Page),
            (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), Kind::Pointer),
            (b"\x1f\x8b\x08".to_vec(), Kind::Compressed),
            (Vec::new(), Kind::Empty),
            (b"weights".to_vec(), Kind::Unknown),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(Kind::of(&path).unwrap(), expected, "{bytes:?}");
        }
    }
}

//! What a file of weights is, by its first bytes: what people give in place of a safetensors file, and what helps then.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Bytes at a zip archive's end in which the names of its members are looked for.
const DIRECTORY_BYTES: u64 = 4 << 20;

/// The kinds that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model with its code, as `torch.jit.save` writes it.
    TorchScript,
    /// Whatever `torch.save` was given: `.pt`, `.pth`, `.ckpt`, `.bin`.
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
        let mut file = File::open(path)?;
        let mut head = Vec::new();
        file.by_ref().take(64).read_to_end(&mut head)?;
        let begins = |magic: &[u8]| head.starts_with(magic);
        Ok(match () {
            () if head.is_empty() => Self::Empty,
            () if begins(b"PK\x03\x04") => Self::of_archive(&mut file)?,
            // Pickle's second protocol and later ones, a version each; before 2020 `torch.save` wrote those alone.
            () if matches!(head[..], [0x80, 2..=5, ..]) => Self::Pickle,
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

    /// By the names of a zip archive's members, which stand as they are in the directory at its end.
    fn of_archive(file: &mut File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(DIRECTORY_BYTES)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let has = |name: &[u8]| end.windows(name.len()).any(|window| window == name);
        Ok(match () {
            // A model has code and constants beside its data.
            () if has(b"/constants.pkl") => Self::TorchScript,
            () if has(b"data.pkl") => Self::Pickle,
            () if has(b".npy") => Self::Numpy,
            () => Self::Zip,
        })
    }

    /// What it is, as messages say it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::TorchScript => "a TorchScript model",
            Self::Pickle => "a file of PyTorch's own format (a pickle, as `torch.save` writes it)",
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

    /// What helps where a safetensors file is needed.
    pub fn to_safetensors(self) -> &'static str {
        match self {
            Self::TorchScript => "`infer` reads it without a stage `weights`: model = \"…\"",
            Self::Pickle => {
                "such a file can run code when it is read; once, in Python: `from safetensors.torch import save_file; \
                 save_file({name: tensor.contiguous() for name, tensor in torch.load(FILE, weights_only=True).items()}, \
                 \"weights.safetensors\")`"
            }
            Self::Pointer => "`git lfs pull` fetches it",
            Self::Page | Self::Empty => "fetch it anew: the download went wrong",
            Self::Compressed | Self::Zip => "unpack it",
            Self::Parquet => "`tessera export STAGE -o weights.safetensors` writes a table of weights",
            Self::Numpy | Self::Hdf5 | Self::Gguf | Self::Unknown => {
                "`tessera export STAGE -o weights.safetensors` writes such files, and so does `safetensors.torch.save_file`"
            }
        }
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
            (archive("archive/data.pkl"), Kind::Pickle),
            (archive("archive/data.pkl archive/code/__torch__.py archive/constants.pkl"), Kind::TorchScript),
            (archive("weight.npy"), Kind::Numpy),
            (archive("readme.txt"), Kind::Zip),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), Kind::Pickle),
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

//! The filters that a chunk has gone through, and how each is undone.
//!
//! Reference: HDF5 File Format Specification, IV.A.2.l "The Data Storage - Filter Pipeline Message".

use libdeflater::Decompressor;

/// A filter that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Deflated, as zlib does.
    Deflate,
    /// The first bytes of all values, then the second, ….
    Shuffle {
        /// Bytes of a value.
        bytes: usize,
    },
    /// Four bytes of checksum behind the others.
    Fletcher32,
}

/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 4;
/// Bytes that deflate makes of one at most.
const MOST_INFLATED: usize = 1032;

/// Numbers and names of filters that others register, so that an error can name them.
/// <https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md>
const NAMES: [(i32, &str); 14] = [
    (4, "szip"),
    (5, "nbit"),
    (6, "scaleoffset"),
    (307, "bzip2"),
    (32000, "lzf"),
    (32001, "blosc"),
    (32004, "lz4"),
    (32008, "bitshuffle"),
    (32013, "zfp"),
    (32015, "zstd"),
    (32017, "sz"),
    (32024, "sz3"),
    (32026, "blosc2"),
    (32028, "jpeg"),
];

impl Filter {
    /// The filter of that number.
    ///
    /// # Errors
    /// It is not known here; the message names it.
    pub fn of(number: i32, parameters: &[u32]) -> Result<Self, String> {
        match number {
            1 => Ok(Self::Deflate),
            2 => Ok(Self::Shuffle { bytes: parameters.first().map_or(1, |&bytes| bytes as usize).max(1) }),
            3 => Ok(Self::Fletcher32),
            _ => {
                let known = NAMES.iter().find(|(known, _)| *known == number);
                let name = known.map_or("one that is not known", |(_, name)| name);
                Err(format!(
                    "its chunks went through filter {number} ({name}); gzip, shuffle and fletcher32 can be read: \
                     `h5repack -f GZIP=4 IN OUT` writes such a file"
                ))
            }
        }
    }
}

/// A thread's tools.
pub struct Undo(Decompressor);

impl Undo {
    /// Tools of a thread.
    pub fn new() -> Self {
        Self(Decompressor::new())
    }

    /// A chunk of `length` bytes, as it was before the filters; those whose bit is set in `skipped` were left out for it.
    ///
    /// # Errors
    /// The bytes are no such chunk.
    pub fn all(&mut self, filters: &[Filter], skipped: u32, bytes: Vec<u8>, length: usize) -> Result<Vec<u8>, String> {
        let used = |at: usize| at >= 32 || skipped & (1 << at) == 0;
        let mut bytes = bytes;
        for (at, filter) in filters.iter().enumerate().rev() {
            if !used(at) {
                continue;
            }
            match filter {
                Filter::Deflate => {
                    // What filters before this one have added is in there as well.
                    let sums = (0..at).filter(|&at| used(at) && filters[at] == Filter::Fletcher32).count();
                    let wanted = length + sums * CHECKSUM_BYTES;
                    if wanted > bytes.len().saturating_mul(MOST_INFLATED) {
                        return Err(format!("its {} deflated bytes cannot be {wanted}", bytes.len()));
                    }
                    let mut out = vec![0; wanted];
                    let found = self.0.zlib_decompress(&bytes, &mut out).map_err(|error| match error {
                        libdeflater::DecompressionError::BadData => "its deflated bytes make no sense".to_owned(),
                        libdeflater::DecompressionError::InsufficientSpace => "it inflates to more than a chunk".to_owned(),
                    })?;
                    if found != out.len() {
                        return Err(format!("it inflates to {found} bytes of {}", out.len()));
                    }
                    bytes = out;
                }
                Filter::Shuffle { bytes: width } => bytes = unshuffle(&bytes, *width),
                Filter::Fletcher32 => {
                    let Some((data, stored)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
                        return Err("it is shorter than its checksum".into());
                    };
                    let [sum, turned] = [fletcher32(data), fletcher32(data)].map(u32::to_le_bytes);
                    // Early versions of the library stored the bytes of each half the other way round.
                    let turned = [turned[1], turned[0], turned[3], turned[2]];
                    if *stored != sum && *stored != turned {
                        return Err("it does not fit its checksum".into());
                    }
                    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
                }
            }
        }
        if bytes.len() != length {
            return Err(format!("it has {} bytes of {length}", bytes.len()));
        }
        Ok(bytes)
    }
}

/// The bytes of values, side by side, from all first bytes, all second bytes, ….
fn unshuffle(bytes: &[u8], width: usize) -> Vec<u8> {
    let rows = bytes.len() / width;
    if width == 1 || rows == 0 {
        return bytes.to_vec();
    }
    let mut out = vec![0; bytes.len()];
    fn of<const N: usize>(bytes: &[u8], out: &mut [u8], rows: usize) {
        let planes: [&[u8]; N] = std::array::from_fn(|plane| &bytes[plane * rows..(plane + 1) * rows]);
        let (values, _) = out.as_chunks_mut::<N>();
        for (row, value) in values.iter_mut().enumerate() {
            *value = std::array::from_fn(|plane| planes[plane][row]);
        }
    }
    match width {
        2 => of::<2>(bytes, &mut out, rows),
        4 => of::<4>(bytes, &mut out, rows),
        8 => of::<8>(bytes, &mut out, rows),
        _ => {
            for plane in 0..width {
                for row in 0..rows {
                    out[row * width + plane] = bytes[plane * rows + row];
                }
            }
        }
    }
    // What is left of a chunk that is no whole number of values stays where it was.
    out[rows * width..].copy_from_slice(&bytes[rows * width..]);
    out
}

/// Fletcher's checksum over words of 16 bits, as HDF5's `H5_checksum_fletcher32` counts it.
fn fletcher32(bytes: &[u8]) -> u32 {
    let (mut one, mut two) = (0_u32, 0_u32);
    let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
    let (words, rest) = bytes.as_chunks::<2>();
    // As many words as cannot make the sums overflow.
    for words in words.chunks(360) {
        for word in words {
            one += u32::from(u16::from_be_bytes(*word));
            two += one;
        }
        (one, two) = (fold(one), fold(two));
    }
    if let [last] = rest {
        one += u32::from(*last) << 8;
        two += one;
        (one, two) = (fold(one), fold(two));
    }
    (one, two) = (fold(one), fold(two));
    two << 16 | one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_bytes_come_back_whatever_their_width() {
        let whole: Vec<u8> = (0..107).collect();
        for width in [1, 2, 3, 4, 8, 16, 107, 108, usize::MAX] {
            let (rows, mut shuffled) = (whole.len() / width, whole.clone());
            for at in 0..rows * width {
                shuffled[at % width * rows + at / width] = whole[at];
            }
            assert_eq!(unshuffle(&shuffled, width), whole, "{width}");
        }
    }

    /// Sums that `H5_checksum_fletcher32` gives.
    #[test]
    fn checksums_are_those_of_the_library() {
        assert_eq!(fletcher32(&[1, 2, 3, 4]), 0x0508_0406);
        assert_eq!(fletcher32(&[1, 2, 3]), 0x0504_0402);
    }

    #[test]
    fn a_filter_that_is_not_known_is_named() {
        assert_eq!(Filter::of(2, &[4]), Ok(Filter::Shuffle { bytes: 4 }));
        assert!(Filter::of(32000, &[]).unwrap_err().contains("filter 32000 (lzf)"));
        assert!(Filter::of(999, &[]).unwrap_err().contains("filter 999 (one that is not known)"));
    }
}

//! The library's calls that the crate has no safe ones for: types, resizable datasets, whole chunks, attributes.

use std::ffi::CString;

use hdf5_metno::dataset::Dataset;
use hdf5_metno::{Group, from_id};
use hdf5_metno_sys::LOCK;
use hdf5_metno_sys::h5a::{H5Aclose, H5Acreate2, H5Awrite};
use hdf5_metno_sys::h5d::{H5Dcreate2, H5Dread_chunk2, H5Dset_extent, H5Dwrite_chunk};
use hdf5_metno_sys::h5i::hid_t;
use hdf5_metno_sys::h5l::{H5Ldelete, H5Lmove};
use hdf5_metno_sys::h5p::{
    H5P_CLS_DATASET_CREATE, H5P_CLS_LINK_CREATE, H5P_DEFAULT, H5Pclose, H5Pcreate, H5Pset_char_encoding, H5Pset_chunk,
    H5Pset_deflate, H5Pset_obj_track_times, H5Pset_shuffle,
};
use hdf5_metno_sys::h5s::{H5S_UNLIMITED, H5S_class_t, H5Sclose, H5Screate, H5Screate_simple};
use hdf5_metno_sys::h5t::{
    H5T_C_S1, H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_STD_I8LE, H5T_STD_I16LE, H5T_STD_I32LE, H5T_STD_I64LE, H5T_STD_U8LE,
    H5T_STD_U16LE, H5T_STD_U32LE, H5T_STD_U64LE, H5T_class_t, H5T_cset_t, H5T_str_t, H5Tclose, H5Tcopy, H5Tcreate,
    H5Tenum_create, H5Tenum_insert, H5Tset_cset, H5Tset_ebias, H5Tset_fields, H5Tset_size, H5Tset_strpad,
};

use super::super::driver::why;

/// Bytes of an attribute: the library keeps it in a message of up to 64 KiB.
pub const ATTRIBUTE_BYTES: usize = 60_000;

/// The type of a dataset that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A signed or unsigned whole number of that many bytes.
    Int(usize, bool),
    /// A float of that many bytes.
    Float(usize),
    /// FALSE or TRUE, in a byte.
    Bool,
    /// UTF-8 of that many bytes, zeros behind it.
    Text(usize),
    /// Values of so many bytes each.
    Opaque(usize),
}

impl Item {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Int(bytes, _) | Self::Float(bytes) | Self::Text(bytes) | Self::Opaque(bytes) => bytes,
            Self::Bool => 1,
        }
    }

    /// Whether its chunks are smaller when the bytes of its values are sorted by their place in them.
    pub fn shuffles(self) -> bool {
        matches!(self, Self::Int(bytes, _) | Self::Float(bytes) if bytes > 1)
    }

    /// A type of the library, which the caller closes.
    ///
    /// # Safety
    /// The library's lock is held.
    unsafe fn open(self) -> hid_t {
        unsafe {
            match self {
                Self::Int(1, true) => H5Tcopy(*H5T_STD_I8LE),
                Self::Int(2, true) => H5Tcopy(*H5T_STD_I16LE),
                Self::Int(4, true) => H5Tcopy(*H5T_STD_I32LE),
                Self::Int(_, true) => H5Tcopy(*H5T_STD_I64LE),
                Self::Int(1, false) => H5Tcopy(*H5T_STD_U8LE),
                Self::Int(2, false) => H5Tcopy(*H5T_STD_U16LE),
                Self::Int(4, false) => H5Tcopy(*H5T_STD_U32LE),
                Self::Int(_, false) => H5Tcopy(*H5T_STD_U64LE),
                Self::Float(2) => {
                    // As h5py makes it: sign, exponent of 5 bits, mantissa of 10, and then the bytes that are left.
                    let half = H5Tcopy(*H5T_IEEE_F32LE);
                    H5Tset_fields(half, 15, 10, 5, 0, 10);
                    H5Tset_size(half, 2);
                    H5Tset_ebias(half, 15);
                    half
                }
                Self::Float(4) => H5Tcopy(*H5T_IEEE_F32LE),
                Self::Float(_) => H5Tcopy(*H5T_IEEE_F64LE),
                Self::Bool => {
                    let bools = H5Tenum_create(*H5T_STD_I8LE);
                    for (name, value) in [(c"FALSE", 0_i8), (c"TRUE", 1)] {
                        H5Tenum_insert(bools, name.as_ptr(), std::ptr::from_ref(&value).cast());
                    }
                    bools
                }
                Self::Text(bytes) => {
                    let text = H5Tcopy(*H5T_C_S1);
                    H5Tset_size(text, bytes);
                    H5Tset_cset(text, H5T_cset_t::H5T_CSET_UTF8);
                    H5Tset_strpad(text, H5T_str_t::H5T_STR_NULLPAD);
                    text
                }
                Self::Opaque(bytes) => H5Tcreate(H5T_class_t::H5T_OPAQUE, bytes),
            }
        }
    }
}

/// An empty dataset that can grow along its first axis.
///
/// # Errors
/// The library says no.
pub fn dataset(group: &Group, name: &str, item: Item, chunk: &[u64], level: u32) -> Result<Dataset, String> {
    let link = CString::new(name).map_err(|_| format!("`{name}` holds a zero, which no name in HDF5 does"))?;
    let _one_at_a_time = LOCK.lock();
    let (mut shape, mut most) = (chunk.to_vec(), chunk.to_vec());
    (shape[0], most[0]) = (0, H5S_UNLIMITED);
    let rank = chunk.len() as i32;
    // SAFETY: the lock is held, and what is opened here is closed here.
    let id = unsafe {
        let (kind, space) = (item.open(), H5Screate_simple(rank, shape.as_ptr(), most.as_ptr()));
        let (properties, links) = (H5Pcreate(*H5P_CLS_DATASET_CREATE), H5Pcreate(*H5P_CLS_LINK_CREATE));
        let ready = H5Pset_chunk(properties, rank, chunk.as_ptr()) >= 0
            && (!item.shuffles() || H5Pset_shuffle(properties) >= 0)
            && H5Pset_deflate(properties, level) >= 0
            // The same table gives the same bytes.
            && H5Pset_obj_track_times(properties, 0) >= 0
            && H5Pset_char_encoding(links, H5T_cset_t::H5T_CSET_UTF8) >= 0;
        let id = if ready { H5Dcreate2(group.id(), link.as_ptr(), kind, space, links, properties, H5P_DEFAULT) } else { -1 };
        H5Pclose(links);
        H5Pclose(properties);
        H5Sclose(space);
        H5Tclose(kind);
        id
    };
    if id < 0 {
        return Err(format!("HDF5 cannot make the dataset `{name}`: {}", why()));
    }
    // SAFETY: the library has just made this id, and nobody else has it.
    unsafe { from_id(id) }.map_err(|error| error.to_string())
}

/// Gives a dataset that shape.
///
/// # Errors
/// The library says no.
pub fn resize(dataset: &Dataset, shape: &[u64]) -> Result<(), String> {
    let _one_at_a_time = LOCK.lock();
    // SAFETY: the dataset has as many axes as it was made with.
    if unsafe { H5Dset_extent(dataset.id(), shape.as_ptr()) } < 0 {
        return Err(format!("HDF5 cannot write it: {}", why()));
    }
    Ok(())
}

/// Writes a chunk that has gone through the filters.
///
/// # Errors
/// The library says no.
pub fn write_chunk(dataset: &Dataset, start: &[u64], bytes: &[u8]) -> Result<(), String> {
    let _one_at_a_time = LOCK.lock();
    // SAFETY: as `resize`; the library reads that many bytes.
    let done = unsafe { H5Dwrite_chunk(dataset.id(), H5P_DEFAULT, 0, start.as_ptr(), bytes.len(), bytes.as_ptr().cast()) };
    if done < 0 { Err(format!("HDF5 cannot write it: {}", why())) } else { Ok(()) }
}

/// A chunk of that many bytes as it was written.
///
/// # Errors
/// The library says no.
pub fn read_chunk(dataset: &Dataset, start: &[u64], bytes: usize) -> Result<Vec<u8>, String> {
    let (mut chunk, mut size, mut skipped) = (vec![0; bytes], bytes, 0);
    let _one_at_a_time = LOCK.lock();
    // SAFETY: as `resize`; the library writes at most `size` bytes.
    let done = unsafe {
        let into = chunk.as_mut_ptr().cast();
        H5Dread_chunk2(dataset.id(), H5P_DEFAULT, start.as_ptr(), &mut skipped, into, &mut size)
    };
    if done < 0 { Err(format!("HDF5 cannot read what it wrote: {}", why())) } else { Ok(chunk) }
}

/// Gives an object another name.
///
/// # Errors
/// The library says no.
pub fn rename(group: &Group, from: &str, to: &str) -> Result<(), String> {
    let named = |name: &str| CString::new(name).map_err(|error| error.to_string());
    let (from, to) = (named(from)?, named(to)?);
    let _one_at_a_time = LOCK.lock();
    // SAFETY: the group is open.
    let done = unsafe { H5Lmove(group.id(), from.as_ptr(), group.id(), to.as_ptr(), H5P_DEFAULT, H5P_DEFAULT) };
    if done < 0 { Err(format!("HDF5 cannot write it: {}", why())) } else { Ok(()) }
}

/// Removes an object.
///
/// # Errors
/// The library says no.
pub fn remove(group: &Group, name: &str) -> Result<(), String> {
    let name = CString::new(name).map_err(|error| error.to_string())?;
    let _one_at_a_time = LOCK.lock();
    // SAFETY: the group is open.
    let done = unsafe { H5Ldelete(group.id(), name.as_ptr(), H5P_DEFAULT) };
    if done < 0 { Err(format!("HDF5 cannot write it: {}", why())) } else { Ok(()) }
}

/// Gives an object an attribute, a text.
///
/// # Errors
/// It is too long, or the library says no.
pub fn attribute(object: &hdf5_metno::Location, name: &str, text: &str) -> Result<(), String> {
    if text.len() > ATTRIBUTE_BYTES {
        return Err(format!("`{name}` is of {} bytes, and an attribute of at most {ATTRIBUTE_BYTES}", text.len()));
    }
    let key = CString::new(name).map_err(|_| format!("`{name}` holds a zero, which no name in HDF5 does"))?;
    // A text has a length, which is not 0.
    let value = if text.is_empty() { &[0][..] } else { text.as_bytes() };
    let _one_at_a_time = LOCK.lock();
    // SAFETY: the lock is held, what is opened here is closed here, and the value has the type's number of bytes.
    let done = unsafe {
        let (kind, space) = (Item::Text(value.len()).open(), H5Screate(H5S_class_t::H5S_SCALAR));
        let id = H5Acreate2(object.id(), key.as_ptr(), kind, space, H5P_DEFAULT, H5P_DEFAULT);
        let done = if id < 0 { -1 } else { H5Awrite(id, kind, value.as_ptr().cast()) };
        if id >= 0 {
            H5Aclose(id);
        }
        H5Sclose(space);
        H5Tclose(kind);
        done
    };
    if done < 0 { Err(format!("HDF5 cannot write the attribute `{name}`: {}", why())) } else { Ok(()) }
}

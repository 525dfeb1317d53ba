//! What the library says of a type.

use std::ffi::{CStr, c_void};

use hdf5_metno::{Datatype, from_id};
use hdf5_metno_sys::h5::H5free_memory;
use hdf5_metno_sys::h5i::hid_t;
use hdf5_metno_sys::h5t::{
    H5T_class_t, H5T_order_t, H5T_sign_t, H5T_str_t, H5Tget_array_dims2, H5Tget_array_ndims, H5Tget_class, H5Tget_ebias,
    H5Tget_fields, H5Tget_member_name, H5Tget_member_offset, H5Tget_member_type, H5Tget_member_value, H5Tget_nmembers,
    H5Tget_offset, H5Tget_order, H5Tget_precision, H5Tget_sign, H5Tget_size, H5Tget_strpad, H5Tget_super,
    H5Tis_variable_str,
};

use super::{Kind, MOST_BYTES, Member, Pad, number, sides};

/// Types within types that are followed: no sensible file has more, and a damaged one might have them without end.
const DEEPEST: usize = 8;
/// Fields of a struct, or names of an enumeration, that are taken in.
const MOST_MEMBERS: i32 = 4096;
/// h5py's enumeration for bools.
const BOOL: [(i128, &str); 2] = [(0, "FALSE"), (1, "TRUE")];

impl Kind {
    /// The type as the library tells it. Its lock has to be held.
    ///
    /// # Errors
    /// Columns have no such type; the message says which it is.
    pub fn of(kind: &Datatype) -> Result<Self, String> {
        Self::read(kind.id(), 0)
    }

    fn read(id: hid_t, depth: usize) -> Result<Self, String> {
        if depth > DEEPEST {
            return Err(format!("types nested more than {DEEPEST} deep"));
        }
        // SAFETY of all calls here: `id` is an open type, and `with_file` holds the lock.
        let size = unsafe { H5Tget_size(id) };
        if size == 0 || size as u64 > MOST_BYTES {
            return Err(format!("values of {size} bytes"));
        }
        match unsafe { H5Tget_class(id) } {
            H5T_class_t::H5T_INTEGER => whole(id, size),
            H5T_class_t::H5T_FLOAT => float(id, size),
            H5T_class_t::H5T_ENUM => {
                let base = parent(id)?;
                let Self::Int { bytes, signed, big } = Self::read(base.id(), depth + 1)? else {
                    return Err("an enumeration that is not of whole numbers".into());
                };
                let names = names(id, bytes, signed, big)?;
                let is_bool = bytes == 1 && names.iter().map(|(value, name)| (*value, name.as_str())).eq(BOOL);
                Ok(if is_bool { Self::Bool } else { Self::Enum { bytes, signed, big, names } })
            }
            H5T_class_t::H5T_STRING if unsafe { H5Tis_variable_str(id) } > 0 => Ok(Self::LongText),
            H5T_class_t::H5T_STRING => {
                let pad = match unsafe { H5Tget_strpad(id) } {
                    H5T_str_t::H5T_STR_NULLTERM => Pad::Terminated,
                    H5T_str_t::H5T_STR_SPACEPAD => Pad::Spaces,
                    _ => Pad::Zeros,
                };
                Ok(Self::Text { bytes: size, pad })
            }
            H5T_class_t::H5T_VLEN => {
                let item = Self::read(parent(id)?.id(), depth + 1)?;
                if item.in_heap() {
                    return Err(format!("lists of {item}"));
                }
                Ok(Self::List(Box::new(item)))
            }
            H5T_class_t::H5T_ARRAY => {
                let item = Self::read(parent(id)?.id(), depth + 1)?;
                let rank = unsafe { H5Tget_array_ndims(id) };
                let mut shape = [0_u64; 32];
                if !(1..=32).contains(&rank) || unsafe { H5Tget_array_dims2(id, shape.as_mut_ptr()) } != rank {
                    return Err("arrays whose shape cannot be read".into());
                }
                let shape = shape[..rank as usize].to_vec();
                let values = shape.iter().try_fold(1_u64, |all, &side| all.checked_mul(side));
                let bytes = values.and_then(|values| values.checked_mul(item.bytes() as u64));
                match bytes {
                    Some(1..=MOST_BYTES) => Ok(Self::Array { item: Box::new(item), shape }),
                    _ => Err(format!("arrays of {} {item}", sides(&shape))),
                }
            }
            H5T_class_t::H5T_COMPOUND => members(id, size, depth),
            H5T_class_t::H5T_OPAQUE => Ok(Self::Opaque { bytes: size }),
            H5T_class_t::H5T_REFERENCE => Err("references to other objects".into()),
            H5T_class_t::H5T_BITFIELD => Err("bit fields".into()),
            H5T_class_t::H5T_COMPLEX => Err("complex numbers".into()),
            _ => Err("values of a type that no column has".into()),
        }
    }
}

fn order(id: hid_t) -> Result<bool, String> {
    match unsafe { H5Tget_order(id) } {
        H5T_order_t::H5T_ORDER_LE => Ok(false),
        H5T_order_t::H5T_ORDER_BE => Ok(true),
        _ => Err("numbers in a byte order that is neither big- nor little-endian".into()),
    }
}

fn whole(id: hid_t, size: usize) -> Result<Kind, String> {
    let (precision, offset) = unsafe { (H5Tget_precision(id), H5Tget_offset(id)) };
    if !matches!(size, 1 | 2 | 4 | 8) || precision != size * 8 || offset != 0 {
        return Err(format!("whole numbers of {precision} bits in {size} bytes"));
    }
    let signed = unsafe { H5Tget_sign(id) } == H5T_sign_t::H5T_SGN_2;
    Ok(Kind::Int { bytes: size, signed, big: order(id)? })
}

fn float(id: hid_t, size: usize) -> Result<Kind, String> {
    let (mut sign, mut exponent, mut exponent_bits, mut mantissa, mut mantissa_bits) = (0, 0, 0, 0, 0);
    let bias = unsafe {
        H5Tget_fields(id, &mut sign, &mut exponent, &mut exponent_bits, &mut mantissa, &mut mantissa_bits);
        H5Tget_ebias(id)
    };
    // Places of sign and exponent, bits of the exponent, place and bits of the mantissa, the exponent's bias: as IEEE has them.
    match (size, (sign, exponent, exponent_bits, mantissa, mantissa_bits, bias)) {
        (2, (15, 10, 5, 0, 10, 15)) | (4, (31, 23, 8, 0, 23, 127)) | (8, (63, 52, 11, 0, 52, 1023)) => {
            Ok(Kind::Float { bytes: size, big: order(id)? })
        }
        (2, (15, 7, 8, 0, 7, 127)) => Err("bfloat16 numbers; store them as float32".into()),
        _ => Err(format!("floats of {} bits that are not IEEE's", size * 8)),
    }
}

fn parent(id: hid_t) -> Result<Datatype, String> {
    // SAFETY: the library makes a new id, which nobody else closes.
    unsafe { from_id(H5Tget_super(id)) }.map_err(|error| format!("a type that cannot be read: {error}"))
}

fn name_of(id: hid_t, member: u32) -> Result<String, String> {
    // SAFETY: the library allocates the name, and frees it.
    unsafe {
        let name = H5Tget_member_name(id, member);
        if name.is_null() {
            return Err("a type whose names cannot be read".into());
        }
        let text = CStr::from_ptr(name).to_string_lossy().into_owned();
        H5free_memory(name.cast::<c_void>());
        Ok(text)
    }
}

fn count(id: hid_t) -> Result<u32, String> {
    match unsafe { H5Tget_nmembers(id) } {
        count @ 1..=MOST_MEMBERS => Ok(count as u32),
        count => Err(format!("a type of {count} members")),
    }
}

fn names(id: hid_t, bytes: usize, signed: bool, big: bool) -> Result<Vec<(i128, String)>, String> {
    let one = |member| {
        let mut value = [0_u8; 8];
        if unsafe { H5Tget_member_value(id, member, value.as_mut_ptr().cast()) } < 0 {
            return Err("an enumeration whose values cannot be read".to_owned());
        }
        Ok((number(&value[..bytes], signed, big), name_of(id, member)?))
    };
    (0..count(id)?).map(one).collect()
}

/// A struct's fields, with their places in the file. The library tells where they lie in memory, where what is in the heap takes
/// other numbers of bytes.
fn members(id: hid_t, size: usize, depth: usize) -> Result<Kind, String> {
    let mut found = Vec::new();
    for member in 0..count(id)? {
        let name = name_of(id, member)?;
        // SAFETY: the library makes a new id, which nobody else closes.
        let kind: Datatype = unsafe { from_id(H5Tget_member_type(id, member)) }
            .map_err(|error| format!("a field `{name}` that cannot be read: {error}"))?;
        let (offset, memory) = unsafe { (H5Tget_member_offset(id, member), H5Tget_size(kind.id())) };
        let kind = Kind::read(kind.id(), depth + 1).map_err(|what| format!("{what} (in field `{name}`)"))?;
        found.push((offset, memory, Member { name, offset: 0, kind }));
    }
    found.sort_by_key(|(offset, ..)| *offset);
    let mut shift = 0_i64;
    let mut end = 0;
    let mut members = Vec::with_capacity(found.len());
    for (offset, memory, mut member) in found {
        let place = usize::try_from(offset as i64 + shift).ok().filter(|&place| place >= end);
        member.offset = place.ok_or("a struct whose fields overlap")?;
        end = member.offset + member.kind.bytes();
        shift += member.kind.bytes() as i64 - memory as i64;
        members.push(member);
    }
    let bytes = usize::try_from(size as i64 + shift).ok().filter(|&bytes| bytes >= end);
    Ok(Kind::Struct { bytes: bytes.ok_or("a struct that is shorter than its fields")?, members })
}

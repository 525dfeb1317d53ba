//! Tensors as a pickle has them: a function of PyTorch's that would make one, and what it is given.

use std::ops::Range;

use tessera_datasets::pickle::{Pickle, Value};

use super::{Storages, shown};
use crate::tensor_file::file::{Entry, Place};
use crate::tensor_file::width;

/// Calls around a tensor: a parameter is made of one.
const AROUND: usize = 8;

/// Sides of a tensor, as PyTorch has it.
const MOST_SIDES: usize = 64;

/// A tensor of a pickle, or what is none that can be read.
pub enum Found {
    Tensor(Entry),
    /// A tensor of a kind that is not known, in words.
    Other(String),
}

/// The tensor at a place of a pickle; none if something else is there. The error says what is wrong with it.
pub fn tensor(pickle: &Pickle, storages: &Storages, mut place: usize) -> Result<Option<Found>, String> {
    for _ in 0..AROUND {
        let Some((mut maker, mut given)) = pickle.call(place) else { return Ok(None) };
        // Of a class that is derived from tensors: the function that makes the tensor, and what that is given.
        if let ("torch._tensor _rebuild_from_type_v2", &[function, _, arguments, ..]) = (maker, given) {
            let (Some(function), Some(arguments)) = (pickle.global(function), pickle.tuple(arguments)) else {
                return Ok(None);
            };
            (maker, given) = (function, arguments);
        }
        match (maker, given) {
            ("torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state", &[tensor, ..]) => {
                place = tensor
            }
            ("torch._utils _rebuild_tensor_v2", &[storage, offset, shape, strides, _, _, ref more @ ..]) => {
                return dense(pickle, storages, &Dense { storage, offset, shape, strides, dtype: None }, more).map(Some);
            }
            ("torch._utils _rebuild_tensor_v3", &[storage, offset, shape, strides, _, _, dtype, ref more @ ..]) => {
                let parts = Dense { storage, offset, shape, strides, dtype: Some(dtype) };
                return dense(pickle, storages, &parts, more).map(Some);
            }
            _ => return Ok(other(maker).map(Found::Other)),
        }
    }
    Ok(None)
}

/// What a function of PyTorch's makes that is a tensor of a kind that is not read.
fn other(maker: &str) -> Option<String> {
    let kind = maker.strip_prefix("torch._utils _rebuild_")?;
    kind.contains("tensor").then(|| format!("a tensor of another kind ({})", shown(kind)))
}

/// Places of the parts of a dense tensor.
struct Dense {
    storage: usize,
    offset: usize,
    shape: usize,
    strides: usize,
    /// Its type, where it is not its storage's.
    dtype: Option<usize>,
}

fn dense(pickle: &Pickle, storages: &Storages, parts: &Dense, more: &[usize]) -> Result<Found, String> {
    let is_plain = |&place: &usize| match pickle.value(place) {
        Value::None => true,
        Value::Dict(entries) => entries.is_empty(),
        _ => false,
    };
    if !more.iter().all(is_plain) {
        return Ok(Found::Other("a tensor that is conjugate or negative".to_owned()));
    }
    // `("storage", type, key, device, length)`.
    let name = match *pickle.value(parts.storage) {
        Value::Persistent(name) => pickle.tuple(name),
        _ => None,
    };
    let Some(&[tag, of, key, _, length, ..]) = name else { return Err("has no storage".to_owned()) };
    let known = (pickle.text(tag), pickle.global(of), pickle.text(key), count(pickle, length));
    let (Some("storage"), Some(of), Some(key), Some(length)) = known else { return Err("has no storage".to_owned()) };
    let dtype = match parts.dtype {
        Some(dtype) => pickle.global(dtype).ok_or("has no type")?,
        None => of,
    };
    let Some((dtype, bytes)) = safetensors_type(dtype).and_then(|dtype| Some((dtype, width(dtype)?))) else {
        return Ok(Found::Other(format!("a tensor of {}", shown(dtype).replace(' ', "."))));
    };
    let name = shown(key);
    let held = storages.get(key).ok_or_else(|| format!("lies in the storage `{name}`, which is not there"))?;
    // A storage without a type of its own is as long as it has bytes.
    let of_bytes = if of.ends_with("UntypedStorage") { 1 } else { bytes };
    let length = length.checked_mul(of_bytes).filter(|&length| length <= held.end - held.start);
    let length = length.ok_or_else(|| format!("lies in the storage `{name}`, which is shorter than it should be"))?;
    let sides =
        |place: usize| -> Option<Vec<u64>> { pickle.tuple(place)?.iter().map(|&side| count(pickle, side)).collect() };
    let known = (count(pickle, parts.offset), sides(parts.shape), sides(parts.strides));
    let (Some(offset), Some(shape), Some(strides)) = known else { return Err("has no shape".to_owned()) };
    if shape.len() > MOST_SIDES || shape.len() != strides.len() {
        return Err(format!("has {} sides, and strides for {}", shape.len(), strides.len()));
    }
    let values = length / bytes;
    let span = span(offset, &shape, &strides).filter(|span| span.end <= values);
    let span = span.ok_or_else(|| format!("reaches beyond the {values} values of its storage `{name}`"))?;
    // No more than its storage has: else a few bytes could stand for any number of values.
    if shape.iter().try_fold(1_u64, |has, &side| has.checked_mul(side)).is_none_or(|has| has > values) {
        return Ok(Found::Other("a tensor with more values than its storage: save its `contiguous()`".to_owned()));
    }
    let sides = |sides: &[u64]| -> Vec<usize> { sides.iter().map(|&side| side as usize).collect() };
    let bytes = held.start + span.start * bytes..held.start + span.end * bytes;
    let strides = (!is_row_major(&shape, &strides)).then(|| sides(&strides));
    Ok(Found::Tensor(Entry { dtype: dtype.to_owned(), shape: sides(&shape), place: Place { bytes, strides } }))
}

/// A number that is not negative.
fn count(pickle: &Pickle, place: usize) -> Option<u64> {
    u64::try_from(pickle.int(place)?).ok()
}

/// The values from a tensor's first one to behind its last one; none if they are too many to count.
fn span(offset: u64, shape: &[u64], strides: &[u64]) -> Option<Range<u64>> {
    if shape.contains(&0) {
        return Some(0..0);
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (&side, &stride)| last.checked_add((side - 1).checked_mul(stride)?));
    Some(offset..last?.checked_add(1)?)
}

/// Whether values lie one behind another. The stride along a side of one value does not matter.
fn is_row_major(shape: &[u64], strides: &[u64]) -> bool {
    let mut next = 1;
    shape.contains(&0)
        || shape.iter().zip(strides).rev().all(|(&side, &stride)| {
            let fits = side == 1 || stride == next;
            next *= side;
            fits
        })
}

/// safetensors' name of the type of a storage, or of PyTorch's name of it.
fn safetensors_type(name: &str) -> Option<&'static str> {
    Some(match name.strip_prefix("torch ")? {
        "FloatStorage" | "float32" => "F32",
        "DoubleStorage" | "float64" => "F64",
        "HalfStorage" | "float16" => "F16",
        "BFloat16Storage" | "bfloat16" => "BF16",
        "float8_e4m3fn" => "F8_E4M3",
        "float8_e5m2" => "F8_E5M2",
        "LongStorage" | "int64" => "I64",
        "IntStorage" | "int32" => "I32",
        "ShortStorage" | "int16" => "I16",
        "CharStorage" | "int8" => "I8",
        "uint64" => "U64",
        "uint32" => "U32",
        "uint16" => "U16",
        "ByteStorage" | "uint8" => "U8",
        "BoolStorage" | "bool" => "BOOL",
        _ => return None,
    })
}

//! HDF5's global heap: where values of their own length lie, texts among them.
//!
//! A value is a reference: how long it is, which collection of the heap it lies in, and under which number. Collections are read
//! here and not by the library, so that a damaged one is an error, and chunks that hold references need not go through it.
//!
//! Reference: HDF5 File Format Specification, III.E "Disk Format: Level 1E - Global Heap".

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::super::raw::Raw;

/// A length of 4 bytes, an address of 8, a number of 4.
pub const REFERENCE_BYTES: usize = 16;
/// Bytes before a collection's objects, and of an object before its own.
const HEADER_BYTES: usize = 16;
/// Collections that are kept: rows that follow each other mostly lie in one.
const KEPT: usize = 256;
/// Bytes of collections that are kept, unless one has more.
const KEPT_BYTES: usize = 64 << 20;
/// Bytes of values that are taken together, unless one has more: references to it may be any number.
pub const MOST_TAKEN: u64 = 256 << 20;
/// Bytes of a collection. The library makes them of 4 KiB, and larger ones for a value that needs it.
const MOST_BYTES: u64 = 1 << 30;

/// A file's heap.
pub struct Heap<'a> {
    raw: Raw<'a>,
    /// Bytes before the file's HDF5 part, from which addresses count.
    base: u64,
    kept: RefCell<HashMap<u64, Rc<Collection>>>,
    taken: Cell<u64>,
    is_full: Cell<bool>,
}

struct Collection {
    bytes: Vec<u8>,
    /// Where each object lies.
    objects: HashMap<u32, (usize, usize)>,
}

/// A value.
struct Object {
    /// Where its collection begins.
    address: u64,
    collection: Rc<Collection>,
    /// Its place in that.
    range: Range<usize>,
}

impl<'a> Heap<'a> {
    /// The heap of a file whose HDF5 part begins at byte `base`.
    pub fn new(raw: Raw<'a>, base: u64) -> Self {
        Self { raw, base, kept: RefCell::default(), taken: Cell::default(), is_full: Cell::default() }
    }

    /// The bytes of a reference's value, which consists of items of `item` bytes.
    ///
    /// # Errors
    /// The reference leads nowhere, or too many bytes were taken before, as [`is_full`](Self::is_full) says.
    pub fn find(&self, reference: &[u8], item: usize) -> Result<Vec<u8>, String> {
        let Some(Object { collection, range, .. }) = self.object(reference, item)? else { return Ok(Vec::new()) };
        self.take(range.len() as u64)?;
        Ok(collection.bytes[range].to_vec())
    }

    /// Where a reference's value begins in the file, if it has bytes.
    ///
    /// # Errors
    /// The reference leads nowhere.
    pub fn place(&self, reference: &[u8]) -> Result<Option<u64>, String> {
        let found = self.object(reference, 1)?;
        Ok(found.map(|Object { address, range, .. }| self.base + address + range.start as u64))
    }

    /// The value of a reference, if it has bytes.
    fn object(&self, reference: &[u8], item: usize) -> Result<Option<Object>, String> {
        let number = |at: usize| u32::from_le_bytes(reference[at..at + 4].try_into().expect("four bytes"));
        let address = u64::from_le_bytes(reference[4..12].try_into().expect("eight bytes"));
        let (count, index) = (number(0), number(12));
        if count == 0 || address == 0 || address == u64::MAX {
            return Ok(None);
        }
        let collection = self.collection(address)?;
        let wanted = (count as usize).saturating_mul(item);
        match collection.objects.get(&index).copied() {
            Some((start, length)) if length >= wanted => {
                Ok(Some(Object { address, collection, range: start..start + wanted }))
            }
            Some((_, length)) => Err(format!("is damaged: a value of {wanted} bytes has {length} in the heap")),
            None => Err(format!("is damaged: the heap at byte {address} has no value {index}")),
        }
    }

    /// Counts bytes that rows have beside their own.
    ///
    /// # Errors
    /// They are too many; then [`is_full`](Self::is_full) says so, for fewer rows may have fewer.
    pub fn take(&self, bytes: u64) -> Result<(), String> {
        let before = self.taken.get();
        self.taken.set(before.saturating_add(bytes));
        let most = if before == 0 { MOST_BYTES } else { MOST_TAKEN };
        if self.taken.get() <= most {
            return Ok(());
        }
        self.is_full.set(true);
        Err(format!("its values have more than {most} bytes"))
    }

    /// Whether too many were taken.
    pub fn is_full(&self) -> bool {
        self.is_full.get()
    }

    fn collection(&self, address: u64) -> Result<Rc<Collection>, String> {
        if let Some(known) = self.kept.borrow().get(&address) {
            return Ok(known.clone());
        }
        let damaged = || format!("is damaged: there is no heap at byte {address}");
        let start = address.checked_add(self.base).ok_or_else(damaged)?;
        let read = |length| self.raw.read(start, length).map_err(|_| damaged());
        let header = read(HEADER_BYTES as u64)?;
        if !header.starts_with(b"GCOL\x01") {
            return Err(damaged());
        }
        let length = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
        if !(HEADER_BYTES as u64..=MOST_BYTES).contains(&length) {
            return Err(damaged());
        }
        let bytes = read(length)?;
        let mut objects = HashMap::new();
        let mut at = HEADER_BYTES;
        while at + HEADER_BYTES <= bytes.len() {
            let index = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            let length = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().expect("eight bytes"));
            // Number 0 is the room that is left.
            if index == 0 {
                break;
            }
            let start = at + HEADER_BYTES;
            let length = usize::try_from(length).ok().filter(|&length| length <= bytes.len() - start).ok_or_else(damaged)?;
            objects.insert(u32::from(index), (start, length));
            at = start + length.next_multiple_of(8);
        }
        let found = Rc::new(Collection { bytes, objects });
        let mut kept = self.kept.borrow_mut();
        let bytes = kept.values().map(|one| one.bytes.len()).sum::<usize>();
        if kept.len() >= KEPT || bytes + found.bytes.len() > KEPT_BYTES {
            kept.clear();
        }
        kept.insert(address, found.clone());
        Ok(found)
    }
}

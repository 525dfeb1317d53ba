//! The least rows of each group so far.

use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::PhysicalExpr;

use super::super::groups::Groups;

/// Rows that are held back before those are looked for that others have come before.
const HELD_ROWS: usize = 1 << 16;
/// The most bytes of rows that are held.
const HELD_BYTES: usize = 16 << 20;

/// The least rows of each group so far. Rows are held back, for later ones may come before them; many of them are let by.
pub struct Heaps {
    schema: SchemaRef,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    order: PhysicalSortExpr,
    /// Whether rows of one key may differ in the order. Then all of them are let by.
    is_coarse: bool,
    most: usize,
    groups: Groups,
    /// Keys and numbers of the least rows of each group; the greatest is on top.
    heaps: Vec<BinaryHeap<Place>>,
    /// Rows so far.
    rows: u64,
    held: Vec<Held>,
    held_rows: usize,
    held_bytes: usize,
    /// Rows that were let by.
    let_by: u64,
    /// Whether it is not worth the while, or there is no memory for it: all rows are let by.
    gave_up: bool,
    reservation: MemoryReservation,
    ids: Vec<usize>,
    keys: Vec<u64>,
}

/// A row's key and its number.
type Place = (u64, u64);

/// Rows that are held back, with their groups and places.
struct Held {
    batch: RecordBatch,
    places: Vec<(usize, Place)>,
}

impl Heaps {
    /// Holds no row yet; the rows that come have that schema.
    pub fn new(
        schema: &SchemaRef,
        groups: &[Arc<dyn PhysicalExpr>],
        order: &PhysicalSortExpr,
        is_coarse: bool,
        most: usize,
        reservation: MemoryReservation,
    ) -> Result<Self> {
        let kinds = groups.iter().map(|group| group.data_type(schema)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            schema: schema.clone(),
            exprs: groups.to_vec(),
            order: order.clone(),
            is_coarse,
            most,
            groups: Groups::new(&kinds)?,
            heaps: Vec::new(),
            rows: 0,
            held: Vec::new(),
            held_rows: 0,
            held_bytes: 0,
            let_by: 0,
            gave_up: false,
            reservation,
            ids: Vec::new(),
            keys: Vec::new(),
        })
    }

    /// Takes rows; what it gives back cannot be held any longer.
    pub fn insert(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        if self.gave_up {
            return Ok(vec![batch]);
        }
        let values = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&batch)?.into_array(batch.num_rows());
        let columns = self.exprs.iter().map(values).collect::<Result<Vec<_>>>()?;
        let keys = values(&self.order.expr)?;
        self.groups.intern(&columns, &mut self.ids);
        self.heaps.resize_with(self.groups.len(), BinaryHeap::new);
        self.keys.clear();
        place_all(&keys, self.order.options.descending, self.order.options.nulls_first, &mut self.keys);
        let mut places = Vec::new();
        let mut is_least = Vec::with_capacity(batch.num_rows());
        for (&group, &key) in self.ids.iter().zip(&self.keys) {
            let place = (key, self.rows);
            self.rows += 1;
            let admitted = admit(&mut self.heaps[group], place, self.most, self.is_coarse);
            is_least.push(admitted);
            if admitted {
                places.push((group, place));
            }
        }
        if !places.is_empty() {
            let batch = filter_record_batch(&batch, &BooleanArray::from(is_least))?;
            self.held_rows += places.len();
            self.held_bytes += batch.get_array_memory_size();
            self.held.push(Held { batch, places });
        }
        let is_little = self.held_rows < HELD_ROWS && self.held_bytes < HELD_BYTES;
        if is_little { Ok(Vec::new()) } else { self.give_way() }
    }

    /// Leaves out the held rows that others have come before since. If many are left, or there is no memory for them, they are let by.
    fn give_way(&mut self) -> Result<Vec<RecordBatch>> {
        let before = self.held_rows;
        self.leave_out()?;
        let heaps = self.heaps.iter().map(|heap| size_of::<BinaryHeap<Place>>() + heap.capacity() * size_of::<Place>());
        let needed = self.held_bytes + heaps.sum::<usize>() + self.groups.size();
        let is_refused = self.reservation.try_resize(needed).is_err();
        let mut rows = Vec::new();
        if is_refused || self.held_rows > before / 2 || self.held_bytes > HELD_BYTES / 2 {
            rows = self.take_held();
        }
        if is_refused || self.rows > 4 * HELD_ROWS as u64 && self.let_by > self.rows / 2 {
            rows.extend(self.take_held());
            self.gave_up = true;
            self.heaps = Vec::new();
            self.groups = Groups::new(&[DataType::Int32])?;
            self.reservation.free();
        }
        Ok(rows)
    }

    /// The rows that are held at the end, in one batch.
    pub fn finish(&mut self) -> Result<Vec<RecordBatch>> {
        self.leave_out()?;
        let held = self.take_held();
        Ok(if held.is_empty() { held } else { vec![concat_batches(&self.schema, &held)?] })
    }

    fn take_held(&mut self) -> Vec<RecordBatch> {
        self.let_by += self.held_rows as u64;
        (self.held_rows, self.held_bytes) = (0, 0);
        self.held.drain(..).map(|held| held.batch).collect()
    }

    fn leave_out(&mut self) -> Result<()> {
        let (heaps, most, is_coarse) = (&self.heaps, self.most, self.is_coarse);
        let is_least = |&(group, place): &(usize, Place)| {
            let heap: &BinaryHeap<Place> = &heaps[group];
            heap.len() < most || heap.peek().is_some_and(|&last| place <= last || is_coarse && place.0 == last.0)
        };
        (self.held_rows, self.held_bytes) = (0, 0);
        for held in &mut self.held {
            let kept: Vec<bool> = held.places.iter().map(is_least).collect();
            held.places.retain(is_least);
            held.batch = filter_record_batch(&held.batch, &BooleanArray::from(kept))?;
            self.held_rows += held.places.len();
            self.held_bytes += held.batch.get_array_memory_size();
        }
        self.held.retain(|held| !held.places.is_empty());
        Ok(())
    }
}

/// Whether a row can be among the least of its group; if so, the group knows it.
fn admit(heap: &mut BinaryHeap<Place>, place: Place, most: usize, is_coarse: bool) -> bool {
    if heap.len() < most {
        heap.push(place);
        return true;
    }
    let Some(mut last) = heap.peek_mut() else { return false };
    if place.0 < last.0 {
        *last = place;
        return true;
    }
    is_coarse && place.0 == last.0
}

/// Whether keys of a type are equal only where values are; nothing for types that have no keys.
pub fn is_exact(kind: &DataType) -> Option<bool> {
    match kind {
        DataType::Float32 | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Date32 => Some(true),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some(true),
        // The least or the greatest of these has the key of null.
        DataType::Float64 | DataType::Int64 | DataType::UInt64 => Some(false),
        _ => None,
    }
}

/// The keys of values: in the order of their numbers, rows are sorted as DataFusion sorts them.
fn place_all(values: &ArrayRef, descending: bool, nulls_first: bool, keys: &mut Vec<u64>) {
    const SIGN: u64 = 1 << 63;
    // Numbers of 32 bits lie in the middle, far from the keys of null.
    let narrow = |value: i64| value as u64 ^ SIGN;
    let mut all = Keys { values, descending, nulls_first, keys: &mut *keys };
    match values.data_type() {
        DataType::Int8 => all.of::<Int8Type>(|value| narrow(i64::from(value))),
        DataType::Int16 => all.of::<Int16Type>(|value| narrow(i64::from(value))),
        DataType::Int32 => all.of::<Int32Type>(|value| narrow(i64::from(value))),
        DataType::Date32 => all.of::<Date32Type>(|value| narrow(i64::from(value))),
        DataType::UInt8 => all.of::<UInt8Type>(|value| narrow(i64::from(value))),
        DataType::UInt16 => all.of::<UInt16Type>(|value| narrow(i64::from(value))),
        DataType::UInt32 => all.of::<UInt32Type>(|value| narrow(i64::from(value))),
        DataType::Int64 => all.of::<Int64Type>(narrow),
        DataType::UInt64 => all.of::<UInt64Type>(|value| value),
        // As `total_cmp` of the standard library.
        DataType::Float32 => all.of::<Float32Type>(|value| {
            let bits = value.to_bits() as i32;
            narrow(i64::from(bits ^ (((bits >> 31) as u32) >> 1) as i32))
        }),
        DataType::Float64 => all.of::<Float64Type>(|value| {
            let bits = value.to_bits() as i64;
            narrow(bits ^ (((bits >> 63) as u64) >> 1) as i64)
        }),
        _ => keys.resize(values.len(), 0),
    }
}

/// Values on their way to keys.
struct Keys<'a> {
    values: &'a ArrayRef,
    descending: bool,
    nulls_first: bool,
    keys: &'a mut Vec<u64>,
}

impl Keys<'_> {
    fn of<T: ArrowPrimitiveType>(&mut self, key: impl Fn(T::Native) -> u64) {
        let values = self.values.as_primitive::<T>();
        let flip = if self.descending { u64::MAX } else { 0 };
        let null = if self.nulls_first { 0 } else { u64::MAX };
        if values.null_count() == 0 {
            self.keys.extend(values.values().iter().map(|&value| key(value) ^ flip));
        } else {
            self.keys.extend(values.iter().map(|value| value.map_or(null, |value| key(value) ^ flip)));
        }
    }
}

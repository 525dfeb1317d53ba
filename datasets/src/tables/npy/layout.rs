//! What the header of a `.npy` file says.

use arrow::datatypes::DataType;

/// What the header's text says.
#[derive(Debug, PartialEq, Eq)]
pub struct Description {
    pub kind: String,
    pub is_fortran: bool,
    pub shape: Vec<u64>,
}

/// How an array lies on disk.
#[derive(Debug)]
pub struct Layout {
    pub item: DataType,
    pub item_bytes: u64,
    pub is_big: bool,
    /// Whether the first axis, the rows, is the fastest, and so on: Fortran order.
    pub is_fortran: bool,
    pub rows: u64,
    /// All axes but the first.
    pub axes: Vec<u64>,
}

impl std::str::FromStr for Description {
    type Err = String;

    /// Reads a Python dict: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
    fn from_str(text: &str) -> Result<Self, String> {
        let entry = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}':")).ok_or(format!("its header has no `{key}`"))?;
            Ok::<_, String>(rest.trim_start())
        };
        let kind = entry("descr")?;
        let kind = kind.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
        let (kind, _) = kind.ok_or("has several fields a value (a structured array); save one array a file")?;
        let is_fortran = entry("fortran_order")?.starts_with("True");
        let shape = entry("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (shape, _) = shape.ok_or("its header has no shape")?;
        let axes = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        // Python 2 wrote long integers as `3L`.
        let axis = |axis: &str| axis.strip_suffix('L').unwrap_or(axis).parse();
        let shape = axes.map(|text| axis(text).map_err(|_| format!("its header has the shape ({shape})")));
        Ok(Self { kind: kind.to_owned(), is_fortran, shape: shape.collect::<Result<_, _>>()? })
    }
}

impl Description {
    /// How the array lies on disk.
    ///
    /// # Errors
    /// It has no rows, rows without values, or values of a type that is not known.
    pub fn layout(self) -> Result<Layout, String> {
        let told = || {
            let shape = self.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            format!("has shape ({shape}); (rows), (rows, width) and more axes can be read, of which none but the rows is 0")
        };
        let (&rows, axes) = self.shape.split_first().ok_or_else(told)?;
        let width = axes.iter().try_fold(1_u64, |width, &axis| width.checked_mul(axis));
        let width = width.filter(|width| (1..=i32::MAX as u64).contains(width));
        if width.is_none() {
            return Err(told());
        }
        let (item, item_bytes) = match self.kind.get(1..).unwrap_or_default() {
            "b1" => (DataType::Boolean, 1),
            "f2" => (DataType::Float16, 2),
            "f4" => (DataType::Float32, 4),
            "f8" => (DataType::Float64, 8),
            "i1" => (DataType::Int8, 1),
            "i2" => (DataType::Int16, 2),
            "i4" => (DataType::Int32, 4),
            "i8" => (DataType::Int64, 8),
            "u1" => (DataType::UInt8, 1),
            "u2" => (DataType::UInt16, 2),
            "u4" => (DataType::UInt32, 4),
            "u8" => (DataType::UInt64, 8),
            _ => return Err(self.unknown()),
        };
        let is_big = match self.kind.as_bytes()[0] {
            b'<' => false,
            b'>' => true,
            b'|' if item_bytes == 1 => false,
            _ => return Err(self.unknown()),
        };
        Ok(Layout { item, item_bytes, is_big, is_fortran: self.is_fortran, rows, axes: axes.to_vec() })
    }

    fn unknown(&self) -> String {
        let known = "floats of 16, 32 and 64 bits, integers and truth values";
        format!("holds values of type {}; {known} can be read", self.kind)
    }
}

impl Layout {
    /// How many values a row has.
    pub fn width(&self) -> u64 {
        self.axes.iter().product()
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> u64 {
        self.item_bytes * self.width()
    }

    /// For each value of a row, in Fortran order, its place in C order.
    pub fn order(&self) -> Vec<usize> {
        let place = |mut at: u64| {
            let mut place = 0;
            let mut step = self.width();
            // The first axis is the fastest on disk, and the slowest in a row.
            for &axis in &self.axes {
                step /= axis;
                place += at % axis * step;
                at /= axis;
            }
            place as usize
        };
        (0..self.width()).map(place).collect()
    }
}

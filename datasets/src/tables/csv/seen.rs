//! What the values of a column are, as far as they were seen.

use arrow::datatypes::{DataType, Field};
use tessera_schemas::features;

use super::values::{self, ColumnType, kind};

/// What the values of a column are. Their order does not matter.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    declared: Option<ColumnType>,
    /// Kinds of those that are not empty.
    kinds: u8,
    has_empty: bool,
    /// The length of the first list.
    width: Option<usize>,
    is_uneven: bool,
    /// Whether the column is one of a vector's, or such a vector.
    is_spread: bool,
}

impl Seen {
    /// Nothing yet, of a column that has that type in any case, or is a part of a vector.
    pub fn of(declared: Option<ColumnType>, is_spread: bool) -> Self {
        Self { declared, is_spread, ..Self::default() }
    }

    /// A vector that has as many columns.
    pub fn spread(width: usize) -> Self {
        Self { declared: Some(ColumnType::Vector), width: Some(width), is_spread: true, ..Self::default() }
    }

    /// Adds a value.
    pub fn add(&mut self, text: &str) {
        if self.kinds & kind::TEXT != 0 {
            return;
        }
        if text.is_empty() {
            self.has_empty = true;
            return;
        }
        if !text.starts_with('[') {
            self.kinds |= values::kind(text);
            return;
        }
        match values::list(text) {
            Some((width, kind)) => {
                self.kinds |= kind;
                self.is_uneven |= *self.width.get_or_insert(width) != width;
            }
            None => self.kinds |= kind::TEXT,
        }
    }

    /// Whether its type depends on values.
    pub fn is_open(&self) -> bool {
        !self.is_spread && self.declared.is_none_or(|kind| kind == ColumnType::Vector)
    }

    /// Whether its type was said.
    pub fn is_declared(&self) -> bool {
        self.is_spread || self.declared.is_some()
    }

    /// Whether a list was among the values.
    pub fn has_width(&self) -> bool {
        self.width.is_some()
    }

    /// Whether no value has any text.
    pub fn is_empty(&self) -> bool {
        self.kinds == 0 && self.declared.is_none()
    }

    /// Whether it can be a vector's: numbers without a gap, and whole numbers only that f32 holds.
    pub fn fits_f32(&self) -> bool {
        !self.has_empty && self.kinds & !(kind::SMALL | kind::FLOAT) == 0
    }

    /// The kind of this column's values together with those of the same column in another file; `None` if no type has the values of
    /// both.
    pub fn merge(&self, other: &Self) -> Option<Self> {
        if self.is_spread != other.is_spread || self.is_spread && self.width != other.width {
            return None;
        }
        let differ = self.width.zip(other.width).is_some_and(|(one, two)| one != two);
        Some(Self {
            declared: self.declared,
            kinds: self.kinds | other.kinds,
            has_empty: self.has_empty || other.has_empty,
            width: self.width.or(other.width),
            is_uneven: self.is_uneven || other.is_uneven || differ,
            is_spread: self.is_spread,
        })
    }

    /// The type that has all values; [`DataType::Null`] if there is none to go by.
    pub fn kind(&self) -> DataType {
        let only = |kinds: u8| self.kinds & !kinds == 0;
        let vector = || self.width.map(|width| features::field("", width).data_type().clone());
        match self.declared {
            Some(ColumnType::Text) => DataType::Utf8,
            Some(ColumnType::Int) => DataType::Int64,
            Some(ColumnType::Float) => DataType::Float64,
            Some(ColumnType::Bool) => DataType::Boolean,
            Some(ColumnType::Vector) => vector().unwrap_or(DataType::Null),
            None if self.kinds == 0 => DataType::Null,
            None if only(kind::WHOLE) => DataType::Int64,
            None if only(kind::SMALL | kind::MIDDLE | kind::FLOAT) => DataType::Float64,
            None if only(kind::BOOL) => DataType::Boolean,
            None if only(kind::LIST | kind::WHOLE_LIST)
                && self.kinds & kind::LIST != 0
                && !self.has_empty
                && !self.is_uneven =>
            {
                vector().unwrap_or(DataType::Utf8)
            }
            None => DataType::Utf8,
        }
    }

    /// Whether it has to be a vector, and no row says how long.
    pub fn lacks_width(&self) -> bool {
        self.declared == Some(ColumnType::Vector) && self.width.is_none()
    }

    /// A field of that name and the type that has all values.
    pub fn field(&self, name: &str) -> Field {
        let kind = self.kind();
        let is_vector = matches!(kind, DataType::FixedSizeList(..));
        Field::new(name, kind, !is_vector)
    }
}

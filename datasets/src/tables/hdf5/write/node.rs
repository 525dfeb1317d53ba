//! Columns as datasets and groups.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use hdf5_metno::Group;
use tessera_schemas::meta;

use super::super::layout;
use super::chunked::Chunked;
use super::raw::{ATTRIBUTE_BYTES, Item, attribute};
use values::{items, plain, text};

mod values;

/// Bytes of a text's place are a multiple of this.
const TEXT_STEP: usize = 8;
/// Rows that are said to have a value at once, where nulls come late.
const CATCH_UP_ROWS: u64 = 1 << 16;

/// The columns in a group.
pub struct Nodes {
    nodes: Vec<Node>,
}

/// A column.
struct Node {
    /// Its name in the file.
    name: String,
    field: FieldRef,
    group: Group,
    form: Form,
    /// Once there was a null: whether each row has a value.
    valid: Option<(String, Chunked)>,
    rows: u64,
    threads: usize,
}

enum Form {
    /// Numbers, bools and bytes of one length, one or several a row.
    Plain(Chunked),
    /// Texts; there is no dataset before their length is known.
    Text(Option<Chunked>),
    List {
        group: Group,
        offsets: Chunked,
        end: i64,
        values: Box<Nodes>,
    },
    Struct {
        group: Group,
        fields: Nodes,
    },
}

impl Nodes {
    /// Makes the columns' datasets.
    ///
    /// # Errors
    /// HDF5 has nothing that a column's type could become, or the library says no.
    pub fn create<'a>(
        group: &Group,
        fields: impl IntoIterator<Item = &'a FieldRef>,
        threads: usize,
    ) -> Result<Self, String> {
        let fields: Vec<&FieldRef> = fields.into_iter().collect();
        let mut taken: HashSet<String> = fields.iter().map(|field| field.name().clone()).collect();
        let one = |field: &FieldRef| {
            let name = link_name(field.name(), &mut taken);
            Node::create(group, name, field, threads).map_err(|message| named(field, &message))
        };
        Ok(Self { nodes: fields.into_iter().map(one).collect::<Result<_, _>>()? })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// A value has no place in HDF5, or the file cannot be written.
    pub fn push(&mut self, columns: &[ArrayRef]) -> Result<(), String> {
        for (at, column) in columns.iter().enumerate() {
            let taken = |name: &str| self.nodes.iter().any(|node| node.name == name);
            let beside = self.nodes[at].beside(taken);
            let node = &mut self.nodes[at];
            node.push(column, beside).map_err(|message| named(&node.field, &message))?;
        }
        Ok(())
    }

    /// Writes what is left, and what there is to say of the columns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self, group: &Group) -> Result<(), String> {
        let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        let order = serde_json::to_string(&names).map_err(|error| error.to_string())?;
        if order.len() <= ATTRIBUTE_BYTES {
            attribute(group, layout::COLUMNS, &order)?;
        }
        for node in self.nodes {
            let field = node.field.clone();
            node.finish().map_err(|message| named(&field, &message))?;
        }
        Ok(())
    }
}

fn named(field: &Field, message: &str) -> String {
    format!("column `{}`: {message}", field.name())
}

/// A name that a link can have, and no other column has.
fn link_name(name: &str, taken: &mut HashSet<String>) -> String {
    let allowed = |name: &str| !name.is_empty() && name != "." && !name.contains(['/', '\0']);
    if allowed(name) {
        return name.to_owned();
    }
    let mut link = name.replace(['/', '\0'], "_");
    while !allowed(&link) || !taken.insert(link.clone()) {
        link.push('_');
    }
    link
}

impl Node {
    fn create(group: &Group, name: String, field: &FieldRef, threads: usize) -> Result<Self, String> {
        let within = || group.create_group(&name).map_err(|error| format!("HDF5 cannot make a group: {error}"));
        let one_list = |item: &FieldRef| -> Result<Form, String> {
            let group = within()?;
            let mut offsets = Chunked::create(&group, layout::OFFSETS, Item::Int(8, true), &[], threads)?;
            offsets.push(&0_i64.to_le_bytes())?;
            let values = Arc::new(item.as_ref().clone().with_name(layout::VALUES));
            let values = Box::new(Nodes::create(&group, [&values], threads)?);
            Ok(Form::List { group, offsets, end: 0, values })
        };
        let form = match field.data_type() {
            kind if is_text(kind) => Form::Text(None),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                one_list(&Arc::new(Field::new(layout::VALUES, DataType::UInt8, false)))?
            }
            DataType::List(item) | DataType::LargeList(item) => one_list(item)?,
            DataType::FixedSizeList(item, width) => match item_of(item.data_type()) {
                Some(number) if !item.is_nullable() && *width > 0 => {
                    let shape = shape(field, *width as u64);
                    Form::Plain(Chunked::create(group, &name, number, &shape, threads)?)
                }
                _ => one_list(item)?,
            },
            DataType::Struct(fields) => {
                let group = within()?;
                let fields = Nodes::create(&group, fields, threads)?;
                Form::Struct { group, fields }
            }
            DataType::Dictionary(_, value) => {
                let field = Arc::new(field.as_ref().clone().with_data_type(value.as_ref().clone()));
                return Self::create(group, name, &field, threads);
            }
            kind => match item_of(kind) {
                Some(item) => Form::Plain(Chunked::create(group, &name, item, &[], threads)?),
                None => {
                    return Err(format!(
                        "is of {kind}, which HDF5 lacks: cast it in a query, leave it out by --columns, or write Parquet"
                    ));
                }
            },
        };
        Ok(Self { name, field: field.clone(), group: group.clone(), form, valid: None, rows: 0, threads })
    }

    /// What the dataset is called that says which rows have a value.
    fn beside(&self, taken: impl Fn(&str) -> bool) -> String {
        let mut name = format!("{}.valid", self.name);
        while taken(&name) {
            name.push('_');
        }
        name
    }

    fn push(&mut self, column: &ArrayRef, beside: String) -> Result<(), String> {
        let column = match column.data_type() {
            DataType::Dictionary(_, value) => &cast(column, value).map_err(|error| error.to_string())?,
            DataType::Utf8View | DataType::LargeUtf8 => &cast(column, &DataType::Utf8).map_err(|error| error.to_string())?,
            DataType::BinaryView => &cast(column, &DataType::LargeBinary).map_err(|error| error.to_string())?,
            _ => column,
        };
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        match &mut self.form {
            Form::Plain(data) => data.push(&plain(column, nulls)?)?,
            Form::Text(data) => text(data, column, &self.group, &self.name, self.threads)?,
            Form::Struct { fields, .. } => fields.push(column.as_struct().columns())?,
            Form::List { offsets, end, values, .. } => {
                let (bounds, items) = items(column)?;
                let mut bytes = Vec::with_capacity(bounds.len() * 8);
                for bound in &bounds[1..] {
                    bytes.extend_from_slice(&(*end + bound).to_le_bytes());
                }
                *end += bounds.last().copied().unwrap_or_default();
                offsets.push(&bytes)?;
                values.push(&[items])?;
            }
        }
        if nulls.is_some() && self.valid.is_none() {
            let mut valid = Chunked::create(&self.group, &beside, Item::Bool, &[], self.threads)?;
            while valid.rows() < self.rows {
                valid.push(&vec![1; CATCH_UP_ROWS.min(self.rows - valid.rows()) as usize])?;
            }
            self.valid = Some((beside, valid));
        }
        if let Some((_, valid)) = &mut self.valid {
            let bits: Vec<u8> =
                (0..column.len()).map(|row| u8::from(nulls.is_none_or(|nulls| nulls.is_valid(row)))).collect();
            valid.push(&bits)?;
        }
        self.rows += column.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<(), String> {
        let Self { name, field, group, form, mut valid, threads, .. } = self;
        let mut about = Vec::new();
        if let Some((beside, data)) = &mut valid {
            data.finish()?;
            about.push((layout::VALID, beside.clone()));
        }
        if &name != field.name() {
            about.push((layout::NAME, field.name().clone()));
        }
        let object: hdf5_metno::Location = match form {
            Form::Plain(mut data) => {
                data.finish()?;
                about.extend(told(field.data_type()).map(|kind| (layout::ARROW_TYPE, kind)));
                hdf5_metno::Location::clone(data.dataset())
            }
            Form::Text(data) => {
                let mut data = match data {
                    Some(data) => data,
                    None => Chunked::create(&group, &name, Item::Text(TEXT_STEP), &[], threads)?,
                };
                data.finish()?;
                hdf5_metno::Location::clone(data.dataset())
            }
            Form::Struct { group, fields } => {
                fields.finish(&group)?;
                about.push((layout::ARROW_TYPE, "Struct".to_owned()));
                hdf5_metno::Location::clone(&group)
            }
            Form::List { group, mut offsets, values, .. } => {
                offsets.finish()?;
                values.finish(&group)?;
                let kind = match field.data_type() {
                    DataType::Binary => "Binary",
                    DataType::LargeBinary | DataType::BinaryView => "LargeBinary",
                    DataType::LargeList(_) => "LargeList",
                    _ => "List",
                };
                about.push((layout::ARROW_TYPE, kind.to_owned()));
                hdf5_metno::Location::clone(&group)
            }
        };
        for (key, text) in about {
            attribute(&object, key, &text)?;
        }
        let reserved = [layout::VALID, layout::NAME, layout::ARROW_TYPE, layout::COLUMNS];
        let mut metadata: Vec<_> = field.metadata().iter().filter(|(key, _)| !reserved.contains(&key.as_str())).collect();
        metadata.sort();
        metadata.into_iter().try_for_each(|(key, text)| attribute(&object, key, text))
    }
}

/// Whether a column is of text; a dictionary's values are looked at when it is unpacked.
fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// What a value becomes that takes one number of bytes.
fn item_of(kind: &DataType) -> Option<Item> {
    Some(match kind {
        DataType::Boolean => Item::Bool,
        DataType::Int8 => Item::Int(1, true),
        DataType::Int16 => Item::Int(2, true),
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) => Item::Int(4, true),
        DataType::Int64 | DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Duration(_) => {
            Item::Int(8, true)
        }
        DataType::UInt8 => Item::Int(1, false),
        DataType::UInt16 => Item::Int(2, false),
        DataType::UInt32 => Item::Int(4, false),
        DataType::UInt64 => Item::Int(8, false),
        DataType::Float16 => Item::Float(2),
        DataType::Float32 => Item::Float(4),
        DataType::Float64 => Item::Float(8),
        DataType::FixedSizeBinary(bytes) if *bytes > 0 => Item::Opaque(*bytes as usize),
        // Each is null, and a zero.
        DataType::Null => Item::Int(1, true),
        _ => return None,
    })
}

/// A type that HDF5 lacks, and that is written as another.
fn told(kind: &DataType) -> Option<String> {
    let kind = match kind {
        DataType::FixedSizeList(item, _) => item.data_type(),
        kind => kind,
    };
    (kind.is_temporal() || kind == &DataType::Null).then(|| kind.to_string())
}

/// The shape of a row of so many values.
fn shape(field: &Field, width: u64) -> Vec<u64> {
    let declared = meta::list::<u64>(field, meta::SHAPE).unwrap_or_default();
    let fits = !declared.is_empty() && declared.iter().try_fold(1_u64, |all, &side| all.checked_mul(side)) == Some(width);
    // The library has 32 axes.
    if fits && declared.len() < 32 { declared } else { vec![width] }
}

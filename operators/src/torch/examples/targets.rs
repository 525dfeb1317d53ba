//! Which columns of a table of images say what they show.

use arrow::datatypes::{DataType, SchemaRef};
use tessera_schemas::{clusters, column, meta, presence};

use super::layout::{Content, Fault};
use crate::names::Names;

/// Columns of classes that images are looked for, unless config names one.
const TARGETS: [&str; 2] = [clusters::CLUSTER, "label"];
const HELP: &str = "pseudo-labels: `label_join` images with what `assign` made; labels: number them in an `sql` stage";

/// The classes of images: how many there are, and the columns that say which of them an image shows. These are `target`, by default
/// `cluster`, `label`, or all columns that are marked as classes. How many classes a single column has its metadata says, or `count`.
///
/// # Errors
/// There are no such columns, or a key does not fit them.
pub fn classes(schema: &SchemaRef, target: Option<&Names>, count: Option<usize>) -> Result<(usize, Content), Fault> {
    let chosen = match target {
        Some(target) => target.clone(),
        None => match TARGETS.into_iter().find(|name| is_whole(schema, name)) {
            Some(name) => Names::One(name.to_owned()),
            None => Names::Several(presence::names(schema)),
        },
    };
    match chosen {
        Names::One(target) => one(schema, target, count),
        Names::Several(targets) => several(schema, targets, count),
    }
}

/// The classes are the numbers of a column.
fn one(schema: &SchemaRef, target: String, count: Option<usize>) -> Result<(usize, Content), Fault> {
    if !is_whole(schema, &target) {
        return Err(unfit(schema, &target));
    }
    let field = column::field(schema, &target).map_err(|error| Fault::table(error.to_string(), HELP))?;
    let count = count.or_else(|| meta::number(field, meta::CLASSES).ok()).ok_or_else(|| {
        let message = format!("has no key `classes`, and its input does not say how many there are in `{target}`");
        Fault::table(message, "classes = N, for classes 0 to N - 1")
    })?;
    Ok((count, Content::Images { target }))
}

/// Each column is a class.
fn several(schema: &SchemaRef, targets: Vec<String>, count: Option<usize>) -> Result<(usize, Content), Fault> {
    if targets.is_empty() {
        let columns = TARGETS.map(|name| format!("`{name}`")).join(" or ");
        let message = format!("its images have no classes: no whole numbers in {columns} ({})", known(schema));
        return Err(Fault::table(message, HELP));
    }
    if let Some(name) = targets.iter().find(|name| !is_whole(schema, name)) {
        return Err(unfit(schema, name));
    }
    if count.is_some() {
        let message = "is of one column, and each of several columns is a class";
        return Err(Fault::key("classes", message, "remove it, or let `target` name one column"));
    }
    Ok((targets.len(), Content::Presence { targets }))
}

fn unfit(schema: &SchemaRef, name: &str) -> Fault {
    let message = format!("`{name}` is no column of whole numbers of its input ({})", known(schema));
    Fault::key("target", message, HELP)
}

fn is_whole(schema: &SchemaRef, name: &str) -> bool {
    schema.field_with_name(name).is_ok_and(|field| whole(field.data_type()))
}

fn whole(kind: &DataType) -> bool {
    matches!(kind, DataType::Int32 | DataType::Int64)
}

/// The columns of whole numbers, as a message lists them.
fn known(schema: &SchemaRef) -> String {
    let fields = schema.fields().iter().filter(|field| whole(field.data_type()));
    let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    if names.is_empty() { "it has none".to_owned() } else { format!("there are: {}", names.join(", ")) }
}

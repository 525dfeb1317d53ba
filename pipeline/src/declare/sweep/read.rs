//! `[sweep]` as it is written: axes, and what is wrong with each alone.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Axis, Choice, plain};
use crate::declare::faults::Fault;
use crate::declare::file::Reader;

/// The axes of a `[sweep]` table, in the order of the text.
pub(crate) fn read(reader: &mut Reader, table: &DeTable<'_>) -> Vec<Axis> {
    let mut written: Vec<(String, Range<usize>, &Spanned<DeValue<'_>>)> = Vec::new();
    // `clusters = { k = [..] }` is `"clusters.k" = [..]`, and so on.
    let mut open: Vec<(String, &DeTable<'_>)> = vec![(String::new(), table)];
    while let Some((before, table)) = open.pop() {
        for (key, value) in table {
            let path = format!("{before}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(keys) => open.push((format!("{path}."), keys)),
                _ => written.push((path, key.span(), value)),
            }
        }
    }
    written.sort_by_key(|(_, span, _)| span.start);
    let mut axes: Vec<Axis> = Vec::new();
    for (path, span, value) in written {
        match axis(reader, &path, span, value) {
            Some(axis) if axes.iter().any(|other| other.path == axis.path) => {
                reader.fault(axis.span, format!("`{}` is swept twice", axis.path));
            }
            axis => axes.extend(axis),
        }
    }
    axes
}

/// `--set sweep.stage.key=[…]`: an axis in place of the file's, or one more.
pub(crate) fn set(reader: &mut Reader, axes: &mut Vec<Axis>, path: &str, value: &Spanned<DeValue<'_>>) {
    let Some(axis) = axis(reader, path, 0..0, value) else { return };
    replace(axes, Axis { set: Some(format!("sweep.{path}")), ..axis });
}

/// `--set stage.key=value` of a key that is swept: its axis has this one value.
pub(crate) fn fix(reader: &mut Reader, axes: &mut Vec<Axis>, path: &str, value: &Spanned<DeValue<'_>>) {
    let key = path.split_once('.').map_or("", |(_, key)| key);
    let choice = choice(reader, key, value);
    replace(
        axes,
        Axis { path: path.to_owned(), span: 0..0, name: String::new(), values: vec![choice], set: Some(path.to_owned()) },
    );
}

fn replace(axes: &mut Vec<Axis>, axis: Axis) {
    // Spans of the command line's text mean nothing in the file.
    let places = |choice: Choice| Choice { places: BTreeMap::new(), ..choice };
    let axis = Axis { values: axis.values.into_iter().map(places).collect(), ..axis };
    match axes.iter_mut().find(|other| other.path == axis.path) {
        Some(other) => *other = axis,
        None => axes.push(axis),
    }
}

fn axis(reader: &mut Reader, path: &str, span: Range<usize>, value: &Spanned<DeValue<'_>>) -> Option<Axis> {
    const SHAPE: &str = "for example: \"clusters.k\" = [500, 1000, 2000]";
    let Some((_, key)) = path.split_once('.').filter(|(stage, key)| !stage.is_empty() && !key.is_empty()) else {
        let message = format!("`{path}` names no key of a stage");
        reader.faults.push(
            Fault::new(span, message).help(format!("a sweep lists values for keys of stages: write stage and key, {SHAPE}")),
        );
        return None;
    };
    let DeValue::Array(items) = value.get_ref() else {
        let message = format!("`{path}` should be a list of values, found {}", value.get_ref().type_str());
        reader.faults.push(Fault::new(value.span(), message).help(SHAPE));
        return None;
    };
    if items.is_empty() {
        reader.faults.push(Fault::new(value.span(), format!("`{path}` is swept over no value")).help(SHAPE));
        return None;
    }
    if items.len() > super::STAGES {
        let message =
            format!("`{path}` is swept over {} values, and a sweep makes at most {} stages", items.len(), super::STAGES);
        reader.fault(span, message);
        return None;
    }
    let (mut values, mut names): (Vec<Choice>, HashSet<String>) = (Vec::new(), HashSet::new());
    for item in items.iter() {
        let choice = choice(reader, key, item);
        if !names.insert(choice.name.clone()) {
            reader.fault(item.span(), format!("`{path}` is swept over {} twice", choice.value));
        } else {
            values.push(choice);
        }
    }
    Some(Axis { path: path.to_owned(), span, name: String::new(), values, set: None })
}

fn choice(reader: &mut Reader, key: &str, value: &Spanned<DeValue<'_>>) -> Choice {
    let mut places = BTreeMap::new();
    let value = reader.value(value, key, &mut places);
    Choice { name: plain(&value), value, places }
}

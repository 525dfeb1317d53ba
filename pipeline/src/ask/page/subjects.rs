//! What a figure can be about: tables and measured stages, found by the columns that their manifests say and by what was measured.

use std::collections::BTreeSet;

use anyhow::Result;
use arrow::datatypes::{DataType, SchemaRef};
use serde_json::Value;
use tessera_schemas::IMAGE_ID;

use super::answer::{Answer, literal, name};
use crate::ask::show::pictures;
use crate::ask::sql::cells::is_made;
use crate::engine::catalog::Catalog;

/// What a figure needs.
#[derive(Debug, Clone, Copy)]
pub enum Needs {
    /// The system tables alone.
    System,
    /// A table with these columns.
    Columns(&'static [(&'static str, Kind)]),
    /// A table with these columns, and classes of its images: a column of texts of its own, or the column `label` of the data set.
    Classes(&'static [(&'static str, Kind)]),
    /// A stage, or the cells of a swept one, whose table has these columns.
    Family(&'static [(&'static str, Kind)]),
    /// A stage that measured something again and again.
    Series,
    /// A stage that was swept over more than seeds, and measured something.
    Sweep,
}

/// Types of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Whole numbers.
    Whole,
    /// Numbers.
    Number,
    /// Truth values.
    Truth,
    /// Any.
    Any,
}

impl Kind {
    fn holds(self, kind: &DataType) -> bool {
        match self {
            Self::Text => is_text(kind),
            Self::Whole => kind.is_integer(),
            Self::Number => kind.is_numeric(),
            Self::Truth => *kind == DataType::Boolean,
            Self::Any => true,
        }
    }
}

/// Whether values are texts.
pub fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_text(values),
        kind => matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}

/// What one figure is about.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The table or stage, if it is about one.
    pub stage: String,
    /// The table's place in the plan, if it is about one table.
    pub node: Option<usize>,
    /// The query of its images' clusters and classes, and what gives the classes: `stage.column`.
    pub classes: Option<(String, String)>,
    /// Whether distances to the second centre are known.
    pub has_second: bool,
    /// Names of the axes that it is swept over, but those of seeds.
    pub axes: Vec<String>,
    /// Its cells and their values on those axes.
    pub cells: Vec<(String, Vec<Value>)>,
    /// Whether so much was measured that each epoch is drawn as one point.
    pub coarse: bool,
}

impl Subject {
    /// The table's name in a query.
    pub fn table(&self) -> String {
        name(&self.stage)
    }
}

/// Values of a metric that are drawn one by one; of more, each epoch's mean.
const POINTS: f64 = 400.0;
/// Columns of texts that are tried as classes.
const CLASSES: usize = 3;
/// Columns of texts that are no classes.
const NO_CLASSES: [&str; 4] = [IMAGE_ID, "digest", "path", "source"];

/// How often each stage measured something, from the metrics.
///
/// # Errors
/// The metrics are damaged.
pub async fn measured(catalog: &std::sync::Arc<Catalog>) -> Result<Answer> {
    let query = "SELECT split_part(stage, '@', 1) AS stage, name, count(DISTINCT step) AS steps, count(*) AS told
FROM metrics GROUP BY split_part(stage, '@', 1), name";
    Answer::of(catalog, query.to_owned()).await
}

/// All that a figure could be about, of the stages that are asked for: `asked` empty means all.
///
/// # Errors
/// The metrics have no names.
pub fn find(catalog: &Catalog, needs: Needs, measured: &Answer, asked: &BTreeSet<usize>) -> Result<Vec<Subject>> {
    let wanted = |node: usize| asked.is_empty() || asked.contains(&node);
    let tables = || (0..catalog.plan.graph.nodes.len()).filter(|&node| wanted(node) && is_table(catalog, node));
    Ok(match needs {
        Needs::System => vec![Subject::default()],
        Needs::Columns(columns) => {
            let fits = |&node: &usize| has(&catalog.schema(node), columns);
            // Who names a table gets it.
            let shown = |node: &usize| !asked.is_empty() || !is_elsewhere(catalog, *node, columns);
            tables().filter(fits).filter(shown).map(|node| of_table(catalog, node)).collect()
        }
        Needs::Classes(columns) => {
            let fits = |&node: &usize| has(&catalog.schema(node), columns);
            tables().filter(fits).flat_map(|node| of_classes(catalog, node, columns)).collect()
        }
        Needs::Family(columns) => families(catalog, asked, |cells| {
            cells.iter().any(|&cell| is_table(catalog, cell) && has(&catalog.schema(cell), columns))
        }),
        Needs::Series | Needs::Sweep => {
            let (stages, steps, told) = (measured.texts("stage")?, measured.numbers("steps")?, measured.numbers("told")?);
            let rows = |stage: &str| (0..measured.len()).filter(|&row| stages.value(row) == stage).collect::<Vec<_>>();
            let mut found = families(catalog, asked, |_| true);
            found.retain(|subject| {
                let series = |row: usize| steps.value(row) > 1.0;
                match needs {
                    Needs::Series => rows(&subject.stage).into_iter().any(series),
                    _ => !subject.axes.is_empty() && !rows(&subject.stage).is_empty(),
                }
            });
            for subject in &mut found {
                let cells = subject.cells.len().max(1) as f64;
                subject.coarse = rows(&subject.stage).into_iter().any(|row| told.value(row) / cells > POINTS);
            }
            found
        }
    })
}

/// Whether a stage has a table of its own that can be read.
fn is_table(catalog: &Catalog, node: usize) -> bool {
    !catalog.plan.graph.nodes[node].view && is_made(catalog, node)
}

fn has(schema: &SchemaRef, columns: &[(&str, Kind)]) -> bool {
    columns.iter().all(|(name, kind)| schema.field_with_name(name).is_ok_and(|field| kind.holds(field.data_type())))
}

/// Whether another table has a table's columns, and is shown in its place.
fn is_elsewhere(catalog: &Catalog, node: usize, columns: &[(&str, Kind)]) -> bool {
    is_handed_on(catalog, node, columns) || hands_on(catalog, node, columns)
}

/// Whether a table has the columns from one that it reads, which can show images if it can itself.
fn hands_on(catalog: &Catalog, node: usize, columns: &[(&str, Kind)]) -> bool {
    let has_images = |node: usize| pictures(catalog, node).is_ok();
    let from = |from: usize| is_table(catalog, from) && has(&catalog.schema(from), columns);
    let edges = &catalog.plan.graph.nodes[node].edges;
    edges.iter().any(|edge| from(edge.from) && (has_images(edge.from) || !has_images(node)))
}

/// Whether a table that can show no images is read by one that has its columns and can.
fn is_handed_on(catalog: &Catalog, node: usize, columns: &[(&str, Kind)]) -> bool {
    let nodes = &catalog.plan.graph.nodes;
    let reads = |other: usize| nodes[other].edges.iter().any(|edge| edge.from == node);
    let fits = |other: usize| is_table(catalog, other) && has(&catalog.schema(other), columns);
    let shows = |other: usize| reads(other) && fits(other) && pictures(catalog, other).is_ok();
    pictures(catalog, node).is_err() && (0..nodes.len()).any(shows)
}

fn of_table(catalog: &Catalog, node: usize) -> Subject {
    let stage = catalog.name(node).to_owned();
    let has_second = has(&catalog.schema(node), &[("second_distance", Kind::Number)]);
    Subject { stage, node: Some(node), has_second, classes: classes(catalog, node).into_iter().next(), ..Subject::default() }
}

/// A table once for each way in which its images have classes; the data set's labels go with the table that has the clusters first.
fn of_classes(catalog: &Catalog, node: usize, columns: &[(&str, Kind)]) -> Vec<Subject> {
    if is_handed_on(catalog, node, columns) {
        return Vec::new();
    }
    let (hands_on, own) = (hands_on(catalog, node, columns), own_classes(catalog, node).len());
    let found = classes(catalog, node).into_iter().enumerate().filter(|(at, _)| !hands_on || *at < own);
    found.map(|(_, classes)| Subject { classes: Some(classes), ..of_table(catalog, node) }).collect()
}

/// Columns of texts that may be classes of a table's own rows.
fn own_classes(catalog: &Catalog, node: usize) -> Vec<String> {
    let schema = catalog.schema(node);
    let fits =
        schema.fields().iter().filter(|field| is_text(field.data_type()) && !NO_CLASSES.contains(&field.name().as_str()));
    fits.map(|field| field.name().clone()).take(CLASSES).collect()
}

/// Queries of clusters and classes of a table's images, and what gives the classes.
fn classes(catalog: &Catalog, node: usize) -> Vec<(String, String)> {
    let stage = catalog.name(node);
    let own = own_classes(catalog, node).into_iter().map(|column| {
        let query = format!("SELECT cluster, {0} AS label FROM {1} WHERE {0} IS NOT NULL", name(&column), name(stage));
        (query, format!("{stage}.{column}"))
    });
    let mut found: Vec<(String, String)> = own.collect();
    let needed = [(IMAGE_ID, Kind::Text), ("label", Kind::Text)];
    let upstream = catalog.plan.graph.upstream(&[node]);
    let labelled = upstream.into_iter().rev().filter(|&other| other != node && is_table(catalog, other));
    let labelled = labelled.filter(|&other| has(&catalog.schema(other), &needed)).max_by_key(|&other| {
        // The data set itself, where there is one.
        catalog.plan.graph.nodes[other].edges.is_empty()
    });
    if let Some(other) = labelled {
        let other = catalog.name(other);
        let query = format!(
            "SELECT a.cluster, l.label FROM {} a JOIN {} l USING (image_id) WHERE l.label IS NOT NULL",
            name(stage),
            name(other)
        );
        found.push((query, format!("{other}.label")));
    }
    found
}

/// The stages as the file names them, each with its cells.
fn families(catalog: &Catalog, asked: &BTreeSet<usize>, fits: impl Fn(&[usize]) -> bool) -> Vec<Subject> {
    let graph = &catalog.plan.graph;
    let one = |(stage, cells): (&str, Vec<usize>)| {
        let cells: Vec<usize> = cells.into_iter().filter(|cell| asked.is_empty() || asked.contains(cell)).collect();
        let first = graph.declaration(*cells.first()?);
        if !fits(&cells) {
            return None;
        }
        let schema = catalog.schema(cells[0]);
        let axes = first.cell.iter().filter(|coordinate| !coordinate.is_seed);
        let axes = axes.map(|coordinate| match schema.column_with_name(&coordinate.name) {
            // As the table of all cells calls it.
            Some(_) => graph.file.axes[coordinate.axis].path.clone(),
            None => coordinate.name.clone(),
        });
        let values = |&cell: &usize| {
            let values = graph.declaration(cell).cell.iter().filter(|coordinate| !coordinate.is_seed);
            (catalog.name(cell).to_owned(), values.map(|coordinate| coordinate.value.clone()).collect())
        };
        let cells = cells.iter().map(values).collect();
        Some(Subject { stage: stage.to_owned(), axes: axes.collect(), cells, ..Subject::default() })
    };
    graph.families().into_iter().filter_map(one).collect()
}

/// A value of an axis in a query.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => literal(text),
        other => literal(&other.to_string()),
    }
}

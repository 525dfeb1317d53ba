//! `names`: what images show, by the names that people gave their clusters.
//!
//! Input: `clusters`, as `kmeans` makes them, and `assigned`, each image's cluster. Output: a row for each image that has a label, in the
//! order of `assigned`. Config: `path`, a file with one line a decision ([`names`](tessera_datasets::names)), which `tessera serve --edit`
//! writes; without such a file, or with an empty one, nothing is named yet, and the table is empty.
//!
//! A decision names the clusters that were looked at by a fingerprint of their numbers and centroids, which this stage computes of its
//! own input: no other stage has to be known, and clusters found again from the same images have the same. A decision about these very
//! clusters is `given`. Of decisions about others, the images that were seen vote in the clusters that they are in now, each by its newest
//! decision: three votes or more, of which two thirds agree, and the name is `carried`. Lines about one `image` come before its cluster's
//! name. Clusters that are to be split, or are marked as mixed, have no label. Names that differ in the case of letters alone are one
//! label, as most lines write it.
//!
//! The lines are in the stage's key, one by one: a changed name makes this table anew, and what reads it. Exact. Metrics: `images` (with a
//! label), `clusters_given`, `clusters_carried`, `clusters_mixed`, and `share`, of images that have a label.

use std::collections::HashMap;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_datasets::names::votes::{self, Known};
use tessera_datasets::names::{Action, Subject};
use tessera_schemas::named::{self, How, Label};
use tessera_schemas::{IMAGE_ID, clusters, column, ids, int32, meta, text};

use super::decisions::{self, Decisions};
use crate::operator::{
    BindError, BindErrors, Binding, Column, ColumnKind, Context, Operator, Order, Port, RunError, Sink, Tables, Whole,
    read_all,
};

const CLUSTERS: &str = "clusters";
const ASSIGNED: &str = "assigned";

/// Keys of a `names` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file of names, which need not be there yet. Its lines are part of the key.
    #[serde(default = "decisions::usual")]
    path: PathBuf,
}

/// The bound operator.
pub struct NamesOf {
    decisions: Decisions,
    schema: SchemaRef,
}

impl Operator for NamesOf {
    const NAME: &'static str = "names";
    const SUMMARY: &'static str = "labels of images, by the names that people gave their clusters";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", "each image that has a label"),
        ("label", "the name of its cluster, or its own"),
        (
            "how",
            "`given`: by a name of this very cluster; `carried`: by a name that images of this cluster had in an earlier clustering; \
             `image`: by a line about the image",
        ),
        ("cluster", "its cluster"),
        ("certainty", "the share of votes by which a name was carried; else 1"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.named]
op = "names"
inputs = { clusters = "clusters", assigned = "assigned" }
path = "names.csv"
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::side(
            CLUSTERS,
            &[Column::new(clusters::CLUSTER, ColumnKind::Integer), Column::new(clusters::CENTROID, ColumnKind::Vector)],
        ),
        Port::scan(
            ASSIGNED,
            &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(clusters::CLUSTER, ColumnKind::Integer)],
        ),
    ];
    // What the file says is in the key; where it lies is not.
    const NEUTRAL: &'static [&'static str] = &["path"];
    const DECISIONS: Option<(&'static str, &'static str)> = Some(("path", decisions::USUAL));
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        let number = column::field(inputs.inputs.required(CLUSTERS), clusters::CLUSTER);
        let k = number.and_then(|field| meta::number(field, meta::CLASSES));
        let k = errors.keep(k.map_err(|error| BindError::input(CLUSTERS, error.to_string())));
        let decisions = errors.keep(Decisions::new(&config.path, inputs));
        errors.or(k.zip(decisions).map(|(k, decisions)| Self { decisions, schema: named::schema(k) }))
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn content(&self) -> Result<Vec<String>, RunError> {
        self.decisions.content(|_| true)
    }

    fn notes(&self) -> Result<Vec<String>, RunError> {
        self.decisions.names().map(|_| Vec::new())
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(self))
    }
}

/// What is known of clusters and images, in the words of the table.
struct Labels {
    clusters: HashMap<i32, (String, How, f32)>,
    images: HashMap<String, String>,
}

impl Whole for NamesOf {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let centres = tables.scan(CLUSTERS, Order::Stored)?.collect::<Result<Vec<_>, _>>()?;
        let (sorted, key) = decisions::keyed(&centres)?;
        self.decisions.check(&key, &sorted)?;
        let names = self.decisions.names()?;
        let voters = votes::voters(names, &key);
        let mut places = HashMap::new();
        if !voters.is_empty() {
            each_image(tables, sink, "looking for images that were seen", |id, cluster| {
                let id = ids::canonical(id);
                if voters.contains(&*id) {
                    places.insert(id.into_owned(), cluster);
                }
            })?;
        }
        let known = votes::known(names, &key, &places);
        let count = |sink: &mut dyn Sink, name: &str, is: &dyn Fn(&Known) -> bool| {
            sink.metric(0, 0, name, known.values().filter(|known| is(known)).count() as f64);
        };
        count(sink, "clusters_given", &|known| matches!(known, Known::Given(Action::Name(_))));
        count(sink, "clusters_carried", &|known| matches!(known, Known::Carried(Action::Name(_), _)));
        count(sink, "clusters_mixed", &|known| matches!(known.action(), Some(Action::Mixed)));
        let spellings = names.spellings();
        let of_image = names.all().iter().filter_map(|decision| match (&decision.subject, &decision.action) {
            (Subject::Image(id), Action::Name(name)) => {
                Some((ids::canonical(id).into_owned(), spellings.get(&name.fold())?.clone()))
            }
            _ => None,
        });
        let labels = Labels {
            clusters: known.iter().filter_map(|(number, known)| label(*number, known)).collect(),
            images: of_image.collect(),
        };
        let (mut images, mut all) = (0, 0);
        read_all(tables, ASSIGNED, sink, "naming images", |batch, sink| {
            let batch = labels.of(batch, &self.schema)?;
            images += batch.1.num_rows();
            all += batch.0;
            if batch.1.num_rows() > 0 { sink.write(batch.1) } else { Ok(()) }
        })?;
        sink.metric(0, 0, "images", images as f64);
        sink.metric(0, 0, "share", if all == 0 { 0.0 } else { images as f64 / all as f64 });
        Ok(())
    }
}

/// The label of a cluster, if it has a name.
fn label(number: i32, known: &Known) -> Option<(i32, (String, How, f32))> {
    let how = if matches!(known, Known::Given(_)) { How::Given } else { How::Carried };
    match known.action() {
        Some(Action::Name(name)) => Some((number, (name.as_str().to_owned(), how, known.certainty()))),
        _ => None,
    }
}

impl Labels {
    /// How many images a batch has, and the labels of those that have one.
    fn of(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<(usize, RecordBatch), RunError> {
        let mut found = Vec::new();
        let (ids, numbers) = columns(batch)?;
        for (image_id, &cluster) in ids.iter().zip(numbers) {
            let own = if self.images.is_empty() { None } else { self.images.get(&*ids::canonical(image_id)) };
            let (label, how, certainty) = match (own, self.clusters.get(&cluster)) {
                (Some(own), _) => (own, How::Image, 1.0),
                (None, Some((name, how, certainty))) => (name, *how, *certainty),
                (None, None) => continue,
            };
            found.push(Label { image_id, label, how, cluster, certainty });
        }
        Ok((batch.num_rows(), named::batch(schema, &found)?))
    }
}

/// The ids and clusters of a batch of `assigned`.
pub fn columns(batch: &RecordBatch) -> Result<(Vec<&str>, &[i32]), RunError> {
    let ids = column::without_nulls(text(batch, IMAGE_ID)?, IMAGE_ID)?;
    let numbers = column::without_nulls(int32(batch, clusters::CLUSTER)?, clusters::CLUSTER)?;
    Ok((ids.iter().flatten().collect(), numbers.values()))
}

/// Looks at each image of `assigned`, and its cluster.
pub fn each_image(
    tables: &dyn Tables,
    sink: &mut dyn Sink,
    note: &str,
    mut look: impl FnMut(&str, i32),
) -> Result<(), RunError> {
    read_all(tables, ASSIGNED, sink, note, |batch, _| {
        let (ids, numbers) = columns(batch)?;
        ids.iter().zip(numbers).for_each(|(id, cluster)| look(id, *cluster));
        Ok(())
    })
}

#[cfg(test)]
mod tests;

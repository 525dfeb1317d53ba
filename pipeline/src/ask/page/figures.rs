//! The table of figures: what each shows, the columns that it needs, the queries that give its numbers, and how it is drawn.
//!
//! A figure is there for each table or stage that has what it needs. Whoever shows figures asks the queries and hands the answers to
//! [`Figure::draw`]: no number comes from anywhere else.

pub mod clusters;
mod measured;
mod pipeline;
mod probes;
mod weights;

use anyhow::Result;
use maud::Markup;

use super::answer::Answer;
use super::sprites::Sprites;
use super::subjects::{Kind, Needs, Subject};
use crate::engine::catalog::Catalog;

/// A kind of figure.
pub struct Figure {
    /// Its name in addresses.
    pub id: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// How it is read.
    pub about: &'static str,
    /// What must be there.
    pub needs: Needs,
    /// Its queries about something.
    pub sql: fn(&Subject) -> Vec<String>,
    /// Draws their answers; nothing where there is nothing to see.
    pub draw: fn(&Shown<'_>) -> Result<Option<Markup>>,
    /// The answers that the drawing has all of, so that they need not be listed below it.
    pub told: &'static [usize],
    /// Of which answer images are shown, if any: it has `cluster` and `image_id`.
    pub images: Option<usize>,
}

/// What is drawn.
pub struct Shown<'a> {
    /// What it is about.
    pub subject: &'a Subject,
    /// The answers to the figure's queries.
    pub answers: &'a [Answer],
    /// The images that it shows, if they can be had.
    pub sprites: Option<&'a Sprites>,
    /// The stages, for the arrows between them.
    pub catalog: &'a Catalog,
    /// What a run would do about stages, and why.
    pub states: &'a [State],
}

/// What a run would do about a stage.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The stage.
    pub stage: String,
    /// What: `run`, `update`, `reuse` or `view`.
    pub action: String,
    /// Why.
    pub reasons: Vec<String>,
}

const CLUSTERED: [(&str, Kind); 2] = [("image_id", Kind::Text), ("cluster", Kind::Whole)];
const ASSIGNED: [(&str, Kind); 3] = [("image_id", Kind::Text), ("cluster", Kind::Whole), ("distance", Kind::Number)];
const PROBED: [(&str, Kind); 6] = [
    ("layer", Kind::Text),
    ("metric", Kind::Text),
    ("class", Kind::Text),
    ("value", Kind::Number),
    ("split", Kind::Text),
    ("chosen", Kind::Truth),
];
const WEIGHTS: [(&str, Kind); 4] =
    [("tensor", Kind::Text), ("shape", Kind::Any), ("dtype", Kind::Text), ("data", Kind::Any)];

/// All figures, in the order of a page.
pub static FIGURES: [Figure; 12] = [
    Figure {
        id: "stages",
        title: "Stages",
        about: "Each stage stands below those that it reads. A view is computed whenever it is read, and has no rows of its own.",
        needs: Needs::System,
        sql: pipeline::stages_sql,
        draw: pipeline::stages,
        told: &[],
        images: None,
    },
    Figure {
        id: "gallery",
        title: "Clusters",
        about: "Of each cluster its images nearest to the centre; and of the others two at the border to another cluster, two at random, and \
                the two farthest from the centre.",
        needs: Needs::Columns(&ASSIGNED),
        sql: clusters::gallery_sql,
        draw: super::gallery::draw,
        told: &[0, 1, 2],
        images: Some(1),
    },
    Figure {
        id: "sizes",
        title: "Sizes of clusters",
        about: "How many images each cluster has, the largest first.",
        needs: Needs::Columns(&CLUSTERED),
        sql: clusters::sizes_sql,
        draw: clusters::sizes,
        told: &[],
        images: None,
    },
    Figure {
        id: "classes",
        title: "Clusters against classes",
        about: "How many images of each class a cluster has; a cell's shade is its share of the cluster. The 60 largest clusters and the 30 \
                most frequent classes are shown; the measures of agreement are of all.",
        needs: Needs::Classes(&CLUSTERED),
        sql: clusters::classes_sql,
        draw: clusters::classes,
        told: &[],
        images: None,
    },
    Figure {
        id: "curves",
        title: "Curves",
        about: "What a stage measured while it was made.",
        needs: Needs::Series,
        sql: measured::curves_sql,
        draw: measured::curves,
        told: &[],
        images: None,
    },
    Figure {
        id: "sweep",
        title: "Sweeps",
        about: "The last value of each metric against what was swept: mean and sample deviation over the seeds.",
        needs: Needs::Sweep,
        sql: measured::sweep_sql,
        draw: measured::sweep,
        told: &[],
        images: None,
    },
    Figure {
        id: "probe",
        title: "Linear probes by layer",
        about: "How well a linear classifier tells the test images apart by a layer's features. Dashed: the paper's AlexNets on ImageNet's 1,000 \
                classes (top-1), for the shape over the layers and not for the height.",
        needs: Needs::Family(&PROBED),
        sql: probes::layers_sql,
        draw: probes::layers,
        told: &[],
        images: None,
    },
    Figure {
        id: "precision",
        title: "Average precision by class",
        about: "PASCAL VOC 2007's average precision of each class on the test images, with the features of the layer that is best on the mean of \
                all classes.",
        needs: Needs::Columns(&PROBED),
        sql: probes::precision_sql,
        draw: probes::precision,
        told: &[],
        images: None,
    },
    Figure {
        id: "filters",
        title: "First filters",
        about: "What the first layer looks for in an image: each filter in the colours that it adds up, gray where it is zero.",
        needs: Needs::Columns(&WEIGHTS),
        sql: weights::filters_sql,
        draw: weights::filters,
        told: &[],
        images: None,
    },
    Figure {
        id: "dropped",
        title: "Images that were left out",
        about: "Files that a stage could not handle, by its reasons.",
        needs: Needs::System,
        sql: pipeline::dropped_sql,
        draw: pipeline::dropped,
        told: &[],
        images: None,
    },
    Figure {
        id: "time",
        title: "Where the time went",
        about: "Seconds that the making of each stage's current table took; views are computed in the stages that read them.",
        needs: Needs::System,
        sql: pipeline::time_sql,
        draw: pipeline::time,
        told: &[],
        images: None,
    },
    Figure {
        id: "runs",
        title: "Runs",
        about: "The latest runs, the newest first, and how many stages each made, brought up to date or took as they were.",
        needs: Needs::System,
        sql: pipeline::runs_sql,
        draw: pipeline::runs,
        told: &[],
        images: None,
    },
];

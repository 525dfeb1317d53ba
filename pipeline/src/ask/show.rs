//! Pictures of a table's rows, so that a person can check them.
//!
//! What a table shows is decided by its columns: puzzles beside the images that they were cut from, tiles of other images framed; pixels
//! as a contact sheet, of images all over the table; assignments as a row of images a cluster, the nearest to its centre first, its number
//! in front; weights as the filters of their first layer. It goes in steps: which rows ([`rows`]), how large a picture they make
//! ([`sheet`]), which is refused before anything large is read, their pictures ([`gallery`]), and the drawing ([`draw`]).

pub mod canvas;
mod draw;
pub mod filters;
mod gallery;
pub mod picture;
mod rows;
mod sheet;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::datatypes::SchemaRef;
use tessera_schemas::clusters::CLUSTER;
use tessera_schemas::{IMAGE_ID, pixels, puzzles, weights};

use crate::engine::catalog::Catalog;
use crate::store::DroppedRow;
use canvas::Canvas;
use draw::Grid;
use gallery::{Gallery, Wanted};
use sheet::Sheet;

pub use gallery::{each, read_pictures};

/// Images that are shown unless another number is asked for; of a cluster, of each one.
const FEW: usize = 9;

/// A picture, and what is where on it.
pub struct Shown {
    /// The picture.
    pub canvas: Canvas,
    /// Its images, row by row.
    pub legend: Vec<Entry>,
    /// Images that views could not handle, and left out.
    pub dropped: Vec<DroppedRow>,
    /// What else is to be said.
    pub note: Option<String>,
}

/// One image of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place, from 0.
    pub row: usize,
    /// Its place in the row, from 0.
    pub column: usize,
    /// Which image.
    pub image_id: String,
    /// Of puzzles: the permutation; of assignments: the cluster.
    pub number: Option<i64>,
    /// Of assignments: the distance to the centre.
    pub distance: Option<f64>,
}

/// What is to be drawn.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// How many images; of assignments, of each cluster; of weights, filters.
    pub count: Option<usize>,
    /// Of assignments: these clusters, and not the largest.
    pub clusters: &'a [i32],
    /// The most pixels a side that the picture's format allows.
    pub most_side: Option<usize>,
}

/// What kinds of tables can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Puzzles,
    Pixels,
    Clusters,
    Weights,
}

impl Kind {
    fn of(schema: &SchemaRef) -> Option<Self> {
        let has = |name: &str| schema.field_with_name(name).is_ok();
        if puzzles::layout(schema).is_ok() {
            Some(Self::Puzzles)
        } else if pixels::size(schema).is_ok() && has(IMAGE_ID) {
            Some(Self::Pixels)
        } else if has(IMAGE_ID) && has(CLUSTER) && has("distance") {
            Some(Self::Clusters)
        } else if weights::network(schema).is_ok() && has("shape") && has("data") {
            Some(Self::Weights)
        } else {
            None
        }
    }
}

/// Draws images of a stage's table; of assignments, images of each cluster; of weights, filters.
///
/// # Errors
/// The table has nothing to look at, the picture would be too large, a stage has no snapshot, or fails.
pub async fn show(catalog: &Arc<Catalog>, node: usize, ask: &Ask<'_>) -> Result<Shown> {
    let kind = Kind::of(&catalog.schema(node));
    if !ask.clusters.is_empty() && kind != Some(Kind::Clusters) {
        bail!("stage `{}` has no clusters to choose from: --clusters is for assignments", catalog.name(node));
    }
    match kind {
        Some(Kind::Weights) => {
            let all = ask.count.unwrap_or(usize::MAX);
            filters::draw(&catalog.collect(node, None).await?, all, catalog.name(node))
        }
        Some(Kind::Puzzles) => show_puzzles(catalog, node, ask).await,
        Some(Kind::Pixels) => show_pixels(catalog, node, ask).await,
        Some(Kind::Clusters) => show_clusters(catalog, node, ask).await,
        None => {
            let fits: Vec<&str> = (0..catalog.plan.stages.len())
                .filter(|&other| Kind::of(&catalog.schema(other)).is_some())
                .map(|other| catalog.name(other))
                .collect();
            let fits = if fits.is_empty() { "none here are".to_owned() } else { format!("here: {}", fits.join(", ")) };
            bail!(
                "the table of stage `{}` cannot be drawn: puzzles, pixels, assignments and weights can; {fits}",
                catalog.name(node)
            )
        }
    }
}

/// Whether a stage's table has something to look at.
pub fn is_shown(catalog: &Catalog, node: usize) -> bool {
    match Kind::of(&catalog.schema(node)) {
        Some(Kind::Puzzles | Kind::Clusters) => pictures(catalog, node).is_ok(),
        kind => kind.is_some(),
    }
}

/// The nearest stage of pixels that a stage depends on.
///
/// # Errors
/// It depends on none.
pub fn pictures(catalog: &Catalog, node: usize) -> Result<usize> {
    let upstream = catalog.plan.graph.upstream(&[node]);
    // Stages stand behind those that they read: the last one is the nearest.
    let found = upstream.into_iter().rev().find(|&other| Kind::of(&catalog.schema(other)) == Some(Kind::Pixels));
    found.with_context(|| {
        format!("stage `{}` comes from no stage of pixels, so there are no images to draw", catalog.name(node))
    })
}

/// How many images are shown of a table at most: no more than it has rows, where that is known before it is read.
async fn shown(catalog: &Arc<Catalog>, node: usize, ask: &Ask<'_>) -> Result<usize> {
    let wanted = ask.count.unwrap_or(FEW);
    if catalog.multiplies(node).await? {
        return Ok(wanted);
    }
    let rows = catalog.manifest(catalog.chain(node).0)?.rows();
    Ok(wanted.min(usize::try_from(rows).unwrap_or(usize::MAX)))
}

async fn show_pixels(catalog: &Arc<Catalog>, node: usize, ask: &Ask<'_>) -> Result<Shown> {
    let (count, size) = (shown(catalog, node, ask).await?, pixels::size(&catalog.schema(node))?);
    Sheet::square(count, size).check(ask.most_side)?;
    let chosen = rows::all_over(catalog, catalog.chain(node).0, count).await?;
    let multiplies = catalog.multiplies(node).await?;
    let wanted = Wanted {
        leads: &|id| chosen.contains(id),
        is_wanted: &|id| multiplies || chosen.contains(id),
        most: if multiplies { usize::MAX } else { chosen.len() },
    };
    let gallery = Gallery::read(catalog, node, &wanted).await?;
    let (canvas, legend) = draw::pixels(&gallery, count);
    Ok(Shown { canvas, legend, dropped: gallery.dropped, note: None })
}

async fn show_puzzles(catalog: &Arc<Catalog>, node: usize, ask: &Ask<'_>) -> Result<Shown> {
    let (layout, pictures) = (puzzles::layout(&catalog.schema(node))?, pictures(catalog, node)?);
    let (count, grid) = (shown(catalog, node, ask).await?, Grid { grid: layout.grid, tile: layout.tile });
    Sheet::square(count, grid.cell(pixels::size(&catalog.schema(pictures))?)).check(ask.most_side)?;
    let (puzzles, mut dropped) = rows::first_puzzles(catalog, node, count).await?;
    let ids = puzzles.iter().map(|puzzle| puzzle.image_id.clone()).collect();
    let gallery = Gallery::of(catalog, pictures, &ids).await?;
    let (canvas, legend) = draw::puzzles(&puzzles, grid, &gallery);
    dropped.extend(gallery.dropped);
    Ok(Shown { canvas, legend, dropped, note: None })
}

async fn show_clusters(catalog: &Arc<Catalog>, node: usize, ask: &Ask<'_>) -> Result<Shown> {
    let pictures = pictures(catalog, node)?;
    let (chosen, all) = rows::chosen_clusters(catalog, node, ask.clusters).await?;
    let count = chosen.values().copied().max().unwrap_or(0).min(ask.count.unwrap_or(FEW));
    draw::cluster_sheet(chosen.keys().copied(), count, pixels::size(&catalog.schema(pictures))?).check(ask.most_side)?;
    let nearest = rows::nearest(catalog, node, &chosen, count).await?;
    let ids: BTreeSet<String> = nearest.values().flatten().map(|(id, _)| id.clone()).collect();
    let gallery = Gallery::of(catalog, pictures, &ids).await?;
    let (canvas, legend) = draw::clusters(&nearest, &gallery);
    let note = (chosen.len() < all && ask.clusters.is_empty())
        .then(|| format!("of {all} clusters, the {} largest: --clusters 3,17 chooses others", chosen.len()));
    Ok(Shown { canvas, legend, dropped: gallery.dropped, note })
}

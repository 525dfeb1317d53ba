//! The figures that reports have, on pages: the same queries, the same drawings.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use maud::{Markup, html};

use super::links;
use super::site::{Now, Site};
use crate::ask::page::answer::Answer;
use crate::ask::page::figures::{FIGURES, Figure, Shown, State};
use crate::ask::page::report::{self, Drawn};
use crate::ask::page::subjects::{self, Needs, Subject};

/// Things that one kind of figure shows on a page.
const SUBJECTS: usize = 12;
/// The figure that draws a picture into the page, which the pages' policy does not allow: [`super::stage`] shows it as a file.
const PICTURE: &str = "filters";
/// The figure that has pages of its own.
const GALLERY: &str = "gallery";

/// The kind of figure of that id.
///
/// # Errors There is none.
pub fn kind(id: &str) -> Result<&'static Figure> {
    FIGURES.iter().find(|figure| figure.id == id).with_context(|| format!("there is no figure `{id}`"))
}

/// All that a kind of figure could be about, of the stages that are asked for: none asked means all.
///
/// # Errors
/// The metrics are damaged.
pub async fn subjects(now: &Now, figure: &Figure, asked: &BTreeSet<usize>) -> Result<Vec<Subject>> {
    let measured = match figure.needs {
        Needs::Series | Needs::Sweep => subjects::measured(&now.catalog).await?,
        // Nobody looks at it.
        _ => Answer { sql: String::new(), rows: RecordBatch::new_empty(Arc::new(Schema::empty())), dropped: Vec::new() },
    };
    subjects::find(&now.catalog, figure.needs, &measured, asked)
}

/// Draws one figure of something; nothing where there is nothing to see.
///
/// # Errors
/// A query fails.
pub async fn draw(
    site: &Site,
    now: &Now,
    figure: &'static Figure,
    subject: Subject,
    states: &[State],
) -> Result<Option<Markup>> {
    let mut answers = Vec::new();
    for query in (figure.sql)(&subject) {
        answers.push(site.answer(now, query).await?.as_ref().clone());
    }
    let shown = Shown { subject: &subject, answers: &answers, sprites: None, catalog: &now.catalog, states };
    let Some(markup) = (figure.draw)(&shown)? else { return Ok(None) };
    Ok(Some(report::section(&Drawn { figure, subject, answers, markup }, &site.arguments)))
}

/// Figures of these kinds as sections of a page, of the stages that are asked for: none asked means all.
///
/// # Errors
/// A query fails.
pub async fn sections(
    site: &Site,
    now: &Now,
    kinds: &[&str],
    asked: &BTreeSet<usize>,
    states: &[State],
) -> Result<Vec<(&'static str, Markup)>> {
    let mut found = Vec::new();
    for id in kinds {
        let figure = kind(id)?;
        let mut drawn = Vec::new();
        for subject in subjects(now, figure, asked).await?.into_iter().take(SUBJECTS) {
            drawn.extend(draw(site, now, figure, subject, states).await?);
        }
        if drawn.is_empty() {
            continue;
        }
        let title = format!("{id}-title");
        let section = html! {
            section id=(figure.id) aria-labelledby=(title) {
                h2 id=(title) { (figure.title) }
                p.about { (figure.about) }
                @for drawn in &drawn { (drawn) }
            }
        };
        found.push((figure.title, section));
    }
    Ok(found)
}

/// The kinds of figures that a stage may have.
pub fn of_stages() -> Vec<&'static str> {
    let fits = |figure: &&Figure| !matches!(figure.needs, Needs::System) && ![PICTURE, GALLERY].contains(&figure.id);
    FIGURES.iter().filter(fits).map(|figure| figure.id).collect()
}

/// The tables that have clusters of images, in the order of the plan.
///
/// # Errors There is no gallery (never).
pub async fn clustered(now: &Now, asked: &BTreeSet<usize>) -> Result<Vec<Subject>> {
    subjects(now, kind(GALLERY)?, asked).await
}

/// A list of ways to things, the one at hand marked.
pub fn ways<'a>(way: &str, names: impl Iterator<Item = &'a str>, here: &str) -> Markup {
    html! {
        ul.ways { @for name in names {
            li { a href=(links::below(way, &[name])) aria-current=[(name == here).then_some("page")] { (crate::ask::page::draw::shown(name)) } }
        } }
    }
}

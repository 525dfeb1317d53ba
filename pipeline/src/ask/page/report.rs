//! A report: all figures of a pipeline in one HTML file, which asks nothing of anybody.
//!
//! The file has a policy that lets a browser load nothing and run nothing but the style and the script that are in it. All texts of others
//! are escaped, and what would speak to a terminal or turn the order of writing round is shown as an escape.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::datatypes::Field;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};
use tessera_schemas::{printable, printable_lines};

use super::answer::Answer;
use super::draw::shown;
use super::figures::{FIGURES, Figure, Shown, State};
use super::gallery;
use super::sprites::{self, Sprites};
use super::subjects::{self, Subject};
use crate::engine::catalog::Catalog;
use crate::watch::interrupt::Interrupted;
use crate::watch::progress::{Bar, Reporter};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// Tables or stages that one kind of figure shows.
const SUBJECTS: usize = 12;
/// Rows of an answer that are a table; more are CSV.
const TABLE_ROWS: usize = 60;
/// Bytes of an answer that are listed below a figure.
const LISTED: usize = 256 << 10;
/// Bytes of a card without its images, and of a line for each image.
const CARD: usize = 900;
const MEMBER: usize = 40;

/// What a report is of.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The stages; none means all.
    pub stages: BTreeSet<usize>,
    /// The file as its commands name it, with `--set` and `--limit` where they are given.
    pub arguments: String,
    /// Bytes that the file may have: images take what the rest leaves.
    pub bytes: usize,
    /// What a run would do about the stages.
    pub states: Vec<State>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// A figure of something, drawn.
pub struct Drawn<'a> {
    /// Which.
    pub figure: &'a Figure,
    /// What it is about.
    pub subject: Subject,
    /// The answers to its queries.
    pub answers: Vec<Answer>,
    /// The drawing.
    pub markup: Markup,
}

/// Makes a report as the text of an HTML file.
///
/// # Errors
/// A table is damaged, or somebody interrupts. Images that cannot be had are told of in their place.
pub async fn report(catalog: Arc<Catalog>, options: Options, reporter: Reporter) -> Result<String> {
    let measured = subjects::measured(&catalog).await?;
    let mut all: Vec<(&Figure, Subject)> = Vec::new();
    let mut notes = options.notes.clone();
    for figure in &FIGURES {
        let found = subjects::find(&catalog, figure.needs, &measured, &options.stages)?;
        if found.len() > SUBJECTS {
            let rest: Vec<&str> = found[SUBJECTS..].iter().map(|subject| subject.stage.as_str()).collect();
            notes.push(format!(
                "{} are of {SUBJECTS} stages; of others, name them on the command line: {}",
                figure.title,
                rest.join(", ")
            ));
        }
        all.extend(found.into_iter().take(SUBJECTS).map(|subject| (figure, subject)));
    }
    let bar = reporter.bar("report");
    let mut asked: Vec<(&Figure, Subject, Vec<Answer>)> = Vec::new();
    let count = all.len() as u64;
    for (at, (figure, subject)) in all.into_iter().enumerate() {
        if catalog.engine.interrupt.asked() {
            return Err(Interrupted.into());
        }
        bar.at(at as u64, count, figure.title);
        let mut answers = Vec::new();
        for query in (figure.sql)(&subject) {
            answers.push(Answer::of(&catalog, query).await?);
        }
        asked.push((figure, subject, answers));
    }
    bar.close();
    let mut figures: Vec<Option<Drawn<'_>>> = Vec::new();
    let mut used = STYLE.len() + SCRIPT.len() + (64 << 10);
    for (figure, subject, answers) in &asked {
        let drawn = if figure.images.is_none() { draw(&catalog, &options, figure, subject, answers, None)? } else { None };
        used += drawn.as_ref().map_or(0, |drawn| section(drawn, &options.arguments).into_string().len());
        figures.push(drawn);
    }
    // Images take what the rest leaves, each gallery its share of that.
    let galleries: Vec<usize> = (0..asked.len()).filter(|&at| asked[at].0.images.is_some()).collect();
    for (at, &place) in galleries.iter().enumerate() {
        let (figure, subject, answers) = &asked[place];
        let mut told = Vec::new();
        let sprites = match figure.images {
            Some(members) if answers.len() > members => {
                let wanted = gallery::wanted(&answers[0], &answers[members])?;
                let room = options.bytes.saturating_sub(used) / (galleries.len() - at);
                let text =
                    wanted.iter().map(|(_, images)| CARD + images.iter().map(|(_, id)| id.len() + MEMBER).sum::<usize>());
                let room = room.saturating_sub(text.sum());
                images(&catalog, subject, &wanted, room, &reporter, &mut told).await?
            }
            _ => None,
        };
        figures[place] = draw(&catalog, &options, figure, subject, answers, sprites.as_ref())?;
        if let Some(drawn) = &mut figures[place] {
            used += drawn.markup.0.len();
            if let Some(why) = told.first() {
                drawn.markup = html! { p { "No images: " (shown(why)) "." } (drawn.markup) };
            }
        }
    }
    Ok(document(&catalog, &options, &notes, &figures.into_iter().flatten().collect::<Vec<_>>()).into_string())
}

/// The images of a gallery; none, and why, if they cannot be had.
async fn images(
    catalog: &Arc<Catalog>,
    subject: &Subject,
    wanted: &[sprites::Wanted],
    room: usize,
    reporter: &Reporter,
    told: &mut Vec<String>,
) -> Result<Option<Sprites>> {
    let Some(node) = subject.node else { return Ok(None) };
    let bar: Bar = reporter.bar(&subject.stage);
    let found = sprites::read(catalog, node, wanted, room, &bar).await;
    bar.close();
    match found {
        Ok(sprites) => Ok(Some(sprites)),
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => {
            told.push(format!("{error:#}"));
            Ok(None)
        }
    }
}

fn draw<'a>(
    catalog: &Catalog,
    options: &Options,
    figure: &'a Figure,
    subject: &Subject,
    answers: &[Answer],
    sprites: Option<&Sprites>,
) -> Result<Option<Drawn<'a>>> {
    if answers.is_empty() {
        bail!("the figure `{}` asks nothing", figure.id);
    }
    let markup = (figure.draw)(&Shown { subject, answers, sprites, catalog, states: &options.states })?;
    Ok(markup.map(|markup| Drawn { figure, subject: subject.clone(), answers: answers.to_vec(), markup }))
}

fn document(catalog: &Catalog, options: &Options, notes: &[String], figures: &[Drawn<'_>]) -> Markup {
    let name = &catalog.plan.graph.file.name;
    let policy = format!(
        "default-src 'none'; img-src data:; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let kinds = FIGURES.iter().map(|figure| (figure, figures.iter().filter(|drawn| drawn.figure.id == figure.id)));
    let kinds: Vec<_> =
        kinds.map(|(figure, drawn)| (figure, drawn.collect::<Vec<_>>())).filter(|(_, drawn)| !drawn.is_empty()).collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("tessera ", env!("CARGO_PKG_VERSION")));
                meta name="referrer" content="no-referrer";
                link rel="icon" href="data:,";
                title { (printable(name)) ": report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "To the figures" }
                header {
                    h1 { (shown(name)) }
                    p { "What the pipeline " code { (printable(&options.arguments)) } " made. Below each figure are its numbers, and the query that gives them." }
                    nav aria-label="Figures" { ul { @for (figure, _) in &kinds { li { a href=(format!("#{}", figure.id)) { (figure.title) } } } } }
                    form.theme hidden { label { "Colours " select name="theme" {
                        option value="" { "as the system" } option value="light" { "light" } option value="dark" { "dark" }
                    } } }
                }
                main id="main" {
                    @if !notes.is_empty() { section.notes aria-label="Notes" { ul { @for note in notes { li { (shown(note)) } } } } }
                    @for (figure, drawn) in &kinds {
                        section id=(figure.id) aria-labelledby=(format!("{}-title", figure.id)) {
                            h2 id=(format!("{}-title", figure.id)) { (figure.title) }
                            p.about { (figure.about) }
                            @for drawn in drawn { (section(drawn, &options.arguments)) }
                        }
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

/// A figure with its numbers and queries; `arguments` name the pipeline file, as its commands do.
pub fn section(drawn: &Drawn<'_>, arguments: &str) -> Markup {
    let Drawn { figure, subject, answers, markup } = drawn;
    let of = match &subject.classes {
        Some((_, of)) if figure.id == "classes" => format!("{} against {of}", subject.stage),
        _ => subject.stage.clone(),
    };
    html! {
        div.figure data-figure=(figure.id) data-of=(printable(&of)) {
            @if !of.is_empty() { h3 { (shown(&of)) } }
            (markup)
            @for (at, answer) in answers.iter().enumerate() { (source(answer, figure.told.contains(&at), arguments)) }
        }
    }
}

/// Whence numbers come: all of an answer, unless the drawing tells it, and its query.
pub fn source(answer: &Answer, is_told: bool, arguments: &str) -> Markup {
    html! {
        div.source {
            @if !is_told { (numbers(answer)) }
            details { summary { "SQL" }
                pre tabindex="0" { "tessera sql " (printable(arguments)) " <<'END'\n" code { (printable_lines(&answer.sql)) } "\nEND" }
            }
        }
    }
}

/// All of an answer: a table, or CSV.
fn numbers(answer: &Answer) -> Markup {
    let csv = match answer.csv() {
        Ok(csv) => csv,
        Err(error) => return html! { p { (error.to_string()) } },
    };
    let summary = format!("{} {}", answer.len(), if answer.len() == 1 { "row" } else { "rows" });
    let schema = answer.rows.schema();
    let is_plain = |field: &Arc<Field>| !field.data_type().is_nested() && !field.data_type().is_binary();
    if answer.len() <= TABLE_ROWS
        && schema.fields().iter().all(is_plain)
        && let Ok(rows) = rows(answer)
    {
        return html! {
            details { summary { "Numbers (" (summary) ")" }
                div.scroll tabindex="0" role="region" aria-label="numbers" {
                    table.numbers {
                        thead { tr { @for field in schema.fields() { th scope="col" { (shown(field.name())) } } } }
                        tbody { @for row in &rows { tr { @for cell in row { td { (shown(cell)) } } } } }
                    }
                }
            }
        };
    }
    let end = csv.char_indices().map(|(at, _)| at).find(|&at| at >= LISTED);
    let listed = end.map_or(csv.as_str(), |end| &csv[..csv[..end].rfind('\n').map_or(0, |at| at + 1)]);
    html! {
        details { summary { "Numbers (" (summary) @if end.is_some() { ", of which the first are listed" } ")" }
            pre.csv tabindex="0" { (printable_lines(listed)) }
        }
    }
}

/// The texts of an answer's cells, as CSV has them.
///
/// # Errors
/// A column's values have no text.
pub fn rows(answer: &Answer) -> Result<Vec<Vec<String>>> {
    use arrow::array::Array as _;
    let names = answer.rows.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let columns = names.iter().map(|name| answer.texts(name)).collect::<Result<Vec<_>>>()?;
    let cell = |column: &arrow::array::StringArray, row: usize| {
        if column.is_valid(row) { column.value(row).to_owned() } else { String::new() }
    };
    Ok((0..answer.len()).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect())
}

/// What a policy calls a text that is in the file.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// A file's name as an argument of a shell.
pub fn argument(path: &Path) -> String {
    crate::declare::file::argument(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_arguments() {
        let found = ["a/b.toml", "my file.toml", "it's.toml", "$(x).toml"].map(|path| argument(Path::new(path)));
        assert_eq!(found, ["a/b.toml", "'my file.toml'", "'it'\\''s.toml'", "'$(x).toml'"]);
    }

    #[test]
    fn figures_have_names_of_their_own() {
        let names: BTreeSet<&str> = FIGURES.iter().map(|figure| figure.id).collect();
        assert_eq!(names.len(), FIGURES.len());
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</"), "they would end where they stand in the page");
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"), "the page asks nothing of anybody");
    }
}

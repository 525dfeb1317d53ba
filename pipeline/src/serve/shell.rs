//! What all pages have around them: head, heading, ways to the other pages.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use tessera_schemas::printable;

use super::site::{Now, Site};
use crate::ask::page::draw::shown;

/// The style: the report's, and what these pages have beside.
const STYLE: &str = concat!(include_str!("../ask/page/report.css"), include_str!("style.css"));
const SCRIPT: &str = concat!(include_str!("script.js"), include_str!("label.js"));
const MAP: &str = include_str!("map.js");

/// Notes that a page shows.
const NOTES: usize = 12;

/// A way to a page: its path, its name, and whether it is there only with `--edit`.
struct Way(&'static str, &'static str, bool);

/// The ways to pages, in their order.
const WAYS: [Way; 9] = [
    Way("/", "Stages", false),
    Way("/clusters", "Clusters", false),
    Way("/label", "Names", false),
    Way("/map", "Maps", false),
    Way("/duplicates", "Near-duplicates", false),
    Way("/train", "Curves", false),
    Way("/sweep", "Sweeps", false),
    Way("/find", "Find an image", false),
    Way("/sql", "SQL", false),
];

/// What is on a page.
#[derive(Default)]
pub struct Page<'a> {
    /// Its heading.
    pub title: &'a str,
    /// The way that leads to it.
    pub way: &'a str,
    /// All below the heading.
    pub body: Markup,
    /// Whether it is read again when a run goes on or has published.
    pub live: bool,
}

/// A page of a pipeline.
pub fn page(site: &Site, now: &Now, page: &Page<'_>) -> Response {
    let name = &now.catalog.plan.graph.file.name;
    let ways = WAYS.iter().filter(|way| !way.2 || site.edit);
    let body = html! {
        header.top {
            p.name { a href="/" { (shown(name)) } }
            nav aria-label="Pages" { ul {
                @for way in ways { li {
                    a href=(way.0) aria-current=[(way.0 == page.way).then_some("page")] { (way.1) }
                } }
            } }
            form.theme hidden { label { "Colours " select name="theme" {
                option value="" { "as the system" } option value="light" { "light" } option value="dark" { "dark" }
            } } }
        }
        main id="main" data-live[page.live] {
            h1 { (shown(page.title)) }
            @if !now.notes.is_empty() { section.notes aria-label="Notes" { ul {
                @for note in now.notes.iter().take(NOTES) { li { (shown(note)) } }
                @if now.notes.len() > NOTES { li { "and " (now.notes.len() - NOTES) " more: " code { "tessera status" } " has all of them" } }
            } } }
            (page.body)
        }
        @if page.live { div.live id="live" hidden { p role="status" {} ul {} } }
    };
    whole(&format!("{} · {}", printable(page.title), printable(name)), &site.token, &body)
}

/// A page that knows of no pipeline: an error.
pub fn bare(title: &str, body: &Markup) -> Response {
    whole(title, "", &html! { main id="main" { h1 { (title) } (body) } })
}

fn whole(title: &str, token: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="tessera-token" content=(token);
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href=(format!("/style.css?{}", *VERSION));
                script type="module" src=(format!("/script.js?{}", *VERSION)) {}
                title { (title) }
            }
            body { a.skip href="#main" { "To the content" } (body) }
        }
    };
    Html(page.into_string()).into_response()
}

/// What the files of pages are kept under.
static VERSION: LazyLock<String> =
    LazyLock::new(|| blake3::hash(format!("{STYLE}{SCRIPT}{MAP}").as_bytes()).to_hex()[..12].to_owned());

/// A file that a browser may keep: another version has another address.
fn kept(kind: &'static str, text: &'static str) -> Response {
    let keep = HeaderValue::from_static("private, max-age=31536000, immutable");
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, keep)], text).into_response()
}

/// The pages' style.
pub async fn style() -> Response {
    kept("text/css; charset=utf-8", STYLE)
}

/// Their script.
pub async fn script() -> Response {
    kept("text/javascript; charset=utf-8", SCRIPT)
}

/// The address of the script of a map.
pub fn map_address() -> String {
    format!("/map.js?{}", *VERSION)
}

/// The script of a map.
pub async fn map_script() -> Response {
    kept("text/javascript; charset=utf-8", MAP)
}

/// Their picture in a tab: four tiles, one of another colour.
pub async fn icon() -> Response {
    let text = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\"><path fill=\"#0067a8\" d=\"M1 1h6v6H1zM9 1h6v6H9zM1 9h6v6H1z\"/><path fill=\"#d55e00\" d=\"M9 9h6v6H9z\"/></svg>";
    kept("image/svg+xml", text)
}

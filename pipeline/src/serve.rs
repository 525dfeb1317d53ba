//! The live pages: a pipeline's figures, clusters and images, over HTTP on this machine, for a browser.
//!
//! A page reads a generation of tables, the newest when it is asked for, so that a reload shows what a run has published meanwhile. Whoever
//! asks has passed the [guard] by then. Numbers come from queries that stand below them; queries of people run in processes of their own
//! ([child]).

mod answers;
mod child;
mod cluster;
mod clusters;
mod compare;
mod confusion;
mod curves;
mod duplicates;
mod events;
mod failed;
mod figures;
mod find;
mod foretold;
pub mod guard;
mod image;
mod label;
mod links;
mod map;
mod overview;
mod posted;
mod shell;
pub mod site;
mod sql;
mod stage;
mod strips;
mod table;

use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use failed::Failed;
use site::Shared;

/// Ports that are tried behind one that is taken.
const TRIED: u16 = 50;

/// Takes a port: the one that is asked for, or the next that is free.
///
/// # Errors
/// The address is none of this machine, or all ports are taken.
pub fn listen(address: IpAddr, port: u16) -> Result<TcpListener> {
    for port in port..=port.saturating_add(TRIED) {
        match TcpListener::bind(SocketAddr::new(address, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("cannot listen at {}", SocketAddr::new(address, port))),
        }
    }
    bail!("the ports {port} to {} of {address} are taken: --port names another", port.saturating_add(TRIED))
}

/// Answers until `end` comes; streams that are open are not waited for.
///
/// # Errors
/// The system takes the listener back.
pub async fn serve(listener: TcpListener, site: Shared, end: impl Future<Output = ()>) -> Result<()> {
    listener.set_nonblocking(true).context("cannot listen")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("cannot listen")?;
    tokio::select! {
        ended = async { axum::serve(listener, router(site)).await } => ended.context("cannot answer any more"),
        () = end => Ok(()),
    }
}

/// All pages.
pub fn router(site: Shared) -> Router {
    Router::new()
        .route("/", get(overview::overview))
        .route("/stage/{name}", get(stage::stage))
        .route("/picture/{name}", get(stage::pictures))
        .route("/thumb/{name}/{id}", get(stage::thumb))
        .route("/pixels/{name}/{id}", get(image::pixels_of))
        .route("/clusters", get(clusters::tables))
        .route("/clusters/{name}", get(clusters::clusters))
        .route("/clusters/{name}/{cluster}", get(cluster::cluster))
        .route("/strip/{name}/{cluster}/{kind}", get(clusters::strips))
        .route("/image", get(named))
        .route("/image/{*id}", get(image::image))
        .route("/compare", get(compare::choose))
        .route("/compare/{a}/{b}", get(compare::compare))
        .route("/confusion", get(confusion::choose))
        .route("/confusion/{name}/{classes}", get(confusion::confusion))
        .route("/label", get(label::label))
        .route("/label/strip/{stage}/{cluster}", get(label::images))
        .route("/train", get(curves::stages))
        .route("/train/{name}", get(curves::curves))
        .route("/sweep", get(curves::sweep))
        .route("/map", get(map::choose))
        .route("/map/{name}", get(map::map))
        .route("/map/{name}/at/{point}", get(map::at))
        .route("/points/{name}", get(map::points))
        .route("/duplicates", get(duplicates::choose))
        .route("/duplicates/{name}", get(duplicates::duplicates))
        .route("/duplicates/{name}/keep.csv", get(duplicates::keep))
        .route("/find", get(find::ask).post(find::answer))
        .route("/find/in/{table}", get(find::within))
        .route("/sql", get(sql::sql_box).post(sql::answer))
        .route("/events", get(events::events))
        .route("/style.css", get(shell::style))
        .route("/script.js", get(shell::script))
        .route("/map.js", get(shell::map_script))
        .route("/icon.svg", get(shell::icon))
        .merge(writes())
        .fallback(nowhere)
        // The guard holds what a request says of its length against bounds of its own.
        .layer(DefaultBodyLimit::max(guard::IMAGE as usize))
        .layer(from_fn_with_state(site.clone(), guard::layer))
        .with_state(site)
}

/// What changes anything: a handler takes a [`posted::Write`], which is refused without `--edit`.
fn writes() -> Router<Shared> {
    Router::new().route("/edit", post(edits)).route("/names", post(label::names))
}

/// Whether this process's pages may change anything: no content if so.
async fn edits(_: posted::Write<serde_json::Value>) -> StatusCode {
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// `/image?id=ID`, as a form sends it.
async fn named(Query(Named { id }): Query<Named>) -> Redirect {
    Redirect::to(&links::image(&id))
}

async fn nowhere(State(_): State<Shared>) -> Result<Response, Failed> {
    Err(Failed::missing("there is no such page"))
}

//! `POST /names`: one decision, from a form.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use arrow::temporal_conversions::timestamp_s_to_datetime;
use axum::extract::{Json, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use serde_json::json;
use tessera_datasets::names::{Action, Decision, LONGEST, MOST_PARTS, Name, Subject};
use tessera_schemas::printable;
use tokio::task::spawn_blocking;

use super::super::failed::Failed;
use super::super::links;
use super::super::posted::{Write, conflict};
use super::super::site::Shared;
use super::state::Labelling;
use crate::store::names::{Change, version};

/// What a form says.
#[derive(Deserialize)]
pub struct Said {
    stage: String,
    key: String,
    cluster: i32,
    /// Of the decision that the page showed.
    #[serde(default)]
    version: String,
    /// `name`, `split`, `mixed`, or `undo`.
    action: String,
    #[serde(default)]
    value: String,
}

impl Said {
    /// What is decided; none where a decision is taken back.
    fn action(&self) -> Result<Option<Action>, Failed> {
        Ok(match self.action.as_str() {
            "name" => Some(Action::Name(Name::new(&self.value).map_err(Failed::wrong)?)),
            "split" => match self.value.trim().parse::<u32>() {
                Ok(parts) if (2..=MOST_PARTS).contains(&parts) => Some(Action::Split(parts)),
                _ => return Err(Failed::wrong(format!("a cluster is split in 2 to {MOST_PARTS}"))),
            },
            "mixed" => Some(Action::Mixed),
            "undo" => None,
            _ => return Err(Failed::wrong("a form says `name`, `split`, `mixed` or `undo`")),
        })
    }
}

/// Writes it. Who asks for JSON is told in JSON, others are sent back to the page.
pub async fn names(State(site): State<Shared>, headers: HeaderMap, Write(said): Write<Said>) -> Result<Response, Failed> {
    let action = said.action()?;
    let now = site.now().await?;
    let of = Labelling::named(&now, &said.stage)?;
    let back = links::with("/label", &[("stage", said.stage.as_str())]);
    let is_json = headers.get(header::ACCEPT).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let what = format!("cluster {}", said.cluster);
    let yours = action.as_ref().map_or_else(|| "no decision".to_owned(), Action::to_string);
    let stale = |theirs: &str| match is_json {
        true => (StatusCode::CONFLICT, Json(json!({ "what": what, "theirs": theirs, "yours": yours }))).into_response(),
        false => conflict(&what, theirs, &yours, &back),
    };
    let key = of.key(&site, &now).await?;
    if key != said.key {
        return Ok(stale("another cluster: the clusters were made anew"));
    }
    let mut shown = of.looked(&site, &now, &[i64::from(said.cluster)]).await?;
    let Some(images) = shown.remove(&i64::from(said.cluster)) else {
        return Err(Failed::missing(format!("no image is in cluster {}", said.cluster)));
    };
    let subject = Subject::Cluster { key: said.key.clone(), cluster: said.cluster };
    let decision = action.map(|action| Decision {
        stage: now.catalog.name(of.clusters).to_owned(),
        subject: subject.clone(),
        action,
        seen: images.into_iter().filter(|image| image.is_near).map(|image| image.id).collect(),
        by: who(),
        at: when(),
    });
    let (file, seen, to) = (of.file.clone(), said.version.clone(), decision.clone());
    let told = |now: Option<&Decision>| {
        Json(json!({ "said": format!("{what}: {yours}"), "version": version(now) })).into_response()
    };
    let change =
        spawn_blocking(move || file.change(&subject, &seen, to)).await.context("the name could not be written")??;
    match change {
        Change::Stale(theirs) => {
            Ok(stale(&theirs.map_or_else(|| "no decision".to_owned(), |theirs| theirs.action.to_string())))
        }
        _ if !is_json => Ok(Redirect::to(&back).into_response()),
        Change::Written => Ok(told(decision.as_ref())),
        Change::Same(theirs) => Ok(told(theirs.as_ref())),
    }
}

/// Who runs this server, as the system calls them.
fn who() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    if printable(&name) == name && name.chars().count() <= LONGEST { name } else { String::new() }
}

/// This second.
fn when() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    timestamp_s_to_datetime(now as i64).map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

//! What a form sends: read, its token checked.
//!
//! The [guard](super::guard) has looked at where it comes from by then. A handler that takes an [`Asked`] or a [`Write`] cannot be reached without
//! the token that stands in this process's pages.

use axum::Form;
use axum::body::Bytes;
use axum::extract::{FromRequest, Json, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failed::Failed;
use super::guard::{TOKEN, equal};
use super::shell;
use super::site::Shared;
use crate::ask::page::draw::shown;

/// A question that a form asks.
pub struct Asked<T>(pub T);

/// Something that a form writes: only with `--edit`.
pub struct Write<T>(pub T);

/// An image.
pub struct Image(pub Bytes);

#[derive(Deserialize)]
struct WithToken {
    token: Option<String>,
}

impl<T: DeserializeOwned> FromRequest<Shared> for Asked<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, site: &Shared) -> Result<Self, Failed> {
        read(request, site).await.map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Shared> for Write<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, site: &Shared) -> Result<Self, Failed> {
        if !site.edit {
            return Err(Failed::forbidden("these pages only show: start `tessera serve` with --edit to change anything"));
        }
        read(request, site).await.map(Self)
    }
}

impl FromRequest<Shared> for Image {
    type Rejection = Failed;

    async fn from_request(request: Request, site: &Shared) -> Result<Self, Failed> {
        check(site, in_header(&request).as_deref())?;
        Ok(Self(bytes(request, site).await?))
    }
}

/// A form's fields, or a JSON object.
async fn read<T: DeserializeOwned>(request: Request, site: &Shared) -> Result<T, Failed> {
    let token = in_header(&request);
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let bytes = bytes(request, site).await?;
    let again = || {
        let mut request = Request::new(bytes.clone().into());
        *request.method_mut() = axum::http::Method::POST;
        if let Some(kind) = &kind {
            request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
        }
        request
    };
    let is_json = kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let token = match token {
        Some(token) => Some(token),
        None if is_json => Json::<WithToken>::from_request(again(), &()).await.ok().and_then(|Json(found)| found.token),
        None => Form::<WithToken>::from_request(again(), &()).await.ok().and_then(|Form(found)| found.token),
    };
    check(site, token.as_deref())?;
    let unread = |error: String| Failed::wrong(format!("the form cannot be read: {error}"));
    match is_json {
        true => Json::from_request(again(), &()).await.map(|Json(read)| read).map_err(|error| unread(error.body_text())),
        false => Form::from_request(again(), &()).await.map(|Form(read)| read).map_err(|error| unread(error.body_text())),
    }
}

fn in_header(request: &Request) -> Option<String> {
    request.headers().get(TOKEN)?.to_str().ok().map(str::to_owned)
}

fn check(site: &Shared, token: Option<&str>) -> Result<(), Failed> {
    match token {
        Some(token) if equal(token, &site.token) => Ok(()),
        _ => Err(Failed::forbidden("the form is not from a page of this server as it runs now: load the page again")),
    }
}

/// The guard has held the length against its bound, and no more is read than that.
async fn bytes(request: Request, site: &Shared) -> Result<Bytes, Failed> {
    Bytes::from_request(request, site).await.map_err(|error| Failed { status: error.status(), why: error.body_text() })
}

/// What a page answers to a write that was made from an older state: nothing was written, and both values are shown.
pub fn conflict(what: &str, theirs: &str, yours: &str, back: &str) -> Response {
    let body: Markup = html! {
        p { "Somebody else changed " (shown(what)) " since this page was loaded. Nothing was written." }
        dl {
            dt { "There is now" } dd { (shown(theirs)) }
            dt { "You wrote" } dd { (shown(yours)) }
        }
        p { a href=(back) { "Back, as it is now" } }
    };
    (StatusCode::CONFLICT, shell::bare("Changed meanwhile", &body)).into_response()
}

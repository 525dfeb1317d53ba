//! Why there is no page, as a page.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;

use super::shell;
use crate::ask::page::draw::shown;

/// Why there is no page.
#[derive(Debug)]
pub struct Failed {
    /// The status.
    pub status: StatusCode,
    /// Why, in a sentence.
    pub why: String,
}

impl Failed {
    /// What is asked for is not there.
    pub fn missing(why: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, why: why.into() }
    }

    /// What is asked for makes no sense.
    pub fn wrong(why: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why: why.into() }
    }

    /// It may not be done.
    pub fn forbidden(why: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, why: why.into() }
    }
}

/// Whatever fails otherwise: a table is damaged, an image is gone.
impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, why: format!("{error:#}") }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = html! {
            p { (shown(&self.why)) }
            p { a href="/" { "To the stages" } }
        };
        (self.status, shell::bare(title, &body)).into_response()
    }
}

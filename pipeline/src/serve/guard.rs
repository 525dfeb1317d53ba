//! Who is answered: one layer before all pages, and the headers of every answer.
//!
//! A page of another site may have a browser ask this server, and a name that its owner points at this machine makes such a page one of
//! "the same origin". So the `Host` has to be an address of this server, what browsers say of who asks (`Sec-Fetch-Site`, `Origin`) has to
//! name this server or nobody, and whoever changes anything or asks much needs a token that stands in the pages alone. What is refused is
//! refused before any table is read.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::site::Shared;

/// Bytes of an address at most.
const ADDRESS: usize = 8 << 10;
/// Bytes of a form at most: a query of [`TEXT`](super::sql::TEXT) bytes, each of them as three characters.
const FORM: u64 = 256 << 10;
/// Bytes of an image that somebody searches by.
pub const IMAGE: u64 = 64 << 20;
/// The one page that takes an image.
pub const FIND: &str = "/find";
/// The header that has the page's token where no form does.
pub const TOKEN: &str = "x-tessera-token";

/// What browsers are told with every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With `no-referrer`, a browser says of a page's own form that it comes from nowhere (`Origin: null`).
    (header::REFERRER_POLICY, "same-origin"),
];

/// What this server answers to.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The address that it is bound to.
    pub bound: IpAddr,
    /// Its port.
    pub port: u16,
    /// What whoever asks has to know, if anything.
    pub token: Option<String>,
}

/// Why somebody is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub StatusCode, pub &'static str);

impl Guard {
    /// Whether the value of a `Host` header is an address of this server: names that are not its own could be anybody's.
    fn is_own(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (host, "80"),
        };
        if port != self.port.to_string() {
            return false;
        }
        let is_local = ["localhost", "127.0.0.1", "[::1]"].iter().any(|local| name.eq_ignore_ascii_case(local));
        if self.bound.is_loopback() {
            return is_local || name.parse() == Ok(self.bound);
        }
        // Nobody else can own an address as they can a name.
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse::<IpAddr>();
        is_local || address.is_ok_and(|address| self.bound.is_unspecified() || address == self.bound)
    }

    /// Whether a request is to be answered.
    ///
    /// # Errors
    /// It is not, and why.
    pub fn check(&self, request: &Parts) -> Result<(), Refused> {
        let headers = &request.headers;
        if request.uri.authority().is_some() || request.uri.scheme().is_some() {
            return Err(Refused(StatusCode::MISDIRECTED_REQUEST, "this server is no proxy: ask for a path alone"));
        }
        let host = only(headers, &header::HOST)?.unwrap_or_default();
        if !self.is_own(host) {
            return Err(Refused(
                StatusCode::MISDIRECTED_REQUEST,
                "the address is not one of this server: use http://localhost or http://127.0.0.1 with its port",
            ));
        }
        if ![Method::GET, Method::HEAD, Method::POST].contains(&request.method) {
            return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "pages are asked for by GET, HEAD and POST"));
        }
        if request.uri.path_and_query().is_some_and(|address| address.as_str().len() > ADDRESS) {
            return Err(Refused(StatusCode::URI_TOO_LONG, "the address is longer than 8 KiB"));
        }
        self.check_site(headers)?;
        self.check_body(request)?;
        if request.method == Method::POST {
            self.check_post(request, host)?;
        }
        Ok(())
    }

    /// What browsers say of who asks. Other programs say nothing.
    fn check_site(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let other = Refused(StatusCode::FORBIDDEN, "another site asks for this page: open its address by hand");
        match only(headers, &HeaderName::from_static("sec-fetch-site"))? {
            None | Some("same-origin" | "none") => {}
            Some(_) => return Err(other),
        }
        let mode = only(headers, &HeaderName::from_static("sec-fetch-mode"))?;
        let whither = only(headers, &HeaderName::from_static("sec-fetch-dest"))?;
        // A page stands in a window of its own, and in nothing else.
        match (mode, whither) {
            (Some("navigate" | "nested-navigate"), Some(whither)) if whither != "document" => Err(other),
            _ => Ok(()),
        }
    }

    /// How a request says how long its body is, in one way alone.
    fn check_body(&self, request: &Parts) -> Result<(), Refused> {
        if request.headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(Refused(StatusCode::LENGTH_REQUIRED, "a request has to say how long it is, by Content-Length"));
        }
        let length = only(&request.headers, &header::CONTENT_LENGTH)?.map(str::parse::<u64>);
        let length = match length {
            None => 0,
            Some(Ok(length)) => length,
            Some(Err(_)) => return Err(Refused(StatusCode::BAD_REQUEST, "Content-Length is no number")),
        };
        let most = match (&request.method, request.uri.path()) {
            (&Method::POST, FIND) => IMAGE,
            (&Method::POST, _) => FORM,
            _ if length == 0 => return Ok(()),
            _ => return Err(Refused(StatusCode::BAD_REQUEST, "GET and HEAD have no body")),
        };
        if !request.headers.contains_key(header::CONTENT_LENGTH) {
            return Err(Refused(StatusCode::LENGTH_REQUIRED, "a request has to say how long it is, by Content-Length"));
        }
        if length > most {
            return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, "a form has at most 256 KiB, and an image 64 MiB"));
        }
        Ok(())
    }

    /// Whence a form comes, and what it is.
    fn check_post(&self, request: &Parts, host: &str) -> Result<(), Refused> {
        let origin = only(&request.headers, &header::ORIGIN)?;
        let own = origin.and_then(|origin| origin.strip_prefix("http://"));
        if !own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
            return Err(Refused(StatusCode::FORBIDDEN, "a form has to come from a page of this server (Origin)"));
        }
        let kind = only(&request.headers, &header::CONTENT_TYPE)?.unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let fits = match request.uri.path() {
            FIND => kind.starts_with("image/") || kind == "application/octet-stream",
            _ => ["application/x-www-form-urlencoded", "application/json"].contains(&kind.as_str()),
        };
        if fits { Ok(()) } else { Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this page takes no body of that type")) }
    }

    /// Whether whoever asks knows the server's token: in the address, in a cookie, or as a bearer.
    fn knows(&self, request: &Parts) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if bearer.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|given| equal(given, token)) {
            return true;
        }
        let (name, value) = (self.cookie(), pass(token));
        let cookies = request.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        cookies.any(|(key, given)| key == name && equal(given, &value))
    }

    /// A cookie's name: cookies do not tell ports apart.
    fn cookie(&self) -> String {
        format!("tessera-{}", self.port)
    }

    /// Where the address has the token, the same address without it, and the cookie that stands for it.
    fn admitted(&self, request: &Parts) -> Option<Response> {
        let token = self.token.as_ref().filter(|_| request.method == Method::GET)?;
        let query = request.uri.query()?;
        let given = |pair: &&str| pair.strip_prefix("token=").is_some_and(|given| equal(&decoded(given), token));
        query.split('&').find(given)?;
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("token=")).collect();
        let path = request.uri.path();
        // A path that begins with two slashes, of either kind, would be another server.
        let path = format!("/{}", path.trim_start_matches(['/', '\\']));
        let address = if rest.is_empty() { path } else { format!("{path}?{}", rest.join("&")) };
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie(), pass(token));
        Some((StatusCode::SEE_OTHER, [(header::LOCATION, address), (header::SET_COOKIE, cookie)]).into_response())
    }
}

/// The layer.
pub async fn layer(State(site): State<Shared>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let guard = &site.guard;
    let mut response = match guard.check(&parts) {
        Err(refused) => refuse(refused),
        Ok(()) => match guard.admitted(&parts) {
            Some(response) => response,
            None if !guard.knows(&parts) => refuse(Refused(
                StatusCode::UNAUTHORIZED,
                "open the address with its token: http://ADDRESS:PORT/?token=TOKEN",
            )),
            None => next.run(Request::from_parts(parts, body)).await,
        },
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What may be kept says so itself.
    let kept = headers.get(header::CACHE_CONTROL).is_some_and(|value| value.as_bytes().starts_with(b"private"));
    if !kept {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn refuse(Refused(status, why): Refused) -> Response {
    let mut response = Response::new(Body::from(format!("{status}: {why}.\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What is left of the request is not read as another one.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}

/// A header's value, which it may have once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| Refused(StatusCode::BAD_REQUEST, "a header has other characters than ASCII's")),
        (Some(_), Some(_)) => Err(Refused(StatusCode::BAD_REQUEST, "a header that may stand once stands twice")),
    }
}

/// What the cookie has in the token's place.
fn pass(token: &str) -> String {
    blake3::derive_key("tessera serve: the cookie of a token", token.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A value of an address.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Whether two secrets are the same; how long that takes says nothing of where they differ.
pub fn equal(one: &str, other: &str) -> bool {
    blake3::hash(one.as_bytes()) == blake3::hash(other.as_bytes())
}

#[cfg(test)]
mod tests;

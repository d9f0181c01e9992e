//! Bodies of requests.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{App, no_parameters};
use crate::body::collect;
use crate::problem::Refusal;

/// The JSON body of a route that takes no parameters.
pub(super) async fn json_body<T: DeserializeOwned>(
    app: &App,
    request: Request<Incoming>,
) -> Result<T, Refusal> {
    no_parameters(request.uri().query().unwrap_or_default())?;
    if media_type(request.headers()).as_deref() != Some("application/json") {
        return Err(Refusal::media_type("Send the request as application/json."));
    }
    let limits = &app.limits;
    let bytes = collect(request.into_body(), limits.json_body_max_bytes, limits.body_timeout()).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Refusal::bad_json(format_args!(
            "The body is not what this path takes (line {line}, column {column}): unknown, doubled, missing or mistyped field, or no JSON; GET /v1/openapi.json shows it."
        ))
    })
}

/// The media type of the body, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let kind = value.split(';').next().unwrap_or_default();
    Some(kind.trim().to_ascii_lowercase())
}

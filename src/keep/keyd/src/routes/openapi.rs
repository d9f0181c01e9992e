//! `GET /v1/openapi.json`: what this keyd takes and answers, for every client that has a role.

use http::StatusCode;

use super::no_parameters;
use crate::answer::{Answer, Unlogged, whole};
use crate::problem::Refusal;

/// OpenAPI 3.1. The tests hold it to the table of routes and to every type of `wire::api`.
pub(crate) const OPENAPI: &str = include_str!("../../openapi.json");

pub(super) fn show(query: &str) -> Result<Answer, Refusal> {
    no_parameters(query)?;
    Ok(Unlogged::read(whole(StatusCode::OK, "application/json", OPENAPI.as_bytes().to_vec())))
}

#[cfg(test)]
mod examples;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;

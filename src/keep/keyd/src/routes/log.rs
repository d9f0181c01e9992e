//! `GET /v1/log/…`: the published files, and proofs at the durable head.

use std::io;
use std::path::Path;

use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use translog::tile::Tile;

use super::{App, no_parameters, parameter};
use crate::answer::{Answer, Unlogged, whole};
use crate::problem::Refusal;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

pub(super) async fn checkpoint(app: &App, query: &str) -> Result<Answer, Refusal> {
    no_parameters(query)?;
    let bytes = read(&app.log_dir.join("checkpoint")).await?;
    let mut response = whole(StatusCode::OK, TEXT, bytes);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(Unlogged::read(response))
}

pub(super) async fn tile(app: &App, path: &str, query: &str) -> Result<Answer, Refusal> {
    no_parameters(query)?;
    // Only the one text form of a tile's path gets as far as the file system.
    let tile = Tile::parse(&format!("tile/{path}")).ok_or_else(Refusal::not_found)?;
    let bytes = read(&app.log_dir.join(tile.to_string())).await?;
    Ok(Unlogged::read(whole(StatusCode::OK, BYTES, bytes)))
}

pub(super) async fn proof(app: &App, query: &str) -> Result<Answer, Refusal> {
    let bad = || Refusal::bad_query("Ask with ?index=N, the number of an entry.");
    let text = parameter(query, "index")?.ok_or_else(bad)?;
    let index: u64 = text.parse().map_err(|_| bad())?;
    if index.to_string() != text {
        return Err(bad());
    }
    let proof =
        app.ledger.read(move |log| if index < log.size() { log.proof(index).map(Some) } else { Ok(None) });
    match proof.await {
        Ok(Some(proof)) => Ok(Unlogged::read(whole(StatusCode::OK, TEXT, proof.into_bytes()))),
        Ok(None) => Err(Refusal::not_found()),
        Err(failure) => {
            tracing::error!(%failure, "a proof cannot be made");
            Err(Refusal::internal("log-read-failed"))
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::not_found()),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a log file cannot be read");
            Err(Refusal::internal("log-read-failed"))
        }
    }
}

//! Small files that the commands read.

use std::path::Path;

use client::{Client, ClientBuilder, VerifierKey};
use wire::key::Lineage;

use crate::cli::Service;
use crate::failure::Failure;

/// Reads a whole text file.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::untried(format!("{}: cannot read {what} ({error}); check the path", path.display()))
    })
}

/// Reads the log's vkey line.
pub(crate) fn read_vkey(path: &Path) -> Result<VerifierKey, Failure> {
    let text = read_text(path, "the log's vkey")?;
    VerifierKey::parse(text.trim_end_matches('\n')).map_err(|error| {
        Failure::untried(format!(
            "{}: no vkey line ({error}); give the file `vkey` of the published log",
            path.display()
        ))
    })
}

/// Reads a lineage argument.
pub(crate) fn lineage(text: &str) -> Result<Lineage, Failure> {
    Lineage::parse(text).ok_or_else(|| {
        Failure::untried(format!(
            "{text:?} is no key lineage; give applet/key-set/role, for example transit/purse/tac"
        ))
    })
}

/// Puts the client together; without a pinned log key only status and keys work.
pub(crate) fn client(service: &Service, vkey: Option<VerifierKey>) -> Result<Client, Failure> {
    let builder = ClientBuilder::new(&service.url, &service.ca, &service.cert, &service.key);
    let builder = match vkey {
        Some(vkey) => builder.log_key(vkey),
        None => builder,
    };
    Ok(builder.build()?)
}

/// Runs `work` on a runtime of its own.
pub(crate) fn run<T>(work: impl Future<Output = Result<T, client::Error>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::untried(format!("cannot start threads ({error}); check the process limits"))
    })?;
    Ok(runtime.block_on(work)?)
}

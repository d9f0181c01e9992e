//! Small files that the commands read.

use std::path::Path;

use clearing::Day;
use client::{Client, ClientBuilder, VerifierKey};
use wire::key::Lineage;

use crate::cli::Service;
use crate::failure::Failure;

/// Reads a whole text file.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let path = path.display();
        Failure::untried(
            format!("{path}: 无法读取,请检查路径和权限。"),
            format!("cannot read {what} ({error}); check the path and its permissions"),
        )
    })
}

/// Reads the log's vkey line.
pub(crate) fn read_vkey(path: &Path) -> Result<VerifierKey, Failure> {
    let text = read_text(path, "the log's vkey")?;
    VerifierKey::parse(text.trim_end_matches('\n')).map_err(|error| {
        Failure::untried(
            format!("{}: 不是日志公钥(vkey),请给出已公布日志的 vkey 文件。", path.display()),
            format!("no vkey line ({error}); give the file `vkey` of the published log"),
        )
    })
}

/// Reads a lineage argument.
pub(crate) fn lineage(text: &str) -> Result<Lineage, Failure> {
    Lineage::parse(text).ok_or_else(|| {
        Failure::untried(
            format!("{text:?} 不是密钥名,格式为 应用/密钥组/用途。"),
            "it is no key lineage; give applet/key-set/role, for example transit/purse/tac",
        )
    })
}

/// Reads a settlement day.
pub(crate) fn day(path: &Path, lineage: &Lineage) -> Result<Day, Failure> {
    Day::read(path, lineage).map_err(|error| bad_day(&error))
}

/// A file that is no settlement day.
pub(crate) fn bad_day(error: &clearing::DayError) -> Failure {
    Failure::untried("清算文件无法使用,请检查后重试:", error.to_string())
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
        Failure::untried(
            "无法启动线程,请检查进程数限制。",
            format!("cannot start threads ({error}); check the process limits"),
        )
    })?;
    Ok(runtime.block_on(work)?)
}

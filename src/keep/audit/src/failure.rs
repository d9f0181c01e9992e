//! What a command says at its end: the result, or why there is none; for people and for programs.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};
use translog::audit::Finding;

/// Lines for people, an object for programs.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) lines: Vec<String>,
    pub(crate) json: Value,
}

impl Said {
    /// Everything was said already.
    pub(crate) fn nothing() -> Self {
        Self { lines: Vec::new(), json: Value::Null }
    }

    pub(crate) fn print(&self, json: bool) {
        if json && !self.json.is_null() {
            say(&self.json.to_string());
        } else if !json {
            self.lines.iter().for_each(|line| say(line));
        }
    }
}

/// Prints a line; a reader that has gone away is no reason to fail after the work is done.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A failure and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    untried: bool,
    kind: &'static str,
    message: String,
    place: Option<(String, Option<u64>)>,
}

impl Failure {
    /// Arguments or files are wrong; nothing was tried.
    pub(crate) fn untried(message: impl Into<String>) -> Self {
        Self { untried: true, kind: "usage", message: message.into(), place: None }
    }

    /// It was tried, and there is no result.
    pub(crate) fn no_result(kind: &'static str, message: impl Into<String>) -> Self {
        Self { untried: false, kind, message: message.into(), place: None }
    }

    /// The log is wrong.
    pub(crate) fn log(name: &str, finding: &Finding) -> Self {
        if finding.unreadable {
            let message = format!(
                "日志未能读取 the log could not be read, and nothing is known of it: {name}: {finding}; check the path or \
                 the service and try again"
            );
            return Self { untried: false, kind: "unreadable", message, place: None };
        }
        let message = format!(
            "日志有误 THE LOG IS NOT GOOD: {name}: {finding}; keep this copy as it is and tell the officers and the other \
             auditors"
        );
        let place = Some((finding.file.clone(), finding.index));
        Self { untried: false, kind: "log", message, place }
    }

    /// Two copies of the log differ at an entry.
    pub(crate) fn fork(index: u64, message: String) -> Self {
        Self { untried: false, kind: "fork", message, place: Some(("tile/entries".to_owned(), Some(index))) }
    }

    /// It could not be read: the next try may succeed.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.kind == "unreadable"
    }

    /// What happened.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Prints it and gives the exit code.
    pub(crate) fn print(&self, json: bool) -> ExitCode {
        if json {
            let mut error = json!({"kind": self.kind, "message": self.message});
            if let (Some((file, index)), Some(error)) = (&self.place, error.as_object_mut()) {
                error.insert("file".into(), json!(file));
                error.insert("index".into(), json!(index));
            }
            say(&json!({"ok": false, "error": error}).to_string());
        }
        eprintln!("citykeep audit: {}", self.message);
        ExitCode::from(if self.untried { 2 } else { 1 })
    }
}

/// A file of ours cannot be written.
pub(crate) fn unwritten(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::no_result(
        "file",
        format!("{}: cannot be written ({error}); check the path and the space on the disk", path.display()),
    )
}

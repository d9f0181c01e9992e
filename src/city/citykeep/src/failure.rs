//! Why there is no result, for people and for programs.

use std::process::ExitCode;

use serde_json::json;

use crate::report::say;

/// A failure and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    untried: bool,
    kind: &'static str,
    message: String,
}

impl Failure {
    /// Arguments or files are wrong; nothing was tried.
    pub(crate) fn untried(message: impl Into<String>) -> Self {
        Self { untried: true, kind: "usage", message: message.into() }
    }

    /// It was tried, and there is no result.
    pub(crate) fn no_result(kind: &'static str, message: impl Into<String>) -> Self {
        Self { untried: false, kind, message: message.into() }
    }

    /// Prints it and gives the exit code.
    pub(crate) fn print(&self, json: bool) -> ExitCode {
        if json {
            say(&json!({"ok": false, "error": {"kind": self.kind, "message": self.message}}).to_string());
        }
        eprintln!("citykeep: {}", self.message);
        ExitCode::from(if self.untried { 2 } else { 1 })
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        use client::Error as E;
        let kind = match &error {
            E::Config(_) => return Self::untried(error.to_string()),
            E::Connection(_) => "connection",
            E::Receipt(_) => "receipt",
            E::Records(_) => "records",
            E::Refused(_) => "refused",
            _ => "answer",
        };
        Self::no_result(kind, error.to_string())
    }
}

//! One error, sorted by whose fault it is.

use wire::api::Problem;

use crate::receipt::ReceiptError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service's answer is not one of the protocol.
    #[error("THE ANSWER IS WRONG, use nothing of it and tell the operator: {0}")]
    Answer(String),
    /// The caller's URL, files or pinned keys; nothing was sent.
    #[error("{0}")]
    Config(String),
    /// The network, or the other side went away.
    #[error("{0}")]
    Connection(String),
    /// The receipt does not prove what the service said.
    #[error("THE RECEIPT IS WRONG, use no verdict of this batch and tell the operator and the auditor: {0}")]
    Receipt(#[from] ReceiptError),
    /// The caller's records failed or are not as many as announced; the batch was aborted.
    #[error("{0}")]
    Records(String),
    /// The service refused.
    #[error("the service refused ({} {}): {}", .0.status, .0.code, .0.detail)]
    Refused(Box<Problem>),
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Wrappers tend to repeat what they wrap.
        if !text.ends_with(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

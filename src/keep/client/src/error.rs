//! One error, sorted by whose fault it is.

use std::time::Duration;

use wire::api::Problem;

use crate::receipt::ReceiptError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service's answer is not one of the protocol.
    #[error("THE ANSWER IS WRONG, use nothing of it and tell the operator: {0}")]
    Answer(String),
    /// One side does not accept the other's certificate; the same files again cannot fare better.
    #[error("{0}")]
    Certificate(String),
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
    #[error("{0}")]
    Refused(Box<Refusal>),
}

impl Error {
    /// A refusal without a word on when to come again.
    pub(crate) fn refused(problem: Problem) -> Self {
        Self::Refused(Box::new(Refusal { problem, retry_after: None }))
    }
}

/// A refusal: the service's problem, and how long the service asks to wait.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// What the service said.
    pub problem: Problem,
    /// Whole seconds from `Retry-After`; the service gives it wherever waiting helps.
    pub retry_after: Option<Duration>,
}

impl core::ops::Deref for Refusal {
    type Target = Problem;

    fn deref(&self) -> &Problem {
        &self.problem
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Problem { status, code, detail, .. } = &self.problem;
        write!(f, "the service refused ({status} {code}): {detail}")?;
        match self.retry_after {
            Some(wait) => write!(f, " Come again in {} s.", wait.as_secs()),
            None => Ok(()),
        }
    }
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

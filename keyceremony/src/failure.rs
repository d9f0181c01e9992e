//! Why something did not work, in one sentence for people, Chinese and English, with what to do next.

use std::fmt;

use wire::error::Refused;

use crate::words;

/// A refusal or failure. Never holds a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    step: Option<String>,
    zh: String,
    en: String,
}

impl Failure {
    pub(crate) fn new(zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { step: None, zh: zh.into(), en: en.into() }
    }

    /// Whose doing it was, where the Chinese words do not say so yet.
    pub(crate) fn of(mut self, whose: &str) -> Self {
        if !self.zh.contains(whose) {
            self.zh = format!("{whose}:{}", self.zh);
        }
        self
    }

    /// The step of the ceremony at which it happened. The innermost name stays.
    pub(crate) fn at(mut self, step: impl Into<String>) -> Self {
        self.step.get_or_insert_with(|| step.into());
        self
    }
}

impl From<Refused> for Failure {
    /// The module's own sentence goes to the officer as it is; the Chinese says the same in general.
    fn from(refused: Refused) -> Self {
        Self { step: None, zh: words::refusal(refused.code).to_owned(), en: refused.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = &self.step {
            write!(f, "{step}: ")?;
        }
        write!(f, "{}\n  {}", self.en, self.zh)
    }
}

impl std::error::Error for Failure {}

/// Turns any error into a failure with its context.
pub(crate) trait OrFail<T> {
    /// Says in Chinese and English what could not be done; the cause follows the English.
    fn or_fail(self, zh: &str, en: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, zh: &str, en: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(zh, format!("{en}: {error}")))
    }
}

//! Refusals over HTTP: the client gets a code and what to do next, the log gets the reason; nobody gets both.

pub(crate) mod table;

use std::borrow::Cow;

use http::StatusCode;
use wire::api::Problem;
use wire::error::Refused;

use self::table::Row;
use crate::policy::Denied;

/// Why a request is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    row: &'static Row,
    detail: Cow<'static, str>,
    /// What the log says.
    pub(crate) logged: &'static str,
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal in the table's own words.
    pub(crate) fn of(row: &'static Row) -> Self {
        Self::because(row, format!("{}. {}", row.title, row.remedy))
    }

    /// A refusal with its own sentence, which ends with what to do.
    pub(crate) fn because(row: &'static Row, why: impl std::fmt::Display) -> Self {
        let detail = format!("{why} {}。", row.chinese).into();
        Self { row, detail, logged: row.code, retry_after_s: None, allow: None }
    }

    fn logged(self, logged: &'static str) -> Self {
        Self { logged, ..self }
    }

    fn retry(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(self.row.status, self.row.code, self.row.title, self.detail.clone())
    }

    /// Stable code that the client sees.
    pub(crate) fn code(&self) -> &'static str {
        self.row.code
    }

    /// What does not exist, and what is not the client's: they look alike.
    pub(crate) fn not_found() -> Self {
        Self::of(&table::NOT_FOUND)
    }

    /// A key that does not exist, or is not the client's: they look alike.
    pub(crate) fn no_such_key() -> Self {
        Self::of(&table::NO_SUCH_KEY)
    }

    /// A licence that does not exist, or is another line's: they look alike.
    pub(crate) fn no_such_licence() -> Self {
        Self::of(&table::NO_SUCH_LICENCE)
    }

    /// A blacklist that does not exist, or is of a wall that the client has no grant for: they look alike.
    pub(crate) fn no_such_list() -> Self {
        Self::of(&table::NO_SUCH_LIST)
    }

    pub(crate) fn not_permitted(denied: Denied) -> Self {
        Self::of(&table::NOT_PERMITTED).logged(denied.code())
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        let refusal = Self::because(&table::METHOD, format_args!("Use {allow} here."));
        Self { allow: Some(allow), ..refusal }
    }

    pub(crate) fn media_type(why: &'static str) -> Self {
        Self::because(&table::MEDIA_TYPE, why)
    }

    pub(crate) fn not_acceptable(why: &'static str) -> Self {
        Self::because(&table::NOT_ACCEPTABLE, why)
    }

    pub(crate) fn too_large(why: impl std::fmt::Display) -> Self {
        Self::because(&table::TOO_LARGE, why)
    }

    pub(crate) fn bad_query(why: impl std::fmt::Display) -> Self {
        Self::because(&table::BAD_QUERY, why)
    }

    pub(crate) fn bad_json(why: impl std::fmt::Display) -> Self {
        Self::because(&table::BAD_JSON, why)
    }

    /// A field of a request that has the right type and the wrong form.
    pub(crate) fn bad_field(why: &str) -> Self {
        Self::because(&table::BAD_FIELD, format_args!("{why}."))
    }

    pub(crate) fn bad_batch(why: impl std::fmt::Display) -> Self {
        Self::because(&table::BAD_BATCH, why)
    }

    pub(crate) fn bad_command(why: impl std::fmt::Display) -> Self {
        Self::because(&table::BAD_COMMAND, why)
    }

    pub(crate) fn body_timeout() -> Self {
        Self::of(&table::BODY_TIMEOUT)
    }

    pub(crate) fn body_broken() -> Self {
        Self::of(&table::BODY_BROKEN)
    }

    pub(crate) fn quota(seconds: u64) -> Self {
        Self::of(&table::QUOTA).retry(seconds)
    }

    pub(crate) fn busy(why: impl std::fmt::Display) -> Self {
        Self::because(&table::BUSY, why).retry(1)
    }

    pub(crate) fn not_approved() -> Self {
        Self::of(&table::NOT_APPROVED).retry(10)
    }

    pub(crate) fn module_gone() -> Self {
        Self::of(&table::MODULE_GONE).retry(10)
    }

    pub(crate) fn unwitnessed() -> Self {
        Self::of(&table::UNWITNESSED).retry(5)
    }

    /// A command whose entry is at this index.
    pub(crate) fn command_unwitnessed(index: u64) -> Self {
        let row = &table::COMMAND_UNWITNESSED;
        Self::because(row, format_args!("{}: entry {index} of the log. {}", row.title, row.remedy))
    }

    pub(crate) fn module_state() -> Self {
        Self::of(&table::MODULE_STATE).retry(10)
    }

    pub(crate) fn result_gone() -> Self {
        Self::of(&table::RESULT_GONE).retry(1)
    }

    pub(crate) fn internal(logged: &'static str) -> Self {
        Self::of(&table::INTERNAL).logged(logged)
    }

    /// What the module refused of a client's data.
    pub(crate) fn of_module(refused: &Refused) -> Self {
        match table::of_module(refused.code) {
            Some(row) => Self::in_its_words(row, refused),
            None => Self::internal(refused.code.as_str()),
        }
    }

    /// What the module refused of a relayed command.
    pub(crate) fn of_command(refused: &Refused) -> Self {
        match table::of_command(refused.code) {
            Some(row) => Self::in_its_words(row, refused),
            None => Self::internal(refused.code.as_str()),
        }
    }

    /// The module's own sentence says best what is wrong with a list, a token, a card. What is not there looks the same
    /// whatever the reason, and what is about the service needs none.
    fn in_its_words(row: &'static Row, refused: &Refused) -> Self {
        match row.status {
            404 => Self::of(row),
            503 => match row.code {
                "busy" => Self::busy("The module is busy; try again."),
                "result-gone" => Self::result_gone(),
                "unwitnessed" => Self::unwitnessed(),
                _ => Self::module_state(),
            },
            _ => {
                let message = refused.message.trim_end_matches('.');
                Self::because(row, format_args!("{message}. {}", row.remedy))
            }
        }
    }
}

#[cfg(test)]
mod tests;

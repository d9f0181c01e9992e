//! Refusals over HTTP: the client gets a code and what to do next, the log gets the reason; nobody gets both.

use std::borrow::Cow;

use http::StatusCode;
use wire::api::Problem;
use wire::error::{Refusal as Code, Refused};

use crate::policy::Denied;

/// Why a request is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub(crate) status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    /// What the log says.
    pub(crate) logged: &'static str,
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), logged: code, retry_after_s: None, allow: None }
    }

    fn logged(self, logged: &'static str) -> Self {
        Self { logged, ..self }
    }

    fn retry(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// The body.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(self.status.as_u16(), self.code, self.title, self.detail.clone())
    }

    /// Stable code that the client sees.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// What does not exist, and what is not the client's: they look alike.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            "There is nothing under this path for you; check it. 没有此资源。",
        )
    }

    /// A key that does not exist, or is not the client's: they look alike.
    pub(crate) fn no_such_key() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-key",
            "No such key",
            "There is no such key for you; GET /v1/keys lists those that you may use. 没有此密钥。",
        )
    }

    pub(crate) fn not_permitted(denied: Denied) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "not-permitted",
            "Not permitted",
            "The policy does not grant this operation to you; ask the officers for a grant. 策略未授权此操作。",
        )
        .logged(denied.code())
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        let refusal = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            format!("Use {allow} here."),
        );
        Self { allow: Some(allow), ..refusal }
    }

    pub(crate) fn media_type(detail: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Unsupported media type", detail)
    }

    pub(crate) fn not_acceptable(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "Not acceptable", detail)
    }

    pub(crate) fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
    }

    pub(crate) fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, "Bad request", detail)
    }

    pub(crate) fn body_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "Body too slow",
            "The body did not come in time; send it without pauses.",
        )
    }

    pub(crate) fn body_broken() -> Self {
        Self::bad_request("body-broken", "The body broke off before its end; send it again.")
    }

    pub(crate) fn quota(seconds: u64) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "quota",
            "Quota used up",
            "Your quota of items per second is used up; wait as Retry-After says. 超出配额,请稍后再试。",
        )
        .retry(seconds)
    }

    pub(crate) fn busy(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy", detail).retry(1)
    }

    pub(crate) fn not_approved() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-approved",
            "Policy not approved",
            "The officers have approved another policy or CA bundle than keyd has loaded; put the approved file in place.",
        )
        .retry(10)
    }

    pub(crate) fn module_gone() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "module-gone",
            "Module gone",
            "The cryptographic module is gone; there is no result. Send the request again later.",
        )
        .retry(10)
    }

    pub(crate) fn internal(logged: &'static str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "keyd could not answer; its own log says why.",
        )
        .logged(logged)
    }

    /// What the module refused of a client's data.
    pub(crate) fn of_module(refused: &Refused) -> Self {
        match refused.code {
            Code::NoSuchKey => Self::no_such_key(),
            Code::Busy => Self::busy("The module is busy; try again."),
            Code::BatchGroups => Self::bad_request(
                "batch-groups",
                "The batch has a group twice or more than 65535 groups; split it.",
            ),
            Code::TooLarge => Self::too_large("The module takes no more at once; send less."),
            Code::WrongState | Code::Fault => Self::module_state(),
            _ => Self::internal(refused.code.as_str()),
        }
    }

    pub(crate) fn module_state() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "module-state",
            "Module not operational",
            "The module does not serve in its present state; GET /v1/status names it.",
        )
        .retry(10)
    }

    /// What the module refused of a relayed command: the officers who sent it need its own words.
    pub(crate) fn of_command(refused: &Refused) -> Self {
        let (status, title) = match refused.code {
            Code::BadCommand | Code::BadFrame | Code::TooLarge => (StatusCode::BAD_REQUEST, "Not a command"),
            Code::WrongState | Code::Fault | Code::Busy => return Self::of_module(refused),
            _ => (StatusCode::CONFLICT, "Command refused"),
        };
        Self::new(status, refused.code.as_str(), title, refused.message.clone())
    }
}

//! Why there is no result, for people and for programs.

use std::process::ExitCode;

use serde_json::json;

use crate::report::say;

/// A sentence in both languages of the house: what is wrong and what to do next.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) zh: String,
    pub(crate) en: String,
}

/// Chinese and English of one sentence.
pub(crate) fn words(zh: impl Into<String>, en: impl Into<String>) -> Words {
    Words { zh: zh.into(), en: en.into() }
}

impl core::fmt::Display for Words {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.zh, self.en)
    }
}

/// A failure and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    untried: bool,
    kind: &'static str,
    words: Words,
}

impl Failure {
    /// Arguments or files are wrong; nothing was tried.
    pub(crate) fn untried(zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { untried: true, kind: "usage", words: words(zh, en) }
    }

    /// It was tried, and there is no result.
    pub(crate) fn no_result(kind: &'static str, zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { untried: false, kind, words: words(zh, en) }
    }

    /// Prints it and gives the exit code.
    pub(crate) fn print(&self, json: bool) -> ExitCode {
        if json {
            say(&json!({"ok": false, "error": {"kind": self.kind, "message": self.words.to_string()}})
                .to_string());
        }
        eprintln!("citykeep: {}", self.words);
        ExitCode::from(if self.untried { 2 } else { 1 })
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        use client::Error as E;
        let (kind, zh) = match &error {
            E::Config(_) => return Self::untried("参数或文件有误,尚未发出任何请求:", error.to_string()),
            E::Certificate(_) => {
                ("certificate", "证书未被接受,请核对本机证书、CA 与主机名,或向安全官申请新证书:".to_owned())
            }
            E::Connection(_) => ("connection", "连接失败,请确认服务在运行后重试:".to_owned()),
            E::Receipt(_) => ("receipt", "回执有误,本批结果一律不得使用,请通知运维和审计:".to_owned()),
            E::Records(_) => ("records", "本机数据有误,该批已中止,请修正后重发:".to_owned()),
            E::Refused(refusal) => {
                let wait = refusal.retry_after.map(|wait| format!(",请在 {} 秒后重试", wait.as_secs()));
                ("refused", format!("服务拒绝了请求{}:", wait.unwrap_or_default()))
            }
            _ => ("answer", "服务的应答有误,不得使用,请通知运维:".to_owned()),
        };
        Self::no_result(kind, zh, error.to_string())
    }
}

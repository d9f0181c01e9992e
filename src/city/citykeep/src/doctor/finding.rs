//! What one check found.

use serde_json::{Value, json};

/// How it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Good,
    /// Works, and somebody should look at it.
    Warn,
    Bad,
    /// It cannot be seen from here.
    Unchecked,
}

impl State {
    fn sign(self) -> char {
        match self {
            Self::Good => '✓',
            Self::Warn => '!',
            Self::Bad => '✗',
            Self::Unchecked => '-',
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warning",
            Self::Bad => "bad",
            Self::Unchecked => "not-checked",
        }
    }
}

/// One line of the report. `check` is a stable name that scripts may look for.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) state: State,
    zh: String,
    en: String,
    next: Option<(String, String)>,
}

impl Finding {
    pub(super) fn good(check: &'static str, zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { check, state: State::Good, zh: zh.into(), en: en.into(), next: None }
    }

    pub(super) fn unchecked(check: &'static str, zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { state: State::Unchecked, ..Self::good(check, zh, en) }
    }

    /// Works, but.
    pub(super) fn warn(
        check: &'static str,
        [zh, en]: [impl Into<String>; 2],
        [next_zh, next_en]: [impl Into<String>; 2],
    ) -> Self {
        let next = Some((next_zh.into(), next_en.into()));
        Self { state: State::Warn, next, ..Self::good(check, zh, en) }
    }

    /// Wrong: what, and what to do next.
    pub(super) fn bad(
        check: &'static str,
        what: [impl Into<String>; 2],
        next: [impl Into<String>; 2],
    ) -> Self {
        Self { state: State::Bad, ..Self::warn(check, what, next) }
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let lead = if self.state == State::Unchecked { "未检查 not checked: " } else { "" };
        let mut lines =
            vec![format!("{} {:<16} {lead}{} · {}", self.state.sign(), self.check, self.zh, self.en)];
        if let Some((zh, en)) = &self.next {
            lines.push(format!("    → {zh}"));
            lines.push(format!("    → {en}"));
        }
        lines
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let next = self.next.as_ref().map(|(zh, en)| json!({"zh": zh, "en": en}));
        json!({"check": self.check, "state": self.state.name(), "zh": self.zh, "en": self.en, "next": next})
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.lines().join("\n")
    }
}

//! What a command says at its end.

use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;
use wire::api::{CountsBody, Receipt};

/// Lines for people, an object for programs.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) lines: Vec<String>,
    pub(crate) json: Value,
}

impl Report {
    /// 0, or 1 where the work was done and what it found is bad (`doctor`).
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(u8::from(self.json.get("ok") == Some(&Value::Bool(false))))
    }

    /// Prints one of the two.
    pub(crate) fn print(&self, json: bool) {
        if json {
            say(&self.json.to_string());
        } else {
            for line in &self.lines {
                say(line);
            }
        }
    }
}

/// Prints a line; a reader that has gone away is no reason to fail after the work is done.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Counts by verdict and by key version.
pub(crate) fn counts(receipt: &Receipt) -> Vec<String> {
    let mut lines =
        vec![table_row("", &["ok", "bad_tac", "unknown_key", "malformed", "withheld"].map(str::to_owned))];
    lines.push(table_row(
        "版本 key",
        &["通过", "TAC错误", "未知密钥", "格式错误", "暂不判定"].map(str::to_owned),
    ));
    for row in &receipt.versions {
        lines.push(table_row(&row.version, &cells(&row.counts)));
    }
    lines.push(table_row("合计 all", &cells(&receipt.counts)));
    lines
}

fn cells(counts: &CountsBody) -> [String; 5] {
    let CountsBody { ok, bad_tac, unknown_key, malformed, withheld } = *counts;
    [ok, bad_tac, unknown_key, malformed, withheld].map(|count| count.to_string())
}

fn table_row(name: &str, cells: &[String; 5]) -> String {
    cells.iter().fold(pad(name, 10, false), |row, cell| row + &pad(cell, 13, true)).trim_end().to_owned()
}

/// Pads to columns on a terminal, where a Chinese character takes two.
fn pad(text: &str, width: usize, right: bool) -> String {
    let columns: usize = text.chars().map(|one| if one > '\u{2e7f}' { 2 } else { 1 }).sum();
    let space = " ".repeat(width.saturating_sub(columns));
    if right { space + text } else { text.to_owned() + &space }
}

/// What to say loudly about withheld verdicts.
pub(crate) fn warnings(receipt: &Receipt) -> Vec<String> {
    let withheld = receipt.counts.withheld;
    if withheld == 0 {
        return Vec::new();
    }
    vec![format!(
        "注意 NOTE: {withheld} withheld: a card or key version has used up its budget of wrong TACs. Nothing is known of these \
         lines; find out who sends wrong TACs, then have the officers reset the budget and send the day again."
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        assert_eq!(pad("合计", 6, false), "合计  ");
        assert_eq!(pad("12", 4, true), "  12");
        assert_eq!(pad("TAC错误", 8, true), " TAC错误");
    }
}

//! Rows for people and for collectors. What is rendered is a reading of the log; what is proved is the log.

use serde_json::{Value, json};

use crate::cli::Form;
use crate::row::{Outcome, Row};

/// Enterprise number of RFC 5612, for structured data that no registry names.
const STRUCTURED: &str = "citykeep@32473";

/// Facility 13, log audit (RFC 5424 §6.2.1).
const FACILITY: u8 = 13;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One line.
pub(crate) fn line(row: &Row, form: Form, origin: &str) -> String {
    match form {
        Form::Table => table(row),
        Form::Json => row.json().to_string(),
        Form::Ocsf => ocsf(row, origin).to_string(),
        Form::Cef => cef(row, origin),
        Form::Syslog => syslog(row, origin),
    }
}

fn table(row: &Row) -> String {
    let (index, time, kind) = (row.index, row.time(), row.kind);
    let refused = if row.outcome == Outcome::Refused { "拒绝 " } else { "" };
    let list = |name, list: &[String]| {
        if list.is_empty() { String::new() } else { format!("  {name}={}", list.join(",")) }
    };
    let (by, key) = (list("by", &row.actors), list("key", &row.keys));
    plain(&format!("{index:>8}  {time:24}  {kind:9}  {refused}{} | {}{by}{key}", row.words.0, row.words.1))
}

/// Names in a log come from clients: no control character of theirs reaches a terminal or a collector.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// 1 informational, 3 low, 4 medium (OCSF); by what an auditor looks at first.
fn severity(row: &Row) -> u8 {
    match (row.outcome, row.kind) {
        (Outcome::Refused, _) => 4,
        (_, "genesis" | "boot" | "command" | "component" | "epoch" | "truncated" | "witness") => 3,
        _ => 1,
    }
}

/// OCSF 1.3: category, class and activity of an entry.
fn class(row: &Row) -> (u32, u32, u32) {
    match row.kind {
        // Application Lifecycle: start, other.
        "genesis" | "boot" => (6, 6002, 3),
        // Entity Management: create, update.
        "command" | "component" | "intent" | "closed" => {
            (3, 3004, if row.facts.contains_key("made") { 1 } else { 3 })
        }
        // Authentication: logon.
        "asserted" if row.facts.get("category").is_some_and(|category| category == "access") => (3, 3002, 1),
        "asserted" | "epoch" | "heartbeat" | "witness" | "truncated" => (6, 6002, 99),
        // API Activity: create, read.
        "issued" | "list" | "load" | "script" => (6, 6003, 1),
        "batch" | "single" => (6, 6003, 2),
        _ => (6, 6003, 99),
    }
}

fn ocsf(row: &Row, origin: &str) -> Value {
    let (category, class, activity) = class(row);
    let failed = row.outcome == Outcome::Refused;
    let mut event = json!({
        "category_uid": category,
        "class_uid": class,
        "activity_id": activity,
        "type_uid": class * 100 + activity,
        "time": row.wall_ns / 1_000_000,
        "severity_id": severity(row),
        "status_id": if failed { 2 } else { 1 },
        "status": if failed { "Failure" } else { "Success" },
        "message": row.words.1,
        "metadata": {
            "version": "1.3.0",
            "product": {"name": "citykeep", "vendor_name": "citykeep", "version": VERSION},
            "log_name": origin,
            "uid": format!("{origin}#{}", row.index),
            "sequence": row.index,
        },
        "actor": {"user": {"name": row.actors.first().map_or("module", String::as_str)}},
        "device": {"uid": row.node, "type_id": 0},
        "unmapped": {"kind": row.kind, "actors": row.actors, "keys": row.keys, "boot": row.boot, "event": row.facts},
    });
    let more = match class {
        6003 => json!({"api": {"operation": row.kind}, "src_endpoint": {"name": "keyd"}}),
        6002 => json!({"app": {"name": "citykeep", "vendor_name": "citykeep"}}),
        3002 => json!({"user": {"name": row.actors.first().map_or("unknown", String::as_str)}}),
        _ => json!({"entity": {"name": row.keys.first().map_or(row.kind, String::as_str), "type": row.kind}}),
    };
    if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
        event.extend(more.clone());
    }
    event
}

fn cef(row: &Row, origin: &str) -> String {
    let head = |text: &str| plain(text).replace('\\', "\\\\").replace('|', "\\|");
    let value = |text: &str| plain(text).replace('\\', "\\\\").replace('=', "\\=");
    let severity = severity(row) * 2;
    let (actors, keys) = (value(&row.actors.join(",")), value(&row.keys.join(",")));
    format!(
        "CEF:0|citykeep|citykeep|{}|{}|{}|{severity}|rt={} outcome={} suser={actors} externalId={} cs1Label=log cs1={} \
         cs2Label=keys cs2={keys} cs3Label=boot cs3={} msg={}",
        head(VERSION),
        head(row.kind),
        head(&row.words.1),
        row.wall_ns / 1_000_000,
        row.outcome.name(),
        row.index,
        value(origin),
        row.boot,
        value(&row.words.0),
    )
}

fn syslog(row: &Row, origin: &str) -> String {
    let level = match severity(row) {
        4 => 4,
        3 => 5,
        _ => 6,
    };
    let value = |text: &str| plain(text).replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
    // HOSTNAME is printable ASCII without spaces, at most 255.
    let host: String = origin
        .split('/')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    let host = if host.is_empty() { "-" } else { &host };
    format!(
        "<{}>1 {} {host} citykeep - {} [{STRUCTURED} log=\"{}\" index=\"{}\" outcome=\"{}\" actors=\"{}\" keys=\"{}\" \
         boot=\"{}\"] \u{feff}{} | {}",
        FACILITY * 8 + level,
        row.time(),
        row.kind,
        value(origin),
        row.index,
        row.outcome.name(),
        value(&row.actors.join(",")),
        value(&row.keys.join(",")),
        row.boot,
        plain(&row.words.0),
        plain(&row.words.1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            index: 7,
            wall_ns: 1_700_000_000_123_000_000,
            kind: "denied",
            actors: vec!["a\\b\"]|=\nc".into()],
            keys: vec!["transit/purse/tac@41".into()],
            outcome: Outcome::Refused,
            words: ("拒绝".into(), "x|y=z\r\nforged".into()),
            facts: serde_json::Map::new(),
            node: "22".into(),
            boot: "33".into(),
            epoch: 0,
        }
    }

    #[test]
    fn nobody_forges_a_line_or_a_field() {
        for form in [Form::Table, Form::Json, Form::Ocsf, Form::Cef, Form::Syslog] {
            let line = line(&row(), form, "log.example/1");
            assert!(!line.contains(['\n', '\r']), "{form:?}: {line}");
        }
        let syslog = line(&row(), Form::Syslog, "log.example/1");
        assert!(
            syslog.starts_with(
                "<108>1 2023-11-14T22:13:20.123Z log.example citykeep - denied [citykeep@32473 "
            )
        );
        assert!(syslog.contains("actors=\"a\\\\b\\\"\\]|=\u{fffd}c\""), "{syslog}");
        let cef = line(&row(), Form::Cef, "log.example/1");
        assert!(cef.contains("|denied|x\\|y=z\u{fffd}\u{fffd}forged|8|rt=1700000000123 "), "{cef}");
        assert!(cef.contains("suser=a\\\\b\"]|\\=\u{fffd}c "), "{cef}");
    }

    #[test]
    fn ocsf_types_are_their_class_and_activity() {
        let event = ocsf(&row(), "log.example/1");
        assert_eq!((event["class_uid"].as_u64(), event["type_uid"].as_u64()), (Some(6003), Some(600_399)));
        assert_eq!((event["status_id"].as_u64(), event["time"].as_u64()), (Some(2), Some(1_700_000_000_123)));
        assert_eq!(event["metadata"]["uid"], "log.example/1#7");
    }
}

//! `audit verify`

use serde_json::{Value, json};
use translog::audit::Report;
use wire::purse::to_hex;

use crate::cli::Verify;
use crate::failure::{Failure, Said};
use crate::place;
use crate::row::instant;

pub(crate) fn run(arguments: &Verify) -> Result<Said, Failure> {
    let (_, log) = place::verified(&arguments.which, &mut ())?;
    Ok(Said { lines: lines(&log), json: object(&log) })
}

/// The verdict, for people.
pub(crate) fn lines(log: &Report) -> Vec<String> {
    let kinds: Vec<String> = log.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let instance = if log.rehearsal { "演练 rehearsal" } else { "生产 production" };
    let mut lines = vec![
        "日志有效 the log is good, from its first entry to its checkpoint".to_owned(),
        format!("日志 log       {}, {} entries", log.origin, log.size),
        format!("树根 root      {}", to_hex(&log.root)),
        format!("见证 witness   {}", witnesses(log)),
        format!("实例 instance  {} ({instance})", to_hex(&log.instance)),
        format!("条目 entries   {}", kinds.join(", ")),
        format!("启动 boots     {}, officer epoch {}", log.boots, log.officer_epoch),
        format!("策略 policy    {}", to_hex(&log.policy)),
        format!("证书 CA        {}", to_hex(&log.ca)),
    ];
    for (key, state) in &log.keys {
        lines.push(format!("密钥 key       {key}  {state}"));
    }
    if log.zeroised {
        lines.push("注意 NOTE: the module was wiped and has not come back".to_owned());
    }
    lines
}

/// Who cosigned the head, and when.
pub(crate) fn witnesses(log: &Report) -> String {
    if log.witnesses.is_empty() {
        return "无 none: nobody outside has seen this head; a policy with witnesses asks for more"
            .to_owned();
    }
    let one =
        |(name, time): &(String, u64)| format!("{name} {}", instant(time.saturating_mul(1_000_000_000)));
    log.witnesses.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The verdict, for programs.
pub(crate) fn object(log: &Report) -> Value {
    let keys =
        log.keys.iter().map(|(key, state)| json!({"key": key.to_string(), "state": state.to_string()}));
    let witnesses = log.witnesses.iter().map(|(name, time)| json!({"name": name, "time": time}));
    json!({
        "ok": true,
        "origin": log.origin,
        "vkey": log.vkey,
        "instance": to_hex(&log.instance),
        "node": to_hex(&log.node),
        "rehearsal": log.rehearsal,
        "size": log.size,
        "root": to_hex(&log.root),
        "witnesses": witnesses.collect::<Vec<_>>(),
        "cosigned": log.cosigned,
        "entries": log.kinds,
        "keys": keys.collect::<Vec<_>>(),
        "officer_epoch": log.officer_epoch,
        "boots": log.boots,
        "policy": to_hex(&log.policy),
        "ca": to_hex(&log.ca),
        "zeroised": log.zeroised,
        "wall_ns": [log.wall_ns.0, log.wall_ns.1],
    })
}

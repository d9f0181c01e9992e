//! `citykeep audit verify`

use serde_json::json;
use translog::audit::{Report as Log, verify as verify_log};
use wire::purse::to_hex;

use crate::cli::AuditVerify;
use crate::failure::Failure;
use crate::files;
use crate::meter::Meter;
use crate::report::Report;

pub(crate) fn verify(arguments: &AuditVerify) -> Result<Report, Failure> {
    let vkey = files::read_vkey(&arguments.vkey)?;
    if !arguments.dir.is_dir() {
        let dir = arguments.dir.display();
        return Err(Failure::untried(format!(
            "{dir}: no such folder; give the published log, the folder with `checkpoint` and `tile/`"
        )));
    }
    let mut meter = Meter::new("entries");
    let found = verify_log(&arguments.dir, &vkey, |done, total| meter.show(done, total));
    drop(meter);
    match found {
        Ok(log) => Ok(report(&log)),
        Err(finding) => Err(Failure::no_result(
            "log",
            format!(
                "日志有误 THE LOG IS NOT GOOD: {finding}; keep this copy as it is and tell the officers and the other auditors"
            ),
        )),
    }
}

fn report(log: &Log) -> Report {
    let kinds: Vec<String> = log.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let instance = if log.rehearsal { "演练 rehearsal" } else { "生产 production" };
    let mut lines = vec![
        "日志有效 the log is good, from its first entry to its checkpoint".to_owned(),
        format!("日志 log       {}, {} entries", log.origin, log.size),
        format!("树根 root      {}", to_hex(&log.root)),
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
    let keys: Vec<_> = log
        .keys
        .iter()
        .map(|(key, state)| json!({"key": key.to_string(), "state": state.to_string()}))
        .collect();
    Report {
        lines,
        json: json!({
            "ok": true,
            "origin": log.origin,
            "instance": to_hex(&log.instance),
            "node": to_hex(&log.node),
            "rehearsal": log.rehearsal,
            "size": log.size,
            "root": to_hex(&log.root),
            "entries": log.kinds,
            "keys": keys,
            "officer_epoch": log.officer_epoch,
            "boots": log.boots,
            "policy": to_hex(&log.policy),
            "ca": to_hex(&log.ca),
            "zeroised": log.zeroised,
            "wall_ns": [log.wall_ns.0, log.wall_ns.1],
        }),
    }
}

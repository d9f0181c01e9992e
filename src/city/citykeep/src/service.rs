//! `citykeep status` and `citykeep keys`

use serde_json::json;

use crate::cli::ServiceArguments;
use crate::failure::Failure;
use crate::files;
use crate::report::Report;

pub(crate) fn status(arguments: &ServiceArguments) -> Result<Report, Failure> {
    let client = files::client(&arguments.service, None)?;
    let status = files::run(client.status())?;
    let unknown = || "–".to_owned();
    let size = status.log_size.map_or_else(unknown, |size| size.to_string());
    let rehearsal = match status.rehearsal {
        Some(true) => "演练 rehearsal",
        Some(false) => "生产 production",
        None => "–",
    };
    let lines = vec![
        format!("状态 state     {}", status.state),
        format!("实例 instance  {} ({rehearsal})", status.instance.clone().unwrap_or_else(unknown)),
        format!("日志 log       {}, {size} entries", status.origin.clone().unwrap_or_else(unknown)),
        format!("见证 witness   {}", status.witness.clone().unwrap_or_else(unknown)),
        format!("启动 boot      {}", status.boot),
        format!("内存 memory    {}, 算法 backend {}", status.memory, status.backend),
    ];
    Ok(Report { lines, json: json!({"ok": true, "status": status}) })
}

pub(crate) fn keys(arguments: &ServiceArguments) -> Result<Report, Failure> {
    let client = files::client(&arguments.service, None)?;
    let keys = files::run(client.keys())?.keys;
    let mut lines = vec![format!("可用密钥 keys for this client: {}", keys.len())];
    for key in &keys {
        lines.push(format!(
            "  {}@{}  {}  {}  KCV {}  {}  {}",
            key.lineage,
            key.version,
            key.algorithm,
            key.state,
            key.kcv,
            key.levels.join(" → "),
            key.usage.join(", ")
        ));
    }
    Ok(Report { lines, json: json!({"ok": true, "keys": keys}) })
}

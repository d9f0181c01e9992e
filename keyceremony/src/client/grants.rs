//! What a policy grants to a client, in words.

use std::path::Path;

use crate::failure::Failure;
use crate::files;

/// A line per grant of the role that names this client.
pub(crate) fn granted(policy: &Path, client: &str) -> Result<Vec<String>, Failure> {
    let text = files::read_text(policy, "the policy")?;
    describe(&text, client).map_err(|why| {
        let path = policy.display();
        Failure::new(
            format!("策略 {path} 没有授予该客户端任何权限,或不能读取。"),
            format!("{path}: {why}; have a role name it, or correct the name in the request"),
        )
    })
}

fn describe(text: &str, client: &str) -> Result<Vec<String>, String> {
    let policy: toml::Table = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let domain = policy.get("trust_domain").and_then(toml::Value::as_str).unwrap_or_default();
    let path = client
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.strip_prefix(domain))
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(|| format!("{client} is of another trust domain than {domain}"))?;
    let roles = policy.get("roles").and_then(toml::Value::as_table);
    let named: Vec<_> = roles.into_iter().flatten().filter(|(_, role)| names(role, path)).collect();
    let (name, role) = match named.as_slice() {
        [one] => one,
        [] => return Err(format!("no role names {client}, so it may do nothing")),
        _ => return Err(format!("two roles name {client}, so it has no rights at all")),
    };
    let mut lines = vec![format!("  角色 role        {name}")];
    for grant in role.get("grants").and_then(toml::Value::as_array).into_iter().flatten() {
        let list = |field: &str| {
            let items = grant.get(field).and_then(toml::Value::as_array).into_iter().flatten();
            items.filter_map(toml::Value::as_str).collect::<Vec<_>>().join(", ")
        };
        let (operations, lineages) = (list("operations"), list("lineages"));
        let quota = grant.get("items_per_second").and_then(toml::Value::as_integer);
        let quota = quota.map_or_else(String::new, |quota| format!(", 每秒 at most {quota}/s"));
        let keys = if lineages.is_empty() { String::new() } else { format!(" 密钥 keys {lineages}") };
        lines.push(format!("  准许 may         {operations}{keys}{quota}"));
    }
    Ok(lines)
}

fn names(role: &toml::Value, path: &str) -> bool {
    let patterns = role.get("clients").and_then(toml::Value::as_array).into_iter().flatten();
    patterns.filter_map(toml::Value::as_str).any(|pattern| match pattern.strip_suffix("/*") {
        Some(parent) => path.rsplit_once('/').is_some_and(|(above, _)| above == parent),
        None => path == pattern,
    })
}

//! Holds what is built into products to `deny.toml`: banned crates and licences. (Advisories need cargo-deny and its database.)

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// Checks every package of the tree.
pub(crate) fn check() -> Result<()> {
    let text = std::fs::read_to_string(cargo::root().join("deny.toml")).context("deny.toml")?;
    let rules: toml::Table = text.parse().context("deny.toml")?;
    let shipped = cargo::shipped()?;
    let mut metadata = cargo::metadata()?;
    if let Some(packages) = metadata.get_mut("packages").and_then(Value::as_array_mut) {
        packages.retain(|package| {
            let field = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            shipped.contains(&(field("name"), field("version")))
        });
    }
    let broken = judge(&rules, &metadata);
    if broken.is_empty() { Ok(()) } else { bail!("deny.toml is broken:\n  {}", broken.join("\n  ")) }
}

fn judge(rules: &toml::Table, metadata: &Value) -> Vec<String> {
    let list = |table: &str, key: &str| -> Vec<toml::Value> {
        rules
            .get(table)
            .and_then(|table| table.get(key))
            .and_then(toml::Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let banned: Vec<(String, Option<Version>)> = list("bans", "deny").iter().filter_map(ban).collect();
    let licences: Vec<String> =
        list("licenses", "allow").iter().filter_map(toml::Value::as_str).map(str::to_owned).collect();
    let packages = metadata.get("packages").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut broken = Vec::new();
    for package in packages {
        let field = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, version, licence) = (field("name"), field("version"), field("license"));
        let below =
            |limit: &Option<Version>| limit.is_none_or(|limit| parse(&version).is_none_or(|own| own < limit));
        if banned.iter().any(|(banned, limit)| *banned == name && below(limit)) {
            broken.push(format!("{name} {version} is banned"));
        }
        if !licence_allowed(&licence, &licences) {
            broken.push(format!("{name} {version} has the licence '{licence}', which is not in the list"));
        }
    }
    broken
}

type Version = (u64, u64, u64);

/// `name` or `name:<limit` in the `crate` field of a ban.
fn ban(rule: &toml::Value) -> Option<(String, Option<Version>)> {
    let text = rule.get("crate")?.as_str()?;
    match text.split_once(":<") {
        Some((name, limit)) => Some((name.to_owned(), parse(limit))),
        None => Some((text.to_owned(), None)),
    }
}

fn parse(text: &str) -> Option<Version> {
    let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse().ok());
    let major = numbers.next()??;
    Some((major, numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0)))
}

/// An SPDX expression of `OR`, `AND` and parentheses: every `AND` part needs one allowed `OR` part.
fn licence_allowed(expression: &str, allowed: &[String]) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|part| {
        part.split(" OR ").any(|licence| {
            let licence = licence.trim();
            allowed.iter().any(|known| known == licence)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_faults_are_found() {
        let rules: toml::Table = r#"
            [licenses]
            allow = ["MIT", "ISC"]
            [bans]
            deny = [{ crate = "sharks" }, { crate = "cipher:<0.5" }]
        "#
        .parse()
        .unwrap();
        let package = |name: &str, version: &str, licence: &str| serde_json::json!({"name": name, "version": version, "license": licence});
        let metadata = serde_json::json!({"packages": [
            package("sharks", "0.5.0", "MIT"),
            package("cipher", "0.4.4", "MIT OR Apache-2.0"),
            package("cipher", "0.5.2", "MIT AND ISC"),
            package("other", "1.0.0", "GPL-3.0"),
            package("both", "1.0.0", "MIT AND GPL-3.0"),
        ]});
        let broken = judge(&rules, &metadata);
        assert_eq!(broken.len(), 4, "{broken:?}");
    }

    #[test]
    fn the_tree_as_it_stands_is_clean() {
        check().unwrap();
    }
}

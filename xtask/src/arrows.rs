//! The arrow check: who may depend on whom (ARCHITECTURE.md). What is not allowed here does not build in CI.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::cargo;

/// Our crates and those of ours that each may use directly. Test-only dependencies do not count.
const ALLOWED: &[(&str, &[&str])] = &[
    // Ground floor.
    ("lanes", &[]),
    ("securemem", &[]),
    ("wire", &[]),
    ("translog", &["wire"]),
    ("pages", &[]),
    // First floor.
    ("cardcrypto", &["lanes", "securemem", "wire"]),
    // The two processes and the way in.
    ("hsm", &["lanes", "securemem", "wire", "translog", "cardcrypto"]),
    ("keyd", &["wire", "translog", "pages"]),
    ("client", &["wire", "translog"]),
    ("witness", &["translog", "pages"]),
    // The auditor's tool stands on the log alone.
    ("audit", &["wire", "translog", "pages"]),
    // The officers.
    ("keyceremony", &["wire", "translog", "pages"]),
    // The city.
    ("card", &["wire", "cardcrypto", "pages"]),
    ("clearing", &["client", "wire", "translog"]),
    ("perso", &["client", "wire", "translog"]),
    ("citykeep", &["audit", "client", "clearing", "perso", "wire", "translog", "pages"]),
    // Tools.
    ("system-tests", &["wire", "translog", "client", "clearing"]),
    ("xtask", &[]),
];

/// What must not be anywhere below the module.
const NOT_IN_MODULE: &[&str] = &[
    "tokio",
    "hyper",
    "hyper-util",
    "rustls",
    "tokio-rustls",
    "sled",
    "redb",
    "serde_json",
    "serde",
    "http",
    "mio",
    "async-trait",
    "futures",
    "openssl",
    "reqwest",
];

/// Crates that compute with card keys or hold them: nobody but the module and the card's own side.
const KEY_SIDE: &[&str] = &["cardcrypto", "lanes", "securemem", "hsm"];

/// Crates that may have `unsafe` code.
const UNSAFE: &[&str] = &["lanes", "securemem"];

/// Runs every rule.
pub(crate) fn check() -> Result<()> {
    let metadata = cargo::metadata()?;
    let mut broken = direct(&metadata);
    let module = cargo::tree("hsm")?;
    broken.extend(forbidden("hsm", &module, NOT_IN_MODULE));
    for package in
        ["xtask", "keyd", "client", "audit", "keyceremony", "citykeep", "clearing", "perso", "witness"]
    {
        broken.extend(forbidden(package, &cargo::tree(package)?, KEY_SIDE));
    }
    // An auditor's program has no runtime and no server's code in it.
    broken.extend(forbidden("audit", &cargo::tree("audit")?, &["tokio", "hyper", "sled", "keyd"]));
    broken.extend(unsafe_code()?);
    if broken.is_empty() {
        return Ok(());
    }
    bail!("the arrows of the house are broken:\n  {}", broken.join("\n  "))
}

fn forbidden(package: &str, tree: &[String], names: &[&str]) -> Vec<String> {
    let found = tree.iter().filter(|name| names.contains(&name.as_str()));
    found.map(|name| format!("{package} must not have {name} in its tree")).collect()
}

/// Direct dependencies among our own crates.
fn direct(metadata: &Value) -> Vec<String> {
    let packages = metadata.get("packages").and_then(Value::as_array).cloned().unwrap_or_default();
    let ours = |package: &Value| package.get("source").is_some_and(Value::is_null);
    let name = |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut broken = Vec::new();
    for package in packages.iter().filter(|package| ours(package)) {
        let from = name(package);
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == from) else {
            broken.push(format!("{from} has no row in the arrow table"));
            continue;
        };
        let dependencies = package.get("dependencies").and_then(Value::as_array).cloned().unwrap_or_default();
        for dependency in dependencies {
            let local = dependency.get("path").is_some_and(Value::is_string);
            let dev = dependency.get("kind").and_then(Value::as_str) == Some("dev");
            let to = name(&dependency);
            if local && !dev && !allowed.contains(&to.as_str()) {
                broken.push(format!("{from} must not depend on {to}"));
            }
        }
    }
    broken
}

/// `unsafe` only where the table says; everywhere else the crate forbids it in its own root.
fn unsafe_code() -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (package, _) in ALLOWED.iter().filter(|(package, _)| !UNSAFE.contains(package)) {
        let folder = folder(package);
        for file in ["src/lib.rs", "src/main.rs"] {
            let path = cargo::root().join(&folder).join(file);
            if path.exists() && !std::fs::read_to_string(&path)?.contains("#![forbid(unsafe_code)]") {
                broken.push(format!("{folder}/{file} does not forbid unsafe code"));
            }
        }
    }
    Ok(broken)
}

fn folder(package: &str) -> String {
    match package {
        "xtask" | "keyceremony" => package.to_owned(),
        "system-tests" => "tests".to_owned(),
        "pages" => "src/pages".to_owned(),
        "card" | "clearing" | "citykeep" | "perso" => format!("src/city/{package}"),
        _ => format!("src/keep/{package}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_arrow_is_found() {
        let planted = serde_json::json!({"packages": [
            {"name": "keyd", "source": null, "dependencies": [
                {"name": "cardcrypto", "path": "/x", "kind": null},
                {"name": "wire", "path": "/x", "kind": null},
                {"name": "hsm", "path": "/x", "kind": "dev"},
                {"name": "tokio", "kind": null}]},
            {"name": "newcomer", "source": null, "dependencies": []},
        ]});
        assert_eq!(
            direct(&planted),
            ["keyd must not depend on cardcrypto", "newcomer has no row in the arrow table"]
        );
        let tree = ["tokio".to_owned(), "wire".to_owned()];
        assert_eq!(forbidden("hsm", &tree, NOT_IN_MODULE), ["hsm must not have tokio in its tree"]);
    }

    #[test]
    fn the_house_as_it_stands_is_sound() {
        check().unwrap();
    }
}

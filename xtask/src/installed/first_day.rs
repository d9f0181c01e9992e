//! What the other clients do on the installed system: cards, a list, a load, the integrators' sandbox.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::System;

/// Cards of the job: enough for several requests.
const CARDS: &str = "2500";

/// The line's transport key for TR-31 version D, as the shipped script has it.
const TRANSPORT: &str = "transit/perso/line-1@01";

/// Practice masters and a practice ledger, by the package's own practice card.
pub(super) fn material(system: &dyn System) -> Result<()> {
    system.run(&["citycard", "masters", "--out", "/opt/masters.json"])?;
    system.run(&["citycard", "ledger", "--out", "/opt"])?;
    system.run(&["chown", "officer", "/opt/masters.json", "/opt/ledger.pem"]).map(drop)
}

/// `ceremony` is what the rehearsal left with `--json`.
pub(super) fn walk(system: &dyn System, ceremony: &Value) -> Result<()> {
    cards(system, ceremony)?;
    list(system)?;
    load(system, ceremony)
}

/// `citykeep` as this client.
fn client(system: &dyn System, words: &[&str], name: &str) -> Result<Value> {
    let url = system.url();
    let (cert, key) = (format!("/opt/pki/{name}.pem"), format!("/opt/pki/{name}.key"));
    let who = ["--json", "--url", &url, "--ca", "/opt/pki/ca.pem", "--cert", &cert, "--key", &key];
    Ok(serde_json::from_str(&system.run(&[&["citykeep"], words, &who].concat())?)?)
}

fn cards(system: &dyn System, ceremony: &Value) -> Result<()> {
    let licences = ceremony.get("licences").and_then(Value::as_array).context("no licences")?;
    let licence = licences.iter().find(|licence| licence.get("transport") == Some(&Value::from(TRANSPORT)));
    let text = |name: &str| {
        licence.and_then(|licence| licence.get(name)?.as_str()).context("no licence of the line")
    };
    let words = ["perso", "run", "--licence", text("id")?, "--first", text("first")?, "--count", CARDS];
    client(system, &[&words[..], &["--out", "/opt/job"]].concat(), "line")?;
    let log = ["--log", "/var/lib/citykeep-log", "--vkey", "/var/lib/citykeep-log/vkey"];
    let report = system.run(&[&["citykeep", "perso", "report", "--json", "/opt/job"], &log[..]].concat())?;
    let report: Value = serde_json::from_str(&report)?;
    ensure!(report.get("ok") == Some(&Value::Bool(true)), "files, licence and log do not agree: {report}");
    Ok(())
}

fn list(system: &dyn System) -> Result<()> {
    fs::write(system.root().join("opt/cards.csv"), "00003101000020000005,1,2\n")?;
    let build = ["citykeep", "blacklist", "build", "--csv", "/opt/cards.csv", "--epoch", "1"];
    let when = ["--valid-from", "20260101", "--valid-to", "20361231", "--out", "/opt/list.body"];
    system.run(&[&build[..], &when].concat())?;
    client(system, &["blacklist", "sign", "--body", "/opt/list.body", "--out", "/opt/list"], "cards")?;
    let check = ["citykeep", "blacklist", "check", "/opt/list/blacklist.bin"];
    let keys = ["--sm2", "/opt/list/sm2.pem", "--p256", "/opt/list/p256.pem", "--last-epoch", "0"];
    system.run(&[&check[..], &keys].concat()).map(drop)
}

fn load(system: &dyn System, ceremony: &Value) -> Result<()> {
    let instance = ceremony.get("instance").and_then(Value::as_str).context("no instance")?;
    let card = ["citycard", "load", "--serial", "00003101000020000001", "--counter", "1", "--amount", "5000"];
    let keys = ["--masters", "/opt/masters.json", "--ledger", "/opt/ledger.key", "--instance", instance];
    fs::write(system.root().join("opt/load.json"), system.run(&[&card[..], &keys].concat())?)?;
    client(system, &["load", "--request", "/opt/load.json"], "terminal").map(drop)
}

/// An integrator's own service beside the installed one, as an ordinary user.
pub(super) fn sandbox(system: &dyn System) -> Result<()> {
    let words = ["citykeep", "sandbox", "--once", "--port", "9443", "--state", "/home/officer/sandbox"];
    system.run(&[&["runuser", "-u", "officer", "--"], &words[..]].concat()).map(drop)
}

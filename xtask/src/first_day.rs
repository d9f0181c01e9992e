//! What the other clients come for on their first day: cards under a licence, a blacklist, a load.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::show::Show;
use crate::up::{Places, at, output, text};

/// Cards that a walk personalizes.
const CARDS: u64 = 10_000;

/// The line's transport key for TR-31 version D, as the shipped script has it.
const TRANSPORT: &str = "transit/perso/line-1@01";

/// What the steps left.
pub(crate) struct FirstDay {
    pub(crate) summary: Value,
    /// The newest log entry that they know of.
    pub(crate) index: u64,
}

/// Practice masters and a practice ledger, once.
pub(crate) fn material(places: &Places) -> Result<PathBuf> {
    let masters = places.at("practice/masters.json");
    if !masters.exists() {
        output(places.program("citycard").arg("masters").arg("--out").arg(&masters), "citycard masters")?;
    }
    if !places.at("practice/ledger.key").exists() {
        output(
            places.program("citycard").arg("ledger").arg("--out").arg(places.at("practice")),
            "citycard ledger",
        )?;
    }
    Ok(masters)
}

/// Cards, list, load.
pub(crate) fn walk(places: &Places, show: &mut Show, url: &str, ceremony: &Value) -> Result<FirstDay> {
    let personalized = show.step(
        "personalize",
        "Personalization 个人化",
        "key sets under a licence, counted by the log: card N + 1 would be refused",
        || personalize(places, url, ceremony),
    )?;
    let blacklist = show.step(
        "blacklist",
        "Blacklist 黑名单",
        "one epoch after the other, signed with SM2 and P-256, checked offline with the public keys",
        || blacklist(places, url),
    )?;
    let load = show.step(
        "load",
        "Load 圈存",
        "MAC2 against the ledger's token and the card's MAC1, once per counter",
        || load(places, url, ceremony),
    )?;
    let index = at(&load, "index").as_u64().unwrap_or_default();
    let summary = json!({ "personalized": personalized, "blacklist": blacklist, "load": load });
    Ok(FirstDay { summary, index })
}

/// `citykeep` as this client.
fn citykeep(places: &Places, words: &[&str], client: &str, url: &str) -> Command {
    let mut command = places.program("citykeep");
    command.args(words).args(["--json", "--url", url]).arg("--ca").arg(places.at("pki/ca.pem"));
    command.arg("--cert").arg(places.at(&format!("pki/{client}.pem")));
    command.arg("--key").arg(places.at(&format!("pki/{client}.key")));
    command
}

fn personalize(places: &Places, url: &str, ceremony: &Value) -> Result<(Value, String)> {
    let licences = at(ceremony, "licences").as_array().cloned().unwrap_or_default();
    let ours = |licence: &&Value| text(licence, "transport") == TRANSPORT;
    let licence =
        licences.iter().find(ours).context("the ceremony granted no licence under the line's AES key")?;
    let (id, issued) = (text(licence, "id"), at(licence, "issued").as_u64().unwrap_or_default());
    // A second run on the same state goes on behind the cards of the first.
    let first: u128 = text(licence, "first").parse().context("the licence has no first card number")?;
    let first = format!("{:020}", first + u128::from(issued));
    let job = places.at(&format!("out/perso-{first}"));
    let mut command = citykeep(places, &["perso", "run"], "line", url);
    command.args(["--licence", id, "--first", &first, "--count", &CARDS.to_string()]).arg("--out").arg(&job);
    let report: Value = serde_json::from_str(&output(&mut command, "citykeep perso run")?)?;
    let rate = at(&report, "cards_per_second").as_f64().unwrap_or_default();
    let counted = at(at(&report, "report"), "issued").as_u64().unwrap_or_default();
    let mut command = places.program("citykeep");
    command.args(["perso", "report", "--json"]).arg(&job).arg("--log").arg(places.at("log"));
    command.arg("--vkey").arg(places.at("log/vkey"));
    let compared: Value = serde_json::from_str(&output(&mut command, "citykeep perso report")?)?;
    let line = format!("{CARDS} cards, {rate:.0} cards/s; licence, log and files agree on {counted}");
    let summary = json!({
        "cards": CARDS,
        "cards_per_second": rate,
        "licence": id,
        "issued": counted,
        "job": job,
        "log": at(&compared, "log"),
    });
    Ok((summary, line))
}

/// What a practice list holds after so many epochs. One card leaves each time and one comes: the module lets 1,000 leave a day, and a
/// state is carried on more often than that once a day.
fn listed(last: u32) -> Vec<String> {
    let cards =
        (last..last + 1000).map(|at| format!("0000310100009{:07},{},1", u64::from(at) * 7, 1 + at % 4));
    cards.chain(["00003101000080000000,00003101000080000999,5,2".to_owned()]).collect()
}

fn blacklist(places: &Places, url: &str) -> Result<(Value, String)> {
    let (csv, body) = (places.at("practice/blacklist.csv"), places.at("practice/blacklist.body"));
    let signed = places.at("out/blacklist.bin");
    // The epoch stands behind the magic of the list that is in force.
    let last = fs::read(&signed)
        .ok()
        .and_then(|bytes| bytes.get(4..8)?.try_into().ok())
        .map_or(0, u32::from_be_bytes);
    fs::write(&csv, listed(last).join("\n") + "\n")?;
    let mut build = places.program("citykeep");
    build.args(["blacklist", "build", "--epoch", &(last + 1).to_string()]).arg("--csv").arg(&csv);
    build.args(["--valid-from", "20260101", "--valid-to", "20361231"]).arg("--out").arg(&body);
    output(&mut build, "citykeep blacklist build")?;
    let mut sign = citykeep(places, &["blacklist", "sign"], "cards", url);
    sign.arg("--body").arg(&body).arg("--out").arg(places.at("out"));
    let report: Value = serde_json::from_str(&output(&mut sign, "citykeep blacklist sign")?)?;
    let mut check = places.program("citykeep");
    check.args(["blacklist", "check"]).arg(&signed).arg("--sm2").arg(places.at("out/sm2.pem"));
    check.arg("--p256").arg(places.at("out/p256.pem")).args(["--last-epoch", &last.to_string()]);
    output(&mut check, "citykeep blacklist check")?;
    let line = format!("epoch {}, 1000 cards and a range, both signatures good offline", last + 1);
    Ok((report, line))
}

fn load(places: &Places, url: &str, ceremony: &Value) -> Result<(Value, String)> {
    let request = places.at("practice/load.json");
    // A card's counter only goes up.
    let counter = fs::read(&request)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .and_then(|request| request.get("counter")?.as_u64())
        .unwrap_or_default()
        + 1;
    let mut card = places.program("citycard");
    card.args([
        "load",
        "--serial",
        "00003101000020000001",
        "--amount",
        "5000",
        "--counter",
        &counter.to_string(),
    ]);
    card.args(["--instance", text(ceremony, "instance")])
        .arg("--masters")
        .arg(places.at("practice/masters.json"));
    let body = output(card.arg("--ledger").arg(places.at("practice/ledger.key")), "citycard load")?;
    fs::write(&request, body)?;
    let mut terminal = citykeep(places, &["load"], "terminal", url);
    let report: Value =
        serde_json::from_str(&output(terminal.arg("--request").arg(&request), "citykeep load")?)?;
    let answer = at(&report, "answer").clone();
    let line = format!(
        "¥50.00 at counter {counter}, MAC2 {}, log entry {}",
        text(&answer, "mac2"),
        at(&answer, "index")
    );
    Ok((answer, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_carried_on_many_times_a_day() {
        for last in [0, 1, 2, 500] {
            let (list, next) = (listed(last), listed(last + 1));
            let left = list.iter().filter(|card| !next.contains(card)).count();
            assert_eq!((list.len(), next.len(), left), (1001, 1001, 1), "after {last}");
        }
    }
}

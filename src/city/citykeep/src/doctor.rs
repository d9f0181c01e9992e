//! `citykeep doctor`: what is wrong with an installation or a client, seen from where it stands, and what to do next.
//!
//! It looks at files, `/proc`, the units and the service's interface. It changes nothing, prints no secret, and says of
//! everything that it cannot see from its place why it cannot.

mod accounts;
mod certificates;
mod clock;
mod disk;
mod files;
mod finding;
mod house;
mod log;
mod machine;
mod module;
mod processes;
mod service;
mod units;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use self::finding::{Finding, State};
use self::house::House;
use crate::cli::DoctorArguments;
use crate::failure::Failure;
use crate::report::Report;

/// Where the package puts it.
const INSTALLED: &str = "/etc/citykeep/keyd.toml";

/// Runs every check that can be made from here.
pub(crate) fn run(arguments: &DoctorArguments) -> Result<Report, Failure> {
    let installed = PathBuf::from(INSTALLED);
    let config = match (&arguments.config, arguments.service()) {
        (Some(config), _) => Some(config.clone()),
        (None, None) if installed.exists() => Some(installed),
        (None, None) => {
            return Err(Failure::untried(
                "没有可检查的对象:请在服务器上给出 --config,或给出客户端的 --url、--ca、--cert、--key。",
                format!(
                    "nothing to look at: give --config FILE on the server (no {INSTALLED} here), or --url, --ca, --cert and \
                     --key of a client"
                ),
            ));
        }
        (None, Some(_)) => None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let findings = examine(arguments, config, now);
    let mut lines: Vec<String> = findings.iter().flat_map(Finding::lines).collect();
    lines.push(total(&findings));
    Ok(Report { lines, json: summary(&findings) })
}

/// Everything, at the moment `now` in seconds since 1970.
fn examine(arguments: &DoctorArguments, config: Option<PathBuf>, now: u64) -> Vec<Finding> {
    let mut findings = vec![clock::synchronised()];
    let house = config.map(|path| House::read(path, &mut findings));
    let client = arguments.service();
    let seen = client.as_ref().map(service::ask);
    let (answers, told) = house.as_ref().map_or((None, None), module::ask);
    let status = seen.as_ref().and_then(|seen| seen.status.clone()).or_else(|| told.as_ref().map(Into::into));
    let key = log::key(arguments.vkey.as_deref(), house.as_ref(), told.as_ref());
    if let Some(house) = &house {
        findings.extend(files::check(house));
        findings.extend(machine::check(house, status.as_ref()));
        findings.extend(disk::check(house));
        findings.extend(certificates::server(house, now));
        findings.extend(units::check(house));
        findings.extend(processes::check(house));
        findings.extend(answers);
        findings.extend(module::approved(house, told.as_ref()));
        findings.extend(clock::against_log(house, now));
        findings.extend(log::signature(house, key.as_ref()));
        findings.extend(log::age(house, status.as_ref().and_then(|status| status.log_size), now));
    }
    findings.push(service::module(status.as_ref()));
    if let Some(client) = &client {
        findings.extend(certificates::client(client, house.as_ref(), now));
    }
    if let Some(seen) = seen {
        findings.extend(service::check(&seen, house.as_ref(), key.as_ref()));
    } else {
        findings.push(Finding::unchecked(
            "service",
            "要询问服务,请给出客户端的 --url、--ca、--cert、--key(没有证书的握手会作为拒绝写入日志)",
            "to ask the service, give --url, --ca, --cert and --key of a client; a handshake without a certificate would stand \
             in the log as a refusal",
        ));
    }
    findings
}

fn count(findings: &[Finding], state: State) -> usize {
    findings.iter().filter(|finding| finding.state == state).count()
}

fn total(findings: &[Finding]) -> String {
    let of = |state| count(findings, state);
    format!(
        "合计 all: ✓ {} 正常 good, ! {} 注意 to look at, ✗ {} 有误 wrong, - {} 未检查 not checked",
        of(State::Good),
        of(State::Warn),
        of(State::Bad),
        of(State::Unchecked)
    )
}

fn summary(findings: &[Finding]) -> serde_json::Value {
    json!({
        "ok": count(findings, State::Bad) == 0,
        "good": count(findings, State::Good),
        "warnings": count(findings, State::Warn),
        "bad": count(findings, State::Bad),
        "unchecked": count(findings, State::Unchecked),
        "checks": findings.iter().map(Finding::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;

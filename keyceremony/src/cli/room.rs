//! The other verbs: key files, certificates, status, custodians, rehearsal.

use std::io::{stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use wire::command::component_commitment;
use wire::frame::{ModuleStatus, Purpose};
use wire::purse::to_hex;

use super::genesis::CERTIFICATE;
use super::{Commit, Component, Keygen, Pki, Rehearse, Status, Unseal, print};
use crate::ceremony;
use crate::failure::{Failure, OrFail};
use crate::files;
use crate::instance::Instance;
use crate::keyfile::{self, Role};
use crate::link::Link;
use crate::pki;
use crate::propose::{ComponentLine, key_id};
use crate::rehearse::{self, Agreeing, Options};
use crate::shares;
use crate::words::{self, from_hex};

pub(super) fn keygen(verb: &Keygen) -> Result<(), Failure> {
    let passphrase = verb.passphrase.source().new_passphrase(&verb.name)?;
    let key = keyfile::create(&verb.out, &verb.name, verb.role, verb.rehearsal, &passphrase)?;
    print([
        format!("密钥文件 key file     {} ({} {})", verb.out.display(), key.role.as_str(), key.name),
        format!("公钥 public key       {}", to_hex(&key.public)),
        format!(
            "指纹 fingerprint      {} (登记时念出 read it aloud when you are enrolled)",
            words::fingerprint(&key.public)
        ),
    ]);
    Ok(())
}

pub(super) fn pki(verb: &Pki) -> Result<(), Failure> {
    print(pki::make(&verb.out, OffsetDateTime::now_utc())?);
    Ok(())
}

pub(super) fn status(verb: &Status) -> Result<(), Failure> {
    let status = Link::new(&verb.socket.officers_socket).status()?;
    if verb.json {
        print([status_json(&status).to_string()]);
    } else {
        print(status_lines(&status));
    }
    Ok(())
}

fn status_json(status: &ModuleStatus) -> serde_json::Value {
    let instance = status.instance.as_ref().map(|known| {
        json!({
            "instance": to_hex(&known.instance),
            "node": to_hex(&known.node),
            "origin": known.origin,
            "rehearsal": known.rehearsal,
            "size": known.size,
            "root": to_hex(&known.root),
            "durable": known.durable,
            "officer_epoch": known.officer_epoch,
            "policy": to_hex(&known.policy),
            "ca": to_hex(&known.ca),
            "vkey": known.vkey,
            "witness": known.witness,
        })
    });
    json!({
        "state": status.state.as_str(),
        "boot": to_hex(&status.boot),
        "module": to_hex(&status.module),
        "memory": status.memory,
        "backend": status.backend,
        "identity": to_hex(&status.identity),
        "instance": instance,
        "shares": status.shares.map(|shares| json!({"have": shares.have, "need": shares.need})),
        "replayed": status.replayed,
        "trouble": status.trouble.as_ref().map(|trouble| json!({"code": trouble.code.as_str(), "message": trouble.message})),
    })
}

fn status_lines(status: &ModuleStatus) -> Vec<String> {
    let mut lines = vec![
        format!("状态 state       {}", status.state),
        format!("启动 boot        {}", to_hex(&status.boot)),
        format!("模块身份 module  {}", words::fingerprint(&status.identity)),
        format!("程序 program     SHA-256 {}", to_hex(&status.module)),
        format!("内存 memory      {}, {}", status.memory, status.backend),
    ];
    if let Some(known) = &status.instance {
        let kind = if known.rehearsal { "演练 REHEARSAL" } else { "正式 production" };
        lines.push(format!("实例 instance    {} {kind}", to_hex(&known.instance)));
        lines.push(format!(
            "日志 log         {} entries, {} durable, {}",
            known.size, known.durable, known.witness
        ));
        lines.push(format!("日志公钥 vkey    {}", known.vkey));
    }
    if let Some(shares) = status.shares {
        lines.push(format!("份额 shares      {}/{}", shares.have, shares.need));
    }
    if let Some(replayed) = status.replayed {
        lines.push(format!("重放 replayed    {replayed} entries"));
    }
    if let Some(trouble) = &status.trouble {
        lines.push(format!("最近拒绝 refused {trouble}"));
        lines.push(format!("                 {}", words::refusal(trouble.code)));
    }
    lines
}

pub(super) fn commit(verb: &Commit) -> Result<(), Failure> {
    let instance = Instance::read(&verb.instance)?;
    let key = key_id(&verb.key_version)?;
    let kcv: [u8; 3] = from_hex(&verb.kcv).ok_or_else(|| {
        Failure::new("校验值是 6 位十六进制数字。", "a check value is 6 hex digits; read it again")
    })?;
    let component = verb.component.source().component(&verb.custodian)?;
    let commitment = component.with(|bytes| component_commitment(&instance.id, &key, &verb.custodian, bytes));
    let line = serde_json::to_string(&ComponentLine {
        custodian: verb.custodian.clone(),
        kcv: to_hex(&kcv),
        commitment: to_hex(&commitment),
    });
    print([line.or_fail("无法写出承诺。", "the commitment has no text")?]);
    Ok(())
}

pub(super) fn component(verb: &Component) -> Result<(), Failure> {
    let instance = Instance::read(&verb.instance)?;
    let (_, command) = ceremony::parse(&files::read(&verb.command, "the command")?)?;
    let custodian = verb.key.open(Role::Custodian)?;
    let component = verb.entry.source().component(&custodian.name)?;
    let link = Link::new(&verb.socket.officers_socket);
    let done =
        ceremony::enter_component(&link, &instance.identity, &command.id, &custodian.name, &component)?;
    let line = match (done.kcv, done.components) {
        (Some(kcv), _) => format!("密钥已导入 the key is imported, KCV {}", to_hex(&kcv)),
        (None, Some(waiting)) => {
            format!("分量正确 the component is good ({}/{})", waiting.have, waiting.need)
        }
        (None, None) => "分量正确 the component is good".to_owned(),
    };
    print([line]);
    Ok(())
}

/// A file that lies above the directory of shares, unless it is given.
pub(super) fn beside(share: &Path, given: Option<&PathBuf>, name: &str) -> PathBuf {
    let above = || share.parent().and_then(Path::parent).unwrap_or_else(|| Path::new("")).join(name);
    given.cloned().unwrap_or_else(above)
}

pub(super) fn unseal(verb: &Unseal) -> Result<(), Failure> {
    let instance = Instance::read(&beside(&verb.share, verb.instance.as_ref(), "instance.json"))?;
    let certificate = beside(&verb.share, verb.certificate.as_ref(), CERTIFICATE);
    let certificate = files::read(&certificate, "the share certificate")?;
    let holding = instance.holding(certificate)?;
    let text = files::read_text(&verb.share, "the share")?;
    let locked = keyfile::read(&verb.key.key)?;
    // A wrong character is named before anybody types a passphrase.
    let sealed = shares::read_text(&text, &locked.name)?;
    let custodian = verb.key.open(Role::Custodian)?;
    let share = shares::open(&holding.set, &sealed, &custodian)?;
    let link = Link::new(&verb.socket.officers_socket);
    let progress = shares::bring(&link, &holding, &share, Purpose::Unseal)?;
    print([format!("份额已提交 share brought: {}/{}", progress.have, progress.need)]);
    Ok(())
}

pub(super) fn rehearse(verb: &Rehearse) -> Result<(), Failure> {
    let options = Options {
        script: verb.script.clone(),
        state: verb.state.clone(),
        log: verb.log.clone().unwrap_or_else(|| verb.state.join("log")),
        socket: verb.socket.officers_socket.clone(),
        keys: verb.keys.clone(),
        masters: verb.masters.clone(),
        ledger: verb.ledger.clone(),
        policy: verb.policy.clone(),
        ca: verb.ca.clone(),
        agreeing: !verb.ask,
        patience: Duration::from_secs(verb.patience_seconds),
    };
    let summary = if verb.ask {
        rehearse::run(options, stdin().lock(), stdout(), false)
    } else {
        rehearse::run(options, std::io::BufReader::new(Agreeing::default()), stdout(), true)
    }?;
    verb.json.as_deref().map_or(Ok(()), |path| rehearse::write_summary(path, &summary))
}

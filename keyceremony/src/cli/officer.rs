//! The officers' verbs: propose, show, approve, submit, floor.

use std::io::{stdin, stdout};
use std::path::Path;

use wire::cbor::Cbor;
use wire::command::{self, SignedCommand};
use wire::purse::to_hex;

use super::genesis;
use super::{Approve, Floor, Propose, Show, Submit, print};
use crate::ceremony::{self, Outcome, Target};
use crate::failure::Failure;
use crate::files;
use crate::instance::Instance;
use crate::keyfile::Role;
use crate::link::Link;
use crate::prompt::Prompter;
use crate::rehearse::FLOOR_WINDOW;
use crate::transcript::{self, Evidence};
use crate::words;

pub(super) fn propose(verb: &Propose) -> Result<(), Failure> {
    let instance = Instance::read(&verb.instance)?;
    let target = match (&verb.officers_socket, verb.at_size) {
        (Some(socket), _) => {
            let status = Link::new(socket).status()?;
            let known = status.instance.filter(|known| known.instance == instance.id);
            let known = known.ok_or_else(|| {
                Failure::new(
                    "模块未在为该实例服务;请核对实例文件,或先恢复模块。",
                    format!("the module is {} and does not serve this instance; look at --instance, or unseal it first", status.state),
                )
            })?;
            Target { officer_epoch: known.officer_epoch, ..Target::new(&instance, known.size, verb.window) }
        }
        (None, size) => Target {
            officer_epoch: verb.officer_epoch.unwrap_or(instance.officer_epoch),
            ..Target::new(&instance, size.unwrap_or_default(), verb.window)
        },
    };
    let signed = ceremony::propose(&target, &verb.proposer, verb.action.action(&instance)?)?;
    write_proposal(&verb.out, &signed)
}

pub(super) fn write_proposal(out: &Path, signed: &SignedCommand) -> Result<(), Failure> {
    let bytes = signed.to_cbor();
    let (_, command) = ceremony::parse(&bytes)?;
    files::write_new(out, &bytes, files::PUBLIC)?;
    print(words::command(&command, &signed.command));
    print([format!(
        "下一步 next: keyceremony approve {} --key OFFICER.key (每位安全官 each officer)",
        out.display()
    )]);
    Ok(())
}

pub(super) fn show(verb: &Show) -> Result<(), Failure> {
    let (signed, command) = ceremony::parse(&files::read(&verb.file, "the command")?)?;
    print(words::command(&command, &signed.command));
    let approvals = signed.approvals.iter();
    // Whether a signature is good depends on the officer set, which the module knows.
    print(approvals.map(|approval| {
        format!("  已签 signed      {} (由模块验证 the module checks it)", approval.officer)
    }));
    Ok(())
}

pub(super) fn approve(verb: &Approve) -> Result<(), Failure> {
    let (mut signed, _) = ceremony::parse(&files::read(&verb.file, "the command")?)?;
    let officer = verb.key.open(Role::Officer)?;
    let mut room = Prompter::new(stdin().lock(), stdout(), false);
    ceremony::approve(&mut signed, &officer, &mut room)?;
    files::replace(&verb.file, &signed.to_cbor(), files::PUBLIC)?;
    let count = signed.approvals.len();
    print([format!("已批准 approved: {} ({count})", verb.file.display())]);
    Ok(())
}

pub(super) fn submit(verb: &Submit) -> Result<(), Failure> {
    let (signed, command) = ceremony::parse(&files::read(&verb.file, "the command")?)?;
    let shares = match (&command.action, &verb.shares) {
        (command::Action::Genesis(_), None) => {
            return Err(Failure::new(
                "创世命令须用 --shares 指明份额存放的目录。",
                "a genesis gives shares; say with --shares where they are to be kept",
            ));
        }
        (_, shares) => shares.as_deref(),
    };
    let line = match ceremony::submit(&Link::new(&verb.socket.officers_socket), &signed)? {
        Outcome::Command(done) => match (done.index, done.components) {
            (Some(index), _) => format!("已执行 carried out: log entry {index}"),
            (None, Some(waiting)) => format!(
                "已接受,等待分量 taken, waiting for components: {}/{} — keyceremony component --command {}",
                waiting.have,
                waiting.need,
                verb.file.display()
            ),
            (None, None) => "已接受 taken".to_owned(),
        },
        Outcome::Floor => "日志头已提交,等待 keyd 重放 floor taken: keyd replays the log now".to_owned(),
        Outcome::Genesis(answer) => {
            return genesis::keep_shares(shares.unwrap_or_else(|| Path::new("")), &signed, answer);
        }
    };
    print([line]);
    Ok(())
}

pub(super) fn floor(verb: &Floor) -> Result<(), Failure> {
    let instance = Instance::read(&verb.instance)?;
    let read = |paths: &[std::path::PathBuf], what: &str| {
        let texts = paths.iter().map(|path| files::read_text(path, what));
        texts.collect::<Result<Vec<String>, Failure>>()
    };
    let receipts = read(&verb.evidence.receipt, "the receipt")?;
    let transcripts = read(&verb.evidence.transcript, "the transcript")?;
    let checkpoints = read(&verb.evidence.checkpoint, "the checkpoint")?;
    let evidence: Vec<Evidence<'_>> = receipts
        .iter()
        .map(|text| Evidence::Receipt(text))
        .chain(transcripts.iter().map(|text| Evidence::Transcript(text)))
        .chain(checkpoints.iter().map(|text| Evidence::Checkpoint(text)))
        .collect();
    let head = transcript::newest(&evidence, &instance.vkey)?.ok_or_else(|| {
        Failure::new(
            "这些文件中没有日志头。",
            "there is no log head in these files; bring a receipt, or an auditor's checkpoint",
        )
    })?;
    let status = Link::new(&verb.socket.officers_socket).status()?;
    let target = Target {
        officer_epoch: verb.officer_epoch.unwrap_or(instance.officer_epoch),
        ..Target::new(&instance, head.size, FLOOR_WINDOW)
    };
    let floor =
        command::Floor { boot: status.boot, size: head.size, root: head.root, epoch_key: status.epoch_key };
    let action = command::Action::Floor(floor);
    print([format!("最新日志头 newest head: {} entries, root {}", head.size, to_hex(&head.root))]);
    write_proposal(&verb.out, &ceremony::propose(&target, &verb.proposer, action)?)
}

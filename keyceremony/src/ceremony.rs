//! Commands: made, approved by people who read them, brought to the module. The single commands and the rehearsal both
//! go through here.

use std::io::{BufRead, Write};

use time::OffsetDateTime;
use wire::cbor::{Bytes, Cbor};
use wire::command::{Action, Approval, Command, Id, PublicKey, SignedCommand, signed_bytes};
use wire::frame::{CommandDone, GenesisShares, Purpose, SealedComponent, component_context};
use wire::seal;

use crate::failure::{Failure, OrFail};
use crate::instance::Instance;
use crate::keyfile::Key;
use crate::link::Link;
use crate::prompt::Prompter;
use crate::secret::Component;
use crate::words;

/// A command may be carried out during this many log entries, unless it is said otherwise: more than an hour of a busy
/// module, much less than its life.
pub(crate) const WINDOW: u64 = 10_000_000;

/// A fresh random id.
pub(crate) fn fresh_id() -> Result<Id, Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).or_fail("系统随机数不可用。", "the system gives no random bytes")?;
    Ok(id)
}

/// Where a command is for, and when it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) instance: Id,
    pub(crate) officer_epoch: u64,
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

impl Target {
    /// A window of `entries` log entries from entry `size` on.
    pub(crate) fn new(instance: &Instance, size: u64, entries: u64) -> Self {
        Self {
            instance: instance.id,
            officer_epoch: instance.officer_epoch,
            not_before: size,
            not_after: size.saturating_add(entries),
        }
    }

    /// The first command of a new instance.
    pub(crate) const fn genesis(instance: Id) -> Self {
        Self { instance, officer_epoch: 0, not_before: 0, not_after: 0 }
    }
}

/// Proposes: a command that nobody has signed.
pub(crate) fn propose(target: &Target, proposer: &str, action: Action) -> Result<SignedCommand, Failure> {
    let command = Command {
        version: 1,
        suite: 1,
        instance: target.instance,
        officer_epoch: target.officer_epoch,
        id: fresh_id()?,
        not_before: target.not_before,
        not_after: target.not_after,
        proposed_at: u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default(),
        proposer: proposer.to_owned(),
        action,
    };
    Ok(SignedCommand { command: Bytes(command.to_cbor()), approvals: Vec::new() })
}

/// Reads a command file: a signed command, approvals or not, that this program can show in words.
pub(crate) fn parse(bytes: &[u8]) -> Result<(SignedCommand, Command), Failure> {
    let read = SignedCommand::from_cbor(bytes).and_then(|signed| {
        let command = signed.open()?;
        Ok((signed, command))
    });
    let (signed, command) = read.map_err(|error| {
        Failure::new(
            "这不是命令文件,或已损坏;请重新提出命令。",
            format!("this is no command file, or it was changed ({error}); propose the command again"),
        )
    })?;
    if (command.version, command.suite) == (1, 1) {
        Ok((signed, command))
    } else {
        Err(Failure::new(
            "命令的格式版本不认识;请使用较新的程序。",
            "the command's format or suite is not one that this program knows; use a newer program",
        ))
    }
}

/// Shows the command, asks one question, and signs if the answer is yes.
pub(crate) fn approve<R: BufRead, W: Write>(
    signed: &mut SignedCommand,
    officer: &Key,
    room: &mut Prompter<R, W>,
) -> Result<(), Failure> {
    let (_, command) = parse(&signed.to_cbor())?;
    let name = officer.name.as_str();
    if signed.approvals.iter().any(|approval| approval.officer == name) {
        return Err(Failure::new(
            format!("{name} 已经批准过;每个批准须是不同的人。"),
            format!("{name} approved this already; every approval is another person's"),
        ));
    }
    room.say(&format!("{name} 将签署: {name} is about to sign:"))?;
    for line in words::command(&command, &signed.command) {
        room.say(&line)?;
    }
    if !room.confirm(&format!("{name},批准吗?"), &format!("{name}, do you approve?"))? {
        return Err(Failure::new(
            format!("{name} 未批准;什么也没有签。"),
            format!(
                "{name} did not approve, and nothing was signed; talk about it, or propose another command"
            ),
        ));
    }
    signed.approvals.push(Approval {
        officer: name.to_owned(),
        signature: seal::sign(officer.secret(), &signed_bytes(&signed.command)),
    });
    Ok(())
}

/// What the module made of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done, or waiting for components.
    Command(CommandDone),
    /// The floor is taken.
    Floor,
    /// The new root's shares; nothing exists until they are proved.
    Genesis(GenesisShares),
}

/// Brings a command to the place on the officers' socket where its kind belongs.
pub(crate) fn submit(link: &Link, signed: &SignedCommand) -> Result<Outcome, Failure> {
    let bytes = signed.to_cbor();
    let (_, command) = parse(&bytes)?;
    match command.action {
        Action::Floor(_) => link.floor(bytes).map(|()| Outcome::Floor),
        Action::Genesis(_) => link.genesis(bytes).map(Outcome::Genesis),
        _ => link.command(bytes).map(Outcome::Command),
    }
}

/// One custodian enters his component of a pending import.
pub(crate) fn enter_component(
    link: &Link,
    pinned: &PublicKey,
    command: &Id,
    custodian: &str,
    component: &Component,
) -> Result<CommandDone, Failure> {
    let boot = link.status()?.boot;
    let key = link.one_time_key(Purpose::Component, pinned, &boot)?;
    let context = component_context(&boot, command, custodian);
    let ephemeral = seal::generate().or_fail("系统随机数不可用。", "no ephemeral key can be made")?;
    let sealed = component
        .with(|bytes| seal::seal(&key.key, &context, bytes, &ephemeral))
        .or_fail("无法加密分量。", "the component cannot be sealed")?;
    let part = SealedComponent {
        command: *command,
        custodian: custodian.to_owned(),
        sealed: Bytes(sealed.to_cbor()),
    };
    link.component(part).map_err(|failure| failure.of(custodian))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyfile::{self, Role};
    use crate::secret::Passphrase;
    use wire::cbor::Empty;
    use wire::quorum;

    fn officer(dir: &tempfile::TempDir, name: &str) -> Key {
        let passphrase = Passphrase::new(b"a rehearsal only").unwrap();
        keyfile::create(&dir.path().join(name), name, Role::Officer, true, &passphrase).unwrap()
    }

    fn target() -> Target {
        Target { instance: [1; 16], officer_epoch: 1, not_before: 0, not_after: 9 }
    }

    #[test]
    fn one_question_per_approval_and_the_quorum_accepts_it() {
        let dir = tempfile::tempdir().unwrap();
        let (li, wang) = (officer(&dir, "li"), officer(&dir, "wang"));
        let set = wire::command::Quorum { threshold: 2, members: vec![li.member(), wang.member()] };
        let mut signed = propose(&target(), "li", Action::Zeroise(Empty {})).unwrap();
        let mut shown = Vec::new();
        let mut room = Prompter::new(b"yes\nyes\n".as_slice(), &mut shown, false);
        approve(&mut signed, &li, &mut room).unwrap();
        assert!(quorum::check(&signed, Some(&set)).is_err(), "one alone");
        approve(&mut signed, &wang, &mut room).unwrap();
        assert!(approve(&mut signed, &li, &mut room).is_err(), "twice the same");
        assert!(quorum::check(&signed, Some(&set)).is_ok());
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(shown.matches("do you approve?").count(), 2);
        assert!(shown.contains("wipe every key") && shown.contains("清除本模块的全部密钥"));
    }

    #[test]
    fn no_signs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let li = officer(&dir, "li");
        let mut signed = propose(&target(), "li", Action::Zeroise(Empty {})).unwrap();
        for answers in ["no\n", ""] {
            let mut room = Prompter::new(answers.as_bytes(), Vec::new(), false);
            assert!(approve(&mut signed, &li, &mut room).is_err());
            assert!(signed.approvals.is_empty());
        }
    }

    #[test]
    fn a_changed_command_file_is_refused_or_shows_what_it_says() {
        let signed = propose(&target(), "li", Action::Zeroise(Empty {})).unwrap();
        let bytes = signed.to_cbor();
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{len}");
        }
    }
}

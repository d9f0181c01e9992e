//! The verbs of a genesis: plan it, prove the shares, finish. Approving and submitting are the officers' usual verbs.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use wire::command::{Action, SignedCommand};
use wire::frame::{GenesisShares, Purpose};

use super::officer::write_proposal;
use super::{Finish, Genesis, Prove, print};
use crate::ceremony::{self, Target};
use crate::failure::Failure;
use crate::files;
use crate::genesis;
use crate::instance::Instance;
use crate::keyfile::{self, Role};
use crate::link::Link;
use crate::shares;
use crate::words;

/// Where a share's neighbours look for it.
pub(super) const CERTIFICATE: &str = "certificate.cbor";

pub(super) fn propose(verb: &Genesis) -> Result<(), Failure> {
    let digest = |path: &Path, what: &str| files::read(path, what).map(|bytes| Sha256::digest(bytes).into());
    let (policy, ca) = (digest(&verb.policy, "the policy")?, digest(&verb.ca, "the CA bundle")?);
    let identity = Link::new(&verb.socket.officers_socket).status()?.identity;
    let plan = genesis::read_plan(&verb.plan, policy, ca, identity)?;
    let signed =
        ceremony::propose(&Target::genesis(ceremony::fresh_id()?), &verb.proposer, Action::Genesis(plan))?;
    print([
        "在模块旁核对下面的模块身份指纹。 Compare the module's fingerprint below with whoever sits at the module.".to_owned(),
    ]);
    write_proposal(&verb.out, &signed)
}

/// Writes what the module answered: the certificate, and each custodian's share as text, encrypted to him.
pub(super) fn keep_shares(dir: &Path, signed: &SignedCommand, answer: GenesisShares) -> Result<(), Failure> {
    let command = signed.open().map_err(|error| {
        Failure::new("命令已损坏。", format!("the command was changed ({error}); propose it again"))
    })?;
    let holding = genesis::holding(&command, answer.certificate.0)?;
    files::private_dir(&dir.join("shares"))?;
    files::write_new(&dir.join(CERTIFICATE), &holding.certificate, files::PUBLIC)?;
    for (slot, sealed) in holding.set.slots.iter().zip(&answer.shares) {
        let path = dir.join("shares").join(format!("{}.share", slot.custodian));
        files::write_new(&path, shares::text(sealed).as_bytes(), files::PRIVATE)?;
        print([format!("份额 share       {}", path.display())]);
    }
    print([
        format!("份额证书 certificate {}", words::fingerprint(&holding.certificate)),
        "下一步 next: 每位保管人 each custodian: keyceremony prove".to_owned(),
    ]);
    Ok(())
}

pub(super) fn prove(verb: &Prove) -> Result<(), Failure> {
    let (_, command) = ceremony::parse(&files::read(&verb.command, "the command")?)?;
    let certificate = super::room::beside(&verb.share, verb.certificate.as_ref(), CERTIFICATE);
    let holding = genesis::holding(&command, files::read(&certificate, "the share certificate")?)?;
    let text = files::read_text(&verb.share, "the share")?;
    let sealed = shares::read_text(&text, &keyfile::read(&verb.key.key)?.name)?;
    let custodian = verb.key.open(Role::Custodian)?;
    let share = shares::open(&holding.set, &sealed, &custodian)?;
    let link = Link::new(&verb.socket.officers_socket);
    let progress = shares::bring(&link, &holding, &share, Purpose::Prove)?;
    print([format!("份额正确 share proved: {}/{}", progress.have, progress.need)]);
    Ok(())
}

pub(super) fn finish(verb: &Finish) -> Result<(), Failure> {
    let (_, command) = ceremony::parse(&files::read(&verb.command, "the command")?)?;
    let certificate = files::read(&verb.certificate, "the share certificate")?;
    let holding = genesis::holding(&command, certificate)?;
    let link = Link::new(&verb.socket.officers_socket);
    // The instance may exist already, if the answer to an earlier try was lost.
    let known = link.status()?.instance.filter(|known| known.instance == command.instance);
    let vkey = match known {
        Some(known) => known.vkey,
        None => link.genesis_finish()?.vkey,
    };
    let instance = Instance::of_genesis(&command, &holding.certificate, &vkey)?;
    files::write_new(&verb.out, instance.to_text()?.as_bytes(), files::PUBLIC)?;
    print([
        format!("实例已建立 the instance exists: {}", verb.out.display()),
        format!("日志公钥 vkey    {vkey}"),
    ]);
    Ok(())
}

//! The first run: persons are enrolled, all officers sign the genesis, every custodian proves his share, and only then
//! does the instance exist and the ceremony's directory take its place.

use std::io::{BufRead, Write};

use wire::cbor::Cbor;
use wire::command::{Action, Command, Genesis};
use wire::frame::{ModuleState, Purpose};
use wire::purse::to_hex;
use wire::share::{ShareCertificate, ShareSet};

use super::cast::{self, Cast};
use super::{Rehearsal, out_of_order};
use crate::ceremony::{self, Outcome, Target};
use crate::failure::Failure;
use crate::files;
use crate::instance::Instance;
use crate::keyfile::{Key, Role};
use crate::logbook;
use crate::shares;
use crate::words;

/// An instance that its shares are not proved for yet.
pub(crate) struct Newborn {
    command: Command,
    genesis: Genesis,
    certificate: Vec<u8>,
    set: ShareSet,
    shares: Vec<Vec<u8>>,
}

impl<R: BufRead, W: Write> Rehearsal<R, W> {
    pub(super) fn enrol_officers(&mut self) -> Result<(), Failure> {
        let room = self.place.pending();
        room.make()?;
        let officers = cast::enrol(&room, &self.script.officers, Role::Officer)?;
        self.cast = Cast {
            officers,
            custodians: Vec::new(),
        };
        let lines: Vec<String> = self.cast.officers.iter().map(enrolled).collect();
        lines.iter().try_for_each(|line| self.room.say(line))
    }

    pub(super) fn enrol_custodians(&mut self) -> Result<(), Failure> {
        let room = self.place.pending();
        self.cast.custodians = cast::enrol(&room, &self.script.custodians, Role::Custodian)?;
        let lines: Vec<String> = self.cast.custodians.iter().map(enrolled).collect();
        lines.iter().try_for_each(|line| self.room.say(line))
    }

    /// All officers sign; the module answers with a share for each custodian.
    pub(super) fn genesis(&mut self) -> Result<(), Failure> {
        let (instance, node) = (ceremony::fresh_id()?, ceremony::fresh_id()?);
        let start = to_hex(&node).to_lowercase();
        let genesis = Genesis {
            origin: format!("{}/{}", self.script.origin, start.get(..8).unwrap_or_default()),
            node,
            rehearsal: true,
            officers: cast::quorum(&self.script.officers, &self.cast.officers),
            custodians: cast::quorum(&self.script.custodians, &self.cast.custodians),
            policy: self.policy,
            ca: self.ca,
            identity: self.link.status()?.identity,
        };
        let all = self.cast.officers.len();
        let signed = self.approved_for(&Target::genesis(instance), Action::Genesis(genesis.clone()), all)?;
        let (_, command) = ceremony::parse(&signed.to_cbor())?;
        let Outcome::Genesis(answer) = ceremony::submit(&self.link, &signed)? else {
            return Err(out_of_order());
        };
        let certificate = answer.certificate.0;
        let set = new_set(&certificate, &command, &genesis)?;
        let room = self.place.pending();
        files::write_new(&room.genesis(), &signed.to_cbor(), files::PUBLIC)?;
        files::write_new(&room.certificate(), &certificate, files::PUBLIC)?;
        self.room
            .say(&format!("    实例 instance    {}", to_hex(&command.instance)))?;
        self.room
            .say(&format!("    日志 origin      {}", genesis.origin))?;
        self.room.say(&format!(
            "    份额证书 share certificate {}",
            words::fingerprint(&certificate)
        ))?;
        self.newborn = Some(Newborn {
            shares: answer.shares.into_iter().map(|share| share.0).collect(),
            command,
            genesis,
            certificate,
            set,
        });
        Ok(())
    }

    /// Every custodian keeps his share as text, opens that text, and shows the module that the share is good.
    pub(super) fn prove_shares(&mut self) -> Result<(), Failure> {
        let newborn = self.newborn.take().ok_or_else(out_of_order)?;
        let room = self.place.pending();
        for custodian in &self.cast.custodians {
            let name = custodian.name.as_str();
            let sealed = own_share(&newborn, custodian)?;
            let path = room.share(name);
            files::write_new(&path, shares::text(sealed).as_bytes(), files::PRIVATE)?;
            // What is proved is what is kept, not what came.
            let kept = shares::read_text(&files::read_text(&path, "the share")?, name)?;
            let share = shares::open(&newborn.set, &kept, custodian)?;
            let (pinned, certificate) = (&newborn.genesis.identity, &newborn.certificate);
            let progress = shares::bring(
                &self.link,
                pinned,
                certificate,
                &newborn.set,
                &share,
                Purpose::Prove,
            )?;
            let (have, need) = (progress.have, progress.need);
            self.room
                .say(&format!("    {name}: 份额正确 share proved ({have}/{need})"))?;
        }
        let done = self.link.genesis_finish()?;
        let instance = Instance::of_genesis(
            &newborn.command,
            &newborn.genesis,
            &newborn.certificate,
            &done.vkey,
        )?;
        let combined = done.combinations;
        self.room.say(&format!(
            "    {combined} 组份额均恢复同一根密钥: {combined} sets of shares give the same root"
        ))?;
        self.settle(instance)
    }

    /// From here on the instance is this directory's.
    fn settle(&mut self, instance: Instance) -> Result<(), Failure> {
        files::replace(
            &self.place.pending().instance(),
            instance.to_text()?.as_bytes(),
            files::PUBLIC,
        )?;
        self.place.settle()?;
        self.room
            .say(&format!("    日志公钥 vkey    {}", instance.vkey))?;
        let (head, note) = logbook::head(&self.options.log, &instance.vkey, 1)?;
        self.instance = Some(instance);
        self.say_head(&head, &note)
    }

    /// A run may have been interrupted between the module's last word and ours: if the module or its log has the very
    /// genesis that lies here, the instance is this directory's.
    pub(super) fn adopt(&mut self) -> Result<(), Failure> {
        let room = self.place.pending();
        let (Ok(bytes), Ok(certificate)) = (
            files::read(&room.genesis(), "the genesis"),
            files::read(&room.certificate(), "the share certificate"),
        ) else {
            return Ok(());
        };
        let (_, command) = ceremony::parse(&bytes)?;
        let Action::Genesis(genesis) = &command.action else {
            return Err(out_of_order());
        };
        let status = self.link.status()?;
        let vkey = match (status.state, status.instance) {
            (ModuleState::Operational, Some(known)) if known.instance == command.instance => Some(known.vkey),
            (ModuleState::Sealed | ModuleState::Recovering, _) => logbook::genesis(&self.options.log)
                .filter(|event| event.command.0 == bytes && event.certificate.0 == certificate)
                .map(|event| translog::note::VerifierKey::new(&genesis.origin, event.log_key).to_string()),
            _ => None,
        };
        let Some(vkey) = vkey else {
            return Ok(());
        };
        let instance = Instance::of_genesis(&command, genesis, &certificate, &vkey)?;
        self.room
            .say("    上次创世已完成,继续。 The interrupted genesis was complete: going on with it.")?;
        self.settle(instance)
    }
}

fn enrolled(key: &Key) -> String {
    format!("    {}: {}", key.name, words::fingerprint(&key.public))
}

/// The certificate must be one of what the officers signed.
fn new_set(certificate: &[u8], command: &Command, genesis: &Genesis) -> Result<ShareSet, Failure> {
    let set = ShareCertificate::from_cbor(certificate).and_then(|certificate| certificate.open());
    let custodians = &genesis.custodians;
    match set {
        Ok(set)
            if (set.version, set.suite, set.epoch) == (1, 1, 1)
                && set.instance == command.instance
                && set.threshold == custodians.threshold
                && set.slots.len() == custodians.members.len()
                && (1..)
                    .zip(&set.slots)
                    .zip(&custodians.members)
                    .all(|((index, slot), member)| {
                        slot.index == index && slot.custodian == member.name && slot.key == member.key
                    }) =>
        {
            Ok(set)
        }
        _ => Err(Failure::new(
            "模块给出的份额证书与签署的创世命令不符;请停止。",
            "the share certificate is not one of the genesis that the officers signed; stop, and look at the module",
        )),
    }
}

fn own_share<'a>(newborn: &'a Newborn, custodian: &Key) -> Result<&'a [u8], Failure> {
    let slot = shares::slot(&newborn.set, custodian)?;
    let place = newborn
        .set
        .slots
        .iter()
        .position(|other| other.index == slot.index);
    let share = place.and_then(|place| newborn.shares.get(place));
    share.map(Vec::as_slice).ok_or_else(|| {
        let name = &custodian.name;
        Failure::new(
            format!("模块没有给出 {name} 的份额;请重新创世。"),
            format!("the module gave no share for {name}; start the genesis again"),
        )
    })
}

//! The first run: persons are enrolled, all officers sign the genesis, every custodian proves his share, and only then
//! does the instance exist and the ceremony's directory take its place.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use translog::note::VerifierKey;
use wire::cbor::{Bytes, Cbor};
use wire::command::{Action, Command, Genesis};
use wire::frame::{ModuleState, Purpose};
use wire::purse::to_hex;

use super::cast::{self, Cast};
use super::{Rehearsal, out_of_order};
use crate::ceremony::{self, Outcome, Target};
use crate::failure::Failure;
use crate::files;
use crate::genesis;
use crate::instance::Instance;
use crate::keyfile::{Key, Role};
use crate::logbook;
use crate::shares::{self, Holding};
use crate::words;

/// A keyd that has a log attaches within this time.
const ATTACH_WAIT: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(100);

/// An instance that its shares are not proved for yet.
pub(crate) struct Newborn {
    command: Command,
    holding: Holding,
    boxes: Vec<Bytes>,
}

impl<R: BufRead, W: Write> Rehearsal<R, W> {
    pub(super) fn enrol_officers(&mut self) -> Result<(), Failure> {
        let room = self.place.pending();
        room.make()?;
        let officers = cast::enrol(&room, &self.script.officers, Role::Officer)?;
        self.cast = Cast { officers, custodians: Vec::new() };
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
        let plan = Genesis {
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
        let signed = self.approved_for(&Target::genesis(instance), Action::Genesis(plan), all)?;
        let (_, command) = ceremony::parse(&signed.to_cbor())?;
        let Outcome::Genesis(answer) = ceremony::submit(&self.link, &signed)? else {
            return Err(out_of_order());
        };
        let holding = genesis::holding(&command, answer.certificate.0)?;
        let room = self.place.pending();
        files::write_new(&room.genesis(), &signed.to_cbor(), files::PUBLIC)?;
        files::write_new(&room.certificate(), &holding.certificate, files::PUBLIC)?;
        let (id, certificate) = (to_hex(&command.instance), words::fingerprint(&holding.certificate));
        self.room.say(&format!("    实例 instance    {id}"))?;
        self.room.say(&format!("    份额证书 share certificate {certificate}"))?;
        self.newborn = Some(Newborn { command, holding, boxes: answer.shares });
        Ok(())
    }

    /// Every custodian keeps his share as text, opens that text, and shows the module that the share is good.
    pub(super) fn prove_shares(&mut self) -> Result<(), Failure> {
        let newborn = self.newborn.take().ok_or_else(out_of_order)?;
        let room = self.place.pending();
        for custodian in &self.cast.custodians {
            let name = custodian.name.as_str();
            let sealed = genesis::own_box(&newborn.holding, &newborn.boxes, custodian)?;
            let path = room.share(name);
            files::write_new(&path, shares::text(sealed).as_bytes(), files::PRIVATE)?;
            // What is proved is what is kept, not what came.
            let kept = shares::read_text(&files::read_text(&path, "the share")?, name)?;
            let share = shares::open(&newborn.holding.set, &kept, custodian)?;
            let progress = shares::bring(&self.link, &newborn.holding, &share, Purpose::Prove)?;
            let (have, need) = (progress.have, progress.need);
            self.room.say(&format!("    {name}: 份额正确 share proved ({have}/{need})"))?;
        }
        let done = self.link.genesis_finish()?;
        let certificate = &newborn.holding.certificate;
        let instance = Instance::of_genesis(&newborn.command, certificate, &done.vkey)?;
        let combined = done.combinations;
        self.room.say(&format!(
            "    {combined} 组份额均恢复同一根密钥: {combined} sets of shares give the same root"
        ))?;
        self.settle(instance)
    }

    /// From here on the instance is this directory's.
    fn settle(&mut self, instance: Instance) -> Result<(), Failure> {
        files::replace(&self.place.pending().instance(), instance.to_text()?.as_bytes(), files::PUBLIC)?;
        self.place.settle()?;
        self.room.say(&format!("    日志公钥 vkey    {}", instance.vkey))?;
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
        let origin = &genesis::of(&command)?.origin;
        // Only after the last share could the instance come to be; then keyd may have its log and not be attached yet.
        let may_exist = self.place.all_shares(&self.script.custodians.names);
        let deadline = Instant::now() + self.options.patience.min(ATTACH_WAIT);
        let vkey = loop {
            let status = self.link.status()?;
            let vkey = match status.instance {
                Some(known) if known.instance == command.instance => Some(known.vkey),
                Some(_) => None,
                None => logbook::genesis(&self.options.log)
                    .filter(|(event, _)| event.command.0 == bytes && event.certificate.0 == certificate)
                    .map(|(event, _)| VerifierKey::new(origin, event.log_key).to_string()),
            };
            let waits = may_exist && status.state == ModuleState::Uninitialised && Instant::now() < deadline;
            if vkey.is_some() || !waits {
                break vkey;
            }
            std::thread::sleep(POLL);
        };
        let Some(vkey) = vkey else {
            return Ok(());
        };
        let instance = Instance::of_genesis(&command, &certificate, &vkey)?;
        self.room.say("    上次创世已完成,继续。 The interrupted genesis was complete: going on with it.")?;
        self.settle(instance)
    }
}

fn enrolled(key: &Key) -> String {
    format!("    {}: {}", key.name, words::fingerprint(&key.public))
}

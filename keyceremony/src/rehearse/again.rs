//! A later run: the module restarted, or never stopped. Custodians unseal, officers vouch for the newest head that anybody
//! here has seen, keyd replays, and the module is in service again.

use std::io::{BufRead, Write};

use wire::command::{self, Action, Digest};
use wire::frame::{ModuleState, Purpose};
use wire::purse::to_hex;

use super::Rehearsal;
use crate::ceremony::{self, Target};
use crate::failure::Failure;
use crate::files;
use crate::logbook;
use crate::shares;
use crate::transcript::{self, Evidence};

/// The log may have grown by any number of entries since the newest head that is known; the floor is bound to one boot and
/// is used once, so its window need not be narrow.
pub(crate) const FLOOR_WINDOW: u64 = 1 << 40;

const NOT_NEEDED: &str = "    模块已在服务,无需此步。 The module is in service already: nothing to do.";

impl<R: BufRead, W: Write> Rehearsal<R, W> {
    /// As many custodians as are needed, one after the other.
    pub(super) fn unseal(&mut self) -> Result<(), Failure> {
        if self.link.status()?.state != ModuleState::Sealed {
            return self.room.say(NOT_NEEDED);
        }
        let room = self.place.ceremony();
        let certificate = files::read(&room.certificate(), "the share certificate")?;
        let holding = self.instance()?.holding(certificate)?;
        // Shares that an interrupted run brought would be refused as brought twice.
        self.link.abort()?;
        let needed = self.script.custodians.needed();
        for custodian in self.cast.custodians.get(..needed).unwrap_or_default() {
            let name = custodian.name.as_str();
            let kept = shares::read_text(&files::read_text(&room.share(name), "the share")?, name)?;
            let share = shares::open(&holding.set, &kept, custodian)?;
            let progress = shares::bring(&self.link, &holding, &share, Purpose::Unseal)?;
            let (have, need) = (progress.have, progress.need);
            self.room.say(&format!("    {name}: 份额已提交 share brought ({have}/{need})"))?;
        }
        Ok(())
    }

    /// Officers sign the newest head in receipt and transcript.
    pub(super) fn floor(&mut self) -> Result<(), Failure> {
        let status = self.link.status()?;
        if status.state != ModuleState::Recovering {
            return self.room.say(NOT_NEEDED);
        }
        let (size, root) = self.newest_head()?;
        let digits = to_hex(&root);
        self.room.say(&format!("    最新日志头 newest head {size} entries, root {digits}"))?;
        let (boot, epoch_key) = (status.boot, status.epoch_key);
        let target = Target::new(self.instance()?, size, FLOOR_WINDOW);
        let needed = self.script.officers.needed();
        let floor = command::Floor { boot, size, root, epoch_key };
        let signed = self.approved_for(&target, Action::Floor(floor), needed)?;
        ceremony::submit(&self.link, &signed)?;
        Ok(())
    }

    /// Size and root of the newest head that receipt and transcript show.
    fn newest_head(&self) -> Result<(u64, Digest), Failure> {
        let transcript = files::read_text(&self.place.transcript(), "the transcript")?;
        let receipt_path = self.place.receipt();
        let receipt =
            receipt_path.exists().then(|| files::read_text(&receipt_path, "the receipt")).transpose()?;
        let mut evidence = vec![Evidence::Transcript(&transcript)];
        evidence.extend(receipt.as_deref().map(Evidence::Receipt));
        let instance = self.instance()?;
        if let Some(head) = transcript::newest(&evidence, &instance.vkey)? {
            return Ok((head.size, head.root));
        }
        // A run that ended right after the genesis saw one entry only: its own genesis.
        let command = files::read(&self.place.ceremony().genesis(), "the genesis")?;
        logbook::genesis(&self.options.log)
            .filter(|(event, _)| event.command.0 == command && event.log_key == instance.vkey.key())
            .map(|(_, leaf)| (1, leaf))
            .ok_or_else(|| {
                Failure::new(
                    "记录和回执中没有日志头;请从审计员处取得日志头,用 keyceremony floor --checkpoint。",
                    "neither transcript nor receipt has a log head; get one from the auditor and use keyceremony floor \
                     --checkpoint",
                )
            })
    }

    /// keyd's part.
    pub(super) fn recover(&mut self) -> Result<(), Failure> {
        let status = self.link.wait_for(&[ModuleState::Operational], self.options.patience)?;
        if let Some(known) = status.instance {
            self.room.say(&format!(
                "    日志 log         {} entries, root {}",
                known.size,
                to_hex(&known.root)
            ))?;
            self.room.say(&format!("    见证 witness     {}", known.witness))?;
        }
        Ok(())
    }
}

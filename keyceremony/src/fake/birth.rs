//! The fake module's genesis and return: shares out, shares in, floor.

use translog::entry::{BootEvent, Event, GenesisEvent};
use translog::note::VerifierKey;
use wire::cbor::{Bytes, Cbor, Empty};
use wire::command::{Action, Command, Genesis, SignedCommand};
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::quorum;
use wire::seal;
use wire::share::{Share, ShareCertificate, ShareSet, ShareSlot};

use super::{Proving, State, id, refuse};

impl State {
    pub(super) fn genesis(&mut self, bytes: &[u8]) -> Result<GenesisShares, Refused> {
        if self.phase != ModuleState::Uninitialised {
            return refuse(Refusal::WrongState, "there is an instance");
        }
        let signed = SignedCommand::from_cbor(bytes).unwrap();
        let command = quorum::check(&signed, None)?;
        let Action::Genesis(genesis) = &command.action else {
            return refuse(Refusal::CommandKind, "no genesis");
        };
        let (set, shares) = make_shares(&command, genesis);
        let certificate = ShareCertificate { set: Bytes(set.to_cbor()), mac: [0; 32] };
        let certificate = certificate.to_cbor();
        self.proving = Proving {
            command: bytes.to_vec(),
            certificate: certificate.clone(),
            set: Some(set),
            brought: Vec::new(),
        };
        Ok(GenesisShares { certificate: Bytes(certificate), shares })
    }

    pub(super) fn share(
        &mut self,
        purpose: Purpose,
        share: &SealedShare,
    ) -> Result<OfficerResponse, Refused> {
        let set = ShareCertificate::from_cbor(&share.certificate).unwrap().open().unwrap();
        let slot = set.slots.iter().find(|slot| slot.index == share.index).unwrap().clone();
        let sealed = seal::parse(&share.sealed).unwrap();
        let mut plain = vec![0; seal::plain_len(&sealed)];
        let context = share_in_context(purpose, &self.boot, &set.set, share.index);
        let Some(secret) = self.one_time.get(&purpose) else {
            return refuse(Refusal::BoxDamaged, "no one-time key");
        };
        if seal::open(&sealed, secret, &context, &mut plain).is_err() {
            return refuse(Refusal::BoxDamaged, "the box does not open");
        }
        if Share::from_cbor(&plain).unwrap().commitment() != slot.commitment {
            return refuse(Refusal::ShareDamaged, "the share is damaged");
        }
        if self.proving.brought.contains(&share.index) {
            return refuse(Refusal::ShareTwice, "this share is there already");
        }
        self.proving.brought.push(share.index);
        let have = self.proving.brought.len() as u64;
        let need = match purpose {
            Purpose::Prove => set.slots.len() as u64,
            _ => set.threshold,
        };
        if purpose == Purpose::Unseal && have >= need {
            self.phase = ModuleState::Recovering;
        }
        Ok(OfficerResponse::Progress(Progress { have, need }))
    }

    pub(super) fn finish(&mut self) -> Result<OfficerResponse, Refused> {
        let Proving { command, certificate, set, brought } = std::mem::take(&mut self.proving);
        if set.is_none_or(|set| set.slots.len() != brought.len()) {
            return refuse(Refusal::ShareUnproved, "every custodian proves his share first");
        }
        let signed = SignedCommand::from_cbor(&command).unwrap().open().unwrap();
        let Action::Genesis(genesis) = signed.action else {
            return refuse(Refusal::CommandKind, "no genesis");
        };
        let log_key = self.log_key.verifying_key().to_bytes();
        let event = GenesisEvent {
            command: Bytes(command),
            certificate: Bytes(certificate),
            log_key,
            module: [9; 32],
            memory: "mlock".into(),
            epoch_key: Some(self.epoch().verifying_key().to_bytes()),
        };
        let index = self.make(Event::Genesis(event), genesis.node);
        self.phase = ModuleState::Operational;
        Ok(OfficerResponse::GenesisDone(GenesisDone {
            vkey: VerifierKey::new(&genesis.origin, log_key).to_string(),
            index,
            combinations: 10,
        }))
    }

    pub(super) fn floor(&mut self, bytes: &[u8]) -> Result<OfficerResponse, Refused> {
        if self.phase != ModuleState::Recovering {
            return refuse(Refusal::WrongState, "nothing to recover");
        }
        let known = self.log.instance().unwrap();
        let (officers, node) = (known.officers.clone(), known.node);
        let command = quorum::check(&SignedCommand::from_cbor(bytes).unwrap(), Some(&officers))?;
        self.log.check_command(&command)?;
        let Action::Floor(floor) = &command.action else {
            return refuse(Refusal::CommandKind, "no floor");
        };
        if floor.boot != self.boot || floor.size > self.tree.size() {
            return refuse(Refusal::BelowFloor, "the log ends below the floor");
        }
        if floor.epoch_key != Some(self.epoch().verifying_key().to_bytes()) {
            return refuse(Refusal::FloorStale, "the floor certifies another epoch key");
        }
        if self.trouble.is_some() {
            return Ok(OfficerResponse::Done(Empty {}));
        }
        let event = BootEvent {
            floor: Bytes(bytes.to_vec()),
            module: [9; 32],
            memory: "mlock".into(),
            epoch_key: floor.epoch_key,
        };
        self.make(Event::Boot(event), node);
        self.phase = ModuleState::Operational;
        Ok(OfficerResponse::Done(Empty {}))
    }
}

fn make_shares(command: &Command, genesis: &Genesis) -> (ShareSet, Vec<Bytes>) {
    let (set, threshold) = (id(), genesis.custodians.threshold);
    let (mut slots, mut boxes) = (Vec::new(), Vec::new());
    for (index, member) in (1..).zip(&genesis.custodians.members) {
        let share =
            Share { version: 1, set, epoch: 1, index, threshold, value: [u8::try_from(index).unwrap(); 32] };
        slots.push(ShareSlot {
            index,
            custodian: member.name.clone(),
            key: member.key,
            commitment: share.commitment(),
        });
        let context = share_out_context(&set, index);
        let sealed = seal::seal(&member.key, &context, &share.to_cbor(), &seal::generate().unwrap());
        boxes.push(Bytes(sealed.unwrap().to_cbor()));
    }
    let set = ShareSet { version: 1, suite: 1, instance: command.instance, set, epoch: 1, threshold, slots };
    (set, boxes)
}

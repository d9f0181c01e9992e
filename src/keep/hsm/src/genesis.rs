//! Genesis: a root is made, split, each share proved good by its custodian, and only then does the instance exist.

use std::collections::BTreeMap;
use std::time::Instant;

use securemem::Secret;
use translog::entry::{Event, GenesisEvent};
use translog::state::LogState;
use translog::tree::Frontier;
use wire::cbor::{Bytes, Cbor};
use wire::command::{Action, Command, Genesis, Id, SignedCommand};
use wire::error::{Refusal, Refused};
use wire::frame::{
    GenesisDone, GenesisShares, Progress, Purpose, SealedShare, share_in_context, share_out_context,
};
use wire::share::{ROOT_LEN, Share, ShareCertificate, ShareSet, ShareSlot};
use zeroize::Zeroize;

use crate::epoch::EpochKey;
use crate::log::{Log, Names, Safe};
use crate::module::{Inner, Live, Module, OFFICER_WAIT, Phase, progress, wrong_state};
use crate::root::Root;

/// Above this many m-of-n sets only the n runs of m neighbours are combined: each share is then in m of them.
const COMBINATIONS_MAX: u64 = 10_000;

/// A genesis whose shares are being proved.
#[derive(Debug)]
pub(crate) struct Proving {
    command: Vec<u8>,
    genesis: Genesis,
    root: Root,
    certificate: Vec<u8>,
    set: ShareSet,
    proved: BTreeMap<u64, Secret>,
}

impl Proving {
    /// Shares proved and needed: all of them.
    pub(crate) fn progress(&self) -> Progress {
        progress(self.proved.len(), self.set.slots.len() as u64)
    }
}

/// Checks a share that came in against its set, and takes its value.
///
/// The canonical encoding of a share is the same length for every index below 24 and one byte more above; the box's
/// length tells which.
pub(crate) fn open_share(
    module: &Module,
    inner: &Inner,
    purpose: Purpose,
    set: &ShareSet,
    share: &SealedShare,
) -> Result<Secret, Refused> {
    let slot = set.slots.iter().find(|slot| slot.index == share.index);
    let slot = slot
        .ok_or_else(|| Refused::new(Refusal::ShareForeign, "the share set has no share with this index"))?;
    let context = share_in_context(purpose, &module.boot, &set.set, share.index);
    let sealed = wire::seal::parse(&share.sealed)
        .map_err(|_| Refused::new(Refusal::BoxDamaged, "the share's box is damaged; send it again"))?;
    let len = wire::seal::plain_len(&sealed);
    let plain = module.open_box(&inner.one_time, purpose, &context, &share.sealed, len)?;
    let mut opened = plain.with(Share::from_cbor).map_err(|_| {
        Refused::new(Refusal::ShareDamaged, format!("what {} sent is no share", slot.custodian))
    })?;
    let checked = if opened.set != set.set || opened.epoch != set.epoch {
        let why = format!(
            "the share of {} belongs to another share set: bring the one of this set",
            slot.custodian
        );
        Err(Refused::new(Refusal::ShareForeign, why))
    } else if opened.version != 1 || opened.index != slot.index || opened.commitment() != slot.commitment {
        let why = format!("the share of {} is damaged: it does not match its commitment", slot.custodian);
        Err(Refused::new(Refusal::ShareDamaged, why))
    } else {
        module
            .arena
            .alloc(ROOT_LEN, |bytes| {
                bytes.copy_from_slice(&opened.value);
                Ok::<(), ()>(())
            })
            .map_err(|_| Refused::new(Refusal::Busy, "the module's secret memory is full"))
    };
    opened.value.zeroize();
    checked
}

impl Module {
    /// Makes a root and its shares; nothing exists yet.
    pub(crate) fn genesis(&self, bytes: &[u8]) -> Result<GenesisShares, Refused> {
        let signed = SignedCommand::from_cbor(bytes).map_err(|error| {
            Refused::new(Refusal::BadCommand, format!("the signed command is not canonical: {error}"))
        })?;
        let command = wire::quorum::check(&signed, None)?;
        let genesis = self.check_genesis(&command)?;
        let root = Root::generate(&self.arena, &self.random, command.instance)?;
        let (set, shares) = self.make_shares(&root, &genesis, command.instance)?;
        let set_bytes = set.to_cbor();
        let mac = root.certificate_mac(&self.arena, &set_bytes)?;
        let certificate = ShareCertificate { set: Bytes(set_bytes), mac }.to_cbor();
        let answer = GenesisShares { certificate: Bytes(certificate.clone()), shares };
        let proving =
            Proving { command: bytes.to_vec(), genesis, root, certificate, set, proved: BTreeMap::new() };
        let mut inner = self.lock();
        let Phase::Uninitialised(slot) = &mut inner.phase else {
            return Err(wrong_state(inner.state(&self.random)));
        };
        *slot = Some(Box::new(proving));
        inner.one_time.forget(Purpose::Prove);
        Ok(answer)
    }

    fn check_genesis(&self, command: &Command) -> Result<Genesis, Refused> {
        let Action::Genesis(genesis) = &command.action else {
            return Err(Refused::new(Refusal::CommandKind, "this is no genesis command"));
        };
        if command.officer_epoch != 0 || command.not_before != 0 {
            return Err(Refused::new(
                Refusal::CommandWindow,
                "a genesis command has officer epoch 0 and a window that begins at log entry 0; propose it again",
            ));
        }
        if genesis.identity != self.identity_public {
            return Err(Refused::new(
                Refusal::WrongInstance,
                "the command pins another module's boot identity: read this module's identity and propose again",
            ));
        }
        if !genesis.custodians.is_sound() {
            return Err(Refused::new(
                Refusal::BadSet,
                "a custodian set needs 2 ≤ m ≤ n ≤ 32 and no name or key twice",
            ));
        }
        let origin = genesis.origin.as_str();
        let fits = (1..=128).contains(&origin.len())
            && origin.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+');
        if !fits || origin.contains("://") {
            return Err(Refused::new(
                Refusal::BadCommand,
                "an origin is a schema-less URL of up to 128 characters",
            ));
        }
        Ok(genesis.clone())
    }

    fn make_shares(
        &self,
        root: &Root,
        genesis: &Genesis,
        instance: Id,
    ) -> Result<(ShareSet, Vec<Bytes>), Refused> {
        let custodians = &genesis.custodians;
        let (threshold, set) = (custodians.threshold, self.random.array()?);
        let count = custodians.members.len();
        let (mut slots, mut boxes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut members = custodians.members.iter();
        let small = usize::try_from(threshold).unwrap_or(usize::MAX);
        root.split(&self.random, small, count, |index, value| {
            let member =
                members.next().ok_or_else(|| Refused::new(Refusal::BadSet, "more shares than custodians"))?;
            let mut share = Share { version: 1, set, epoch: 1, index, threshold, value: *value };
            let mut plain = share.to_cbor();
            let (name, key) = (member.name.clone(), member.key);
            slots.push(ShareSlot { index, custodian: name, key, commitment: share.commitment() });
            let sealed =
                wire::seal::seal(&key, &share_out_context(&set, index), &plain, &self.random.p256()?);
            plain.zeroize();
            share.value.zeroize();
            let why = format!("the enrolled key of {} is no P-256 point", member.name);
            boxes.push(Bytes(sealed.map_err(|_| Refused::new(Refusal::BadSet, why))?.to_cbor()));
            Ok(())
        })?;
        Ok((ShareSet { version: 1, suite: 1, instance, set, epoch: 1, threshold, slots }, boxes))
    }

    /// One custodian shows that his share is good.
    pub(crate) fn prove(&self, share: &SealedShare) -> Result<Progress, Refused> {
        let mut inner = self.lock();
        let Phase::Uninitialised(Some(proving)) = &inner.phase else {
            return Err(Refused::new(Refusal::ShareForeign, "no genesis waits for shares; start it again"));
        };
        if share.certificate.0 != proving.certificate {
            return Err(Refused::new(Refusal::ShareForeign, "the share belongs to another genesis"));
        }
        let value = open_share(self, &inner, Purpose::Prove, &proving.set, share)?;
        let Phase::Uninitialised(Some(proving)) = &mut inner.phase else {
            return Err(wrong_state(inner.state(&self.random)));
        };
        if proving.proved.contains_key(&share.index) {
            return Err(Refused::new(Refusal::ShareTwice, "this share is proved already"));
        }
        proving.proved.insert(share.index, value);
        Ok(proving.progress())
    }

    /// All shares are proved: the instance exists from here on.
    pub(crate) fn genesis_finish(&self) -> Result<GenesisDone, Refused> {
        let mut inner = self.lock();
        let Phase::Uninitialised(slot) = &mut inner.phase else {
            return Err(wrong_state(inner.state(&self.random)));
        };
        let Some(proving) = slot else {
            return Err(Refused::new(
                Refusal::ShareUnproved,
                "no genesis waits to be finished; start it again",
            ));
        };
        let Progress { have, need } = proving.progress();
        if have < need {
            let why = format!(
                "{have} of {need} shares are proved: every custodian proves his before the instance exists"
            );
            return Err(Refused::new(Refusal::ShareUnproved, why));
        }
        let shares: Vec<(u64, &Secret)> =
            proving.proved.iter().map(|(index, value)| (*index, value)).collect();
        let combinations = prove_sets(self, &proving.root, &shares, proving.set.threshold)?;
        let Some(proving) = slot.take() else {
            return Err(Refused::new(Refusal::ShareUnproved, "start it again"));
        };
        let Proving { command, genesis, root, certificate, .. } = *proving;
        let seed = root.log_seed(&self.arena, &genesis.node)?;
        let epoch = EpochKey::generate(&self.arena, &self.random)?;
        let names = Names { origin: genesis.origin, node: genesis.node, boot: self.boot };
        let mut log = Log::new(LogState::new(), Frontier::new(), names, seed, epoch, self.clock.clone());
        let verifier = log.verifier();
        let event = GenesisEvent {
            command: Bytes(command),
            certificate: Bytes(certificate),
            log_key: verifier.key(),
            module: self.program,
            memory: self.arena.mode().to_string(),
            epoch_key: Some(log.epoch_key()),
        };
        let index = log.make(&self.random, Event::Genesis(event), None)?;
        inner.phase = Phase::Operational(Box::new(Live::new(root, log, BTreeMap::new())));
        inner.one_time.forget(Purpose::Prove);
        drop(inner);
        self.notify();
        let waited = self.wait(index, Safe::Durable, Instant::now() + OFFICER_WAIT);
        waited.map_err(|refused| Refused {
            message: format!("it is done, but {}: look after keyd", refused.message),
            ..refused
        })?;
        Ok(GenesisDone { vkey: verifier.to_string(), index, combinations })
    }
}

/// Combines sets of m shares and compares each result with the root: all C(n, m) of them where that is feasible.
fn prove_sets(
    module: &Module,
    root: &Root,
    shares: &[(u64, &Secret)],
    threshold: u64,
) -> Result<u64, Refused> {
    let (count, take) = (shares.len(), usize::try_from(threshold).unwrap_or(usize::MAX));
    let all = binomial(count as u64, threshold).is_some_and(|sets| sets <= COMBINATIONS_MAX);
    let mut picked: Vec<usize> = (0..take).collect();
    let mut combined = 0;
    loop {
        let set: Vec<(u64, &Secret)> =
            picked.iter().filter_map(|at| shares.get(at % count).copied()).collect();
        if !root.equals(&module.arena, &set) {
            return Err(Refused::new(
                Refusal::ShareSet,
                "a set of shares does not give the root: destroy these shares and start again",
            ));
        }
        combined += 1;
        let more = if all { next_combination(&mut picked, count) } else { next_run(&mut picked, count) };
        if !more {
            return Ok(combined);
        }
    }
}

fn binomial(n: u64, k: u64) -> Option<u64> {
    (0..k.min(n.checked_sub(k)?))
        .try_fold(1_u64, |product, at| product.checked_mul(n - at).map(|value| value / (at + 1)))
}

/// The next combination in lexicographic order.
fn next_combination(picked: &mut [usize], count: usize) -> bool {
    let take = picked.len();
    let Some(place) =
        (0..take).rev().find(|place| picked.get(*place).is_some_and(|at| *at < count - take + place))
    else {
        return false;
    };
    let start = picked.get(place).copied().unwrap_or_default() + 1;
    for (offset, slot) in picked.iter_mut().skip(place).enumerate() {
        *slot = start + offset;
    }
    true
}

/// The next run of neighbours, round the ring.
fn next_run(picked: &mut [usize], count: usize) -> bool {
    picked.iter_mut().for_each(|at| *at += 1);
    picked.first().is_some_and(|first| *first < count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_all_and_once() {
        for (n, k) in [(5, 3), (2, 2), (9, 5), (4, 4)] {
            let mut picked: Vec<usize> = (0..k).collect();
            let mut seen = std::collections::BTreeSet::from([picked.clone()]);
            while next_combination(&mut picked, n) {
                assert!(seen.insert(picked.clone()));
            }
            assert_eq!(seen.len() as u64, binomial(n as u64, k as u64).unwrap(), "{n} {k}");
        }
        assert_eq!(binomial(32, 16), Some(601_080_390));
    }
}

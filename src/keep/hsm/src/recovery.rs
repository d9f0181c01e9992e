//! Back to service after a restart (service-protocol rule 1): shares give the root, officers give a floor, keyd gives the
//! log and the records, and everything must fit together before anything is served.

use std::collections::BTreeMap;
use std::sync::Arc;

use securemem::Secret;
use sha2::{Digest as _, Sha256};
use translog::entry::{BootEvent, ClosedEvent, Entry, Event};
use translog::note::{VerifierKey, open_checkpoint};
use translog::state::LogState;
use translog::tree::{Frontier, leaf_hash};
use wire::cbor::{Bytes, Cbor, Empty};
use wire::command::{Action, Digest, Floor, MEMBERS_MAX, SignedCommand};
use wire::error::{Refusal, Refused};
use wire::frame::{KeydResponse, Progress, Purpose, Records, Replay, ReplayEnd, SealedShare};
use wire::key::KeyId;
use wire::share::{ShareCertificate, ShareSet};

use crate::epoch::{EpochKey, ed25519};
use crate::genesis::open_share;
use crate::held::Held;
use crate::log::{Log, Names};
use crate::module::{Inner, Live, Module, Phase, progress, wrong_state};
use crate::root::{RecordHeader, Root, SealedRecord, combine, record_digest};

/// Share sets that are gathered side by side: one that cannot be completed must not block the right one.
const GATHERED_MAX: usize = 4;

/// Sealed. Shares are gathered per certificate, since only the combined root can tell which certificate is true.
#[derive(Debug, Default)]
pub(crate) struct Unsealing {
    sets: Vec<Gathering>,
}

#[derive(Debug)]
struct Gathering {
    certificate: Vec<u8>,
    set: ShareSet,
    shares: BTreeMap<u64, Secret>,
}

impl Unsealing {
    /// The set that is furthest.
    pub(crate) fn progress(&self) -> Option<Progress> {
        let furthest = self.sets.iter().max_by_key(|gathering| gathering.shares.len());
        furthest.map(|gathering| progress(gathering.shares.len(), gathering.set.threshold))
    }
}

/// The root is there; the log is not, yet.
#[derive(Debug)]
pub(crate) struct Recovering {
    root: Option<Root>,
    set: ShareSet,
    /// Key of the epoch that this boot begins; officers certify it with their floor.
    epoch: Option<EpochKey>,
    floor: Option<Claim>,
    state: LogState,
    frontier: Frontier,
    records: BTreeMap<KeyId, (RecordHeader, Vec<u8>)>,
}

/// A floor that officers gave; their set is known only when the log is replayed.
#[derive(Debug)]
struct Claim {
    signed: SignedCommand,
    floor: Floor,
    met: bool,
}

impl Recovering {
    fn new(root: Root, set: ShareSet, epoch: EpochKey) -> Self {
        let (state, frontier, records) = (LogState::new(), Frontier::new(), BTreeMap::new());
        Self { root: Some(root), set, epoch: Some(epoch), floor: None, state, frontier, records }
    }

    /// What officers certify.
    pub(crate) fn epoch_key(&self) -> Option<[u8; 32]> {
        self.epoch.as_ref().map(EpochKey::public)
    }

    /// How far the replay is, once there is a floor to hold it against.
    pub(crate) fn replayed(&self) -> Option<u64> {
        self.floor.as_ref().map(|_| self.frontier.size())
    }

    /// A refused recovery starts again from the floor: officers look at what happened first.
    fn start_again(&mut self) {
        self.floor = None;
        self.state = LogState::new();
        self.frontier = Frontier::new();
        self.records.clear();
    }

    /// Where the tree passes the floor's size it must have the floor's root.
    fn meet_floor(&mut self) -> Result<(), Refused> {
        let Some(claim) = &mut self.floor else {
            return Ok(());
        };
        if self.frontier.size() == claim.floor.size {
            if self.frontier.root() != claim.floor.root {
                return Err(Refused::new(
                    Refusal::BelowFloor,
                    "the log has another root at the floor's size: it is not the log that the officers vouched for",
                ));
            }
            claim.met = true;
        }
        Ok(())
    }
}

fn recovering<'a>(inner: &'a mut Inner, module: &Module) -> Result<&'a mut Recovering, Refused> {
    let state = inner.state(&module.random);
    match &mut inner.phase {
        Phase::Recovering(recovering) => Ok(recovering),
        _ => Err(wrong_state(state)),
    }
}

impl Module {
    /// One custodian brings his share.
    pub(crate) fn unseal(&self, share: &SealedShare) -> Result<Progress, Refused> {
        let mut inner = self.lock();
        let result = self.unseal_locked(&mut inner, share);
        if let Err(refused) = &result {
            inner.trouble = Some(refused.clone());
        }
        drop(inner);
        self.notify();
        result
    }

    fn unseal_locked(&self, inner: &mut Inner, share: &SealedShare) -> Result<Progress, Refused> {
        let foreign = |why: &str| Refused::new(Refusal::ShareForeign, why);
        let certificate = ShareCertificate::from_cbor(&share.certificate)
            .map_err(|_| foreign("the share certificate is damaged; bring the one from the ceremony"))?;
        let set = certificate.open().map_err(|_| foreign("the share certificate holds no share set"))?;
        let indices_differ =
            set.slots.iter().map(|slot| slot.index).collect::<std::collections::BTreeSet<_>>();
        if (set.version, set.suite) != (1, 1)
            || indices_differ.len() != set.slots.len()
            || set.slots.len() > MEMBERS_MAX
            || !(2..=set.slots.len() as u64).contains(&set.threshold)
        {
            return Err(foreign("the share certificate is not one of this format"));
        }
        let value = open_share(self, inner, Purpose::Unseal, &set, share)?;
        let state = inner.state(&self.random);
        let Phase::Sealed(unsealing) = &mut inner.phase else {
            return Err(wrong_state(state));
        };
        let place = unsealing.sets.iter().position(|gathering| gathering.certificate == share.certificate.0);
        let mut gathering = match place {
            Some(place) => unsealing.sets.remove(place),
            None => Gathering { certificate: share.certificate.0.clone(), set, shares: BTreeMap::new() },
        };
        if gathering.shares.contains_key(&share.index) {
            unsealing.sets.push(gathering);
            return Err(Refused::new(
                Refusal::ShareTwice,
                "this share is there already; another custodian is needed",
            ));
        }
        gathering.shares.insert(share.index, value);
        let progress = progress(gathering.shares.len(), gathering.set.threshold);
        if progress.have < progress.need {
            unsealing.sets.push(gathering);
            if unsealing.sets.len() > GATHERED_MAX {
                // The set with fewest shares gives way: a stranger's first share does not push out honest ones.
                let fewest = (0..)
                    .zip(&unsealing.sets)
                    .min_by_key(|(_, set)| set.shares.len())
                    .map(|(place, _)| place);
                unsealing.sets.remove(fewest.unwrap_or_default());
            }
            return Ok(progress);
        }
        let root = self.combine(&gathering, &certificate.mac)?;
        let epoch = EpochKey::generate(&self.arena, &self.random)?;
        inner.phase = Phase::Recovering(Box::new(Recovering::new(root, gathering.set, epoch)));
        inner.one_time.forget(Purpose::Unseal);
        inner.trouble = None;
        Ok(progress)
    }

    fn combine(&self, gathering: &Gathering, mac: &Digest) -> Result<Root, Refused> {
        let shares: Vec<(u64, &Secret)> =
            gathering.shares.iter().map(|(index, value)| (*index, value)).collect();
        let key = combine(&self.arena, &shares)?;
        let root = Root::new(&self.arena, key, gathering.set.instance)?;
        let set = gathering.set.to_cbor();
        if root.certificate_mac(&self.arena, &set)? == *mac {
            Ok(root)
        } else {
            Err(Refused::new(
                Refusal::ShareSet,
                "the shares do not give the root of this certificate: the certificate or the shares were made by somebody else",
            ))
        }
    }

    /// The officers' floor: kept until the log shows who the officers are.
    pub(crate) fn floor(&self, bytes: &[u8]) -> Result<(), Refused> {
        let signed = SignedCommand::from_cbor(bytes).map_err(|error| {
            Refused::new(Refusal::BadCommand, format!("the signed floor is not canonical: {error}"))
        })?;
        let command = signed.open().map_err(|error| {
            Refused::new(Refusal::BadCommand, format!("the floor's bytes are not canonical: {error}"))
        })?;
        let Action::Floor(floor) = command.action else {
            return Err(Refused::new(Refusal::CommandKind, "only a floor can be given now"));
        };
        if floor.boot != self.boot {
            return Err(Refused::new(
                Refusal::FloorStale,
                "the floor is for another boot of the module; sign a new one",
            ));
        }
        if floor.size == 0 {
            return Err(Refused::new(Refusal::BelowFloor, "a floor names at least the genesis entry"));
        }
        let mut inner = self.lock();
        let recovering = recovering(&mut inner, self)?;
        if floor.epoch_key.is_none() || floor.epoch_key != recovering.epoch_key() {
            let why = if floor.epoch_key.is_some() {
                "the floor certifies another epoch key than this boot's; read the module's status and sign a new one"
            } else {
                "the floor certifies no epoch key: update keyceremony and sign a new one"
            };
            return Err(Refused::new(Refusal::FloorStale, why));
        }
        recovering.start_again();
        recovering.floor = Some(Claim { signed, floor, met: false });
        inner.trouble = None;
        Ok(())
    }

    /// Entries from keyd's copy.
    pub(crate) fn replay(&self, replay: &Replay) -> Result<KeydResponse, Refused> {
        let mut inner = self.lock();
        let result = recovering(&mut inner, self).and_then(|recovering| {
            if recovering.floor.is_none() {
                return Err(Refused::new(Refusal::WrongState, "the officers' floor comes before the log"));
            }
            if replay.first != recovering.frontier.size() {
                return Err(Refused::new(Refusal::BadFrame, "the replay does not go on where it stopped"));
            }
            for bytes in &replay.entries {
                let at = recovering.frontier.size();
                let entry = Entry::from_cbor(bytes).map_err(|error| forged(at, &error))?;
                recovering.state.apply(&entry).map_err(|error| forged(at, &error))?;
                recovering.frontier.push(leaf_hash(bytes));
                recovering.meet_floor()?;
            }
            Ok(KeydResponse::Done(Empty {}))
        });
        self.recovery_outcome(&mut inner, result)
    }

    /// Sealed records from keyd's store. What the log does not name is garbage and ignored at the end.
    pub(crate) fn take_records(&self, records: Records) -> Result<KeydResponse, Refused> {
        let mut inner = self.lock();
        let result = recovering(&mut inner, self).and_then(|recovering| {
            for bytes in records.records {
                let damaged = || Refused::new(Refusal::RecordDamaged, "a sealed record cannot be read");
                let record = SealedRecord::from_cbor(&bytes).map_err(|_| damaged())?;
                let header = RecordHeader::from_cbor(&record.header).map_err(|_| damaged())?;
                // What the log does not name is garbage, however much of it there is.
                if recovering.state.key(&header.id).is_some() {
                    recovering.records.insert(header.id.clone(), (header, bytes.0));
                }
            }
            Ok(KeydResponse::Done(Empty {}))
        });
        self.recovery_outcome(&mut inner, result)
    }

    fn recovery_outcome(
        &self,
        inner: &mut Inner,
        result: Result<KeydResponse, Refused>,
    ) -> Result<KeydResponse, Refused> {
        if let Err(refused) = &result {
            inner.trouble = Some(refused.clone());
            if let Phase::Recovering(recovering) = &mut inner.phase {
                recovering.start_again();
            }
        }
        self.notify();
        result
    }

    /// The end of the replay: everything must fit, then the module serves.
    pub(crate) fn replay_end(&self, end: &ReplayEnd) -> Result<KeydResponse, Refused> {
        let mut inner = self.lock();
        let result = recovering(&mut inner, self).and_then(|recovering| self.recovered(recovering, end));
        match result {
            Ok(live) => {
                inner.phase = Phase::Operational(Box::new(live));
                inner.trouble = None;
                self.notify();
                Ok(KeydResponse::Done(Empty {}))
            }
            Err(refused) => self.recovery_outcome(&mut inner, Err(refused)),
        }
    }

    fn recovered(&self, recovering: &mut Recovering, end: &ReplayEnd) -> Result<Live, Refused> {
        let forged = |why: &str| Refused::new(Refusal::LogForged, why.to_owned());
        let Some(claim) = &recovering.floor else {
            return Err(Refused::new(Refusal::WrongState, "the officers' floor comes before the log"));
        };
        let known = recovering.state.instance().ok_or_else(|| forged("the log has no genesis"))?;
        let root = recovering.root.as_ref().ok_or_else(|| forged("the root is gone; unseal again"))?;
        if known.instance != root.instance() || recovering.set.instance != root.instance() {
            return Err(Refused::new(
                Refusal::WrongInstance,
                "the log is of another instance than the shares",
            ));
        }
        if known.identity != self.identity_public {
            return Err(Refused::new(
                Refusal::WrongInstance,
                "the genesis pins another module's boot identity",
            ));
        }
        let seed = root.log_seed(&self.arena, &known.node)?;
        let (size, root_here) = (recovering.frontier.size(), recovering.frontier.root());
        let verifier = VerifierKey::new(&known.origin, ed25519(&seed).verifying_key().to_bytes());
        let verified = open_checkpoint(&end.checkpoint, &verifier)
            .map_err(|error| forged(&format!("the log's head is not signed by this module: {error}")))?;
        let signer = recovering.state.epochs().signer(size).map(|epoch| &epoch.key);
        verified.beyond_log(signer).map_err(|error| forged(&error.to_string()))?;
        if known.log_key != verifier.key() || (verified.size, verified.root) != (size, root_here) {
            return Err(forged("the entries do not lead to the head that this module signed"));
        }
        if !claim.met {
            return Err(Refused::new(
                Refusal::BelowFloor,
                format!(
                    "the log ends at {} entries, below the officers' floor of {}: bring the newer log",
                    size, claim.floor.size
                ),
            ));
        }
        let command = wire::quorum::check(&claim.signed, Some(&known.officers))?;
        recovering.state.check_command(&command)?;
        let keys = self.open_records(&recovering.state, root, &recovering.records)?;
        let gone = || forged("root or epoch key are gone; abort and unseal again");
        let names = Names { origin: known.origin.clone(), node: known.node, boot: self.boot };
        let epoch = recovering.epoch.take().ok_or_else(gone)?;
        let (state, frontier) = (recovering.state.clone(), recovering.frontier.clone());
        let mut log = Log::new(state, frontier, names, seed, epoch, self.clock.clone());
        self.boot_entry(&mut log, &claim.signed)?;
        self.close_orphans(&mut log)?;
        let root = recovering.root.take().ok_or_else(gone)?;
        Ok(Live::new(root, log, keys))
    }

    fn boot_entry(&self, log: &mut Log, floor: &SignedCommand) -> Result<u64, Refused> {
        let event = BootEvent {
            floor: Bytes(floor.to_cbor()),
            module: self.program,
            memory: self.arena.mode().to_string(),
            epoch_key: Some(log.epoch_key()),
        };
        log.make(&self.random, Event::Boot(event), None)
    }

    /// What an earlier boot announced and did not carry out comes to its end here.
    fn close_orphans(&self, log: &mut Log) -> Result<(), Refused> {
        let orphans: Vec<u64> =
            log.state().intents().filter(|(_, open)| open.orphan).map(|(index, _)| index).collect();
        for intent in orphans {
            log.make(&self.random, Event::Closed(ClosedEvent { intent, reason: 0 }), None)?;
        }
        Ok(())
    }

    /// Every record that the log names must be there, be the one that the log names, and open.
    fn open_records(
        &self,
        state: &LogState,
        root: &Root,
        records: &BTreeMap<KeyId, (RecordHeader, Vec<u8>)>,
    ) -> Result<BTreeMap<KeyId, Arc<Held>>, Refused> {
        let mut keys = BTreeMap::new();
        for (id, key) in state.keys() {
            let Some((header, bytes)) = records.get(id) else {
                let why = format!("the store has no record of {id}: restore it from the snapshot");
                return Err(Refused::new(Refusal::RecordMissing, why));
            };
            if record_digest(bytes) != key.made.digest {
                let (code, what) = if header.sequence < key.made.sequence {
                    (Refusal::RecordOld, "is older than the log")
                } else {
                    (Refusal::RecordDamaged, "is not the one that the log names")
                };
                return Err(Refused::new(
                    code,
                    format!("the record of {id} {what}: restore it from the snapshot"),
                ));
            }
            let (header, secret) = root.open(&self.arena, bytes)?;
            if header.attributes != key.made.attributes || header.sequence != key.made.sequence {
                return Err(Refused::new(
                    Refusal::RecordDamaged,
                    format!("the record of {id} holds other attributes"),
                ));
            }
            keys.insert(id.clone(), Arc::new(Held::new(secret, &header.attributes)?));
        }
        Ok(keys)
    }
}

fn forged(at: u64, error: &dyn std::fmt::Display) -> Refused {
    Refused::new(Refusal::LogForged, format!("log entry {at} cannot stand where it stands: {error}"))
}

/// SHA-256 of a program file, given its bytes.
pub(crate) fn program_digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

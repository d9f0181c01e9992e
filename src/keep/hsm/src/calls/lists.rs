//! Blacklists: the module reads the list, builds the bytes itself, and signs the next epoch only.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sm3::Sm3;
use translog::entry::{Event, ListEvent};
use translog::state::ListState;
use wire::cbor::Bytes;
use wire::command::Digest;
use wire::error::{Refusal, Refused};
use wire::frame::{LIST_PART_MAX, ListBytes, ListPart, ListSign, ListSignature, Prepared, SignedList};
use wire::key::{KeyId, KeyState, Usage};
use wire::list::{BODY_MAX, List, ListKind, REMOVALS_MAX, TRAILER_LEN};

use crate::held::Held;
use crate::module::{Live, Module};

/// Key set of the list keys inside a wall.
const KEY_SET: &str = "blacklist";

/// What gathers on a connection until it is signed.
#[derive(Debug, Default)]
pub(crate) struct ListBuffer {
    base: Vec<u8>,
    list: Vec<u8>,
}

impl ListBuffer {
    /// Takes more bytes.
    pub(crate) fn add(&mut self, part: &ListBytes) -> Result<(), Refused> {
        let buffer = match part.part {
            ListPart::Base => &mut self.base,
            ListPart::List => &mut self.list,
        };
        if part.bytes.len() > LIST_PART_MAX || buffer.len() + part.bytes.len() > BODY_MAX {
            return Err(Refused::new(Refusal::TooLarge, "a list has at most 16 MiB"));
        }
        buffer.extend_from_slice(&part.bytes);
        Ok(())
    }
}

/// A list as the module read it.
struct Reading {
    list: List,
    /// The list's bytes, built from what was read.
    body: Vec<u8>,
    body_digest: Digest,
    base: Option<List>,
    base_digest: Digest,
}

/// The list in force after this one, and the cards that leave with it.
struct Judged {
    digest: Digest,
    singles: u64,
    ranges: u64,
    removed: u64,
}

/// What the log and the keys say of a wall, looked up under the lock.
struct Wall {
    /// The newest list.
    known: Option<ListState>,
    /// Days since 1970.
    day: u64,
    keys: Vec<(KeyId, Arc<Held>)>,
    mac: Option<(KeyId, Arc<Held>)>,
}

impl Module {
    /// Signs the list that has gathered.
    pub(crate) fn sign_list(&self, buffer: &ListBuffer, request: &ListSign) -> Result<u64, Refused> {
        let reading = read(buffer)?;
        let wall = self.live(|live| live.wall(&request.wall, &reading))?;
        // Following, hashing and signing 16 MiB takes a moment; the lock is free meanwhile.
        let judged = judge(&reading, &wall)?;
        self.live(|live| live.check_removals(&request.wall, &reading, &judged))?;
        let trailer = trailer(&reading.body, wall.mac.as_ref())?;
        let parts: [&[u8]; 2] = [&reading.body, &trailer];
        let mut signatures = Vec::with_capacity(wall.keys.len());
        for (key, held) in &wall.keys {
            if let Held::Signer(signer) = &**held {
                let signature = Bytes(signer.sign(&parts)?);
                let algorithm = signer.algorithm();
                signatures.push(ListSignature { key: key.clone(), algorithm, signature });
            }
        }
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        let digest: Digest = hash.finalize().into();
        let (epoch, kind) = (u64::from(reading.list.version), reading.list.kind);
        self.live(|live| {
            live.log.room()?;
            // Another client may have had the next epoch signed meanwhile, and a key may have been suspended.
            let ids = |keys: &[(KeyId, Arc<Held>)]| keys.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
            let (keys, mac) = live.list_keys_of(&request.wall)?;
            if ids(&keys) != ids(&wall.keys) || ids(mac.as_slice()) != ids(wall.mac.as_slice()) {
                return Err(Refused::new(Refusal::KeyState, "the list's keys have changed; ask again"));
            }
            let again = live.check_removals(&request.wall, &reading, &judged)?;
            if again && live.log.state().list(&request.wall).is_none_or(|known| known.digest != digest) {
                let why = "this epoch was signed before, under another MAC key; fetch the file that was signed, or sign the next epoch";
                return Err(Refused::new(Refusal::ListMacKey, why));
            }
            let event = ListEvent {
                client: request.client.clone(),
                wall: request.wall.clone(),
                epoch,
                kind,
                body: reading.body_digest,
                digest,
                effective: judged.digest,
                singles: judged.singles,
                ranges: judged.ranges,
                removed: judged.removed,
                keys: ids(&wall.keys),
                again,
            };
            let result = SignedList {
                wall: request.wall.clone(),
                epoch,
                kind,
                trailer: Bytes(trailer.to_vec()),
                digest,
                signatures,
                removed: judged.removed,
                effective: judged.digest,
            };
            self.prepare(live, Event::List(event), Prepared::List(result))
        })
    }
}

fn read(buffer: &ListBuffer) -> Result<Reading, Refused> {
    let format = |what: &str, error: &wire::list::ListError| {
        Refused::new(Refusal::ListFormat, format!("{what}: {error}"))
    };
    let list = List::parse(&buffer.list).map_err(|error| format("the list", &error))?;
    let base = match buffer.base.as_slice() {
        [] => None,
        bytes => Some(List::parse(bytes).map_err(|error| format("the list in force", &error))?),
    };
    let body = list.to_bytes();
    let (body_digest, base_digest) = (Sha256::digest(&body).into(), Sha256::digest(&buffer.base).into());
    Ok(Reading { list, body, body_digest, base, base_digest })
}

/// What the list makes of the one in force.
fn judge(reading: &Reading, wall: &Wall) -> Result<Judged, Refused> {
    let epoch = u64::from(reading.list.version);
    if let Some(known) = &wall.known
        && (known.epoch, known.body) == (epoch, reading.body_digest)
    {
        // The same list again: what is in force is what the log says, and nobody leaves twice.
        return Ok(Judged { digest: known.effective, singles: 0, ranges: 0, removed: 0 });
    }
    let base = reading.base.as_ref().filter(|_| reading.base_is(wall.known.as_ref()));
    let effective = List::follow(base, &reading.list)
        .map_err(|error| Refused::new(Refusal::ListFormat, error.to_string()))?;
    let body = effective.to_bytes();
    if body.len() > BODY_MAX {
        // The next list has to bring it along, and could not.
        let why = "the list in force would have more than 16 MiB; make a full list that uses ranges";
        return Err(Refused::new(Refusal::TooLarge, why));
    }
    let removed = match (base, &wall.known) {
        (Some(base), _) => effective.leaving(base, &reading.list, wall.day, REMOVALS_MAX),
        (None, None) => 0,
        // Nobody knows who leaves.
        (None, Some(_)) => REMOVALS_MAX + 1,
    };
    let (singles, ranges) = (effective.singles.len() as u64, effective.ranges.len() as u64);
    Ok(Judged { digest: Sha256::digest(&body).into(), singles, ranges, removed })
}

impl Reading {
    /// Whether the list in force that came along is the one that the log names.
    fn base_is(&self, known: Option<&ListState>) -> bool {
        match (known, &self.base) {
            (None, None) => true,
            (Some(known), Some(_)) => known.effective == self.base_digest,
            _ => false,
        }
    }
}

impl Live {
    /// Looks up what the list is judged by. The epoch first: a list out of order is that, whatever came along with it.
    fn wall(&self, wall: &str, reading: &Reading) -> Result<Wall, Refused> {
        let state = self.log.state();
        let epoch = u64::from(reading.list.version);
        let again = state.check_list(wall, epoch, &reading.body_digest, 0)?;
        let known = state.list(wall).cloned();
        // Officers may have approved a full list by its digest when the one in force is lost: who leaves is then their word.
        let by_quorum = reading.list.kind == ListKind::Full
            && state.approved_removals(wall, epoch, &reading.body_digest) > REMOVALS_MAX;
        if !again && !by_quorum && !reading.base_is(known.as_ref()) {
            let why = "the list in force that came along is not the one that the log names; bring that one, or have the \
                       officers approve a full list without it";
            return Err(Refused::new(Refusal::ListBase, why));
        }
        let (keys, mac) = self.list_keys_of(wall)?;
        Ok(Wall { known, day: state.day(self.log.now()), keys, mac })
    }

    /// Whether so many may leave: with this list, and with all lists of this day. `true` if the list was signed before.
    fn check_removals(&self, wall: &str, reading: &Reading, judged: &Judged) -> Result<bool, Refused> {
        let state = self.log.state();
        let (epoch, body) = (u64::from(reading.list.version), &reading.body_digest);
        let again = state.check_list(wall, epoch, body, judged.removed)?;
        let day = state.day(self.log.now());
        let before = state.list(wall).map_or(0, |known| known.removed_on(day));
        let by_quorum = state.approved_removals(wall, epoch, body) >= judged.removed;
        if !again && !by_quorum && before + judged.removed > REMOVALS_MAX {
            let why = format!(
                "with {before} cards before, more than {REMOVALS_MAX} would leave this wall's lists in a day; have the officers \
                 approve the list's digest"
            );
            return Err(Refused::new(Refusal::ListRemovals, why));
        }
        Ok(again)
    }

    /// Active signing keys of the wall's lists, and the newest active MAC key.
    #[expect(clippy::type_complexity, reason = "two lists of the same pairs, read at one place")]
    fn list_keys_of(
        &self,
        wall: &str,
    ) -> Result<(Vec<(KeyId, Arc<Held>)>, Option<(KeyId, Arc<Held>)>), Refused> {
        let of_wall = |id: &&KeyId| {
            let mut parts = id.lineage.as_str().split('/');
            parts.next() == Some(wall) && parts.next() == Some(KEY_SET)
        };
        let active = |usage: Usage| {
            let keys = self.log.state().keys().filter(move |(_, key)| {
                key.state == KeyState::Active && key.made.attributes.usage.contains(&usage)
            });
            keys.map(|(id, _)| id)
                .filter(of_wall)
                .filter_map(|id| Some((id.clone(), Arc::clone(self.keys.get(id)?))))
        };
        let signers: Vec<_> = active(Usage::SignList).collect();
        if signers.is_empty() {
            return Err(Refused::new(
                Refusal::NoSuchKey,
                "there is no active key that signs lists of this wall",
            ));
        }
        Ok((signers, active(Usage::MacList).last()))
    }
}

/// SM3 of the body ‖ MAC key id ‖ MAC. Without a MAC key the last twenty bytes are zero: terminals check a signature then.
fn trailer(body: &[u8], mac: Option<&(KeyId, Arc<Held>)>) -> Result<[u8; TRAILER_LEN], Refused> {
    let mut trailer = [0; TRAILER_LEN];
    let digest = Sm3::digest(body);
    let (hash, rest) = trailer.split_at_mut(32);
    hash.copy_from_slice(&digest);
    if let Some((id, held)) = mac
        && let Held::ListMac(key) = &**held
    {
        let tag = key.mac(&[body]).map_err(|error| Refused::new(Refusal::Fault, error.to_string()))?;
        let (key_id, mac) = rest.split_at_mut(4);
        key_id.copy_from_slice(&u32::from(id.version.0).to_be_bytes());
        mac.copy_from_slice(&tag);
    }
    Ok(trailer)
}

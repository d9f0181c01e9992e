//! Blacklists: the module reads the list, builds the bytes itself, and signs the next epoch only.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sm3::Sm3;
use translog::entry::{Event, ListEvent};
use wire::cbor::Bytes;
use wire::command::Digest;
use wire::error::{Refusal, Refused};
use wire::frame::{LIST_PART_MAX, ListBytes, ListPart, ListSign, ListSignature, Prepared, SignedList};
use wire::key::{KeyId, KeyState, Usage};
use wire::list::{BODY_MAX, List, REMOVALS_MAX, TRAILER_LEN};

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

impl Module {
    /// Signs the list that has gathered.
    pub(crate) fn sign_list(&self, buffer: &ListBuffer, request: &ListSign) -> Result<u64, Refused> {
        let reading = read(buffer)?;
        let (effective, removed) = self.live(|live| live.judge_list(&request.wall, &reading))?;
        let (keys, mac) = self.live(|live| live.list_keys_of(&request.wall))?;
        // Hashing and signing 16 MiB takes a moment; the lock is free meanwhile.
        let trailer = trailer(&reading.body, mac.as_ref())?;
        let parts: [&[u8]; 2] = [&reading.body, &trailer];
        let mut signatures = Vec::with_capacity(keys.len());
        for (key, held) in &keys {
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
            if live.list_keys_of(&request.wall)?.0.iter().map(|(id, _)| id).ne(keys.iter().map(|(id, _)| id))
            {
                return Err(Refused::new(Refusal::KeyState, "the list's keys have changed; ask again"));
            }
            let again = live.log.state().check_list(&request.wall, epoch, &reading.body_digest, removed)?;
            let event = ListEvent {
                client: request.client.clone(),
                wall: request.wall.clone(),
                epoch,
                kind,
                body: reading.body_digest,
                digest,
                effective: effective.digest,
                singles: effective.singles,
                ranges: effective.ranges,
                removed,
                keys: keys.iter().map(|(id, _)| id.clone()).collect(),
                again,
            };
            let result = SignedList {
                wall: request.wall.clone(),
                epoch,
                kind,
                trailer: Bytes(trailer.to_vec()),
                digest,
                signatures,
                removed,
                effective: effective.digest,
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

/// The list in force after this one.
struct Effective {
    digest: Digest,
    singles: u64,
    ranges: u64,
}

impl Effective {
    fn of(list: &List) -> Self {
        let (singles, ranges) = (list.singles.len() as u64, list.ranges.len() as u64);
        Self { digest: Sha256::digest(list.to_bytes()).into(), singles, ranges }
    }
}

impl Live {
    /// The list in force afterwards, and how many cards leave; the list in force now must be the one that the log names.
    fn judge_list(&self, wall: &str, reading: &Reading) -> Result<(Effective, u64), Refused> {
        let epoch = u64::from(reading.list.version);
        let known = self.log.state().list(wall);
        if let Some(known) = known
            && (known.epoch, known.body) == (epoch, reading.body_digest)
        {
            // The same list again: what is in force is what the log says, and nobody leaves twice.
            return Ok((Effective { digest: known.effective, singles: 0, ranges: 0 }, 0));
        }
        // The epoch first: a list out of order is that, whatever came along with it.
        self.log.state().check_list(wall, epoch, &reading.body_digest, 0)?;
        let base = match (known, &reading.base) {
            (None, None) => None,
            (Some(known), Some(base)) if known.effective == reading.base_digest => Some(base),
            _ => {
                let why = "the list in force that came along is not the one that the log names";
                return Err(Refused::new(Refusal::ListBase, why));
            }
        };
        let effective = List::follow(base, &reading.list)
            .map_err(|error| Refused::new(Refusal::ListFormat, error.to_string()))?;
        let removed = base.map_or(0, |base| effective.removed_since(base, REMOVALS_MAX));
        self.log.state().check_list(wall, epoch, &reading.body_digest, removed)?;
        Ok((Effective::of(&effective), removed))
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

//! The stand-in's side of card keys, licences, lists, loads and scripts. It knows no key: blocks are made of names.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use wire::cbor::{Bytes, Cbor, Empty};
use wire::error::{Refusal, Refused};
use wire::frame::{
    CardKeyBlock, CardKeySet, CardKeySets, CardKeys, CardRole, KeydRequest, KeydResponse, LicenceInfo,
    LicenceQuery, ListPart, ListSign, ListSignature, LoadAnswer, Prepared, SignedList,
};
use wire::key::{Algorithm, KeyId, KeyVersion, Lineage};
use wire::licence::{CardSerial, Licence};
use wire::list::List;

use crate::fake::{Fake, Inner};

/// The line whose licence [`LICENCE`] is.
pub(crate) const LINE: &str = "spiffe://weihai.example/perso/line-1";
pub(crate) const LICENCE: [u8; 16] = [0x11; 16];
/// Cards that the licence grants.
pub(crate) const QUANTITY: u64 = 1_000;

/// What the stand-in keeps for these calls.
#[derive(Default)]
pub(crate) struct Calls {
    prepared: BTreeMap<u64, Prepared>,
    issued: Vec<CardSerial>,
    /// The epoch, body and list in force of each wall.
    lists: BTreeMap<String, (u64, Vec<u8>, Vec<u8>)>,
    /// Names of the requests in the order in which they came, without status and fetch.
    pub(crate) order: Vec<&'static str>,
    /// A call is refused with this, after so many others.
    pub(crate) refuse: Option<Refused>,
    pub(crate) refuse_after: usize,
    /// Results are forgotten, as after too many others.
    pub(crate) forget: bool,
    /// Licences are told to anybody, as by a module that is not ours.
    pub(crate) lax: bool,
    /// How long a request of card keys takes.
    pub(crate) slow: std::time::Duration,
}

/// What gathers on a connection.
#[derive(Default)]
pub(crate) struct Gathered {
    base: Vec<u8>,
    list: Vec<u8>,
}

fn refused<T>(code: Refusal, message: &str) -> Result<T, Refused> {
    Err(Refused::new(code, message))
}

fn key(text: &str) -> KeyId {
    KeyId::parse(text).unwrap()
}

pub(crate) fn licence() -> Licence {
    Licence {
        id: LICENCE,
        node: [4; 16],
        line: LINE.to_owned(),
        transport: key("transit/perso/line-1@01"),
        fingerprint: [5; 16],
        applet: "transit".to_owned(),
        profile: [6; 32],
        roles: vec!["load".to_owned(), "tac".to_owned()],
        issuer: [0x12; 8],
        first: [0; 10],
        last: [0, 0, 0, 0, 0, 0, 0, 0, 0x99, 0x99],
        quantity: QUANTITY,
        not_before: 1,
        not_after: 2,
    }
}

impl Fake {
    /// Answers one of these calls.
    pub(crate) fn call(
        &self,
        gathered: &mut Gathered,
        request: KeydRequest,
    ) -> Result<KeydResponse, Refused> {
        self.note(&request)?;
        Ok(match request {
            KeydRequest::CardKeys(request) => self.change(|inner| inner.cards(&request))?,
            KeydRequest::Licence(query) => self.change(|inner| inner.licence(&query))?,
            KeydRequest::ListBytes(part) => {
                assert!(part.bytes.len() <= wire::frame::LIST_PART_MAX);
                match part.part {
                    ListPart::Base => gathered.base.extend(part.bytes.0),
                    ListPart::List => gathered.list.extend(part.bytes.0),
                }
                KeydResponse::Done(Empty {})
            }
            KeydRequest::ListSign(sign) => {
                let gathered = std::mem::take(gathered);
                self.change(|inner| inner.sign(&sign, gathered))?
            }
            KeydRequest::LoadAuthorize(load) => {
                let answer = LoadAnswer {
                    mac2: [1, 2, 3, 4],
                    date: [0x20, 0x26, 1, 2],
                    time: [1, 2, 3],
                    again: false,
                };
                assert_eq!(load.client, "spiffe://weihai.example/terminals/load-1");
                self.change(|inner| inner.prepare("load", Prepared::Load(answer)))
            }
            KeydRequest::Script(_) => {
                self.change(|inner| inner.prepare("script", Prepared::Script(Bytes(vec![0x84, 0x1e]))))
            }
            KeydRequest::Authenticate(_) => {
                self.change(|inner| inner.prepare("authenticate", Prepared::Authenticate([7; 8])))
            }
            KeydRequest::Fetch(ticket) => {
                let mut inner = self.lock();
                assert!(ticket.ticket < inner.durable, "keyd asks for a result before its entry is durable");
                let seen = inner.enrolled.is_empty() || ticket.ticket < inner.witnessed;
                assert!(seen, "keyd asks for a result before the quorum has seen its entry");
                let forget = std::mem::take(&mut inner.calls.forget);
                match inner.calls.prepared.remove(&ticket.ticket).filter(|_| !forget) {
                    Some(prepared) => KeydResponse::Prepared(prepared),
                    None => return refused(Refusal::UnknownTicket, "no result"),
                }
            }
            other => panic!("{other:?}"),
        })
    }
}

impl Fake {
    /// Notes a call, takes its time, and refuses it if the test says so.
    fn note(&self, request: &KeydRequest) -> Result<(), Refused> {
        let name = match request {
            KeydRequest::CardKeys(_) => "cards",
            KeydRequest::ListBytes(_) => "part",
            KeydRequest::ListSign(_) => "list",
            KeydRequest::LoadAuthorize(_) => "load",
            KeydRequest::Script(_) => "script",
            KeydRequest::Authenticate(_) => "authenticate",
            _ => return Ok(()),
        };
        let slow = self.lock().calls.slow;
        if name == "cards" {
            std::thread::sleep(slow);
        }
        let refusal = self.change(|inner| {
            inner.calls.order.push(name);
            match inner.calls.refuse_after.checked_sub(1) {
                Some(left) => {
                    inner.calls.refuse_after = left;
                    None
                }
                None => inner.calls.refuse.take(),
            }
        });
        refusal.map_or(Ok(()), Err)
    }
}

impl Inner {
    fn prepare(&mut self, entry: &str, prepared: Prepared) -> KeydResponse {
        let ticket = self.entry(entry);
        self.calls.prepared.insert(ticket.ticket, prepared);
        KeydResponse::Ticket(ticket)
    }

    fn cards(&mut self, request: &CardKeys) -> Result<KeydResponse, Refused> {
        if request.client != LINE || request.licence != LICENCE {
            return refused(Refusal::NoSuchLicence, "the licence is of another line");
        }
        for card in &request.cards {
            if !self.calls.issued.contains(&card.serial) {
                self.calls.issued.push(card.serial);
            }
        }
        let names = if request.roles.is_empty() { licence().roles } else { request.roles.clone() };
        let role = |role: &String| CardRole {
            role: role.clone(),
            key: KeyId {
                lineage: Lineage::parse(&format!("transit/purse/{role}")).unwrap(),
                version: KeyVersion(1),
            },
            algorithm: Algorithm::Sm4,
            index: 1,
        };
        let set = |card: &wire::frame::CardItem| CardKeySet {
            serial: card.serial,
            keys: names
                .iter()
                .map(|name| CardKeyBlock { kcv: [1, 2, 3], block: name.as_bytes().into() })
                .collect(),
        };
        let sets = CardKeySets {
            licence: LICENCE,
            form: request.form,
            roles: names.iter().map(role).collect(),
            cards: request.cards.iter().map(set).collect(),
            issued: self.calls.issued.len() as u64,
            digest: [8; 32],
        };
        Ok(self.prepare("cards", Prepared::CardKeys(sets)))
    }

    fn licence(&mut self, query: &LicenceQuery) -> Result<KeydResponse, Refused> {
        if (query.client != LINE && !self.calls.lax) || query.licence != LICENCE {
            return refused(Refusal::NoSuchLicence, "the licence is of another line");
        }
        let issued = self.calls.issued.len() as u64;
        let licence = licence().to_cbor().into();
        Ok(KeydResponse::Licence(LicenceInfo { licence, issued, spoiled: 0, revoked: false, current: true }))
    }

    fn sign(&mut self, sign: &ListSign, gathered: Gathered) -> Result<KeydResponse, Refused> {
        let Ok(list) = List::parse(&gathered.list) else {
            return refused(Refusal::ListFormat, "the list is cut short");
        };
        let epoch = u64::from(list.version);
        let known = self.calls.lists.get(&sign.wall).cloned();
        let again = known.as_ref().is_some_and(|(at, body, _)| (*at, body) == (epoch, &gathered.list));
        let in_force = if again {
            known.unwrap().2
        } else {
            let next = known.as_ref().map_or(0, |(epoch, ..)| *epoch) + 1;
            if epoch != next {
                return refused(
                    Refusal::ListEpoch,
                    &format!("the next epoch of this list is {next}, not {epoch}"),
                );
            }
            if known.as_ref().map_or(&[][..], |(.., in_force)| in_force) != gathered.base {
                return refused(
                    Refusal::ListBase,
                    "the list in force that came along is not the one that the log names",
                );
            }
            let base = known.map(|_| List::parse(&gathered.base).unwrap());
            List::follow(base.as_ref(), &list).unwrap().to_bytes()
        };
        let trailer = format!("trailer {epoch}").into_bytes();
        let signature = |name: &str, algorithm| ListSignature {
            key: key(&format!("{}/blacklist/{name}", sign.wall)),
            algorithm,
            signature: format!("{name} {epoch}").into_bytes().into(),
        };
        let signed = SignedList {
            wall: sign.wall.clone(),
            epoch,
            kind: list.kind,
            digest: Sha256::digest([gathered.list.as_slice(), &trailer].concat()).into(),
            trailer: trailer.into(),
            signatures: vec![signature("p256@01", Algorithm::P256), signature("sm2@01", Algorithm::Sm2)],
            removed: 0,
            effective: Sha256::digest(&in_force).into(),
        };
        self.calls.lists.insert(sign.wall.clone(), (epoch, gathered.list, in_force));
        Ok(self.prepare("list", Prepared::List(signed)))
    }
}

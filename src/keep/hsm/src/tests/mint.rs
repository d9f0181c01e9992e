//! A room with what a first day needs: masters of a transit applet, a line's transport key, list keys, a ledger.

use std::sync::Arc;

use cardcrypto::kcv;
use p256::SecretKey;
use wire::cbor::{Bytes, Cbor, Empty};
use wire::command::{Action, Id, SetKeyState};
use wire::error::{Refusal, Refused};
use wire::frame::*;
use wire::key::{
    Algorithm, FactorSource, KeyAttributes, KeyId, KeyState, KeyVersion, Level, Lineage, SessionRule, Usage,
};
use wire::licence::{CardSerial, Licence, serial_of};
use wire::profile::{AppletProfile, MacLayout, ProfileRole};
use wire::seal;
use wire::token::{LedgerToken, TokenKey, token_bytes};

use super::room::*;
use crate::answer::Connection;
use crate::module::Module;

pub(super) const LINE: &str = "spiffe://weihai.example/perso/line-1";
pub(super) const LOAD_KEY: [u8; 16] = *b"load master key!";
pub(super) const KBPK: [u8; 16] = *b"transport key 01";
pub(super) const LICENCE: Id = [0x11; 16];
pub(super) const FIRST: u128 = 31_010_000_123_456_000;

/// Days of the far future and past, so that a licence of a test is valid.
const YEARS: u64 = 40 * 365 * 86_400;

pub(super) struct Mint {
    pub(super) people: People,
    pub(super) module: Arc<Module>,
    pub(super) keyd: Keyd,
    pub(super) ledger: SecretKey,
}

pub(super) fn serial(at: u64) -> CardSerial {
    serial_of(FIRST + u128::from(at)).unwrap()
}

pub(super) fn id(lineage: &str, version: u8) -> KeyId {
    KeyId { lineage: Lineage::parse(lineage).unwrap(), version: KeyVersion(version) }
}

pub(super) fn key(lineage: &str, algorithm: Algorithm, usage: &[Usage]) -> KeyAttributes {
    let card = matches!(algorithm, Algorithm::Sm4 | Algorithm::Tdes)
        && !matches!(usage, [Usage::WrapKeys | Usage::MacList]);
    KeyAttributes {
        lineage: Lineage::parse(lineage).unwrap(),
        version: KeyVersion(1),
        algorithm,
        level: Level::City,
        levels: if card { vec![FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8] } else { vec![] },
        usage: usage.to_vec(),
        kcv: [0; 3],
        session: (usage.contains(&Usage::AuthorizeLoad) && algorithm == Algorithm::Sm4)
            .then_some(SessionRule::Padded),
    }
}

pub(super) fn role(name: &str, key: &KeyAttributes) -> ProfileRole {
    ProfileRole {
        role: name.into(),
        key: key.id(),
        algorithm: key.algorithm,
        levels: key.levels.clone(),
        index: 1,
        p1: 0x3e,
        p2: 1,
        header: Bytes(vec![1, 0, 0x33, 0]),
        block_usage: "E2".into(),
        block_mode: "N".into(),
        session: key.session,
        mac: MacLayout::LineProtection,
    }
}

impl Mint {
    pub(super) fn new() -> Self {
        let module = new_module();
        let keyd = Keyd::start(&module, Disk::default());
        let mut people = People::new();
        genesis(&module, &mut people);
        let ledger = SecretKey::from_slice(&[0x42; 32]).unwrap();
        let mint = Self { people, module, keyd, ledger };
        mint.import(
            &key("transit/purse/load", Algorithm::Sm4, &[Usage::AuthorizeLoad, Usage::DeriveCard]),
            LOAD_KEY,
        );
        mint.import(&key("transit/perso/line-1", Algorithm::Aes, &[Usage::WrapKeys]), KBPK);
        for (lineage, algorithm, usage) in [
            ("transit/purse/control", Algorithm::Tdes, &[Usage::DeriveCard][..]),
            ("transit/purse/maintenance", Algorithm::Tdes, &[Usage::IssueScript, Usage::DeriveCard]),
            ("transit/purse/external", Algorithm::Sm4, &[Usage::AnswerAuth, Usage::DeriveCard]),
            ("transit/purse/pin", Algorithm::Tdes, &[Usage::ReloadPin, Usage::DeriveCard]),
            ("transit/blacklist/sm2", Algorithm::Sm2, &[Usage::SignList]),
            ("transit/blacklist/p256", Algorithm::P256, &[Usage::SignList]),
            ("transit/blacklist/mac", Algorithm::Sm4, &[Usage::MacList]),
        ] {
            mint.decide(Action::GenerateKey(key(lineage, algorithm, usage))).unwrap();
            mint.activate(&id(lineage, 1)).unwrap();
        }
        mint
    }

    pub(super) fn decide(&self, action: Action) -> Result<CommandDone, Refused> {
        command(&self.module, self.people.signed(action))
    }

    pub(super) fn refusal(&self, action: Action) -> Refusal {
        self.decide(action).unwrap_err().code
    }

    pub(super) fn set(&self, key: &KeyId, state: KeyState) -> Result<CommandDone, Refused> {
        self.decide(Action::SetKeyState(SetKeyState { key: key.clone(), state }))
    }

    fn activate(&self, key: &KeyId) -> Result<CommandDone, Refused> {
        self.set(key, KeyState::Active)
    }

    fn import(&self, attributes: &KeyAttributes, bytes: [u8; 16]) {
        let one = [0x5a; 16];
        let mut two = bytes;
        two.iter_mut().zip(one).for_each(|(to, from)| *to ^= from);
        let attributes = KeyAttributes { kcv: kcv(attributes.algorithm, &bytes), ..attributes.clone() };
        let spec = import_spec(&self.people, &attributes, &[one, two]);
        let proposal = self.people.command(Action::ImportKey(spec));
        command(&self.module, self.people.sign(&proposal, &[0, 1])).unwrap();
        for (at, part) in [one, two].iter().enumerate() {
            send_component(&self.module, proposal.id, &format!("custodian-{}", at + 1), part).unwrap();
        }
        self.activate(&attributes.id()).unwrap();
    }

    pub(super) fn profile(version: u64) -> AppletProfile {
        AppletProfile {
            format: 1,
            applet: "transit".into(),
            version,
            roles: vec![
                ProfileRole {
                    p1: 0x39,
                    ..role("control", &key("transit/purse/control", Algorithm::Tdes, &[]))
                },
                ProfileRole {
                    session: Some(SessionRule::Padded),
                    mac: MacLayout::Load,
                    ..role("load", &key("transit/purse/load", Algorithm::Sm4, &[]))
                },
                ProfileRole {
                    p1: 0x39,
                    p2: 2,
                    mac: MacLayout::Authentication,
                    ..role("external", &key("transit/purse/external", Algorithm::Sm4, &[]))
                },
            ],
            control: Some("control".into()),
        }
    }

    /// The keys as their client sees them.
    pub(super) fn keys(&self) -> Vec<KeyInfo> {
        match self.module.keyd(&mut Connection::default(), KeydRequest::Keys(Empty {})) {
            KeydResponse::Keys(keys) => keys.keys,
            other => panic!("{other:?}"),
        }
    }

    /// The fingerprint of a key as the log has it.
    pub(super) fn fingerprint(&self, key: &KeyId) -> Id {
        self.module.live(|live| Ok(live.log.state().key(key).unwrap().made.fingerprint)).unwrap()
    }

    pub(super) fn licence(&self, quantity: u64) -> Licence {
        let transport = id("transit/perso/line-1", 1);
        Licence {
            id: LICENCE,
            node: [0x0d; 16],
            line: LINE.into(),
            fingerprint: self.fingerprint(&transport),
            transport,
            applet: "transit".into(),
            profile: Self::profile(1).digest(),
            roles: vec!["control".into(), "load".into()],
            issuer: ISSUER,
            first: serial(0),
            last: serial(99),
            quantity,
            not_before: YEARS,
            not_after: 3 * YEARS,
        }
    }

    pub(super) fn grant(&self, quantity: u64) {
        self.decide(Action::SetProfile(Self::profile(1))).unwrap();
        self.decide(Action::GrantLicence(self.licence(quantity))).unwrap();
    }

    pub(super) fn ask(&self, request: KeydRequest) -> Result<Prepared, Refused> {
        ask(&self.module, request)
    }

    pub(super) fn cards(&self, form: KeyForm, cards: &[u64]) -> Result<CardKeySets, Refused> {
        match self.ask(KeydRequest::CardKeys(request(form, cards)))? {
            Prepared::CardKeys(sets) => Ok(sets),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn enrol(&self, daily: u64) {
        let key = TokenKey {
            name: "bank".into(),
            key: seal::public_key(&self.ledger),
            wall: "transit".into(),
            daily,
            not_after: 3 * YEARS,
        };
        self.decide(Action::EnrolToken(key)).unwrap();
    }

    /// The same state on a restarted module.
    pub(super) fn restarted(self) -> Self {
        let Self { people, keyd, ledger, .. } = self;
        let disk = keyd.stop();
        let module = restart(&people, &disk).unwrap();
        let keyd = Keyd::start(&module, disk);
        Self { people, module, keyd, ledger }
    }

    /// A load with its token signed by the ledger, and the card's true MAC1.
    pub(super) fn load(
        &self,
        counter: u64,
        amount: u64,
        edit: impl FnOnce(&mut LoadAuthorize, &mut LedgerToken),
    ) -> LoadAuthorize {
        let mut request = LoadAuthorize {
            client: "spiffe://weihai.example/terminals/load-1".into(),
            key: id("transit/purse/load", 1),
            issuer: ISSUER,
            serial: serial(7),
            chip: None,
            purse: 2,
            random: [0xa1, 0xb2, 0xc3, 0xd4],
            counter,
            balance: 100,
            amount,
            terminal: [0x11, 0x22, 0x33, 0x44, 0x55, 0x66],
            mac1: [0; 4],
            signer: "bank".into(),
            token: Bytes(vec![]),
            signature: [0; 64],
        };
        let mut token = LedgerToken {
            format: 1,
            instance: self.people.instance,
            commit: [9; 16],
            issuer: ISSUER,
            serial: serial(7),
            purse: 2,
            counter,
            amount,
            terminal: request.terminal,
            date: today(),
            time: [0x09, 0x30, 0x15],
            replaces: None,
        };
        request.mac1 = mac1(&request);
        edit(&mut request, &mut token);
        if request.token.is_empty() {
            request.token = Bytes(token.to_cbor());
            request.signature = seal::sign(&self.ledger, &token_bytes(&request.token));
        }
        request
    }

    pub(super) fn authorize(&self, request: LoadAuthorize) -> Result<LoadAnswer, Refused> {
        match self.ask(KeydRequest::LoadAuthorize(request))? {
            Prepared::Load(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }
}

/// What the card computes.
pub(super) fn mac1(request: &LoadAuthorize) -> [u8; 4] {
    let card = cardcrypto::diversify(
        Algorithm::Sm4,
        &cardcrypto::diversify(Algorithm::Sm4, &LOAD_KEY, &request.issuer).unwrap(),
        &wire::licence::card_factor(&request.serial),
    )
    .unwrap();
    // Card-crypto C (P1) and D.2, by the cipher alone: the module's own code has no part in what it is tested with.
    let mut input = [0; 16];
    input[..4].copy_from_slice(&request.random);
    input[4..6].copy_from_slice(&u16::try_from(request.counter).unwrap().to_be_bytes());
    input[6] = 0x80;
    input[8] = 0x80;
    let mut session = input;
    lanes::sm4_encrypt(&card, &mut session);
    let mut data = Vec::new();
    data.extend(u32::try_from(request.balance).unwrap().to_be_bytes());
    data.extend(u32::try_from(request.amount).unwrap().to_be_bytes());
    data.push(u8::try_from(request.purse).unwrap());
    data.extend(request.terminal);
    lanes::mac(lanes::MacRule::Sm4, &session, &data)
}

pub(super) fn request(form: KeyForm, cards: &[u64]) -> CardKeys {
    let card = |at: &u64| CardItem { serial: serial(*at), chip: None, challenge: None };
    CardKeys {
        client: LINE.into(),
        licence: LICENCE,
        form,
        roles: vec![],
        cards: cards.iter().map(card).collect(),
    }
}

/// Asks, waits until the entry is durable, and fetches.
pub(super) fn ask(module: &Module, request: KeydRequest) -> Result<Prepared, Refused> {
    let mut connection = Connection::default();
    let ticket = match module.keyd(&mut connection, request) {
        KeydResponse::Ticket(ticket) => ticket,
        KeydResponse::Refused(refused) => return Err(refused),
        other => panic!("{other:?}"),
    };
    durable(module, ticket.ticket)?;
    match module.keyd(&mut connection, KeydRequest::Fetch(ticket)) {
        KeydResponse::Prepared(prepared) => Ok(prepared),
        KeydResponse::Refused(refused) => Err(refused),
        other => panic!("{other:?}"),
    }
}

/// Today in BCD, counted from the system's clock.
pub(super) fn today() -> [u8; 4] {
    bcd_date(today_number())
}

/// Today, days since 1970.
pub(super) fn today_number() -> i64 {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(seconds / 86_400).unwrap()
}

/// BCD date of a day since 1970, by counting years and months.
pub(super) fn bcd_date(mut day: i64) -> [u8; 4] {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while day >= 365 + i64::from(leap(year)) {
        day -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let text = format!("{year:04}{:02}{:02}", month + 1, day + 1);
    wire::purse::bcd(text.as_bytes()).unwrap()
}

//! A full value of every JSON type of `wire::api`, and the same with whatever may be absent left out. They are struct
//! literals on purpose: a field that is added there does not compile here until somebody has looked at `openapi.json`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wire::api::{
    AuthenticateAnswer, AuthenticateRequest, CardBody, CardKeyBody, CardKeySetBody, CardKeysAnswer,
    CardKeysRequest, CardRoleBody, CertificateBody, CommandBody, CountsBody, KeyBody, KeysBody, LicenceBody,
    ListAnswer, ListSignatureBody, LoadBody, LoadBodyAnswer, LoadRequest, MacItemBody, MacResult,
    MacsVerified, MacsVerify, Problem, PurchaseBody, Receipt, ScriptAnswer, ScriptBody, ScriptRequest,
    StatusBody, Trailer, VersionBody, WitnessBody,
};

/// One type: its schema's name, values, and how JSON goes through it and comes out again.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) values: Vec<Value>,
    pub(super) through: fn(&Value) -> Result<Value, String>,
}

fn sample<T: Serialize + DeserializeOwned>(name: &'static str, values: &[T]) -> Sample {
    let values = values.iter().map(|value| serde_json::to_value(value).unwrap()).collect();
    let through = |value: &Value| {
        let read: T = serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())?;
        serde_json::to_value(&read).map_err(|error| error.to_string())
    };
    Sample { name, values, through }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn hex(bytes: usize) -> String {
    "5A".repeat(bytes)
}

const TRANSIT: &str = "transit/purse/load";
const SERIAL: &str = "31010000123456789009";
const COUNTS: CountsBody = CountsBody { ok: 1, bad_tac: 2, unknown_key: 3, malformed: 4, withheld: 5 };

/// All types.
pub(super) fn all() -> Vec<Sample> {
    [service(), checks(), cards(), lists(), calls()].into_iter().flatten().collect()
}

fn problem() -> Problem {
    Problem::new(404, "no-such-key", "title", "detail")
}

fn service() -> Vec<Sample> {
    let end = CertificateBody {
        what: text("client-crl"),
        name: text("CN=Weihai clients"),
        not_after: 1_800_000_000,
        days_left: 6,
        warning: Some(text("client-crl-expires-7")),
    };
    let far = CertificateBody { warning: None, ..end.clone() };
    let witness = WitnessBody { name: text("auditor"), size: Some(7), time: Some(8), trouble: None };
    let silent =
        WitnessBody { size: None, time: None, trouble: Some(text("no answer in 4 s")), ..witness.clone() };
    let status = StatusBody {
        state: text("operational"),
        boot: hex(16),
        memory: text("mlock"),
        backend: text("scalar"),
        instance: Some(hex(16)),
        origin: Some(text("weihai.example/log")),
        rehearsal: Some(true),
        log_size: Some(7),
        witness: Some(text("unwitnessed")),
        certificates: vec![end.clone()],
        witnesses: vec![witness.clone()],
    };
    let nothing = StatusBody {
        instance: None,
        origin: None,
        rehearsal: None,
        log_size: None,
        witness: None,
        certificates: Vec::new(),
        witnesses: Vec::new(),
        ..status.clone()
    };
    let key = KeyBody {
        lineage: text(TRANSIT),
        version: text("4A"),
        algorithm: text("sm2"),
        level: text("city"),
        levels: vec![text("issuer_id"), text("asn_right8"), text("0011223344556677")],
        usage: vec![text("sign-list")],
        kcv: hex(3),
        state: text("active"),
        public: Some(hex(65)),
    };
    let plain = KeyBody { public: None, levels: vec![text("chip")], ..key.clone() };
    let command = CommandBody { index: Some(7), kcv: Some(hex(3)) };
    vec![
        sample("Problem", &[problem()]),
        sample("StatusBody", &[status, nothing]),
        sample("WitnessBody", &[witness, silent]),
        sample("CertificateBody", &[end, far]),
        sample("KeyBody", &[key.clone(), plain]),
        sample("KeysBody", &[KeysBody { keys: vec![key] }]),
        sample("CommandBody", &[command, CommandBody { index: None, kcv: None }]),
    ]
}

fn checks() -> Vec<Sample> {
    let purchase = MacItemBody::PurchaseTac(PurchaseBody {
        version: text("01"),
        issuer: hex(8),
        serial: text(SERIAL),
        amount: 500,
        transaction: text("09"),
        terminal: hex(6),
        sequence: u32::MAX,
        date: text("20240131"),
        time: text("093015"),
        tac: hex(4),
    });
    let load = MacItemBody::LoadTac(LoadBody {
        version: text("01"),
        issuer: hex(8),
        serial: text(SERIAL),
        balance_after: u32::MAX,
        counter: u16::MAX,
        amount: 500,
        transaction: text("02"),
        terminal: hex(6),
        date: text("20240131"),
        time: text("093015"),
        tac: hex(4),
    });
    let items = vec![purchase.clone(), load.clone()];
    let version = VersionBody { version: text("01"), counts: COUNTS };
    let receipt = Receipt {
        version: 1,
        suite: 1,
        instance: hex(16),
        origin: text("weihai.example/log"),
        client: text("spiffe://weihai.example/clearing/engine-1"),
        batch: hex(16),
        profile: text("load-tac"),
        lineage: text(TRANSIT),
        records: 15,
        root: hex(32),
        counts: COUNTS,
        versions: vec![version.clone()],
        indices: vec![7],
        entry: hex(40),
        proof: text("proof"),
    };
    let trailers = [Trailer::Receipt(Box::new(receipt.clone())), Trailer::Problem(problem())];
    let result = MacResult { verdict: text("malformed"), detail: Some(text("why")) };
    let plain = MacResult { verdict: text("ok"), detail: None };
    vec![
        sample("MacItemBody", &items),
        sample("PurchaseBody", &[purchase]),
        sample("LoadBody", &[load]),
        sample("MacsVerify", &[MacsVerify { key: text(TRANSIT), items }]),
        sample("MacsVerified", &[MacsVerified { results: vec![result.clone(), plain.clone()], index: 7 }]),
        sample("MacResult", &[result, plain]),
        sample("CountsBody", &[COUNTS]),
        sample("VersionBody", &[version]),
        sample("Receipt", &[receipt]),
        sample("Trailer", &trailers),
    ]
}

fn cards() -> Vec<Sample> {
    let card = CardBody { serial: text(SERIAL), chip: Some(hex(8)), challenge: Some(hex(4)) };
    let plain = CardBody { chip: None, challenge: None, ..card.clone() };
    let request = CardKeysRequest {
        licence: hex(16),
        form: text("write-key"),
        roles: vec![text("load")],
        cards: vec![card.clone()],
    };
    let all_roles = CardKeysRequest {
        form: text("sealed"),
        roles: vec![],
        cards: vec![plain.clone()],
        ..request.clone()
    };
    let role = CardRoleBody {
        role: text("load"),
        key: text(TRANSIT),
        version: text("01"),
        algorithm: text("sm4"),
        index: 255,
    };
    let key = CardKeyBody { kcv: hex(3), block: text("B0096L0TN01N0000") };
    let set = CardKeySetBody { serial: text(SERIAL), keys: vec![key.clone()] };
    let answer = CardKeysAnswer {
        licence: hex(16),
        form: text("tr31"),
        roles: vec![role.clone()],
        cards: vec![set.clone()],
        issued: 1,
        digest: hex(32),
        index: 7,
    };
    let licence = LicenceBody {
        id: hex(16),
        node: hex(16),
        line: text("spiffe://weihai.example/perso/line-1"),
        transport: text("transit/perso/line-1@01"),
        applet: text("transit"),
        profile: hex(32),
        roles: vec![text("load")],
        issuer: hex(8),
        first: text(SERIAL),
        last: text(SERIAL),
        quantity: 1,
        issued: 1,
        spoiled: 0,
        left: 0,
        not_before: 1,
        not_after: 2,
        revoked: false,
        current: true,
    };
    vec![
        sample("CardBody", &[card, plain]),
        sample("CardKeysRequest", &[request, all_roles]),
        sample("CardRoleBody", &[role]),
        sample("CardKeyBody", &[key]),
        sample("CardKeySetBody", &[set]),
        sample("CardKeysAnswer", &[answer]),
        sample("LicenceBody", &[licence]),
    ]
}

fn lists() -> Vec<Sample> {
    let signature = ListSignatureBody {
        key: text("transit/blacklist/sm2@01"),
        algorithm: text("sm2"),
        signature: hex(70),
    };
    let answer = ListAnswer {
        wall: text("transit"),
        epoch: 7,
        kind: text("delta"),
        trailer: hex(wire::list::TRAILER_LEN),
        digest: hex(32),
        signatures: vec![signature.clone()],
        removed: 2,
        index: 7,
    };
    vec![sample("ListSignatureBody", &[signature]), sample("ListAnswer", &[answer])]
}

fn calls() -> Vec<Sample> {
    let load = LoadRequest {
        key: text(TRANSIT),
        version: text("01"),
        issuer: hex(8),
        serial: text(SERIAL),
        chip: Some(hex(8)),
        purse: 2,
        random: hex(4),
        counter: u16::MAX,
        balance: u32::MAX,
        amount: 1,
        terminal: hex(6),
        mac1: hex(4),
        signer: text("ledger"),
        token: hex(100),
        signature: hex(64),
    };
    let load_answer =
        LoadBodyAnswer { mac2: hex(4), date: text("20260102"), time: text("030405"), again: true, index: 7 };
    let scripts = [
        ScriptBody::UpdateBinary { sfi: 30, offset: 255, data: hex(4) },
        ScriptBody::UpdateRecord { sfi: 1, record: 1, data: hex(4) },
        ScriptBody::BlockApplication {},
        ScriptBody::UnblockApplication {},
        ScriptBody::BlockCard {},
        ScriptBody::ReloadPin { pin: text("123456") },
    ];
    let script = |script: &ScriptBody| ScriptRequest {
        key: text(TRANSIT),
        version: text("01"),
        issuer: hex(8),
        serial: text(SERIAL),
        chip: Some(hex(8)),
        challenge: hex(4),
        script: script.clone(),
    };
    let mut requests: Vec<_> = scripts.iter().map(script).collect();
    requests.extend(scripts.first().map(|body| ScriptRequest { chip: None, ..script(body) }));
    let authenticate = AuthenticateRequest {
        key: text(TRANSIT),
        version: text("01"),
        issuer: hex(8),
        serial: text(SERIAL),
        chip: Some(hex(8)),
        challenge: hex(8),
    };
    vec![
        sample("LoadRequest", &[load.clone(), LoadRequest { chip: None, ..load }]),
        sample("LoadBodyAnswer", &[load_answer]),
        sample("ScriptBody", &scripts),
        sample("ScriptRequest", &requests),
        sample("ScriptAnswer", &[ScriptAnswer { apdu: hex(9), index: 7 }]),
        sample(
            "AuthenticateRequest",
            &[authenticate.clone(), AuthenticateRequest { chip: None, ..authenticate }],
        ),
        sample("AuthenticateAnswer", &[AuthenticateAnswer { answer: hex(8), index: 7 }]),
    ]
}

//! `POST /v1/macs/verify`: single checks. The answer waits for its log entry.

use http::Request;
use hyper::body::Incoming;
use wire::api::{MacItemBody, MacResult, MacsVerified, MacsVerify};
use wire::batch::{Group, Profile, Record, Verdict};
use wire::frame::{MAC_ITEMS_MAX, MacItem};
use wire::key::{KeyVersion, Lineage};

use super::input::json_body;
use super::{App, Caller, status};
use crate::answer::{Answer, json};
use crate::policy::{Operation, Permission};
use crate::problem::Refusal;
use crate::singles::NotChecked;

pub(super) async fn verify(
    app: &App,
    caller: &Caller,
    permission: &Permission<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let body: MacsVerify = json_body(app, request).await?;
    match body.items.len() {
        0 => {
            return Err(Refusal::bad_json("items is empty; send 1 to 1024 checks."));
        }
        count if count > MAC_ITEMS_MAX => {
            return Err(Refusal::too_large("items has more than 1024 checks; split the request."));
        }
        _ => {}
    }
    let lineage = Lineage::parse(&body.key).ok_or_else(Refusal::no_such_key)?;
    let grant = permission.for_key(&lineage).ok_or_else(Refusal::no_such_key)?;
    app.charge(caller, Operation::MacsVerify, grant.items_per_second(), body.items.len() as u64)?;
    check(app, caller, &lineage, &body.items).await
}

async fn check(
    app: &App,
    caller: &Caller,
    lineage: &Lineage,
    items: &[MacItemBody],
) -> Result<Answer, Refusal> {
    let client = caller.client.to_string();
    let mut details = Vec::with_capacity(items.len());
    let mut frame = Vec::with_capacity(items.len());
    for item in items {
        let (detail, (group, profile, record)) = match item.to_record() {
            Ok(record) => (None, record),
            // It goes along flagged, so that the log counts it too.
            Err(detail) => (Some(detail.to_owned()), malformed(item)),
        };
        details.push(detail);
        frame.push(MacItem { client: client.clone(), lineage: lineage.clone(), group, profile, record });
    }
    let checked = app.singles.check(frame).await.map_err(|error| match error {
        NotChecked::Full => Refusal::busy("Too many single checks wait; try again."),
        NotChecked::Module(error) => status::refusal(&error),
    })?;
    let permit = app.ledger.wait(checked.ticket).await.map_err(|_| Refusal::module_gone())?;
    app.counters.verdicts(&checked.verdicts);
    let results = checked.verdicts.iter().zip(details).map(|(byte, detail)| {
        let verdict = Verdict::from_byte(*byte).ok_or_else(Refusal::module_gone)?;
        Ok(MacResult { verdict: verdict.to_string(), detail })
    });
    let body = MacsVerified { results: results.collect::<Result<_, Refusal>>()?, index: permit.index() };
    Ok(Answer::new(permit, json(&body)))
}

/// The flagged record of an item that has no record: the hash of its JSON, and a group that no key has.
fn malformed(item: &MacItemBody) -> (Group, Profile, [u8; wire::batch::RECORD_LEN]) {
    let (profile, version) = match item {
        MacItemBody::PurchaseTac(item) => (Profile::PurchaseTac, &item.version),
        MacItemBody::LoadTac(item) => (Profile::LoadTac, &item.version),
    };
    let group = Group { version: KeyVersion::parse(version).unwrap_or(KeyVersion(0)), issuer: [0; 8] };
    let bytes = serde_json::to_vec(item).unwrap_or_default();
    (group, profile, Record::malformed(&bytes, profile))
}

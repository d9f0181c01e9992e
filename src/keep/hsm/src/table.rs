//! State × command: what the module answers in which state. One table, deny by default.

use wire::frame::{KeydRequest, ModuleState, OfficerRequest};

/// The states in which keyd's request is looked at at all.
pub(crate) fn keyd_states(request: &KeydRequest) -> &'static [ModuleState] {
    use ModuleState as S;
    match request {
        KeydRequest::Status(_) => ModuleState::ALL,
        // keyd is attached before there is anything to collect, and until the last entry of a wiped module is durable.
        KeydRequest::Collect(_) => &[S::Uninitialised, S::Sealed, S::Recovering, S::Operational],
        KeydRequest::Replay(_) | KeydRequest::Records(_) | KeydRequest::ReplayEnd(_) => &[S::Recovering],
        KeydRequest::Assert(_)
        | KeydRequest::Keys(_)
        | KeydRequest::BatchOpen(_)
        | KeydRequest::BatchGroups(_)
        | KeydRequest::BatchRecords(_)
        | KeydRequest::BatchClose(_)
        | KeydRequest::Release(_)
        | KeydRequest::MacVerify(_)
        | KeydRequest::Command(_)
        | KeydRequest::CardKeys(_)
        | KeydRequest::Licence(_)
        | KeydRequest::ListBytes(_)
        | KeydRequest::ListSign(_)
        | KeydRequest::LoadAuthorize(_)
        | KeydRequest::Script(_)
        | KeydRequest::Authenticate(_)
        | KeydRequest::Fetch(_)
        | KeydRequest::Cosigned(_)
        | KeydRequest::Truncated(_) => &[S::Operational],
    }
}

/// The states in which an officer's request is looked at at all.
pub(crate) fn officer_states(request: &OfficerRequest) -> &'static [ModuleState] {
    use ModuleState as S;
    match request {
        OfficerRequest::Status(_) => ModuleState::ALL,
        OfficerRequest::Hello(_) => &[S::Uninitialised, S::Sealed, S::Operational],
        // A root from a foreign share set must not keep the right custodians out: recovery can be given up.
        OfficerRequest::Abort(_) => &[S::Uninitialised, S::Sealed, S::Recovering, S::Operational],
        OfficerRequest::Genesis(_) | OfficerRequest::Prove(_) | OfficerRequest::GenesisFinish(_) => {
            &[S::Uninitialised]
        }
        OfficerRequest::Unseal(_) => &[S::Sealed],
        OfficerRequest::Floor(_) => &[S::Recovering],
        OfficerRequest::Command(_) | OfficerRequest::Component(_) => &[S::Operational],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::batch::Profile;
    use wire::cbor::{Bytes, Empty};
    use wire::frame::*;
    use wire::key::{KeyId, KeyVersion, Lineage};

    fn keyd_requests() -> Vec<(KeydRequest, &'static str)> {
        use KeydRequest as R;
        let lineage = Lineage::parse("a/b/c").unwrap();
        let key = KeyId { lineage: lineage.clone(), version: KeyVersion(1) };
        let card_keys = CardKeys {
            client: "c".into(),
            licence: [0; 16],
            form: KeyForm::Sealed,
            roles: vec![],
            cards: vec![],
        };
        let target =
            CardTarget { client: "c".into(), key: key.clone(), issuer: [0; 8], serial: [0; 10], chip: None };
        let action = ScriptAction::BlockCard(Empty {});
        let script = Script { target: target.clone(), challenge: [0; 4], action };
        let load = LoadAuthorize {
            client: "c".into(),
            key,
            issuer: [0; 8],
            serial: [0; 10],
            chip: None,
            purse: 1,
            random: [0; 4],
            counter: 0,
            balance: 0,
            amount: 0,
            terminal: [0; 6],
            mac1: [0; 4],
            signer: "s".into(),
            token: Bytes(vec![]),
            signature: [0; 64],
        };
        // Columns: Uninitialised, Sealed, Recovering, Operational, Zeroised, Fault. Written from the demands, not from
        // the table above.
        vec![
            (R::Status(Empty {}), "yyyyyy"),
            (R::Collect(Collect { durable: 0, root: [0; 32] }), "yyyy--"),
            (R::Assert(Assertions { items: vec![] }), "---y--"),
            (R::Keys(Empty {}), "---y--"),
            (
                R::BatchOpen(BatchOpen { client: "c".into(), profile: Profile::PurchaseTac, lineage }),
                "---y--",
            ),
            (R::BatchGroups(BatchGroups { groups: vec![] }), "---y--"),
            (R::BatchRecords(Bytes(vec![])), "---y--"),
            (R::BatchClose(Empty {}), "---y--"),
            (R::Release(Ticket { ticket: 0 }), "---y--"),
            (R::MacVerify(MacItems { items: vec![] }), "---y--"),
            (R::Replay(Replay { first: 0, entries: vec![] }), "--y---"),
            (R::Records(Records { records: vec![] }), "--y---"),
            (R::ReplayEnd(ReplayEnd { checkpoint: String::new() }), "--y---"),
            (R::Command(Bytes(vec![])), "---y--"),
            (R::CardKeys(card_keys), "---y--"),
            (R::Licence(LicenceQuery { client: "c".into(), licence: [0; 16] }), "---y--"),
            (R::ListBytes(ListBytes { part: ListPart::Base, bytes: Bytes(vec![]) }), "---y--"),
            (R::ListSign(ListSign { client: "c".into(), wall: "a".into() }), "---y--"),
            (R::LoadAuthorize(load), "---y--"),
            (R::Script(script), "---y--"),
            (R::Authenticate(Authenticate { target, challenge: [0; 8] }), "---y--"),
            (R::Fetch(Ticket { ticket: 0 }), "---y--"),
            (R::Cosigned(Cosigned { size: 1, note: String::new() }), "---y--"),
            (R::Truncated(TornTail { bytes: 1, digest: [0; 32] }), "---y--"),
        ]
    }

    fn officer_requests() -> Vec<(OfficerRequest, &'static str)> {
        use OfficerRequest as R;
        let share = SealedShare { certificate: Bytes(vec![]), index: 1, sealed: Bytes(vec![]) };
        let component = SealedComponent { command: [0; 16], custodian: "c".into(), sealed: Bytes(vec![]) };
        vec![
            (R::Status(Empty {}), "yyyyyy"),
            (R::Hello(Hello { purpose: Purpose::Unseal }), "yy-y--"),
            (R::Genesis(Bytes(vec![])), "y-----"),
            (R::Prove(share.clone()), "y-----"),
            (R::GenesisFinish(Empty {}), "y-----"),
            (R::Unseal(share), "-y----"),
            (R::Floor(Bytes(vec![])), "--y---"),
            (R::Command(Bytes(vec![])), "---y--"),
            (R::Component(component), "---y--"),
            (R::Abort(Empty {}), "yyyy--"),
        ]
    }

    fn row(states: &[ModuleState]) -> String {
        ModuleState::ALL.iter().map(|state| if states.contains(state) { 'y' } else { '-' }).collect()
    }

    #[test]
    fn every_cell() {
        let keyd = keyd_requests();
        for (request, expected) in &keyd {
            assert_eq!(row(keyd_states(request)), *expected, "{request:?}");
        }
        let officers = officer_requests();
        for (request, expected) in &officers {
            assert_eq!(row(officer_states(request)), *expected, "{request:?}");
        }
        // A new request without a row here is found by its tag.
        assert_eq!(keyd.iter().map(|(request, _)| request.tag()).collect::<Vec<_>>(), KeydRequest::TAGS);
        assert_eq!(
            officers.iter().map(|(request, _)| request.tag()).collect::<Vec<_>>(),
            OfficerRequest::TAGS
        );
    }
}

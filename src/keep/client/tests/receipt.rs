//! A receipt with any one thing wrong is not a receipt.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use client::VerifierKey;
    use client::receipt::{Pinned, ReceiptError, check, check_log};
    use ed25519_dalek::SigningKey;
    use translog::entry::{BatchEvent, BatchTotal, Entry, Event, FailuresEvent};
    use wire::api::Receipt;
    use wire::batch::Profile;
    use wire::cbor::Cbor;
    use wire::key::{KeyVersion, Lineage};
    use wire::purse::to_hex;

    use crate::support::{ORIGIN, entry, header, pinned, proof, receipt_of, totals};

    const COUNT: u64 = 1000;

    /// What must be said of a receipt after this change.
    type Spoilt<T> = (T, fn(&mut Receipt));

    fn judge(receipt: &Receipt) -> Result<(), ReceiptError> {
        check(receipt, &header(), &totals(COUNT), &pinned())
    }

    fn good() -> Receipt {
        receipt_of(&entry(&header(), &totals(COUNT)))
    }

    #[test]
    fn a_good_receipt_is_good() {
        assert_eq!(judge(&good()), Ok(()));
        assert_eq!(check_log(&good(), &pinned()).unwrap().records, COUNT);
        let empty = receipt_of(&entry(&header(), &totals(0)));
        assert_eq!(check(&empty, &header(), &totals(0), &pinned()), Ok(()));
    }

    #[test]
    fn every_field_is_compared_with_the_entry() {
        let spoil: &[Spoilt<&str>] = &[
            ("batch id", |receipt| receipt.batch = to_hex(&[1; 16])),
            ("client", |receipt| receipt.client.push('x')),
            ("profile", |receipt| {
                receipt.profile = Profile::LoadTac.to_string();
            }),
            ("lineage", |receipt| {
                receipt.lineage = "transit/purse/load".to_owned();
            }),
            ("number of records", |receipt| receipt.records += 1),
            ("root", |receipt| receipt.root = to_hex(&[0; 32])),
            ("counts", |receipt| receipt.counts.ok += 1),
            ("counts", |receipt| receipt.counts.bad_tac -= 1),
            ("counts", |receipt| receipt.counts.unknown_key += 1),
            ("counts", |receipt| receipt.counts.malformed += 1),
            ("counts", |receipt| receipt.counts.withheld += 1),
            ("counts by key version", |receipt| {
                receipt.versions[0].counts.ok += 1;
            }),
            ("counts by key version", |receipt| {
                receipt.versions[1].version = "42".to_owned();
            }),
            ("counts by key version", |receipt| receipt.versions.truncate(1)),
            ("counts by key version", |receipt| {
                receipt.versions.push(receipt.versions[0].clone());
            }),
            ("last index", |receipt| receipt.indices.clear()),
            ("last index", |receipt| receipt.indices = vec![0]),
            ("last index", |receipt| receipt.indices = vec![1, 1]),
            ("number of parts", |receipt| receipt.indices = vec![0, 1]),
        ];
        for (field, spoil) in spoil {
            let mut receipt = good();
            spoil(&mut receipt);
            assert_eq!(judge(&receipt), Err(ReceiptError::Entry(field)));
        }
    }

    #[test]
    fn format_origin_and_instance() {
        let spoil: &[Spoilt<ReceiptError>] = &[
            (ReceiptError::Format, |receipt| receipt.version = 2),
            (ReceiptError::Format, |receipt| receipt.suite = 2),
            (ReceiptError::Pinned("origin"), |receipt| receipt.origin.push('x')),
            (ReceiptError::Pinned("instance"), |receipt| {
                receipt.instance = to_hex(&[8; 16]);
            }),
            (ReceiptError::Unreadable("instance"), |receipt| {
                receipt.instance.push('0');
            }),
            (ReceiptError::Unreadable("log entry"), |receipt| {
                receipt.entry.push('0');
            }),
            (ReceiptError::Unreadable("log entry"), |receipt| {
                receipt.entry.replace_range(..1, "g");
            }),
        ];
        for (error, spoil) in spoil {
            let mut receipt = good();
            spoil(&mut receipt);
            assert_eq!(judge(&receipt), Err(error.clone()));
        }
        let unpinned = Pinned { instance: None, ..pinned() };
        let mut receipt = good();
        receipt.instance = to_hex(&[8; 16]);
        assert_eq!(check(&receipt, &header(), &totals(COUNT), &unpinned), Ok(()));
    }

    fn is_unproved(receipt: &Receipt, pinned: &Pinned) -> bool {
        matches!(check(receipt, &header(), &totals(COUNT), pinned), Err(ReceiptError::Proof(_)))
    }

    #[test]
    fn entry_and_proof_stand_under_the_pinned_key() {
        let mut receipt = good();
        // Another salt: a sound entry, only not the one in the log.
        let mut other = entry(&header(), &totals(COUNT));
        other.salt = [9; 16];
        receipt.entry = to_hex(&other.to_cbor());
        assert!(is_unproved(&receipt, &pinned()));

        let made = entry(&header(), &totals(COUNT));
        let foreign = SigningKey::from_bytes(&[43; 32]);
        let signed_by_other = Receipt { proof: proof(&made, 1, &foreign).to_text(), ..good() };
        assert!(is_unproved(&signed_by_other, &pinned()));
        let other_key = VerifierKey::new(ORIGIN, foreign.verifying_key().to_bytes());
        assert!(is_unproved(&good(), &Pinned { log: other_key, instance: None }));

        for proof in ["", "c2sp.org/tlog-proof@v1\n"] {
            assert!(is_unproved(&Receipt { proof: proof.to_owned(), ..good() }, &pinned()));
        }
        let text = good().proof;
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let Ok(proof) = String::from_utf8(bytes) else {
                continue;
            };
            let spoilt = Receipt { proof, ..good() };
            assert!(judge(&spoilt).is_err(), "byte {at} of the proof");
        }
    }

    /// The module's entry says something else, and the receipt agrees with it.
    fn lie(change: impl Fn(&mut Entry)) -> Result<(), ReceiptError> {
        let mut changed = entry(&header(), &totals(COUNT));
        change(&mut changed);
        judge(&receipt_of(&changed))
    }

    fn event(entry: &mut Entry) -> &mut BatchEvent {
        let Event::Batch(event) = &mut entry.event else { panic!("no batch") };
        event
    }

    fn total(entry: &mut Entry) -> &mut BatchTotal {
        event(entry).total.as_mut().unwrap()
    }

    #[test]
    fn a_proved_entry_about_other_records_is_not_enough() {
        let own = |field| Err(ReceiptError::Own(field));
        assert_eq!(lie(|_| {}), Ok(()));
        assert_eq!(lie(|entry| total(entry).root[0] ^= 1), own("root"));
        let load = lie(|entry| event(entry).profile = Profile::LoadTac);
        assert_eq!(load, own("profile"));
        let lineage = lie(|entry| event(entry).lineage = Lineage::parse("campus/purse/tac").unwrap());
        assert_eq!(lineage, own("lineage"));
        let moved = lie(|entry| {
            total(entry).counts.ok += 1;
            total(entry).counts.bad_tac -= 1;
        });
        assert_eq!(moved, own("counts"));
        let more = lie(|entry| {
            total(entry).counts.ok += 1;
            total(entry).records += 1;
        });
        assert_eq!(more, own("number of records"));
        let version = lie(|entry| total(entry).versions[0].version = KeyVersion(0));
        assert_eq!(version, own("counts by key version"));
        let unequal = lie(|entry| total(entry).records += 1);
        assert_eq!(unequal, Err(ReceiptError::Entry("number of records")));
    }

    #[test]
    fn an_entry_that_closes_no_batch() {
        assert_eq!(lie(|entry| event(entry).aborted = true), Err(ReceiptError::Aborted));
        assert_eq!(lie(|entry| entry.version = 2), Err(ReceiptError::Entry("format")));
        assert_eq!(lie(|entry| entry.seq = 0), Err(ReceiptError::Entry("place in the log")));
        let without = |change: &dyn Fn(&mut Entry)| {
            let mut changed = entry(&header(), &totals(COUNT));
            change(&mut changed);
            let proof = proof(&changed, 1, &crate::support::log_key()).to_text();
            judge(&Receipt { entry: to_hex(&changed.to_cbor()), proof, ..good() })
        };
        assert_eq!(without(&|entry| event(entry).total = None), Err(ReceiptError::NotBatch));
        let other = without(&|entry| entry.event = Event::Failures(FailuresEvent { wrong: Vec::new() }));
        assert_eq!(other, Err(ReceiptError::NotBatch));
    }

    #[test]
    fn other_records_verdicts_or_headers() {
        let receipt = good();
        let mut other = header();
        other.groups[2].issuer = [3; 8];
        let mut recount = client::receipt::Recount::new(&other);
        (0..COUNT).map(crate::support::record).for_each(|(record, verdict)| recount.add(&record, verdict));
        let judged = check(&receipt, &other, &recount.totals(), &pinned());
        assert_eq!(judged, Err(ReceiptError::Own("root")), "the group table is bound");
        assert!(check(&receipt, &header(), &totals(COUNT - 1), &pinned()).is_err());
    }
}

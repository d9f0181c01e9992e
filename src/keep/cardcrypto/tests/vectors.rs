//! Key check values, derivation and TACs against `tests/vectors/card-crypto-vectors.json`.

#[cfg(test)]
mod vector;

#[cfg(test)]
mod tests {
    use cardcrypto::{FactorError, MasterKey, TacCheck, TacItem};
    use securemem::{Arena, Preference};
    use sm3::{Digest, Sm3};
    use wire::batch::Profile;
    use wire::key::{Algorithm, FactorSource};

    use super::vector::Vector;

    const ALGORITHMS: [(Algorithm, &str); 2] = [(Algorithm::Tdes, "3des"), (Algorithm::Sm4, "sm4")];

    /// The TAC data in the 24-byte field of a record, and whose data it is.
    fn tac_data(vector: &Vector) -> (Profile, [u8; 24]) {
        let bytes = vector.bytes("expected", "tac_data");
        let profile = Profile::ALL.iter().find(|profile| profile.data_len() == bytes.len()).unwrap();
        let mut data = [0; 24];
        data[..bytes.len()].copy_from_slice(&bytes);
        (*profile, data)
    }

    fn master(algorithm: Algorithm, key: [u8; 16], levels: &[FactorSource]) -> MasterKey {
        let arena = Arena::reserve(4096, Preference::Auto).unwrap();
        let fill = |buffer: &mut [u8]| {
            buffer.copy_from_slice(&key);
            Ok::<(), ()>(())
        };
        MasterKey::new(arena.alloc(16, fill).unwrap(), algorithm, levels.to_vec()).unwrap()
    }

    #[test]
    fn key_check_values() {
        for (algorithm, name) in ALGORITHMS {
            let vector = Vector::named(&format!("kcv-{name}"));
            let key = vector.input("key");
            assert_eq!(cardcrypto::kcv(algorithm, &key), vector.expected("kcv"), "{name}");
            assert_eq!(master(algorithm, key, &[FactorSource::ASN_RIGHT8]).kcv(), vector.expected("kcv"));
        }
        // Parity bits do not change a 3DES key's.
        let key: [u8; 16] = Vector::named("kcv-3des").input("key");
        assert_eq!(
            cardcrypto::kcv(Algorithm::Tdes, &key.map(|byte| byte ^ 1)),
            cardcrypto::kcv(Algorithm::Tdes, &key)
        );
    }

    #[test]
    fn diversification() {
        for (algorithm, name) in ALGORITHMS {
            let one = Vector::named(&format!("div-{name}-l1"));
            let child = cardcrypto::diversify(algorithm, &one.input("master"), &one.input("X")).unwrap();
            assert_eq!(*child, one.expected("subkey"), "{name}");

            let two = Vector::named(&format!("div-{name}-l2"));
            let asn: [u8; 10] = two.input("asn10");
            assert_eq!(asn[2..], two.input::<8>("X_level2_card"));
            let issuer =
                cardcrypto::diversify(algorithm, &two.input("master"), &two.input("X_level1_issuer"))
                    .unwrap();
            assert_eq!(*issuer, two.expected("level1"), "{name}");
            let card = cardcrypto::diversify(algorithm, &issuer, &two.input("X_level2_card")).unwrap();
            assert_eq!(*card, two.expected("level2"), "{name}");
        }
    }

    #[test]
    fn factor_order_matters() {
        let turned = Vector::named("div-sm4-vs-order-negative");
        let first =
            cardcrypto::diversify(Algorithm::Sm4, &turned.input("master"), &turned.input("X_level1_issuer"));
        let second =
            cardcrypto::diversify(Algorithm::Sm4, &first.unwrap(), &turned.input("X_level2_card")).unwrap();
        assert_eq!(*second, turned.expected("level2"));
        assert_ne!(*second, Vector::named("div-sm4-l2").expected("level2"));
    }

    /// Service-protocol rule 5; a factor one bit away from either is fine.
    #[test]
    fn factors_that_give_the_check_value_are_refused() {
        for (refused, why) in [(0x00, FactorError::AllZeros), (0xff, FactorError::AllOnes)] {
            assert_eq!(cardcrypto::check_factor(&[refused; 8]), Err(why));
            for (algorithm, _) in ALGORITHMS {
                assert_eq!(cardcrypto::diversify(algorithm, &[1; 16], &[refused; 8]).err(), Some(why));
            }
            for bit in 0..64 {
                let near = u64::from_be_bytes([refused; 8]) ^ (1 << bit);
                assert_eq!(cardcrypto::check_factor(&near.to_be_bytes()), Ok(()), "{near:016x}");
            }
        }
        // Why: half of such a 3DES child is the zero block, whose first bytes the check value publishes.
        let mut block = [0; 8];
        lanes::tdes_encrypt(&[1; 16], &mut block);
        assert_eq!(block[..3], cardcrypto::kcv(Algorithm::Tdes, &[1; 16]));
    }

    /// Master key to card key to TAC, singly and in bulk.
    #[test]
    fn purse_purchases() {
        let levels = [FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8];
        let with_withdrawal = ["ep-purchase", "capp", "ed-purchase", "ed-withdraw"];
        for (algorithm, name) in ALGORITHMS {
            // The withdrawal has no SM4 twin in the file.
            let kinds =
                if algorithm == Algorithm::Tdes { &with_withdrawal[..] } else { &with_withdrawal[..3] };
            for kind in kinds {
                let vector = Vector::named(&format!("epurse-{name}-{kind}"));
                let (top, issuer, card) =
                    (vector.input("master_dtk"), vector.input("X1"), vector.input("X2"));
                let card_key = cardcrypto::diversify(algorithm, &top, &issuer)
                    .and_then(|key| cardcrypto::diversify(algorithm, &key, &card))
                    .unwrap();
                assert_eq!(*card_key, vector.input("dtk_card"), "{name} {kind}");

                let (profile, data) = tac_data(&vector);
                assert_eq!(profile, Profile::PurchaseTac);
                let tac = vector.expected("tac");
                assert_eq!(cardcrypto::card_tac(algorithm, &card_key, profile, &data), tac, "{name} {kind}");

                let mut checks = [TacCheck::Mismatch];
                let item = TacItem { card, data, tac };
                master(algorithm, top, &levels).verify_tacs(profile, &issuer, &[item], &mut checks).unwrap();
                assert_eq!(checks, [TacCheck::Match], "{name} {kind}");
            }
        }
    }

    #[test]
    fn purse_loads() {
        for (algorithm, name) in ALGORITHMS {
            let vector = Vector::named(&format!("epurse-{name}-ep-load"));
            let (profile, data) = tac_data(&vector);
            assert_eq!(profile, Profile::LoadTac);
            let tac = cardcrypto::card_tac(algorithm, &vector.input("dtk_card"), profile, &data);
            assert_eq!(tac, vector.expected("tac"), "{name}");
        }
    }

    /// The 3DES TAC key is the XOR of the halves, the SM4 one is the card key itself.
    #[test]
    fn tac_keys() {
        let vector = Vector::named("epurse-3des-ep-purchase");
        let card_key: [u8; 16] = vector.input("dtk_card");
        let folded: [u8; 8] = core::array::from_fn(|i| card_key[i] ^ card_key[i + 8]);
        assert_eq!(folded, vector.expected("tac_key"));
        // A key whose right half is zero folds to its left half.
        let mut same_fold = [0; 16];
        same_fold[..8].copy_from_slice(&folded);
        let (profile, data) = tac_data(&vector);
        assert_eq!(cardcrypto::card_tac(Algorithm::Tdes, &same_fold, profile, &data), vector.expected("tac"));

        let vector = Vector::named("epurse-sm4-ep-purchase");
        let (profile, data) = tac_data(&vector);
        assert_eq!(
            cardcrypto::card_tac(Algorithm::Sm4, &vector.expected("tac_key"), profile, &data),
            vector.expected("tac")
        );
    }

    /// The F1 line carries the TAC of `epurse-3des-capp`.
    #[test]
    fn clearing_line() {
        let (line, card) = (Vector::named("clearing-line-ascii"), Vector::named("epurse-3des-capp"));
        let text = line.text("inputs", "record");
        assert!(text.contains(&line.text("expected", "tac")));
        let (profile, data) = tac_data(&line);
        let item = TacItem { card: card.input("X2"), data, tac: line.expected("tac") };
        let key = master(
            Algorithm::Tdes,
            card.input("master_dtk"),
            &[FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8],
        );
        let mut checks = [TacCheck::Mismatch];
        key.verify_tacs(profile, &card.input("X1"), &[item], &mut checks).unwrap();
        assert_eq!(checks, [TacCheck::Match]);
    }

    /// The SM3 crate that the house builds on, not a function of ours.
    #[test]
    fn sm3_of_the_standard() {
        for name in ["sm3-abc", "sm3-abcd16"] {
            let vector = Vector::named(name);
            let digest: [u8; 32] = Sm3::digest(vector.bytes("inputs", "msg_hex")).into();
            assert_eq!(digest, vector.expected("digest"), "{name}");
        }
    }

    /// The answers compiled into the self-test are the file's.
    #[test]
    fn known_answers_are_the_vectors() {
        let answers = cardcrypto::KnownAnswers::STANDARD;
        assert_eq!(answers.sm4_block, Vector::named("sm4-one-block").expected("ct"));
        assert_eq!(answers.tdes_block, Vector::named("emv-arpc1").expected("arpc"));
        assert_eq!(answers.aes_cmac, Vector::named("aes-cmac-16").expected("mac"));
        for (purse, name) in [(answers.sm4, "sm4"), (answers.tdes, "3des")] {
            assert_eq!(purse.kcv, Vector::named(&format!("kcv-{name}")).expected("kcv"));
            let purchase = Vector::named(&format!("epurse-{name}-ep-purchase"));
            assert_eq!(purse.card_key, purchase.input("dtk_card"));
            assert_eq!(purse.purchase_tac, purchase.expected("tac"));
            let load = Vector::named(&format!("epurse-{name}-ep-load"));
            assert_eq!(purse.load_tac, load.expected("tac"));
            assert_eq!(purse.load_mac2, load.expected("mac2"));
            let script = Vector::named(&format!("sm-update-binary-{name}"));
            assert_eq!(purse.script_mac, script.expected("mac4"));
            let answer = Vector::named(&format!("ext-auth-{name}"));
            assert_eq!(purse.authentication, answer.expected("answer8"));
        }
    }
}

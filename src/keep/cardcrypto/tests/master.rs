//! What a master key refuses and what it does not show; the self-test's failures.

#[cfg(test)]
mod tests {
    use cardcrypto::{
        FactorError, KnownAnswers, MasterKey, MasterKeyError, PurseAnswers, TacCheck, TacError, TacItem,
    };
    use securemem::{Arena, Preference, Secret};
    use wire::batch::Profile;
    use wire::key::{Algorithm, FactorSource};

    /// Does not compile if the type has the trait: the method's type parameter would be ambiguous.
    macro_rules! assert_not_impl {
        ($type:ty: $($bound:path),+) => {$(
            const _: fn() = || {
                trait Ambiguous<A> {
                    fn here() {}
                }
                impl<T: ?Sized> Ambiguous<()> for T {}
                #[allow(dead_code)]
                struct Has;
                impl<T: ?Sized + $bound> Ambiguous<Has> for T {}
                let _ = <$type as Ambiguous<_>>::here;
            };
        )+};
    }

    assert_not_impl!(MasterKey: Clone, Copy, PartialEq, PartialOrd, std::hash::Hash, std::fmt::Display);
    assert_not_impl!(MasterKey: AsRef<[u8]>, std::borrow::Borrow<[u8]>, std::ops::Deref, Into<Vec<u8>>);
    assert_not_impl!(MasterKey: wire::cbor::Cbor, std::fmt::LowerHex);

    const KEY: [u8; 16] = *b"\xA7\xB8\xC9\xDA\xEB\xFC\x0D\x1E\x2F\x30\x41\x52\x63\x74\x85\x96";

    fn arena() -> Arena {
        Arena::reserve(4096, Preference::Auto).unwrap()
    }

    fn secret(arena: &Arena, bytes: &[u8]) -> Secret {
        let fill = |buffer: &mut [u8]| {
            buffer.copy_from_slice(bytes);
            Ok::<(), ()>(())
        };
        arena.alloc(bytes.len(), fill).unwrap()
    }

    #[test]
    fn refusals() {
        let arena = arena();
        let made = |bytes: &[u8], levels: &[FactorSource]| {
            MasterKey::new(secret(&arena, bytes), Algorithm::Sm4, levels.to_vec()).err()
        };
        let card = FactorSource::ASN_RIGHT8;
        assert_eq!(made(&KEY, std::slice::from_ref(&card)), None);
        assert_eq!(made(&KEY, &[card.clone(), card.clone(), card.clone()]), None);
        assert_eq!(made(&KEY, &[]), Some(MasterKeyError::Levels));
        assert_eq!(made(&KEY, &vec![card.clone(); 4]), Some(MasterKeyError::Levels));
        for (byte, why) in [(0x00, FactorError::AllZeros), (0xff, FactorError::AllOnes)] {
            let levels = [card.clone(), FactorSource::Literal([byte; 8])];
            assert_eq!(made(&KEY, &levels), Some(MasterKeyError::Literal(why)));
        }
        assert_eq!(made(&KEY[..15], std::slice::from_ref(&card)), Some(MasterKeyError::Length));
        assert_eq!(made(&[1; 17], std::slice::from_ref(&card)), Some(MasterKeyError::Length));
        assert_eq!(made(&[0; 16], &[card]), Some(MasterKeyError::Zeros));
    }

    /// A batch has no chip, and a TAC under a key of another shape would be a wrong verdict.
    #[test]
    fn a_chip_s_key_checks_no_batch() {
        let arena = arena();
        for levels in [vec![FactorSource::CHIP], vec![FactorSource::ASN_RIGHT8, FactorSource::CHIP]] {
            let key = MasterKey::new(secret(&arena, &KEY), Algorithm::Sm4, levels).unwrap();
            let item = TacItem { card: [5; 8], data: [6; 24], tac: [0; 4] };
            let mut checks = [TacCheck::Match];
            let done = key.verify_tacs(Profile::LoadTac, &[7; 8], &[item], &mut checks);
            assert_eq!((done, checks), (Err(TacError::Chip), [TacCheck::Mismatch]));
        }
    }

    /// After the arena's panic wipe the key reads zero, under which anyone can compute TACs.
    #[test]
    fn a_wiped_key_matches_nothing() {
        let arena = arena();
        let levels = vec![FactorSource::ASN_RIGHT8];
        let key = MasterKey::new(secret(&arena, &KEY), Algorithm::Sm4, levels).unwrap();
        arena.zeroise();
        let card = [5; 8];
        let forged = cardcrypto::diversify(Algorithm::Sm4, &[0; 16], &card).unwrap();
        let tac = cardcrypto::card_tac(Algorithm::Sm4, &forged, Profile::LoadTac, &[6; 24]);
        let mut checks = [TacCheck::Match];
        let item = TacItem { card, data: [6; 24], tac };
        assert_eq!(key.verify_tacs(Profile::LoadTac, &[7; 8], &[item], &mut checks), Err(TacError::Wiped));
        assert_eq!(checks, [TacCheck::Mismatch]);
    }

    #[test]
    fn debug_shows_no_key_byte() {
        let arena = arena();
        let levels = vec![FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8];
        let key = MasterKey::new(secret(&arena, &KEY), Algorithm::Tdes, levels.clone()).unwrap();
        for text in [format!("{key:?}"), format!("{key:#?}")] {
            let text = text.to_lowercase();
            assert!(text.contains("masterkey") && text.contains("tdes"));
            for byte in KEY.into_iter().chain(key.kcv()).filter(|byte| *byte > 0x10) {
                assert!(
                    !text.contains(&format!("{byte:02x}")) && !text.contains(&byte.to_string()),
                    "{text}"
                );
            }
        }
        assert_eq!((key.algorithm(), key.levels()), (Algorithm::Tdes, levels.as_slice()));
    }

    #[test]
    fn self_test_passes() {
        assert_eq!(cardcrypto::self_test(), Ok(()));
    }

    /// Every expected value is really compared: with one bit of it turned, the self-test names algorithm and check.
    #[test]
    fn self_test_fails_per_algorithm_and_check() {
        let fails = |turn: fn(&mut KnownAnswers)| {
            let mut answers = KnownAnswers::STANDARD;
            turn(&mut answers);
            let error = cardcrypto::self_test_with(&answers).unwrap_err();
            (error.algorithm, error.check, error.to_string())
        };
        let (algorithm, check, text) = fails(|answers| answers.sm4_block[15] ^= 1);
        assert_eq!((algorithm, check), (Algorithm::Sm4, "block"));
        assert_eq!(text, "self-test failed: sm4 block");
        let (algorithm, check, _) = fails(|answers| answers.tdes_block[7] ^= 1);
        assert_eq!((algorithm, check), (Algorithm::Tdes, "block"));

        let fails_in_purse = |turn: fn(&mut PurseAnswers), check: &str| {
            let mut answers = KnownAnswers::STANDARD;
            turn(&mut answers.sm4);
            let error = cardcrypto::self_test_with(&answers).unwrap_err();
            assert_eq!((error.algorithm, error.check), (Algorithm::Sm4, check));
            let mut answers = KnownAnswers::STANDARD;
            turn(&mut answers.tdes);
            let error = cardcrypto::self_test_with(&answers).unwrap_err();
            assert_eq!((error.algorithm, error.check), (Algorithm::Tdes, check));
        };
        fails_in_purse(|purse| purse.kcv[2] ^= 1, "key check value");
        fails_in_purse(|purse| purse.card_key[15] ^= 1, "derivation");
        fails_in_purse(|purse| purse.purchase_tac[3] ^= 1, "purchase TAC");
        fails_in_purse(|purse| purse.load_tac[3] ^= 1, "load TAC");
        fails_in_purse(|purse| purse.load_mac2[3] ^= 1, "load MAC2");
        fails_in_purse(|purse| purse.script_mac[3] ^= 1, "script MAC");
        fails_in_purse(|purse| purse.authentication[7] ^= 1, "external authentication");

        let (algorithm, check, _) = fails(|answers| answers.aes_cmac[15] ^= 1);
        assert_eq!((algorithm, check), (Algorithm::Aes, "CMAC"));
        let (algorithm, check, _) = fails(|answers| answers.sm4_cmac[15] ^= 1);
        assert_eq!((algorithm, check), (Algorithm::Sm4, "CMAC"));
        let (algorithm, check, _) = fails(|answers| answers.tr31_b = answers.tr31_d);
        assert_eq!((algorithm, check), (Algorithm::Tdes, "TR-31 version B"));
        let (algorithm, check, _) = fails(|answers| answers.tr31_d = answers.tr31_b);
        assert_eq!((algorithm, check), (Algorithm::Aes, "TR-31 version D"));
        let (algorithm, check, _) = fails(|answers| answers.sealed[63] ^= 1);
        assert_eq!((algorithm, check), (Algorithm::Aes, "sealed block"));
    }
}

//! The bulk check against the definitions, written out once more on the cipher crates, one item after the other.

#[cfg(test)]
mod naive;

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use cardcrypto::{FactorError, MasterKey, TacCheck, TacError, TacItem};
    use proptest::prelude::*;
    use securemem::{Arena, Preference};
    use wire::batch::Profile;
    use wire::key::{Algorithm, FactorSource, LEVELS_MAX};

    use super::naive::{cbc_mac, des, sm4, tdes};

    static ARENA: LazyLock<Arena> = LazyLock::new(|| Arena::reserve(1 << 16, Preference::Auto).unwrap());

    /// The ciphers of cards; the other algorithms have no TAC.
    const CIPHERS: [Algorithm; 2] = [Algorithm::Tdes, Algorithm::Sm4];
    const ASN: FactorSource = FactorSource::ASN_RIGHT8;
    const ISSUER: FactorSource = FactorSource::ISSUER_ID;

    fn master(algorithm: Algorithm, key: [u8; 16], levels: &[FactorSource]) -> MasterKey {
        let fill = |buffer: &mut [u8]| {
            buffer.copy_from_slice(&key);
            Ok::<(), ()>(())
        };
        MasterKey::new(ARENA.alloc(16, fill).unwrap(), algorithm, levels.to_vec()).unwrap()
    }

    fn checked(
        key: &MasterKey,
        profile: Profile,
        issuer: [u8; 8],
        items: &[TacItem],
    ) -> Result<Vec<TacCheck>, TacError> {
        let mut checks = vec![TacCheck::Match; items.len()];
        key.verify_tacs(profile, &issuer, items, &mut checks).map(|()| checks)
    }

    /// The card's TAC from card-crypto A.1 to A.3 and D.1.
    fn naive_tac(
        algorithm: Algorithm,
        top: [u8; 16],
        levels: &[FactorSource],
        issuer: [u8; 8],
        card: [u8; 8],
        data: &[u8],
    ) -> [u8; 4] {
        let mut key = top;
        for level in levels {
            let x = match level {
                FactorSource::IssuerId(_) => issuer,
                FactorSource::AsnRight8(_) => card,
                FactorSource::Literal(factor) => *factor,
                FactorSource::Chip(_) => unreachable!("no batch has a chip"),
            };
            let not_x = x.map(|byte| !byte);
            key = match algorithm {
                Algorithm::Sm4 => sm4(&key, [x, not_x].concat().try_into().unwrap()),
                Algorithm::Tdes => [tdes(&key, x), tdes(&key, not_x)].concat().try_into().unwrap(),
                _ => unreachable!("only ciphers of cards"),
            };
        }
        let left = match algorithm {
            Algorithm::Sm4 => cbc_mac(|block| sm4(&key, block), [0; 16], data)[..4].to_vec(),
            Algorithm::Tdes => {
                let folded: [u8; 8] = core::array::from_fn(|i| key[i] ^ key[i + 8]);
                cbc_mac(|block| des(folded, block), [0; 8], data)[..4].to_vec()
            }
            _ => unreachable!("only ciphers of cards"),
        };
        left.try_into().unwrap()
    }

    /// What is done to an item before the check.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        True,
        /// One bit of the TAC turned.
        WrongBit(usize),
        /// The card factor is refused, though its TAC would be right.
        Refused(u8),
    }

    fn fates() -> impl Strategy<Value = Fate> {
        prop_oneof![
            3 => Just(Fate::True),
            2 => (0_usize..32).prop_map(Fate::WrongBit),
            1 => prop_oneof![Just(0x00), Just(0xff)].prop_map(Fate::Refused),
        ]
    }

    fn factors() -> impl Strategy<Value = [u8; 8]> {
        any::<[u8; 8]>().prop_filter("refused", |factor| cardcrypto::check_factor(factor).is_ok())
    }

    fn level_lists() -> impl Strategy<Value = Vec<FactorSource>> {
        let level = prop_oneof![Just(ISSUER), Just(ASN), factors().prop_map(FactorSource::Literal)];
        prop::collection::vec(level, 1..=LEVELS_MAX)
    }

    fn keys() -> impl Strategy<Value = [u8; 16]> {
        any::<[u8; 16]>().prop_filter("zero", |key| *key != [0; 16])
    }

    proptest! {
        #[test]
        fn bulk_is_naive_per_item(
            algorithm in prop::sample::select(&CIPHERS[..]),
            profile in prop::sample::select(Profile::ALL),
            top in keys(),
            levels in level_lists(),
            issuer in factors(),
            cards in prop::collection::vec((factors(), any::<[u8; 24]>(), fates()), 0..300),
        ) {
            let per_card = levels.contains(&ASN);
            let (items, expected): (Vec<_>, Vec<_>) = cards.into_iter().map(|(card, data, fate)| {
                let card = if let Fate::Refused(byte) = fate { [byte; 8] } else { card };
                let mut tac = naive_tac(algorithm, top, &levels, issuer, card, &data[..profile.data_len()]);
                let check = match fate {
                    Fate::WrongBit(bit) => {
                        tac[bit / 8] ^= 1 << (bit % 8);
                        TacCheck::Mismatch
                    }
                    Fate::Refused(_) if per_card => TacCheck::RefusedFactor,
                    Fate::Refused(_) | Fate::True => TacCheck::Match,
                };
                (TacItem { card, data, tac }, check)
            }).unzip();
            let key = master(algorithm, top, &levels);
            prop_assert_eq!(checked(&key, profile, issuer, &items).unwrap(), expected);
        }

        #[test]
        fn one_card_tac_is_naive(
            algorithm in prop::sample::select(&CIPHERS[..]),
            profile in prop::sample::select(Profile::ALL),
            card_key: [u8; 16],
            data: [u8; 24],
        ) {
            let expected = naive_tac(algorithm, card_key, &[], [0; 8], [0; 8], &data[..profile.data_len()]);
            prop_assert_eq!(cardcrypto::card_tac(algorithm, &card_key, profile, &data), expected);
        }
    }

    /// Level lists that schemes use or that turn the order around, over more than one group of lanes.
    #[test]
    fn level_lists_over_several_groups() {
        let literal = FactorSource::Literal(*b"34000000");
        let lists: [&[FactorSource]; 8] = [
            &[ISSUER, ASN],
            &[ASN, ISSUER],
            &[ISSUER, ASN, ASN],
            &[ASN, ASN, ASN],
            &[literal.clone(), ISSUER, ASN],
            &[ASN, literal.clone(), ISSUER],
            &[ISSUER, literal.clone()],
            &[literal],
        ];
        let issuer = *b"\x12\x34\x50\0\x12\x34\x50\0";
        for algorithm in CIPHERS {
            for levels in lists {
                let items: Vec<TacItem> = (1..=1100_u64)
                    .map(|serial| {
                        let card = serial.to_be_bytes();
                        let mut data = [0x5a; 24];
                        data[..8].copy_from_slice(&card);
                        let tac = naive_tac(algorithm, [3; 16], levels, issuer, card, &data[..22]);
                        TacItem { card, data, tac }
                    })
                    .collect();
                let key = master(algorithm, [3; 16], levels);
                let checks = checked(&key, Profile::PurchaseTac, issuer, &items).unwrap();
                assert_eq!(checks, vec![TacCheck::Match; 1100], "{algorithm:?} {levels:?}");
                // The same bytes are no load TAC.
                let checks = checked(&key, Profile::LoadTac, issuer, &items).unwrap();
                assert_eq!(checks, vec![TacCheck::Mismatch; 1100], "{algorithm:?} {levels:?}");
            }
        }
    }

    /// Each outcome belongs to its own item: one wrong TAC per position around the edges of the groups.
    #[test]
    fn a_wrong_tac_is_found_in_its_place() {
        let issuer = [7; 8];
        let card = [8; 8];
        let good = TacItem {
            card,
            data: [9; 24],
            tac: naive_tac(Algorithm::Sm4, [3; 16], &[ISSUER, ASN], issuer, card, &[9; 24]),
        };
        let key = master(Algorithm::Sm4, [3; 16], &[ISSUER, ASN]);
        for at in [0, 1, 63, 64, 127, 128, 510, 511, 512, 513, 1023] {
            let mut items = vec![good; 1024];
            items[at].tac[3] ^= 1;
            let mut expected = vec![TacCheck::Match; 1024];
            expected[at] = TacCheck::Mismatch;
            assert_eq!(checked(&key, Profile::LoadTac, issuer, &items).unwrap(), expected, "{at}");
        }
    }

    #[test]
    fn a_refused_issuer_refuses_the_call_only_where_it_is_a_factor() {
        let item = TacItem { card: [1; 8], data: [0; 24], tac: [0; 4] };
        for algorithm in CIPHERS {
            for (byte, why) in [(0x00, FactorError::AllZeros), (0xff, FactorError::AllOnes)] {
                let key = master(algorithm, [3; 16], &[ASN, ISSUER]);
                let mut checks = [TacCheck::Match];
                assert_eq!(
                    key.verify_tacs(Profile::PurchaseTac, &[byte; 8], &[item], &mut checks),
                    Err(TacError::Issuer(why))
                );
                // Nothing stale passes.
                assert_eq!(checks, [TacCheck::Mismatch]);
                let key = master(algorithm, [3; 16], &[ASN]);
                assert_eq!(
                    checked(&key, Profile::PurchaseTac, [byte; 8], &[item]),
                    Ok(vec![TacCheck::Mismatch])
                );
            }
        }
    }

    #[test]
    fn items_and_outcomes_must_agree() {
        let key = master(Algorithm::Sm4, [3; 16], &[ASN]);
        let item = TacItem { card: [1; 8], data: [0; 24], tac: [0; 4] };
        for places in [0, 1, 3] {
            let mut checks = vec![TacCheck::Match; places];
            assert_eq!(
                key.verify_tacs(Profile::PurchaseTac, &[1; 8], &[item; 2], &mut checks),
                Err(TacError::Lengths)
            );
            assert!(checks.iter().all(|check| *check == TacCheck::Mismatch));
        }
    }
}

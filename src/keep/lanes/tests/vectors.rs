//! The block functions, MACs and derivations against `tests/vectors/card-crypto-vectors.json`.

#[cfg(test)]
mod tests {
    use lanes::{Backend, Cipher, MESSAGE_MAX, MacRule, Plan, Step};
    use serde_json::Value;

    /// One named vector of the file.
    struct Vector(Value);

    impl Vector {
        fn named(name: &str) -> Self {
            let path =
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/vectors/card-crypto-vectors.json");
            let all: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            Self(all.into_iter().find(|vector| vector["name"] == name).expect(name))
        }

        fn input<const N: usize>(&self, field: &str) -> [u8; N] {
            self.bytes("inputs", field).try_into().unwrap()
        }

        fn expected<const N: usize>(&self, field: &str) -> [u8; N] {
            self.bytes("expected", field).try_into().unwrap()
        }

        fn bytes(&self, part: &str, field: &str) -> Vec<u8> {
            let hex = self.0[part][field].as_str().expect(field);
            hex.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        }
    }

    /// Every test on every backend that this CPU has.
    macro_rules! on_each_backend {
        ($($name:ident)*) => {
            $(
                #[test]
                fn $name() {
                    Backend::available().for_each(on::$name);
                }
            )*
        };
    }
    on_each_backend!(sm4_block_once_and_a_million_times tdes_block_published tdes_blocks_of_a_published_cbc_mac key_check_values_are_zero_blocks retail_macs des_cbc_mac_published sm4_cbc_macs diversification purse_tacs_through_the_bulk_call);

    mod on {
        use super::*;

        pub(super) fn sm4_block_once_and_a_million_times(backend: Backend) {
            // The second takes the slower backends minutes; what it shows beyond the first does not depend on them.
            let best = backend == Backend::current();
            for (name, times) in
                [("sm4-one-block", 1), ("sm4-1000000", 1_000_000)].into_iter().take(1 + usize::from(best))
            {
                let vector = Vector::named(name);
                let (key, mut block) = (vector.input("key"), vector.input("pt"));
                for _ in 0..times {
                    backend.sm4_encrypt(&key, &mut block);
                }
                assert_eq!(block, vector.expected("ct"), "{name}");
            }
        }

        /// ARPC method 1 is one 3DES block; with ARC 0000 it is the block of the ARQC itself. Published, K1 ≠ K2.
        pub(super) fn tdes_block_published(backend: Backend) {
            let vector = Vector::named("emv-arpc1");
            assert_eq!(vector.input("arc"), [0, 0]);
            let mut block = vector.input("arqc");
            backend.tdes_encrypt(&vector.input("sk"), &mut block);
            assert_eq!(block, vector.expected("arpc"));
        }

        /// The chained 3DES MAC is no function of this crate, but its published value pins the block function over two blocks.
        pub(super) fn tdes_blocks_of_a_published_cbc_mac(backend: Backend) {
            let vector = Vector::named("cbc-mac-3des-pad2");
            let mut message = vector.bytes("inputs", "msg");
            message.push(0x80);
            message.resize(16, 0);
            let mut state = [0; 8];
            for block in message.chunks(8) {
                state.iter_mut().zip(block).for_each(|(to, from)| *to ^= from);
                backend.tdes_encrypt(&vector.input("key"), &mut state);
            }
            assert_eq!(state, vector.expected("mac8"));
        }

        pub(super) fn key_check_values_are_zero_blocks(backend: Backend) {
            let tdes = Vector::named("kcv-3des");
            let mut block = [0; 8];
            backend.tdes_encrypt(&tdes.input("key"), &mut block);
            assert_eq!(block[..3], tdes.expected::<3>("kcv"));
            let sm4 = Vector::named("kcv-sm4");
            let mut block = [0; 16];
            backend.sm4_encrypt(&sm4.input("key"), &mut block);
            assert_eq!(block[..3], sm4.expected::<3>("kcv"));
        }

        pub(super) fn retail_macs(backend: Backend) {
            let vector = Vector::named("retail-mac-pad2");
            let key: Vec<u8> = [vector.input::<8>("key1"), vector.input("key2")].concat();
            let mac = backend.retail_mac(&key.try_into().unwrap(), &vector.bytes("inputs", "msg"));
            assert_eq!(mac, vector.expected("mac8"));
            // Whole blocks of data: a whole block of padding follows.
            let vector = Vector::named("emv-ac");
            assert_eq!(
                backend.retail_mac(&vector.input("sk"), &vector.bytes("inputs", "data")),
                vector.expected("ac")
            );
            let vector = Vector::named("emv-script-mac");
            assert_eq!(
                backend.retail_mac(&vector.input("sk"), &vector.bytes("inputs", "msg")),
                vector.expected("mac8")
            );
        }

        /// Published purse MACs: single DES under the session key of a recorded purchase.
        pub(super) fn des_cbc_mac_published(backend: Backend) {
            let vector = Vector::named("pboc-3des-purchase-published");
            let mut session = vector.expected("session_input");
            backend.tdes_encrypt(&vector.input("dpk"), &mut session);
            assert_eq!(session, vector.expected("session_key"));
            let mac1_data: Vec<u8> = ["amount", "type", "terminal", "datetime"]
                .iter()
                .flat_map(|field| vector.bytes("inputs", field))
                .collect();
            for (data, mac) in [(&mac1_data[..], "mac1"), (&mac1_data[..4], "mac2")] {
                assert_eq!(backend.des_cbc_mac(&session, data)[..4], vector.expected::<4>(mac), "{mac}");
            }
        }

        pub(super) fn sm4_cbc_macs(backend: Backend) {
            for name in
                ["epurse-sm4-ep-purchase", "epurse-sm4-capp", "epurse-sm4-ed-purchase", "epurse-sm4-ep-load"]
            {
                let vector = Vector::named(name);
                let session = vector.expected("session_key");
                for which in ["mac1", "mac2"] {
                    let data = vector.bytes("expected", &format!("{which}_data"));
                    assert_eq!(
                        backend.sm4_cbc_mac(&session, &data)[..4],
                        vector.expected::<4>(which),
                        "{name} {which}"
                    );
                }
            }
        }

        pub(super) fn diversification(backend: Backend) {
            for (cipher, name) in [(Cipher::Tdes, "div-3des"), (Cipher::Sm4, "div-sm4")] {
                let vector = Vector::named(&format!("{name}-l1"));
                let mut key = vector.input("master");
                backend.diversify(cipher, &mut key, &vector.input("X"));
                assert_eq!(key, vector.expected("subkey"), "{name}");
            }
            for (cipher, name) in [
                (Cipher::Tdes, "div-3des-l2"),
                (Cipher::Sm4, "div-sm4-l2"),
                (Cipher::Sm4, "div-sm4-vs-order-negative"),
            ] {
                let vector = Vector::named(name);
                let mut key = vector.input("master");
                for factor in ["X_level1_issuer", "X_level2_card"] {
                    backend.diversify(cipher, &mut key, &vector.input(factor));
                }
                assert_eq!(key, vector.expected("level2"), "{name}");
            }
        }

        /// From the master key to the TAC in one call, both orders of who is shared.
        pub(super) fn purse_tacs_through_the_bulk_call(backend: Backend) {
            for (rule, algorithm) in [(MacRule::DesFolded, "3des"), (MacRule::Sm4, "sm4")] {
                for kind in ["ep-purchase", "capp", "ed-purchase"] {
                    let vector = Vector::named(&format!("epurse-{algorithm}-{kind}"));
                    let data = vector.bytes("expected", "tac_data");
                    let mut message = [0xee; MESSAGE_MAX];
                    message[..data.len()].copy_from_slice(&data);
                    let (issuer, card) = (vector.input("X1"), vector.input("X2"));
                    for (steps, factor) in [
                        ([Step::Shared(issuer), Step::PerLane], card),
                        ([Step::PerLane, Step::Shared(card)], issuer),
                    ] {
                        let top = vector.input("master_dtk");
                        let plan = Plan { rule, top: &top, steps: &steps, message_len: data.len() };
                        let mut tags = [[0; 4]];
                        backend.diversified_mac(&plan, &[factor], &[message], &mut tags).unwrap();
                        assert_eq!(tags, [vector.expected("tac")], "{algorithm} {kind}");
                    }
                }
            }
        }
    }
}

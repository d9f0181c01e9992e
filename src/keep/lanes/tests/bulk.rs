//! The bulk call against the definitions, written out once more on the cipher crates; its shapes; its lanes' independence.

#[cfg(test)]
mod tests {
    use des::cipher::{BlockCipherEncrypt, KeyInit};
    use lanes::{GROUP, MESSAGE_MAX, MacRule, Plan, STEPS_MAX, ShapeError, Step};
    use proptest::prelude::*;

    type Lane = ([u8; 8], [u8; MESSAGE_MAX]);

    fn padded(message: &[u8], block_len: usize) -> Vec<u8> {
        let mut bytes = [message, &[0x80]].concat();
        bytes.resize(bytes.len().next_multiple_of(block_len), 0);
        bytes
    }

    /// One lane, straight from card-crypto 0.1, A.1, A.2 and D.1.
    fn naive(rule: MacRule, top: [u8; 16], steps: &[Step], factor: [u8; 8], message: &[u8]) -> [u8; 4] {
        let mut key = top;
        for step in steps {
            let x = match step {
                Step::PerLane => factor,
                Step::Shared(shared) => *shared,
            };
            let both: Vec<u8> = x.into_iter().chain(x.map(|byte| !byte)).collect();
            key = encrypted(rule, &key, &both).try_into().unwrap();
        }
        let mut state = vec![0; if rule == MacRule::Sm4 { 16 } else { 8 }];
        for block in padded(message, state.len()).chunks(state.len()) {
            state.iter_mut().zip(block).for_each(|(to, from)| *to ^= from);
            if rule == MacRule::Sm4 {
                state = encrypted(rule, &key, &state);
            } else {
                let folded: [u8; 8] = std::array::from_fn(|i| key[i] ^ key[i + 8]);
                let mut block = <[u8; 8]>::try_from(&state[..]).unwrap().into();
                des::Des::new(&folded.into()).encrypt_block(&mut block);
                state = block.to_vec();
            }
        }
        state[..4].try_into().unwrap()
    }

    /// ECB under the rule's 16-byte cipher.
    fn encrypted(rule: MacRule, key: &[u8; 16], blocks: &[u8]) -> Vec<u8> {
        if rule == MacRule::Sm4 {
            let mut block = <[u8; 16]>::try_from(blocks).unwrap().into();
            sm4::Sm4::new(key.into()).encrypt_block(&mut block);
            return block.to_vec();
        }
        let cipher = des::TdesEde2::new(key.into());
        let each = blocks.chunks(8).flat_map(|bytes| {
            let mut block = <[u8; 8]>::try_from(bytes).unwrap().into();
            cipher.encrypt_block(&mut block);
            block.to_vec()
        });
        each.collect()
    }

    fn bulk(
        rule: MacRule,
        top: [u8; 16],
        steps: &[Step],
        lanes: &[Lane],
        message_len: usize,
    ) -> Vec<[u8; 4]> {
        let plan = Plan { rule, top: &top, steps, message_len };
        let (factors, messages): (Vec<_>, Vec<_>) = lanes.iter().copied().unzip();
        let mut tags = vec![[0; 4]; lanes.len()];
        lanes::diversified_mac(&plan, &factors, &messages, &mut tags).unwrap();
        tags
    }

    fn rules() -> impl Strategy<Value = MacRule> {
        prop_oneof![Just(MacRule::DesFolded), Just(MacRule::Sm4)]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![Just(Step::PerLane), any::<[u8; 8]>().prop_map(Step::Shared)];
        prop::collection::vec(step, 0..=STEPS_MAX)
    }

    fn some_lanes(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Lane>> {
        prop::collection::vec((any::<[u8; 8]>(), any::<[u8; MESSAGE_MAX]>()), count)
    }

    proptest! {
        #[test]
        fn bulk_is_naive_per_lane(
            rule in rules(), top: [u8; 16], steps in steps(), lanes in some_lanes(0..300), message_len in 0..=MESSAGE_MAX,
        ) {
            let expected: Vec<_> = lanes.iter().map(|(factor, message)| naive(rule, top, &steps, *factor, &message[..message_len])).collect();
            prop_assert_eq!(bulk(rule, top, &steps, &lanes, message_len), expected);
        }

        #[test]
        fn one_mac_of_any_length_is_naive(rule in rules(), key: [u8; 16], message in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(lanes::mac(rule, &key, &message), naive(rule, key, &[], [0; 8], &message));
        }

        /// Whatever the other lanes carry, and wherever in the call a lane stands, its tag is the same.
        #[test]
        fn lanes_are_independent(
            rule in rules(), top: [u8; 16], steps in steps(), lanes in some_lanes(1..140), others in some_lanes(140),
            pick: prop::sample::Index,
        ) {
            let kept = pick.index(lanes.len());
            let expected = bulk(rule, top, &steps, &lanes, 22)[kept];
            let mut changed = others[..lanes.len()].to_vec();
            changed[kept] = lanes[kept];
            prop_assert_eq!(bulk(rule, top, &steps, &changed, 22)[kept], expected);
            let mut turned = lanes.clone();
            turned.rotate_left(kept);
            prop_assert_eq!(bulk(rule, top, &steps, &turned, 22)[0], expected);
            prop_assert_eq!(bulk(rule, top, &steps, &lanes[kept..=kept], 22)[0], expected);
        }
    }

    /// The edges of every group width that a backend may have, with every message length.
    #[test]
    fn counts_around_group_widths() {
        for rule in [MacRule::DesFolded, MacRule::Sm4] {
            let steps = [Step::Shared([7; 8]), Step::PerLane];
            for width in [8, 16, 32, 64, 128, GROUP] {
                for count in [width - 1, width, width + 1] {
                    let lanes: Vec<Lane> = (0..count)
                        .map(|i| ((i as u64).to_be_bytes(), [u8::try_from(i % 251).unwrap(); MESSAGE_MAX]))
                        .collect();
                    let message_len = count % (MESSAGE_MAX + 1);
                    let expected: Vec<_> = lanes
                        .iter()
                        .map(|(factor, message)| {
                            naive(rule, [9; 16], &steps, *factor, &message[..message_len])
                        })
                        .collect();
                    assert_eq!(
                        bulk(rule, [9; 16], &steps, &lanes, message_len),
                        expected,
                        "{rule:?} {count}"
                    );
                }
            }
        }
    }

    #[test]
    fn wrong_shapes_write_nothing() {
        let top = [1; 16];
        let plan = Plan { rule: MacRule::Sm4, top: &top, steps: &[Step::PerLane], message_len: 22 };
        let (factors, messages) = ([[0; 8]; 2], [[0; MESSAGE_MAX]; 2]);
        let mut tags = [[0xaa; 4]; 2];
        let mut refused = |plan: &Plan<'_>, factors: &[_], messages: &[_], why| {
            assert_eq!(lanes::diversified_mac(plan, factors, messages, &mut tags), Err(why));
            assert_eq!(tags, [[0xaa; 4]; 2]);
        };
        refused(&plan, &factors[..1], &messages, ShapeError::Lanes);
        refused(&plan, &factors, &messages[..1], ShapeError::Lanes);
        refused(&Plan { message_len: 33, ..plan }, &factors, &messages, ShapeError::Message);
        refused(&Plan { steps: &[Step::PerLane; 4], ..plan }, &factors, &messages, ShapeError::Steps);
    }

    #[test]
    fn status_names_the_backend() {
        assert_eq!(lanes::backend(), "scalar");
    }
}

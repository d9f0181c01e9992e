//! The bulk call against the definitions, written out once more on the cipher crates; its shapes; its lanes' independence.

#[cfg(test)]
mod tests {
    use des::cipher::{BlockCipherEncrypt, KeyInit};
    use lanes::{Backend, BackendError, GROUP, MESSAGE_MAX, MacRule, Plan, ROW, STEPS_MAX, ShapeError, Step};
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

    /// Rows with these tags, in a shuffled order and with wrong tags among them, get the verdicts that they deserve.
    fn verdicts_are(tags: &[[u8; 4]], backend: Backend, plan: &Plan<'_>, lanes: &[Lane]) {
        if plan.message_len > ROW - 12 {
            return;
        }
        let count = lanes.len();
        let mut rows = vec![[0x5c; ROW]; count];
        // Any odd step visits every place of a power of two; places beyond the last are left out.
        let around = count.next_power_of_two();
        let picks: Vec<usize> =
            (0..around).map(|i| (i * 37 + 11) % around).filter(|at| *at < count).collect();
        let wrong = |lane: usize| lane % 3 == 1;
        for (lane, at) in picks.iter().enumerate() {
            let ((factor, message), mut tag) = (lanes[*at], tags[*at]);
            if wrong(lane) {
                tag[lane / 3 % 4] ^= 1 << (lane / 12 % 8);
            }
            let row: Vec<u8> = [&factor[..], &message[..plan.message_len], &tag].concat();
            rows[*at][..row.len()].copy_from_slice(&row);
        }
        let picks: Vec<u32> = picks.into_iter().map(|at| u32::try_from(at).unwrap()).collect();
        let mut verdicts = vec![u64::MAX; count.div_ceil(64)];
        backend.verify(plan, &rows, &picks, &mut verdicts).unwrap();
        for lane in 0..verdicts.len() * 64 {
            let right = verdicts[lane / 64] >> (lane % 64) & 1 == 1;
            assert_eq!(right, lane < count && !wrong(lane), "{} {:?} lane {lane}", backend.name(), plan.rule);
        }
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
        let [first, others @ ..] = &Backend::available()
            .map(|backend| {
                let mut tags = vec![[0; 4]; lanes.len()];
                backend.diversified_mac(&plan, &factors, &messages, &mut tags).unwrap();
                verdicts_are(&tags, backend, &plan, lanes);
                tags
            })
            .collect::<Vec<_>>()[..]
        else {
            unreachable!("portable is always there")
        };
        assert!(others.iter().all(|tags| tags == first));
        first.clone()
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
            for backend in Backend::available() {
                prop_assert_eq!(backend.mac(rule, &key, &message), naive(rule, key, &[], [0; 8], &message));
            }
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
            for backend in Backend::available() {
                assert_eq!(backend.diversified_mac(plan, factors, messages, &mut tags), Err(why));
                assert_eq!(tags, [[0xaa; 4]; 2]);
            }
        };
        refused(&plan, &factors[..1], &messages, ShapeError::Lanes);
        refused(&plan, &factors, &messages[..1], ShapeError::Lanes);
        refused(&Plan { message_len: 33, ..plan }, &factors, &messages, ShapeError::Message);
        refused(&Plan { steps: &[Step::PerLane; 4], ..plan }, &factors, &messages, ShapeError::Steps);
    }

    #[test]
    fn status_names_the_backend_and_it_is_chosen_once() {
        assert_eq!(lanes::backend(), Backend::available().next().unwrap().name());
        assert_eq!(lanes::select(Backend::current()), Ok(()));
        let chosen = BackendError::Chosen(lanes::backend());
        for other in Backend::available().skip(1) {
            assert_eq!(lanes::select(other), Err(chosen.clone()));
        }
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(Backend::named("portable").map(Backend::name), Ok("portable"));
        assert_eq!(Backend::named("neon"), Err(BackendError::Unknown("neon".to_owned())));
        for name in Backend::all() {
            match Backend::named(name) {
                Ok(backend) => assert_eq!(backend.name(), *name),
                // A runner without the instructions says so; nothing passes in silence.
                Err(why) => println!("backend {name}: NOT RUN on this machine: {why}"),
            }
        }
    }

    /// What is available, from another source than the one that `Backend` asks: no backend is left out in silence, and the one that
    /// every CPU has is always among those that the tests of this crate run.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn backends_are_those_of_the_kernels_view_of_this_cpu() {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags")).unwrap();
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let wanted: [(&str, &[&str]); 4] = [
            ("avx512", &["avx512f", "avx512bw", "avx512vl", "gfni"]),
            ("avx2-gfni", &["avx2", "gfni"]),
            ("avx2", &["avx2"]),
            ("portable", &[]),
        ];
        let expected = wanted.iter().filter(|(_, needs)| needs.iter().all(|flag| flags.contains(flag)));
        let expected: Vec<&str> = expected.map(|(name, _)| *name).collect();
        assert_eq!(Backend::available().map(Backend::name).collect::<Vec<_>>(), expected);
        assert_eq!(wanted.map(|(name, _)| name), Backend::all());
    }

    #[test]
    fn rows_out_of_range_are_refused_and_nothing_is_right() {
        let top = [1; 16];
        let plan = Plan { rule: MacRule::Sm4, top: &top, steps: &[Step::PerLane], message_len: 22 };
        for backend in Backend::available() {
            let verify = |plan: &Plan<'_>, picks: &[u32], words: usize| {
                let mut verdicts = vec![u64::MAX; words];
                let result = backend.verify(plan, &[[0; ROW]; 3], picks, &mut verdicts);
                (result, verdicts)
            };
            assert_eq!(verify(&plan, &[0, 3], 1), (Err(ShapeError::Lanes), vec![0]));
            assert_eq!(verify(&plan, &[0, 2], 2), (Err(ShapeError::Lanes), vec![0, 0]));
            let long = Plan { message_len: 29, ..plan };
            assert_eq!(verify(&long, &[0], 1), (Err(ShapeError::Message), vec![0]));
            assert_eq!(verify(&plan, &[], 0), (Ok(()), vec![]));
        }
    }
}

//! The circuits of the S-boxes: that they are DES's, and that their generator writes just what is in the source.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../examples/circuits/net.rs"]
mod net;
#[path = "../examples/circuits/search.rs"]
mod search;

const SOURCE: &str = include_str!("../src/des/boxes.rs");

#[cfg(test)]
mod tests {
    use super::SOURCE;
    use super::net::{Net, outputs, read, source};
    use super::search::{Random, plain, step};

    /// Every box, every argument, every output bit: a truth table has all 64 arguments.
    #[test]
    fn circuits_are_the_standard_s_boxes() {
        let nets = read(SOURCE);
        assert_eq!(nets.len(), 8);
        for (s_box, net) in nets.iter().enumerate() {
            assert_eq!(net.computes(), outputs(s_box), "S{}", s_box + 1);
        }
    }

    #[test]
    fn generator_writes_the_source_that_is_there() {
        assert_eq!(source(&read(SOURCE)), SOURCE);
    }

    /// The red control: with any table bit of any look-up turned that matters, the proof fails; and nearly all matter.
    #[test]
    fn a_wrong_look_up_is_seen() {
        let (mut seen, mut count) = (0, 0);
        for (s_box, net) in read(SOURCE).iter().enumerate() {
            for (gate, bit) in (0..net.gates.len()).flat_map(|gate| (0..8).map(move |bit| (gate, bit))) {
                let mut wrong: Net = net.clone();
                wrong.gates[gate].table ^= 1 << bit;
                seen += usize::from(wrong.computes() != outputs(s_box));
                count += 1;
            }
        }
        assert!(seen * 10 > count * 8, "{seen} of {count}");
    }

    /// From scratch, with no circuit given: the walk keeps what it computes and shortens it, and the same seed finds the same.
    #[test]
    fn generator_finds_circuits_from_the_tables_alone() {
        for s_box in 0..8 {
            let target = outputs(s_box);
            let walk = |seed| {
                let (mut net, mut random) = (plain(&target), Random::new(seed));
                assert_eq!(net.computes(), target);
                for _ in 0..300 {
                    step(&mut net, &target, &mut random);
                    assert_eq!(net.computes(), target);
                }
                net
            };
            let found = walk(7);
            assert!(found.gates.len() < plain(&target).gates.len() * 3 / 4, "{}", found.gates.len());
            assert_eq!(found, walk(7));
        }
    }
}

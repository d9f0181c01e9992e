//! Finds the circuits of `src/des/boxes.rs` and writes them: `cargo run --release -p lanes --example circuits -- STEPS SEED`.
//!
//! It starts from what the file has, if that computes DES's S-boxes, or from scratch, takes that many thousand steps for each
//! box, and writes the shortest circuits that it saw. With 0 steps it writes the file as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod net;
mod search;

use net::{Net, outputs, read, source};
use search::{Random, plain, step};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("STEPS SEED"));
    let (thousands, seed) = (arguments.next().unwrap_or(0), arguments.next().unwrap_or(1));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/des/boxes.rs");
    let known = std::fs::read_to_string(path).map(|source| read(&source)).unwrap_or_default();
    let mut random = Random::new(seed);
    let nets: Vec<Net> = (0..8)
        .map(|s_box| {
            let target = outputs(s_box);
            let known = known.get(s_box).filter(|net| net.computes() == target);
            let mut net = known.cloned().unwrap_or_else(|| plain(&target));
            let mut best = net.clone();
            for _ in 0..thousands * 1000 {
                step(&mut net, &target, &mut random);
                if net.gates.len() < best.gates.len() {
                    best = net.clone();
                }
            }
            assert_eq!(best.computes(), target);
            println!("S{}: {} look-ups", s_box + 1, best.gates.len());
            best
        })
        .collect();
    std::fs::write(path, source(&nets)).expect("boxes.rs is written");
}

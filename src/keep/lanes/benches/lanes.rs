//! Rates of every backend against the RustCrypto crates `sm4` and `des` doing the same, in one run on one core: medians and
//! ratios. `cargo bench -p lanes`, with a part of a case's name for that case only.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss, missing_docs)]

use std::hint::black_box;

use des::cipher::{Block, BlockCipherEncrypt, KeyInit};
use lanes::{Backend, MacRule, Plan, ROW, Step};
use rustix::time::{ClockId, clock_gettime};

/// What a frame of a batch has.
const RECORDS: usize = 8192;
/// What the peer does in a run.
const PEER_RECORDS: usize = 512;
const RUNS: usize = 31;
const TOP: [u8; 16] = [0x5a; 16];

struct Case {
    name: &'static str,
    rule: MacRule,
    message_len: usize,
}

const CASES: [Case; 4] = [
    Case { name: "SM4 TAC of a purchase (22 bytes)", rule: MacRule::Sm4, message_len: 22 },
    Case { name: "SM4 TAC of a load (24 bytes)", rule: MacRule::Sm4, message_len: 24 },
    Case { name: "3DES TAC of a purchase (22 bytes)", rule: MacRule::DesFolded, message_len: 22 },
    Case { name: "3DES TAC of a load (24 bytes)", rule: MacRule::DesFolded, message_len: 24 },
];

/// This thread's own time: other work on the machine does not count, except for what it does to caches.
fn thread_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// Nanoseconds per record of one run of at least three milliseconds.
fn run(records: usize, work: &mut dyn FnMut()) -> f64 {
    let (start, mut times) = (thread_seconds(), 0_u32);
    loop {
        work();
        times += 1;
        let spent = thread_seconds() - start;
        if spent > 0.003 {
            return spent * 1e9 / f64::from(times) / records as f64;
        }
    }
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

fn records() -> Vec<[u8; ROW]> {
    let mut seed = 1_u64;
    let mut byte = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    };
    (0..RECORDS).map(|_| std::array::from_fn(|_| byte())).collect()
}

/// The same on the cipher crates, as somebody would write it who keeps the top key's schedule.
enum Peer {
    Sm4(sm4::Sm4),
    Des(des::TdesEde2),
}

impl Peer {
    fn new(rule: MacRule) -> Self {
        match rule {
            MacRule::Sm4 => Self::Sm4(sm4::Sm4::new(&TOP.into())),
            MacRule::DesFolded => Self::Des(des::TdesEde2::new(&TOP.into())),
        }
    }

    fn right(&self, row: &[u8; ROW], message_len: usize) -> bool {
        let (x, message) = (&row[..8], &row[8..8 + message_len]);
        let mut both = [0; 16];
        for i in 0..8 {
            (both[i], both[i + 8]) = (x[i], !x[i]);
        }
        let mut tag = [0; 4];
        match self {
            Self::Sm4(top) => {
                let mut key = both.into();
                top.encrypt_block(&mut key);
                tag.copy_from_slice(&mac(&sm4::Sm4::new(&key), message)[..4]);
            }
            Self::Des(top) => {
                let mut key = [0; 8];
                for half in both.as_chunks::<8>().0 {
                    let mut block = (*half).into();
                    top.encrypt_block(&mut block);
                    key.iter_mut().zip(block).for_each(|(to, from)| *to ^= from);
                }
                tag.copy_from_slice(&mac(&des::Des::new(&key.into()), message)[..4]);
            }
        }
        tag == row[8 + message_len..][..4]
    }
}

fn mac<C: BlockCipherEncrypt>(cipher: &C, message: &[u8]) -> Block<C> {
    let mut state = Block::<C>::default();
    let len = state.len();
    for (i, byte) in message.iter().chain(&[0x80]).enumerate() {
        state[i % len] ^= byte;
        if i % len == len - 1 || i == message.len() {
            cipher.encrypt_block(&mut state);
        }
    }
    state
}

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let picks: Vec<u32> = (0..u32::try_from(RECORDS).unwrap()).collect();
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        let mut rows = records();
        let plan =
            Plan { rule: case.rule, top: &TOP, steps: &[Step::PerLane], message_len: case.message_len };
        // Every second record is right; nobody measures what gives wrong answers.
        let peer = Peer::new(case.rule);
        for row in rows.iter_mut().step_by(2) {
            let (mut tags, mut message) = ([[0; 4]], [0; lanes::MESSAGE_MAX]);
            message[..case.message_len].copy_from_slice(&row[8..8 + case.message_len]);
            let factor = *row.first_chunk().unwrap();
            lanes::diversified_mac(&plan, &[factor], &[message], &mut tags).unwrap();
            row[8 + case.message_len..][..4].copy_from_slice(&tags[0]);
        }
        let mut verdicts = vec![0; RECORDS / 64];
        let backends: Vec<Backend> = Backend::available().collect();
        let (mut peers, mut own) = (Vec::new(), vec![Vec::new(); backends.len()]);
        for _ in 0..RUNS {
            peers.push(run(PEER_RECORDS, &mut || {
                for row in &rows[..PEER_RECORDS] {
                    black_box(peer.right(row, case.message_len));
                }
            }));
            for (backend, own) in backends.iter().zip(&mut own) {
                own.push(run(RECORDS, &mut || {
                    backend.verify(&plan, black_box(&rows), &picks, &mut verdicts).unwrap();
                }));
                assert!(verdicts.iter().all(|word| *word == 0x5555_5555_5555_5555), "{}", backend.name());
                assert!(
                    rows[..64]
                        .iter()
                        .zip(0..)
                        .all(|(row, i)| peer.right(row, case.message_len) == (i % 2 == 0))
                );
            }
        }
        let peer = median(peers);
        println!("{:34} {:>10.2} ns  {:>7.2} M/s  RustCrypto", case.name, peer, 1e3 / peer);
        for (backend, own) in backends.iter().zip(own) {
            let own = median(own);
            println!("  {:32} {own:>10.2} ns  {:>7.2} M/s  {:>6.1} x", backend.name(), 1e3 / own, peer / own);
        }
    }
}

//! SM4 on byte planes: data round, key round, and the way from rows to planes.
//!
//! A block of all lanes is 16 planes, `block[word][byte]`, most significant byte first, so that the rotations by eight are
//! names. Data live as PRE·X and keys as PRE·K + C_PRE (see `field.rs`): then the sum of three words and a round key is what
//! the processor inverts, without a map before it, and the linear layer is folded into the two maps after it.

use super::field::{CK_PRE, FK_PRE, KA, KQ, MA, MD, Q};
use crate::rows::{ROW, Rows};
use crate::x86::Plane;

/// A block, or a key, of every lane.
pub(crate) type Block<P> = [[P; 4]; 4];
/// The round keys of every lane; one more than there are rounds, so that the last round can read ahead.
pub(crate) type Schedule<P> = [[P; 4]; 33];
/// The bytes of a group's rows: plane i holds byte i of every lane.
pub(crate) type RowPlanes<P> = [P; ROW];

/// Encrypts a block of each of `G` groups of lanes in place, each lane under its own schedule.
///
/// Groups run in lock step: the chain from one round's argument to the next's is nine cycles, and one group alone cannot
/// fill them.
#[inline(always)]
pub(crate) fn encrypt<P: Plane, const G: usize>(
    cpu: P::Cpu,
    blocks: &mut [Block<P>; G],
    keys: &[&Schedule<P>; G],
) {
    let maps = (P::operand(cpu, const { MA.operand() }), P::operand(cpu, const { MD.operand() }));
    let x = blocks;
    // What goes into the S-boxes: X₁ + X₂ + X₃ + rk.
    let mut y = [x[0][0]; G];
    for g in 0..G {
        for j in 0..4 {
            y[g][j] = x[g][1][j].xor3(x[g][2][j], x[g][3][j]).xor(keys[g][0][j]);
        }
    }
    let mut round = 0;
    while round < 32 {
        round_of::<P, G, 0>(x, &mut y, keys, round + 1, maps);
        round_of::<P, G, 1>(x, &mut y, keys, round + 2, maps);
        round_of::<P, G, 2>(x, &mut y, keys, round + 3, maps);
        round_of::<P, G, 3>(x, &mut y, keys, round + 4, maps);
        round += 4;
    }
    for block in x {
        block.swap(0, 3);
        block.swap(1, 2);
    }
}

/// The round that replaces word `W`; `next` is the next round's key.
#[inline(always)]
fn round_of<P: Plane, const G: usize, const W: usize>(
    x: &mut [Block<P>; G],
    y: &mut [[P; 4]; G],
    keys: &[&Schedule<P>; G],
    next: usize,
    (ma, md): (P, P),
) {
    for g in 0..G {
        let next = &keys[g][next];
        let s = y[g];
        let a = [
            s[0].map_inverse::<KA>(ma),
            s[1].map_inverse::<KA>(ma),
            s[2].map_inverse::<KA>(ma),
            s[3].map_inverse::<KA>(ma),
        ];
        let d = [
            s[0].map_inverse::<0>(md),
            s[1].map_inverse::<0>(md),
            s[2].map_inverse::<0>(md),
            s[3].map_inverse::<0>(md),
        ];
        let t = a[0].xor3(a[1], a[2]).xor3(a[3].xor3(d[0], d[1]), d[2].xor(d[3]));
        for j in 0..4 {
            let u = x[g][W][j].xor3(a[(j + 3) % 4], d[j]);
            // Off the chain: the next argument's part that is known before this round's S-boxes.
            let v = x[g][(W + 2) % 4][j].xor3(x[g][(W + 3) % 4][j], next[j]);
            y[g][j] = v.xor3(u, t);
            x[g][W][j] = u.xor(t);
        }
    }
}

/// The schedule of every lane's own key. `key` comes as data do (PRE·K).
#[inline(always)]
pub(crate) fn schedule<P: Plane>(cpu: P::Cpu, key: &Block<P>, out: &mut Schedule<P>) {
    let q = [
        P::operand(cpu, const { Q[0].operand() }),
        P::operand(cpu, const { Q[1].operand() }),
        P::operand(cpu, const { Q[2].operand() }),
        P::operand(cpu, const { Q[3].operand() }),
    ];
    let mut k = *key;
    for w in 0..4 {
        for j in 0..4 {
            k[w][j] = k[w][j].xor(P::splat(cpu, FK_PRE[w * 4 + j]));
        }
    }
    let mut round = 0;
    while round < 32 {
        out[round] = key_round::<P, 0>(cpu, &mut k, &CK_PRE[round], &q);
        out[round + 1] = key_round::<P, 1>(cpu, &mut k, &CK_PRE[round + 1], &q);
        out[round + 2] = key_round::<P, 2>(cpu, &mut k, &CK_PRE[round + 2], &q);
        out[round + 3] = key_round::<P, 3>(cpu, &mut k, &CK_PRE[round + 3], &q);
        round += 4;
    }
    // Read ahead of, never used.
    out[32] = k[3];
}

/// The key round that replaces word `W`, and its round key.
#[inline(always)]
fn key_round<P: Plane, const W: usize>(cpu: P::Cpu, k: &mut Block<P>, ck: &[u64; 4], q: &[P; 4]) -> [P; 4] {
    let mut y = k[W];
    for j in 0..4 {
        let ck = P::operand(cpu, ck[j]);
        y[j] = k[(W + 1) % 4][j].xor3(k[(W + 2) % 4][j], ck).xor(k[(W + 3) % 4][j]);
    }
    for j in 0..4 {
        let b0 = y[j].map_inverse::<KQ>(q[0]);
        let b1 = y[(j + 1) % 4].map_inverse::<0>(q[1]);
        let b2 = y[(j + 2) % 4].map_inverse::<0>(q[2]);
        let b3 = y[(j + 3) % 4].map_inverse::<0>(q[3]);
        k[W][j] = b0.xor3(b1, b2).xor3(b3, k[W][j]);
    }
    k[W]
}

/// Loads the rows of lanes `first..first + P::LANES`.
#[inline(always)]
pub(crate) fn load<P: Plane>(cpu: P::Cpu, rows: &Rows<'_>, first: usize, out: &mut RowPlanes<P>) {
    let rows = rows.many(first);
    let [.., tail] = out.as_chunks_mut::<8>().0 else { unreachable!("a row is five eights") };
    // Rows are two and a half sixteens; the third overlaps the second.
    let [.., a, b, c, d, e, f, g, h] = transposed::<P, 24>(cpu, &rows);
    *tail = [a, b, c, d, e, f, g, h];
    out[16..32].copy_from_slice(&transposed::<P, 16>(cpu, &rows));
    out[..16].copy_from_slice(&transposed::<P, 0>(cpu, &rows));
}

/// 16 × 16 bytes of every sixteen lanes: register r takes the bytes at `AT` of lane r; out comes, in register i, byte `AT` + i
/// of sixteen lanes.
///
/// Each stage turns one bit of the register number into the lowest bit of the place, and the highest bit of the place into
/// a bit of the register number; after four of them they have changed sides.
#[inline(always)]
fn transposed<P: Plane, const AT: usize>(cpu: P::Cpu, rows: &[&[u8; ROW]; 64]) -> [P; 16] {
    macro_rules! gathered { ($($i:literal)*) => { [$( P::gather::<AT>(cpu, rows, $i) ),*] }; }
    stage(stage(stage(stage(gathered!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)))))
}

/// Written out, so that sixteen registers stay registers.
#[inline(always)]
fn stage<P: Plane>(r: [P; 16]) -> [P; 16] {
    macro_rules! interleaved { ($($a:literal $b:literal),*) => {
        [$( r[$a].unpack::<false>(r[$b]), r[$a].unpack::<true>(r[$b]) ),*]
    }; }
    interleaved!(0 8, 1 9, 2 10, 3 11, 4 12, 5 13, 6 14, 7 15)
}

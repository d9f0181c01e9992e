//! The reference backend: one lane after the other on the `sm4` and `des` crates. Their schedules are wiped on drop
//! (feature `zeroize`); their S-boxes are tables, so the cache sees which lines are used.

use des::{Des, TdesEde2};
use sm4::Sm4;
use sm4::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::rows::Rows;
use crate::{Cipher, MacRule, Out, Plan};

/// The bulk call. Shapes have been checked.
pub(crate) fn bulk(plan: &Plan<'_>, rows: &Rows<'_>, out: &mut Out<'_>) {
    // The one place where card keys exist; wiped on drop.
    let mut key = Zeroizing::new([0; 16]);
    for lane in 0..rows.len() {
        let [x0, x1, x2, x3, x4, x5, x6, x7, tail @ ..] = rows.row(lane);
        let own = [*x0, *x1, *x2, *x3, *x4, *x5, *x6, *x7];
        key.copy_from_slice(plan.top);
        for step in plan.steps {
            diversify(plan.rule.cipher(), &mut key, step.factor(own));
        }
        let (message, rest) = tail.split_at(plan.message_len);
        let tag = Zeroizing::new(mac(plan.rule, &key, message));
        match out {
            Out::Tags(tags) => tags.iter_mut().skip(lane).take(1).for_each(|to| *to = *tag),
            Out::Verdicts(bits) => {
                let difference = tag.iter().zip(rest).fold(0, |sum, (a, b)| sum | (a ^ b));
                if let Some(word) = bits.get_mut(lane / 64) {
                    *word |= u64::from(difference == 0) << (lane % 64);
                }
            }
        }
    }
}

pub(crate) fn mac(rule: MacRule, card_key: &[u8; 16], message: &[u8]) -> [u8; 4] {
    match rule {
        MacRule::DesFolded => {
            let [a, b, c, d, ..] = des_cbc_mac(&fold(card_key), message);
            [a, b, c, d]
        }
        MacRule::Sm4 => {
            let [a, b, c, d, ..] = sm4_cbc_mac(card_key, message);
            [a, b, c, d]
        }
    }
}

pub(crate) fn diversify(cipher: Cipher, key: &mut [u8; 16], factor: [u8; 8]) {
    match cipher {
        Cipher::Sm4 => {
            let parent = Sm4::new((&*key).into());
            expand(factor, key);
            parent.encrypt_block(key.into());
        }
        Cipher::Tdes => {
            let parent = TdesEde2::new((&*key).into());
            expand(factor, key);
            for half in key.as_chunks_mut::<8>().0 {
                parent.encrypt_block(half.into());
            }
        }
    }
}

pub(crate) fn tdes_encrypt(key: &[u8; 16], block: &mut [u8; 8]) {
    TdesEde2::new(key.into()).encrypt_block(block.into());
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "a key passed by value is one more copy of it")]
pub(crate) fn des_cbc_mac(key: &[u8; 8], message: &[u8]) -> [u8; 8] {
    cbc_mac(&Des::new(key.into()), message).into()
}

pub(crate) fn sm4_cbc_mac(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    cbc_mac(&Sm4::new(key.into()), message).into()
}

pub(crate) fn retail_mac(key: &[u8; 16], message: &[u8]) -> [u8; 8] {
    let [left, right] = halves(key);
    let left = Des::new(left.into());
    let mut block = cbc_mac(&left, message);
    Des::new(right.into()).decrypt_block(&mut block);
    left.encrypt_block(&mut block);
    block.into()
}

/// CBC-MAC with IV zero over the message and `80 00…`; a message of whole blocks gets a whole block of padding.
fn cbc_mac<C: BlockCipherEncrypt>(cipher: &C, message: &[u8]) -> Block<C> {
    let mut state = Block::<C>::default();
    let mut blocks = message.chunks_exact(state.len());
    for block in &mut blocks {
        xor(&mut state, block);
        cipher.encrypt_block(&mut state);
    }
    let rest = blocks.remainder();
    xor(&mut state, rest);
    // The remainder is shorter than a block, so the marker has its place.
    if let Some(byte) = state.get_mut(rest.len()) {
        *byte ^= 0x80;
    }
    cipher.encrypt_block(&mut state);
    state
}

fn xor(state: &mut [u8], bytes: &[u8]) {
    for (to, from) in state.iter_mut().zip(bytes) {
        *to ^= from;
    }
}

/// `X ‖ ~X`.
fn expand(factor: [u8; 8], out: &mut [u8; 16]) {
    let (left, right) = out.split_at_mut(8);
    for ((left, right), x) in left.iter_mut().zip(right).zip(factor) {
        *left = x;
        *right = !x;
    }
}

/// A card's 3DES TAC key: left half XOR right half, used as a single-DES key (card-crypto D.1).
fn fold(key: &[u8; 16]) -> Zeroizing<[u8; 8]> {
    let [left, right] = halves(key);
    let mut folded = Zeroizing::new([0; 8]);
    for ((to, left), right) in folded.iter_mut().zip(left).zip(right) {
        *to = left ^ right;
    }
    folded
}

fn halves(key: &[u8; 16]) -> [&[u8; 8]; 2] {
    let [a, b] = key.as_chunks::<8>().0 else { unreachable!("16 bytes are two halves") };
    [a, b]
}

//! The tables of DES as the standard prints them (FIPS 46-3), and the ways of bits that follow from them.

/// Initial permutation: which bit of the block (from 1, the most significant) each bit of L and R is.
const IP: [u8; 64] = [
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48,
    40, 32, 24, 16, 8, 57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21,
    13, 5, 63, 55, 47, 39, 31, 23, 15, 7,
];
/// Which bit of the S-boxes' output each bit of f is.
const P: [u8; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6,
    22, 11, 4, 25,
];
/// Permuted choice 1: which bit of the key each bit of C and D is.
const PC1: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44,
    36, 63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20,
    12, 4,
];
/// Permuted choice 2: which bit of C and D each bit of a round key is.
const PC2: [u8; 48] = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2, 41, 52, 31, 37,
    47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];
/// Left shifts of C and D before each round.
const SHIFTS: [usize; 16] = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];

/// The plane of a chunk that holds bit `n` of a block or key (from 1, the most significant).
const fn plane(n: u8) -> u8 {
    (n - 1) / 8 * 8 + 7 - (n - 1) % 8
}

/// The plane of a chunk that each bit of L and R comes from and goes to.
pub(crate) const HALVES: [u8; 64] = {
    let (mut places, mut i) = ([0; 64], 0);
    while i < 64 {
        places[i] = plane(IP[i]);
        i += 1;
    }
    places
};

/// The bit of f that bit 4s + i of the S-boxes' output goes to.
pub(crate) const SPREAD: [usize; 32] = {
    let (mut places, mut i) = ([0; 32], 0);
    while i < 32 {
        places[P[i] as usize - 1] = i;
        i += 1;
    }
    places
};

/// The plane of the key's chunk that each bit of a round key is. Made here only.
pub(crate) struct Choice([u8; 48]);

impl Choice {
    /// The plane of bit `BIT`.
    #[inline(always)]
    pub(crate) fn plane<const BIT: usize>(&self) -> usize {
        let plane = usize::from(self.0[BIT]);
        // SAFETY: the only choices are those of `ROUND_KEYS`, which is checked as it is made. JUSTIFICATION: a check here
        // would be a branch, and a mask makes the compiler take the table through vector registers.
        unsafe { core::hint::assert_unchecked(plane < 64) };
        plane
    }
}

/// Those of the sixteen rounds.
pub(crate) static ROUND_KEYS: [Choice; 16] = {
    let (mut keys, mut round, mut shift) = ([const { Choice([0; 48]) }; 16], 0, 0);
    while round < 16 {
        shift += SHIFTS[round];
        let mut i = 0;
        while i < 48 {
            let from = PC2[i] as usize - 1;
            let turned = from / 28 * 28 + (from % 28 + shift) % 28;
            keys[round].0[i] = plane(PC1[turned]);
            assert!(keys[round].0[i] < 64);
            i += 1;
        }
        round += 1;
    }
    keys
};

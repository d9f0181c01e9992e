//! SM4's constants, each computed by the compiler from the standard's definitions (GB/T 32907-2016): nothing here is copied
//! from a table that would have to be believed. `tests` proves the result over all 256 bytes.
//!
//! The S-box is S(x) = A·inv(A·x + C) + C, inv in GF(2)\[x\]/(x⁸+x⁷+x⁶+x⁵+x⁴+x²+1), A circulant. The processor inverts in
//! the AES field instead; a root of SM4's polynomial there gives the map φ from one field to the other, and
//! S(x) = POST·inv_aes(PRE·x + C_PRE) + C with PRE = φ·A, C_PRE = φ(C), POST = A·φ⁻¹.

/// A linear map of GF(2)⁸: the image of each unit vector, least significant bit first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Map(pub(crate) [u8; 8]);

/// SM4's field: x⁸+x⁷+x⁶+x⁵+x⁴+x²+1.
pub(crate) const SM4_FIELD: u16 = 0x1f5;
/// The AES field, in which GFNI inverts: x⁸+x⁴+x³+x+1.
pub(crate) const AES_FIELD: u16 = 0x11b;
/// Row 0 of the circulant A; row i is it rotated left by i.
const A_ROW: u8 = 0xa7;
/// C of the S-box.
pub(crate) const C: u8 = 0xd3;
/// A root of SM4's polynomial in the AES field; any of the eight would do.
const ROOT: u8 = 0x23;

/// A.
pub(crate) const A: Map = circulant(A_ROW);
/// φ: x in SM4's field goes to [`ROOT`].
const PHI: Map = powers(ROOT);
/// From a byte of data to the basis in which the kernel computes: PRE = φ·A.
pub(crate) const PRE: Map = A.then(PHI);
/// Back from there.
pub(crate) const PRE_BACK: Map = PRE.inverse();
/// φ(C): what the S-box adds to its argument, in the kernel's basis.
pub(crate) const C_PRE: u8 = PHI.of(C);
/// From the inverse back to a byte of data, without C: POST = A·φ⁻¹.
pub(crate) const POST: Map = PHI.inverse().then(A);

/// b + b≪2: what output byte j of the linear layer L takes of byte j.
const P0: Map = shifted(0).plus(shifted(2));
/// b + b≫6: what it takes of byte j−1. Bytes j+1 and j+2 count with P0 + P3.
const P3: Map = shifted(0).plus(shifted(-6));
/// The data round's two maps of an inverse, back in the kernel's basis.
pub(crate) const MA: Map = POST.then(P0).then(PRE);
/// See [`MA`].
pub(crate) const MD: Map = POST.then(P3).then(PRE);
/// L of four times C, in the kernel's basis; added once per output byte.
pub(crate) const KA: i32 = PRE.of(C.rotate_left(2)) as i32;

/// The key round's maps of the inverses in bytes j, j+1, j+2, j+3: L′(B) = B + B⋘13 + B⋘23.
pub(crate) const Q: [Map; 4] = [
    POST.then(PRE),
    POST.then(shifted(5)).then(PRE),
    POST.then(shifted(-3).plus(shifted(7))).then(PRE),
    POST.then(shifted(-1)).then(PRE),
];
/// L′ of four times C, in the kernel's basis.
pub(crate) const KQ: i32 = PRE.of(C ^ C.rotate_left(5) ^ C.rotate_left(7)) as i32;

/// FK, as bytes: what the key is XORed with before the schedule.
pub(crate) const FK: [u8; 16] =
    [0xa3, 0xb1, 0xba, 0xc6, 0x56, 0xaa, 0x33, 0x50, 0x67, 0x7d, 0x91, 0x97, 0xb2, 0x70, 0x22, 0xdc];

/// FK and the S-box's C for a key's bytes, in the kernel's basis: keys live as PRE·K + C_PRE.
pub(crate) const FK_PRE: [u8; 16] = {
    let mut bytes = [0; 16];
    let mut i = 0;
    while i < 16 {
        bytes[i] = PRE.of(FK[i]) ^ C_PRE;
        i += 1;
    }
    bytes
};

/// CKᵣ: byte j is 7·(4r + j).
pub(crate) const CK: [u32; 32] = {
    let (mut table, mut round, mut byte) = ([0; 32], 0, 0_u8);
    while round < 32 {
        table[round] =
            u32::from_be_bytes([byte, byte.wrapping_add(7), byte.wrapping_add(14), byte.wrapping_add(21)]);
        byte = byte.wrapping_add(28);
        round += 1;
    }
    table
};

/// CK in the kernel's basis, each byte eight times, as an operand that is broadcast.
pub(crate) const CK_PRE: [[u64; 4]; 32] = {
    let mut table = [[0; 4]; 32];
    let mut i = 0;
    while i < 128 {
        let byte = CK[i / 4].to_be_bytes()[i % 4];
        table[i / 4][i % 4] = u64::from_ne_bytes([PRE.of(byte); 8]);
        i += 1;
    }
    table
};

impl Map {
    /// The image of `x`.
    pub(crate) const fn of(self, x: u8) -> u8 {
        let (mut image, mut i) = (0, 0);
        while i < 8 {
            if x >> i & 1 == 1 {
                image ^= self.0[i];
            }
            i += 1;
        }
        image
    }

    /// `next` after this map.
    pub(crate) const fn then(self, next: Self) -> Self {
        let (mut images, mut i) = ([0; 8], 0);
        while i < 8 {
            images[i] = next.of(self.0[i]);
            i += 1;
        }
        Self(images)
    }

    /// The sum of two maps.
    const fn plus(self, other: Self) -> Self {
        let (mut images, mut i) = (self.0, 0);
        while i < 8 {
            images[i] ^= other.0[i];
            i += 1;
        }
        Self(images)
    }

    /// The inverse map, found by trying: there are 256 candidates for each image.
    pub(crate) const fn inverse(self) -> Self {
        let (mut images, mut i) = ([0; 8], 0);
        while i < 8 {
            let mut x = 0;
            while self.of(x) != 1 << i {
                x += 1;
            }
            images[i] = x;
            i += 1;
        }
        Self(images)
    }

    /// The mask of the input bits whose parity is output bit i.
    pub(crate) const fn row(self, i: u32) -> u8 {
        let (mut mask, mut bit) = (0, 0);
        while bit < 8 {
            mask |= (self.0[bit] >> i & 1) << bit;
            bit += 1;
        }
        mask
    }

    /// As `vgf2p8affineqb` takes it: row i in byte 7−i.
    pub(crate) const fn operand(self) -> u64 {
        let (mut operand, mut i) = (0, 0);
        while i < 8 {
            operand = operand << 8 | self.row(i) as u64;
            i += 1;
        }
        operand
    }
}

/// Row i is `row` rotated left by i.
const fn circulant(row: u8) -> Map {
    let (mut images, mut i) = ([0; 8], 0);
    while i < 8 {
        let mut bit = 0;
        while bit < 8 {
            images[i] |= (row.rotate_left(bit) >> i & 1) << bit;
            bit += 1;
        }
        i += 1;
    }
    Map(images)
}

/// A shift to the left by `by`, to the right if negative.
const fn shifted(by: i32) -> Map {
    let (mut images, mut i) = ([0; 8], 0);
    while i < 8 {
        let bit = 1_u8 << i;
        images[i] = if by < 0 { bit >> -by } else { bit << by };
        i += 1;
    }
    Map(images)
}

/// x goes to `root`: xⁱ to rootⁱ, in the AES field.
const fn powers(root: u8) -> Map {
    let (mut images, mut i) = ([1; 8], 1);
    while i < 8 {
        images[i] = times(images[i - 1], root, AES_FIELD);
        i += 1;
    }
    Map(images)
}

/// The product of two bytes modulo a polynomial of degree 8.
pub(crate) const fn times(a: u8, b: u8, field: u16) -> u8 {
    let (mut sum, mut a, mut i) = (0_u16, a as u16, 0);
    while i < 8 {
        if b >> i & 1 == 1 {
            sum ^= a;
        }
        a <<= 1;
        if a & 0x100 != 0 {
            a ^= field;
        }
        i += 1;
    }
    #[expect(clippy::cast_possible_truncation, reason = "reduced: below 0x100")]
    return sum as u8;
}

/// The multiplicative inverse; of 0 it is 0. x²⁵⁴.
#[cfg(test)]
pub(crate) const fn inverse(x: u8, field: u16) -> u8 {
    let (mut power, mut i) = (1, 0);
    while i < 254 {
        power = times(power, x, field);
        i += 1;
    }
    power
}

/// The S-box by its definition.
#[cfg(test)]
pub(crate) const fn s_box(x: u8) -> u8 {
    A.of(inverse(A.of(x) ^ C, SM4_FIELD)) ^ C
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The S-box as the kernel computes it, over all bytes; and the definition against the first line of the standard's table.
    #[test]
    fn s_box_for_every_byte() {
        for x in 0..=255 {
            assert_eq!(POST.of(inverse(PRE.of(x) ^ C_PRE, AES_FIELD)) ^ C, s_box(x), "{x:02x}");
            assert_eq!(PRE_BACK.of(PRE.of(x)), x);
        }
        let table =
            [0xd6, 0x90, 0xe9, 0xfe, 0xcc, 0xe1, 0x3d, 0xb7, 0x16, 0xb6, 0x14, 0xc2, 0x28, 0xfb, 0x2c, 0x05];
        assert!((0..16).zip(table).all(|(x, s)| s_box(x) == s));
    }

    /// L and L′ through the folded maps, for every byte in every place. All maps are linear, so that this proves them.
    #[test]
    fn linear_layers_for_every_byte_in_every_place() {
        for (x, place) in (0..=255).flat_map(|x| [0, 1, 2, 3].map(|place| (x, place))) {
            let mut arguments = [0_u8; 4];
            arguments[place] = x;
            let b = u32::from_be_bytes(arguments.map(s_box));
            let inverses = arguments.map(|x| inverse(PRE.of(x) ^ C_PRE, AES_FIELD));

            let l = b ^ b.rotate_left(2) ^ b.rotate_left(10) ^ b.rotate_left(18) ^ b.rotate_left(24);
            let ka = u8::try_from(KA).unwrap();
            let (a, d) = (inverses.map(|i| MA.of(i) ^ ka), inverses.map(|i| MD.of(i)));
            let t = a.iter().chain(&d).fold(0, |sum, x| sum ^ x);
            let folded: [u8; 4] = core::array::from_fn(|j| PRE_BACK.of(t ^ a[(j + 3) % 4] ^ d[j]));
            assert_eq!(u32::from_be_bytes(folded), l);

            let l = b ^ b.rotate_left(13) ^ b.rotate_left(23);
            let kq = u8::try_from(KQ).unwrap();
            let of = |j: usize| (0..4).fold(kq, |sum, k| sum ^ Q[k].of(inverses[(j + k) % 4]));
            assert_eq!(u32::from_be_bytes(core::array::from_fn(|j| PRE_BACK.of(of(j)))), l);
        }
    }

    /// Operands by the instruction's definition: output bit i is the parity of byte 7−i of the matrix and the input.
    #[test]
    fn operands_mean_the_map() {
        for map in [PRE, PRE_BACK, MA, MD, Q[0], Q[1], Q[2], Q[3]] {
            let rows = map.operand().to_le_bytes();
            for x in 0..=255_u8 {
                let image = (0..8).fold(0, |image, i| image | (((rows[7 - i] & x).count_ones() % 2) << i));
                assert_eq!(image, u32::from(map.of(x)));
            }
        }
    }

    /// What an independent derivation found; the reference machine's experiments ran on these.
    #[test]
    fn operands_are_the_known_ones() {
        assert_eq!(PRE.operand(), 0x4c28_7db9_1a22_505d);
        assert_eq!((C_PRE, PRE_BACK.operand()), (0x3e, 0xb3a4_f586_3284_728b));
        assert_eq!(POST.operand(), 0xf3ab_34a9_74a6_b589);
        assert_eq!((MA.operand(), KA, MD.operand()), (0x040d_b891_e9a4_81b7, 0x63, 0x280f_bcb4_ff84_c11a));
        let q = [0x280f_0901_760d_c1af, 0xabf3_58c7_00f3_abab, 0x13b5_3366_4874_8933, 0x54c1_eccc_e681_2f59];
        assert_eq!((Q.map(Map::operand), KQ), (q, 0xc5));
    }
}

//! The S-boxes of DES as circuits: 198 look-ups of three bits. Written by `cargo run -p lanes --example circuits`.

use crate::bits::Bits;

/// S1: 28 look-ups.
#[inline(always)]
pub(super) fn s1<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
    let g6 = V::lut::<0x96>(e, d, a);
    let g7 = V::lut::<0x36>(g6, c, f);
    let g8 = V::lut::<0xb1>(a, f, c);
    let g9 = V::lut::<0x9a>(g7, g8, g6);
    let g10 = V::lut::<0x97>(g9, f, d);
    let g11 = V::lut::<0x36>(c, b, a);
    let g12 = V::lut::<0x9c>(g11, f, e);
    let g13 = V::lut::<0x76>(g10, g7, g12);
    let g14 = V::lut::<0x43>(g12, c, d);
    let g15 = V::lut::<0xd0>(g13, g14, b);
    let g16 = V::lut::<0x9a>(g9, g10, b);
    let g17 = V::lut::<0xb4>(g7, g9, b);
    let g18 = V::lut::<0x58>(g17, f, g8);
    let g19 = V::lut::<0xc6>(d, g16, g18);
    let g20 = V::lut::<0xb8>(g15, e, g19);
    let g21 = V::lut::<0x6e>(g6, g11, g8);
    let g22 = V::lut::<0xac>(d, g21, g12);
    let g23 = V::lut::<0xb8>(g22, e, g17);
    let g24 = V::lut::<0x66>(g7, g15, g10);
    let g25 = V::lut::<0x3e>(g23, g24, g17);
    let g26 = V::lut::<0x7e>(g11, g25, g17);
    let g27 = V::lut::<0x35>(g26, g9, g7);
    let g28 = V::lut::<0x9b>(f, g27, g17);
    let g29 = V::lut::<0xa6>(f, g16, g28);
    let g30 = V::lut::<0xb8>(g25, e, g29);
    let g31 = V::lut::<0x9c>(g26, g10, b);
    let g32 = V::lut::<0x64>(g26, g27, b);
    let g33 = V::lut::<0xb8>(g31, e, g32);
    [g20, g30, g23, g33]
}

/// S2: 25 look-ups.
#[inline(always)]
pub(super) fn s2<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
    let g6 = V::lut::<0x44>(d, a, f);
    let g7 = V::lut::<0x2d>(d, c, a);
    let g8 = V::lut::<0x37>(g6, e, g7);
    let g9 = V::lut::<0x99>(g6, c, g8);
    let g10 = V::lut::<0x69>(f, g9, a);
    let g11 = V::lut::<0xe9>(e, d, f);
    let g12 = V::lut::<0x4c>(e, g11, g10);
    let g13 = V::lut::<0x96>(e, a, g7);
    let g14 = V::lut::<0x96>(g6, g12, g13);
    let g15 = V::lut::<0x9a>(g14, c, g12);
    let g16 = V::lut::<0xd8>(g10, g15, b);
    let g17 = V::lut::<0x96>(g11, b, a);
    let g18 = V::lut::<0xac>(c, g17, g13);
    let g19 = V::lut::<0x8b>(g12, g13, d);
    let g20 = V::lut::<0x6f>(b, g19, g8);
    let g21 = V::lut::<0xc9>(f, g18, g20);
    let g22 = V::lut::<0x9c>(g21, g19, a);
    let g23 = V::lut::<0x75>(g21, g16, g7);
    let g24 = V::lut::<0xb0>(g22, g23, b);
    let g25 = V::lut::<0xe4>(g24, g8, g10);
    let g26 = V::lut::<0x98>(g7, e, g14);
    let g27 = V::lut::<0x16>(g26, g9, g15);
    let g28 = V::lut::<0x3e>(g24, b, g27);
    let g29 = V::lut::<0xb1>(g25, g23, g28);
    let g30 = V::lut::<0x36>(g29, b, g26);
    [g16, g21, g30, g28]
}

/// S3: 25 look-ups.
#[inline(always)]
pub(super) fn s3<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
    let g6 = V::lut::<0x99>(b, e, c);
    let g7 = V::lut::<0xa6>(c, g6, b);
    let g8 = V::lut::<0x69>(g7, g6, f);
    let g9 = V::lut::<0x4b>(g8, d, e);
    let g10 = V::lut::<0x66>(g9, g8, c);
    let g11 = V::lut::<0x7c>(b, g6, g8);
    let g12 = V::lut::<0x65>(g7, g8, d);
    let g13 = V::lut::<0x9a>(g10, g11, g12);
    let g14 = V::lut::<0xb4>(e, f, g8);
    let g15 = V::lut::<0x6a>(d, g14, g10);
    let g16 = V::lut::<0x1e>(g6, g12, g7);
    let g17 = V::lut::<0x91>(g14, f, g11);
    let g18 = V::lut::<0xbe>(g16, g15, g17);
    let g19 = V::lut::<0xee>(g15, g18, c);
    let g20 = V::lut::<0xd3>(g19, b, g14);
    let g21 = V::lut::<0xd8>(g11, g17, d);
    let g22 = V::lut::<0xd4>(g20, g21, g12);
    let g23 = V::lut::<0xca>(a, g13, g22);
    let g24 = V::lut::<0x9a>(g19, a, g15);
    let g25 = V::lut::<0xd4>(c, g9, g10);
    let g26 = V::lut::<0x9a>(g25, f, g16);
    let g27 = V::lut::<0xda>(g16, g7, g24);
    let g28 = V::lut::<0x9a>(g18, d, g27);
    let g29 = V::lut::<0xe2>(g26, a, g28);
    let g30 = V::lut::<0xac>(a, g9, g21);
    [g23, g24, g29, g30]
}

/// S4: 20 look-ups.
#[inline(always)]
pub(super) fn s4<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
    let g6 = V::lut::<0x61>(a, e, c);
    let g7 = V::lut::<0x59>(e, d, a);
    let g8 = V::lut::<0x9a>(c, g6, g7);
    let g9 = V::lut::<0x97>(b, e, g7);
    let g10 = V::lut::<0xe6>(g8, g9, c);
    let g11 = V::lut::<0x6d>(d, a, e);
    let g12 = V::lut::<0x6b>(g10, g11, c);
    let g13 = V::lut::<0x36>(e, g6, b);
    let g14 = V::lut::<0xe8>(g12, g6, g13);
    let g15 = V::lut::<0x2a>(g8, c, g11);
    let g16 = V::lut::<0x56>(g15, g9, c);
    let g17 = V::lut::<0xc5>(g13, g8, g10);
    let g18 = V::lut::<0xca>(e, g16, g17);
    let g19 = V::lut::<0xb1>(g14, g18, f);
    let g20 = V::lut::<0xca>(f, g18, g14);
    let g21 = V::lut::<0xe4>(g15, g8, b);
    let g22 = V::lut::<0x81>(g14, g9, g6);
    let g23 = V::lut::<0xda>(g10, g22, d);
    let g24 = V::lut::<0x3a>(f, g21, g23);
    let g25 = V::lut::<0xb8>(g21, f, g23);
    [g19, g20, g24, g25]
}

/// S5: 27 look-ups.
#[inline(always)]
pub(super) fn s5<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
    let g6 = V::lut::<0x5a>(c, e, a);
    let g7 = V::lut::<0x63>(g6, d, c);
    let g8 = V::lut::<0x82>(g7, f, g6);
    let g9 = V::lut::<0x69>(g6, f, b);
    let g10 = V::lut::<0xb5>(b, c, g9);
    let g11 = V::lut::<0x88>(a, g7, g10);
    let g12 = V::lut::<0x16>(b, g8, g11);
    let g13 = V::lut::<0x23>(d, g12, a);
    let g14 = V::lut::<0x01>(e, g13, f);
    let g15 = V::lut::<0xe1>(g7, d, g8);
    let g16 = V::lut::<0x74>(g13, b, d);
    let g17 = V::lut::<0x9a>(g10, a, g16);
    let g18 = V::lut::<0xd8>(g17, g12, e);
    let g19 = V::lut::<0x1a>(g8, g15, g17);
    let g20 = V::lut::<0xb4>(g9, g19, d);
    let g21 = V::lut::<0x69>(g15, g18, g20);
    let g22 = V::lut::<0x93>(g7, g21, g12);
    let g23 = V::lut::<0x9e>(g22, g8, g19);
    let g24 = V::lut::<0x21>(g22, g7, a);
    let g25 = V::lut::<0xd2>(g21, g24, c);
    let g26 = V::lut::<0xec>(g25, b, g19);
    let g27 = V::lut::<0x78>(g23, e, g26);
    let g28 = V::lut::<0x2c>(g14, g27, g10);
    let g29 = V::lut::<0x6c>(g28, g21, b);
    let g30 = V::lut::<0x9c>(a, g29, g27);
    let g31 = V::lut::<0xe4>(g30, g25, e);
    let g32 = V::lut::<0xc6>(g15, g20, e);
    [g31, g32, g18, g28]
}

/// S6: 25 look-ups.
#[inline(always)]
pub(super) fn s6<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
    let g6 = V::lut::<0x69>(e, d, a);
    let g7 = V::lut::<0xc6>(b, e, d);
    let g8 = V::lut::<0x96>(f, g6, b);
    let g9 = V::lut::<0xae>(g8, e, b);
    let g10 = V::lut::<0xb3>(d, g9, b);
    let g11 = V::lut::<0xac>(a, g7, g10);
    let g12 = V::lut::<0xb8>(g6, f, g11);
    let g13 = V::lut::<0x39>(g7, g8, f);
    let g14 = V::lut::<0x47>(g11, e, g13);
    let g15 = V::lut::<0x72>(g9, g6, g14);
    let g16 = V::lut::<0x78>(g8, d, g15);
    let g17 = V::lut::<0x56>(g6, e, g8);
    let g18 = V::lut::<0x39>(g17, g12, d);
    let g19 = V::lut::<0xac>(f, g18, g15);
    let g20 = V::lut::<0x87>(g16, g11, g19);
    let g21 = V::lut::<0xc7>(g8, e, g20);
    let g22 = V::lut::<0x4d>(g13, g21, g17);
    let g23 = V::lut::<0xe4>(g12, g22, c);
    let g24 = V::lut::<0xd8>(g16, g20, c);
    let g25 = V::lut::<0x19>(g10, g18, g11);
    let g26 = V::lut::<0x54>(g20, g14, g25);
    let g27 = V::lut::<0xa2>(g16, c, g26);
    let g28 = V::lut::<0x38>(g27, c, g21);
    let g29 = V::lut::<0x6e>(g21, g17, g25);
    let g30 = V::lut::<0xd8>(g19, g29, c);
    [g23, g24, g28, g30]
}

/// S7: 24 look-ups.
#[inline(always)]
pub(super) fn s7<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
    let g6 = V::lut::<0x34>(d, b, e);
    let g7 = V::lut::<0x96>(c, g6, e);
    let g8 = V::lut::<0x57>(c, f, b);
    let g9 = V::lut::<0xc9>(g6, g7, d);
    let g10 = V::lut::<0x2a>(c, d, g9);
    let g11 = V::lut::<0x99>(c, g8, g10);
    let g12 = V::lut::<0xb4>(c, g11, d);
    let g13 = V::lut::<0x94>(g7, b, g10);
    let g14 = V::lut::<0x17>(c, g13, g7);
    let g15 = V::lut::<0x35>(g12, e, g6);
    let g16 = V::lut::<0x36>(g14, g15, f);
    let g17 = V::lut::<0xac>(g12, g16, f);
    let g18 = V::lut::<0xb4>(g7, g17, g10);
    let g19 = V::lut::<0xd1>(g9, f, g11);
    let g20 = V::lut::<0xe4>(g18, g19, a);
    let g21 = V::lut::<0x35>(f, g14, g13);
    let g22 = V::lut::<0x69>(g12, g19, g21);
    let g23 = V::lut::<0x9c>(g17, g19, g8);
    let g24 = V::lut::<0xb8>(g22, a, g23);
    let g25 = V::lut::<0x29>(f, g13, g18);
    let g26 = V::lut::<0x92>(g11, g25, g12);
    let g27 = V::lut::<0xa6>(g26, a, g16);
    let g28 = V::lut::<0x7f>(g16, g24, g11);
    let g29 = V::lut::<0x95>(g28, a, g21);
    [g20, g24, g27, g29]
}

/// S8: 24 look-ups.
#[inline(always)]
pub(super) fn s8<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
    let g6 = V::lut::<0xe1>(b, a, c);
    let g7 = V::lut::<0x56>(g6, b, d);
    let g8 = V::lut::<0xad>(a, b, g7);
    let g9 = V::lut::<0x5a>(c, d, g8);
    let g10 = V::lut::<0xb5>(d, g6, g9);
    let g11 = V::lut::<0xc5>(b, g10, g8);
    let g12 = V::lut::<0x56>(e, g8, b);
    let g13 = V::lut::<0xca>(e, g7, g9);
    let g14 = V::lut::<0x95>(g9, g11, g13);
    let g15 = V::lut::<0x21>(a, g12, g14);
    let g16 = V::lut::<0x96>(e, g13, a);
    let g17 = V::lut::<0x2e>(g9, g12, g16);
    let g18 = V::lut::<0xf6>(g15, a, g17);
    let g19 = V::lut::<0x78>(g11, e, g18);
    let g20 = V::lut::<0xc4>(g10, g18, g15);
    let g21 = V::lut::<0x1d>(g7, g20, a);
    let g22 = V::lut::<0x70>(g10, g14, d);
    let g23 = V::lut::<0x96>(g16, g22, g8);
    let g24 = V::lut::<0xbc>(g21, g14, g23);
    let g25 = V::lut::<0x2e>(g19, f, g24);
    let g26 = V::lut::<0xd7>(g16, g10, a);
    let g27 = V::lut::<0x9c>(g26, g13, f);
    let g28 = V::lut::<0xca>(f, g20, g17);
    let g29 = V::lut::<0xd8>(g19, g23, f);
    [g25, g27, g28, g29]
}

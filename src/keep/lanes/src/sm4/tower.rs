//! SM4's inversion for processors that have none: in GF(16)\[y\]/(y² + y + λ), where it is a few products of half the
//! size. As in `field.rs`, every constant is computed from the definitions, and `tests` proves the whole S-box.

use super::field::{A, C, Map, SM4_FIELD};

/// GF(16): x⁴ + x + 1.
const NIBBLE_FIELD: u8 = 0x13;
/// The least λ with which y² + y + λ has no root.
pub(super) const LAMBDA: u8 = {
    let mut lambda = 1;
    'next: loop {
        let mut y = 0;
        while y < 16 {
            if nibble_times(y, y) ^ y == lambda {
                lambda += 1;
                continue 'next;
            }
            y += 1;
        }
        break lambda;
    }
};

/// A root of SM4's polynomial in the tower; x goes to it.
const ROOT: u8 = {
    let mut root = 2;
    while polynomial(root) != 0 {
        root += 1;
    }
    root
};
const INTO: Map = {
    let (mut images, mut i) = ([1; 8], 1);
    while i < 8 {
        images[i] = times(images[i - 1], ROOT);
        i += 1;
    }
    Map(images)
};

/// From a byte of data to what is inverted, without [`C_IN`]. Upper nibble: the factor of y.
pub(super) const IN: Map = A.then(INTO);
/// What the S-box adds to its argument, in the tower.
pub(super) const C_IN: u8 = INTO.of(C);
/// From the inverse back to a byte of data, without C.
pub(super) const OUT: Map = INTO.inverse().then(A);

/// Bit 16i + n is bit i of the inverse of nibble n.
pub(super) const NIBBLE_INVERSE: u64 = {
    let (mut table, mut n) = (0, 0);
    while n < 16 {
        let (inverse, mut bit) = (nibble_inverse(n), 0);
        while bit < 4 {
            table |= (inverse as u64 >> bit & 1) << (16 * bit + n as u32);
            bit += 1;
        }
        n += 1;
    }
    table
};
/// λ·h² for each bit of h.
pub(super) const LAMBDA_SQUARE: [u8; 4] = {
    let (mut images, mut i) = ([0; 4], 0);
    while i < 4 {
        images[i] = nibble_times(LAMBDA, nibble_times(1 << i, 1 << i));
        i += 1;
    }
    images
};
/// l² for each bit of l.
pub(super) const SQUARE: [u8; 4] = {
    let (mut images, mut i) = ([0; 4], 0);
    while i < 4 {
        images[i] = nibble_times(1 << i, 1 << i);
        i += 1;
    }
    images
};

/// The product of two nibbles.
const fn nibble_times(a: u8, b: u8) -> u8 {
    let (mut sum, mut a, mut i) = (0, a, 0);
    while i < 4 {
        if b >> i & 1 == 1 {
            sum ^= a;
        }
        a <<= 1;
        if a & 0x10 != 0 {
            a ^= NIBBLE_FIELD;
        }
        i += 1;
    }
    sum
}

/// Its inverse; of 0 it is 0.
const fn nibble_inverse(n: u8) -> u8 {
    let mut inverse = 0;
    while n != 0 && nibble_times(n, inverse) != 1 {
        inverse += 1;
    }
    inverse
}

/// The product of two bytes in the tower.
const fn times(a: u8, b: u8) -> u8 {
    let high = nibble_times(a >> 4, b >> 4);
    let low = nibble_times(a & 15, b & 15);
    let middle = nibble_times(a >> 4 ^ a & 15, b >> 4 ^ b & 15);
    (middle ^ low) << 4 | nibble_times(high, LAMBDA) ^ low
}

/// SM4's polynomial at a point of the tower.
const fn polynomial(x: u8) -> u8 {
    let (mut sum, mut i) = (0, 9);
    while i > 0 {
        i -= 1;
        sum = times(sum, x) ^ (SM4_FIELD >> i & 1) as u8;
    }
    sum
}

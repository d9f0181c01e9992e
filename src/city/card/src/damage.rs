//! The ways in which a line can be malformed (service-protocol §5), one of each.

use crate::random::Random;

/// What to do to a good line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Damage {
    /// The end is missing.
    Cut,
    /// A CR makes the line too long.
    Cr,
    /// Nothing is left.
    Empty,
    /// A byte above 7F where nothing is judged.
    NotAscii,
    /// Some of `len` characters at `at` are replaced by `by`.
    Replace { at: usize, len: usize, by: &'static str },
}

const fn replace(at: usize, len: usize, by: &'static str) -> Damage {
    Damage::Replace { at, len, by }
}

/// Every kind, in the order in which a day uses them.
pub(crate) const ALL: [Damage; 16] = [
    replace(161, 8, "ZZ"),
    replace(147, 8, "20261345"),
    Damage::Cut,
    replace(79, 8, "G"),
    Damage::Cr,
    replace(117, 12, " "),
    replace(177, 16, "x"),
    Damage::Empty,
    replace(169, 2, "-"),
    replace(12, 20, "A"),
    replace(129, 9, "F"),
    Damage::NotAscii,
    replace(147, 8, "/"),
    replace(155, 6, "240000"),
    replace(155, 6, ":"),
    replace(95, 2, "05"),
];

impl Damage {
    /// Damages a line of 315 bytes.
    pub(crate) fn apply(self, line: &mut Vec<u8>, random: &mut Random) {
        match self {
            Self::Cut => line.truncate(line.len().saturating_sub(1 + random.place(20))),
            Self::Cr => line.push(b'\r'),
            Self::Empty => line.clear(),
            Self::NotAscii => put(line, 209 + random.place(20), &[0xe4]),
            Self::Replace { at, len, by } => put(line, at + random.place(len + 1 - by.len()), by.as_bytes()),
        }
    }
}

fn put(line: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in line.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use wire::purse::F1Line;

    use super::*;

    #[test]
    fn every_damage_makes_every_line_malformed() {
        let fixture = include_bytes!("../../../../tests/fixtures/day1/day.txt");
        let mut random = Random::from_seed("test", "damage");
        for line in
            fixture.split(|byte| *byte == b'\n').filter(|line| F1Line::parse(line).is_some()).take(200)
        {
            for damage in ALL {
                let mut damaged = line.to_vec();
                damage.apply(&mut damaged, &mut random);
                assert_eq!(F1Line::parse(&damaged), None, "{damage:?}");
                assert!(!damaged.contains(&b'\n'), "a day must keep its lines");
            }
        }
    }
}

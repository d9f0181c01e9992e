//! Who witnesses the log, and how far its old tiles may go (SPEC.md §8.6).

/// Witnesses at most, as tlog-policy demands of its readers.
pub const WITNESSES_MAX: usize = 32;

/// Longest time without a cosigned head in which checks go on, seconds: 30 days.
pub const GRACE_MAX: u64 = 30 * 86_400;

/// What tools propose: a day, so that an auditor's dead machine stops no bus.
pub const GRACE_DEFAULT: u64 = 86_400;

crate::cbor_struct! {
    /// One witness.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Witness {
        /// Key name, as in its vkey.
        0 => name: String,
        /// Ed25519 key that signs cosignature/v1.
        1 => key: [u8; 32],
    }
}

crate::cbor_struct! {
    /// k of n witnesses cosign what may not be lost. Without witnesses and quorum: witnessing ends.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct WitnessSet {
        /// The n witnesses.
        0 => witnesses: Vec<Witness>,
        /// k.
        1 => quorum: u64,
        /// Seconds that checks go on without a cosigned head.
        2 => grace: u64,
    }
}

impl WitnessSet {
    /// 1 ≤ k ≤ n ≤ 32 or n = k = 0, no name or key twice, names that a signature line can have, a grace of at most 30 days.
    pub fn is_sound(&self) -> bool {
        let count = self.witnesses.len();
        let distinct = |mut values: Vec<&[u8]>| {
            values.sort_unstable();
            values.dedup();
            values.len() == count
        };
        let quorum = if count == 0 { self.quorum == 0 } else { (1..=count as u64).contains(&self.quorum) };
        count <= WITNESSES_MAX
            && quorum
            && self.grace <= GRACE_MAX
            && self.witnesses.iter().all(|witness| is_key_name(&witness.name))
            && distinct(self.witnesses.iter().map(|witness| witness.name.as_bytes()).collect())
            && distinct(self.witnesses.iter().map(|witness| witness.key.as_slice()).collect())
    }
}

/// 1 to 255 bytes, no white space, control character or plus sign.
fn is_key_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

crate::cbor_struct! {
    /// Tiles and bundles that lie wholly below an index may go.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Prune {
        /// The first entry that stays.
        0 => below: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(quorum: u64, names: &[&str]) -> WitnessSet {
        let witness = |(at, name): (u8, &&str)| Witness { name: (*name).to_owned(), key: [at; 32] };
        WitnessSet { witnesses: (0..).zip(names).map(witness).collect(), quorum, grace: GRACE_DEFAULT }
    }

    #[test]
    fn sets_have_floors() {
        assert!(set(2, &["a", "b", "c"]).is_sound());
        assert!(set(1, &["a"]).is_sound() && set(3, &["a", "b", "c"]).is_sound());
        assert!(set(0, &[]).is_sound(), "the end of witnessing");
        assert!(!set(1, &[]).is_sound() && !set(0, &["a"]).is_sound() && !set(2, &["a"]).is_sound());
        for name in ["", "a b", "a+b", "a\n", "a\u{a0}b"] {
            assert!(!set(1, &[name]).is_sound(), "{name:?}");
        }
        let long = "n".repeat(255);
        assert!(set(1, &[&long]).is_sound() && !set(1, &[&format!("{long}n")]).is_sound());
        assert!(!set(1, &["a", "a"]).is_sound(), "a name twice");
        let mut one_key = set(1, &["a", "b"]);
        one_key.witnesses[1].key = [0; 32];
        assert!(!one_key.is_sound(), "one key under two names");
        let many: Vec<String> = (0..33).map(|at| format!("w{at}")).collect();
        assert!(!set(1, &many.iter().map(String::as_str).collect::<Vec<_>>()).is_sound());
        assert!(set(1, &many[..32].iter().map(String::as_str).collect::<Vec<_>>()).is_sound());
        assert!(!WitnessSet { grace: GRACE_MAX + 1, ..set(1, &["a"]) }.is_sound());
        assert!(WitnessSet { grace: GRACE_MAX, ..set(1, &["a"]) }.is_sound());
    }
}

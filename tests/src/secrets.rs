//! Looks for secrets in what programs say and write, in every form in which a program might let one slip.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Patterns are found by their first bytes; nothing shorter is looked for.
const PREFIX: usize = 8;

/// Secrets to look for.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Name and form, and the bytes of it.
    patterns: Vec<(String, Vec<u8>)>,
    by_prefix: HashMap<[u8; PREFIX], Vec<usize>>,
}

impl Secrets {
    /// Adds a secret in all its forms: raw, hex of either case, base64 at each alignment, a list of numbers. Of keys of 16
    /// bytes each half too: a folded key or one DES block would show one.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        let halves = secret.chunks(8).filter(|_| secret.len() == 16);
        for (at, part) in std::iter::once(secret).chain(halves).enumerate() {
            let name = if at == 0 { name.to_owned() } else { format!("{name} half {at}") };
            let hex = wire::purse::to_hex(part);
            self.pattern(format!("{name} raw"), part.to_vec());
            self.pattern(format!("{name} hex"), hex.to_lowercase().into_bytes());
            self.pattern(format!("{name} HEX"), hex.into_bytes());
            self.pattern(format!("{name} numbers"), format!("{part:?}").trim_matches(['[', ']']).into());
            for shift in 0..3 {
                self.pattern(format!("{name} base64+{shift}"), base64_inside(part, shift));
            }
        }
    }

    fn pattern(&mut self, name: String, bytes: Vec<u8>) {
        let prefix = *bytes.first_chunk::<PREFIX>().expect("a secret is longer");
        self.by_prefix.entry(prefix).or_default().push(self.patterns.len());
        self.patterns.push((name, bytes));
    }

    /// All forms, by name.
    pub fn patterns(&self) -> &[(String, Vec<u8>)] {
        &self.patterns
    }

    /// Which of them stand in this text. They are named; what they are is not said.
    pub fn found_in(&self, text: &[u8]) -> Vec<&str> {
        let places = text.windows(PREFIX).enumerate();
        let found = places.flat_map(|(at, prefix)| {
            let candidates = self.by_prefix.get(prefix).into_iter().flatten();
            candidates.filter(move |pattern| text[at..].starts_with(&self.patterns[**pattern].1))
        });
        found.map(|pattern| self.patterns[*pattern].0.as_str()).collect()
    }
}

/// What of a secret's base64 is the same whatever stands around it, when `shift` bytes precede it in its group of three.
fn base64_inside(secret: &[u8], shift: usize) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = |at: usize| secret.get(at / 8).map_or(0, |byte| usize::from((byte >> (7 - at % 8)) & 1));
    // The first digit that lies wholly in the secret, and all that follow.
    let first = (6 - (shift * 8) % 6) % 6;
    let digits = (secret.len() * 8 - first) / 6;
    let digit = |number: usize| (0..6).fold(0, |value, bit| (value << 1) | bits(first + number * 6 + bit));
    (0..digits).map(|number| DIGITS[digit(number)]).collect()
}

/// Every file below a directory, with its content. Sockets and the like are left out.
pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_wherever_it_stands() {
        // "SECRET-SECRET!", "xSECRET-SECRET!y" and "xxSECRET-SECRET!^y" in base64, by another program.
        for (shift, text) in
            [(0, "U0VDUkVULVNFQ1JFVCE="), (1, "eFNFQ1JFVC1TRUNSRVQheQ=="), (2, "eHhTRUNSRVQtU0VDUkVUIV55")]
        {
            let pattern = String::from_utf8(base64_inside(b"SECRET-SECRET!", shift)).unwrap();
            assert!(text.contains(&pattern), "{shift}: {pattern} in {text}");
            assert!(pattern.len() >= 17, "{pattern}");
        }
    }

    #[test]
    fn every_form_is_found_and_nothing_else() {
        let mut secrets = Secrets::default();
        secrets.add("key", b"0123456789abcdef");
        for (name, bytes) in secrets.patterns() {
            let text = [b"{\"level\":\"INFO\",\"x\":\"", bytes.as_slice(), b"\"}"].concat();
            assert!(secrets.found_in(&text).contains(&name.as_str()), "{name}");
            assert!(secrets.found_in(&bytes[1..]).iter().all(|other| *other != name.as_str()));
        }
        assert!(secrets.found_in(b"0123456x0123456y89abcde").is_empty());
    }
}

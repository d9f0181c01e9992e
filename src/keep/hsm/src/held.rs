//! A key in use: what its attributes make of its bytes, and which attributes a key may have at all.

use cardcrypto::{ListMac, MasterKey, TransportKey};
use securemem::Secret;
use wire::error::{Refusal, Refused};
use wire::key::{Algorithm, FactorSource, KeyAttributes, Usage};

use crate::root::KEY_LEN;
use crate::signer::{SCALAR_LEN, Signer};

/// A key in use.
#[derive(Debug)]
pub(crate) enum Held {
    /// A card-system master: derives inside, checks, answers.
    Master(MasterKey),
    /// A line's transport key: wraps card keys.
    Transport(TransportKey),
    /// Signs lists.
    Signer(Signer),
    /// MACs lists.
    ListMac(ListMac),
}

impl Held {
    /// The usable form of a key, its check value compared once more.
    pub(crate) fn new(secret: Secret, attributes: &KeyAttributes) -> Result<Self, Refused> {
        let refused = |error: &dyn std::fmt::Display| Refused::new(Refusal::KeyAttributes, error.to_string());
        let algorithm = attributes.algorithm;
        let held = match attributes.usage.as_slice() {
            [Usage::WrapKeys] => {
                Self::Transport(TransportKey::new(secret, algorithm).map_err(|error| refused(&error))?)
            }
            [Usage::MacList] => {
                Self::ListMac(ListMac::new(secret, algorithm).map_err(|error| refused(&error))?)
            }
            [Usage::SignList] => Self::Signer(Signer::new(secret, algorithm)?),
            _ => Self::Master(
                MasterKey::new(secret, algorithm, attributes.levels.clone())
                    .map_err(|error| refused(&error))?,
            ),
        };
        if held.kcv() == attributes.kcv {
            Ok(held)
        } else {
            Err(Refused::new(Refusal::KeyKcv, "the key does not have its check value"))
        }
    }

    fn kcv(&self) -> [u8; 3] {
        match self {
            Self::Master(key) => key.kcv(),
            Self::Transport(key) => key.kcv(),
            Self::Signer(key) => key.kcv(),
            Self::ListMac(key) => key.kcv(),
        }
    }

    /// The master, if it is one.
    pub(crate) const fn master(&self) -> Option<&MasterKey> {
        match self {
            Self::Master(key) => Some(key),
            _ => None,
        }
    }

    /// Public half of a signing key.
    pub(crate) fn public(&self) -> Option<&[u8]> {
        match self {
            Self::Signer(key) => Some(key.public()),
            _ => None,
        }
    }
}

/// Bytes of a key with this algorithm.
pub(crate) const fn key_len(algorithm: Algorithm) -> usize {
    if algorithm.signs() { SCALAR_LEN } else { KEY_LEN }
}

/// What a new key may be (service-protocol rule 5): one thing beside leaving as card keys under a licence. Keys in the log
/// from before are not judged again.
///
/// # Errors
/// `KeyAttributes`, with the rule that is broken.
pub(crate) fn check_attributes(key: &KeyAttributes) -> Result<(), Refused> {
    let refuse = |why: &str| Err(Refused::new(Refusal::KeyAttributes, why));
    let alone = |usage: Usage| key.usage.as_slice() == [usage];
    let plain = key.levels.is_empty() && key.session.is_none();
    match key.algorithm {
        Algorithm::P256 | Algorithm::Sm2 => {
            return if alone(Usage::SignList) && plain {
                Ok(())
            } else {
                refuse("a signing key is for sign-list alone and has no levels and no session rule")
            };
        }
        Algorithm::Aes if !alone(Usage::WrapKeys) => return refuse("an AES key is for wrap-keys alone"),
        _ => {}
    }
    let transport = alone(Usage::WrapKeys) && key.algorithm != Algorithm::Sm4;
    let mac = alone(Usage::MacList) && key.algorithm == Algorithm::Sm4;
    if transport || mac {
        return if plain {
            Ok(())
        } else {
            refuse("a transport or list key has no levels and no session rule")
        };
    }
    if key.usage.iter().any(|usage| matches!(usage, Usage::WrapKeys | Usage::MacList | Usage::SignList)) {
        return refuse(
            "wrap-keys goes with 3des or aes, mac-list with sm4, sign-list with p256 or sm2, each alone",
        );
    }
    let mut uses: Vec<Usage> =
        key.usage.iter().copied().filter(|usage| *usage != Usage::DeriveCard).collect();
    let derives = uses.len() < key.usage.len();
    if uses.len() > 1 || key.usage.len() > uses.len() + 1 {
        return refuse("a master does one thing, and derive-card beside it at most");
    }
    if key.levels.is_empty() {
        return refuse("a master has 1 to 3 derivation levels");
    }
    let per_card =
        key.levels.iter().any(|level| matches!(level, FactorSource::AsnRight8(_) | FactorSource::Chip(_)));
    // Without a level of the card's own, a "card key" would be every card's key.
    if !per_card && (derives || uses.pop() != Some(Usage::VerifyTac)) {
        return refuse("a master of card keys has a level of the card's own: its serial or its chip");
    }
    if key.algorithm == Algorithm::Tdes && key.session.is_some() {
        return refuse("3DES has one session rule; name none");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::key::{KeyVersion, Level, Lineage, SessionRule};

    fn key(algorithm: Algorithm, levels: &[FactorSource], usage: &[Usage]) -> KeyAttributes {
        KeyAttributes {
            lineage: Lineage::parse("transit/purse/load").unwrap(),
            version: KeyVersion(1),
            algorithm,
            level: Level::City,
            levels: levels.to_vec(),
            usage: usage.to_vec(),
            kcv: [0; 3],
            session: None,
        }
    }

    #[test]
    fn one_use_and_derivation() {
        use Algorithm::{Aes, P256, Sm2, Sm4, Tdes};
        let card = [FactorSource::ISSUER_ID, FactorSource::ASN_RIGHT8];
        let good = |algorithm, levels: &[FactorSource], usage: &[Usage]| {
            check_attributes(&key(algorithm, levels, usage)).is_ok()
        };
        for usage in
            [Usage::VerifyTac, Usage::AuthorizeLoad, Usage::IssueScript, Usage::AnswerAuth, Usage::ReloadPin]
        {
            assert!(good(Sm4, &card, &[usage]) && good(Tdes, &card, &[usage, Usage::DeriveCard]), "{usage}");
            assert!(!good(Sm4, &[], &[usage]), "{usage} without levels");
            assert!(
                !good(Aes, &card, &[usage]) && !good(P256, &card, &[usage]),
                "{usage} of another algorithm"
            );
            assert!(!good(Sm4, &card, &[usage, Usage::WrapKeys]), "{usage} beside wrapping");
            let shared = good(Sm4, &[FactorSource::ISSUER_ID], &[usage]);
            assert_eq!(shared, usage == Usage::VerifyTac, "{usage} with one key for all cards");
        }
        assert!(
            good(Sm4, &card, &[Usage::DeriveCard]) && good(Sm4, &[FactorSource::CHIP], &[Usage::DeriveCard])
        );
        assert!(!good(Sm4, &card, &[Usage::VerifyTac, Usage::AuthorizeLoad]), "two uses");
        assert!(!good(Sm4, &card, &[Usage::DeriveCard, Usage::DeriveCard]), "a use twice");
        assert!(!good(Sm4, &[FactorSource::ISSUER_ID], &[Usage::DeriveCard]), "one card key for all");
        for (algorithm, usage) in [
            (Tdes, Usage::WrapKeys),
            (Aes, Usage::WrapKeys),
            (Sm4, Usage::MacList),
            (Sm2, Usage::SignList),
            (P256, Usage::SignList),
        ] {
            assert!(good(algorithm, &[], &[usage]), "{algorithm} {usage}");
            assert!(!good(algorithm, &card, &[usage]), "{algorithm} {usage} with levels");
            assert!(!good(algorithm, &[], &[usage, Usage::DeriveCard]), "{algorithm} {usage} and more");
        }
        assert!(!good(Sm4, &[], &[Usage::WrapKeys]) && !good(Tdes, &[], &[Usage::MacList]));
        let with_rule =
            KeyAttributes { session: Some(SessionRule::Padded), ..key(Tdes, &card, &[Usage::AuthorizeLoad]) };
        assert!(check_attributes(&with_rule).is_err());
    }
}

//! One card's own key, and what it answers: a load's MAC2, a challenge, a script.

use core::fmt;

use lanes::MacRule;
use subtle::ConstantTimeEq;
use wire::key::{Algorithm, SessionRule};
use zeroize::Zeroizing;

use crate::diversify::{FactorError, kcv};

/// What a card's key is derived with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "callers build it")]
pub struct Factors {
    /// Issuer id.
    pub issuer: [u8; 8],
    /// Right 8 bytes of the application serial number.
    pub card: [u8; 8],
    /// 8 bytes that the chip gives.
    pub chip: Option<[u8; 8]>,
}

/// Why there is no card key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CardKeyError {
    /// A factor is refused.
    #[error("the card's factors are refused: {0}")]
    Factor(#[source] FactorError),
    /// The key derives with the chip's factor, and there is none.
    #[error("this key derives with a factor of the chip, and none was given")]
    Chip,
    /// No level is the card's own.
    #[error("this key has no level of the card's own: its card key would be every card's")]
    Shared,
    /// The master's memory has been wiped.
    #[error("the key's memory has been wiped")]
    Wiped,
}

/// One card's key. It is wiped when it goes, and nothing shows it.
pub struct CardKey {
    algorithm: Algorithm,
    key: Zeroizing<[u8; 16]>,
}

impl fmt::Debug for CardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What a card said when a load began (card-crypto E.1, D.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "callers build it")]
pub struct LoadRequest {
    /// Its random.
    pub random: [u8; 4],
    /// Its online counter, before this load.
    pub counter: [u8; 2],
    /// Balance before, fen.
    pub balance: [u8; 4],
    /// Fen.
    pub amount: [u8; 4],
    /// 01 electronic deposit, 02 electronic purse.
    pub kind: u8,
    /// Terminal number.
    pub terminal: [u8; 6],
    /// Its MAC1.
    pub mac1: [u8; 4],
}

/// The card's MAC1 is not the one of these fields under this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("MAC1 is wrong")]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say of it")]
pub struct Mac1Wrong;

impl CardKey {
    pub(crate) fn new(algorithm: Algorithm, key: Zeroizing<[u8; 16]>) -> Self {
        Self { algorithm, key }
    }

    /// The cipher.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its check value.
    pub fn kcv(&self) -> [u8; 3] {
        kcv(self.algorithm, &self.key)
    }

    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.key
    }

    /// A load's whole answer (card-crypto D.3): checks MAC1 in constant time, and only then makes MAC2 over the host's date
    /// (`YYYYMMDD`) and time (`hhmmss`), BCD. There is no other way to a MAC2, and none to the session key. `rule` is SM4's; of
    /// a 3DES session there is one kind.
    ///
    /// # Errors
    /// [`Mac1Wrong`]; also for a kind other than 01 and 02, whatever its MAC1: the same bytes with 03 are an unload.
    pub fn load(
        &self,
        rule: SessionRule,
        request: &LoadRequest,
        date: [u8; 4],
        time: [u8; 3],
    ) -> Result<[u8; 4], Mac1Wrong> {
        let session = Session::online(self, rule, request.random, request.counter);
        let expected = Zeroizing::new(session.mac(&load_data1(request)));
        if !bool::from(expected.as_slice().ct_eq(&request.mac1)) || !matches!(request.kind, 1 | 2) {
            return Err(Mac1Wrong);
        }
        let LoadRequest { amount, kind, terminal, .. } = request;
        let data = [amount.as_slice(), &[*kind], terminal, &date, &time].concat();
        Ok(session.mac(&data))
    }

    /// The answer to EXTERNAL AUTHENTICATE (card-crypto E.3). 3DES: the encrypted challenge. SM4: the challenge and eight
    /// zero bytes encrypted, folded to 8 bytes by XOR.
    pub fn authenticate(&self, challenge: [u8; 8]) -> [u8; 8] {
        if self.algorithm == Algorithm::Tdes {
            let mut block = challenge;
            lanes::tdes_encrypt(&self.key, &mut block);
            return block;
        }
        let mut block = Zeroizing::new([0; 16]);
        let (left, _) = block.split_at_mut(8);
        left.copy_from_slice(&challenge);
        lanes::sm4_encrypt(&self.key, &mut block);
        let (left, right) = block.split_at(8);
        let mut answer = [0; 8];
        for (to, (left, right)) in answer.iter_mut().zip(left.iter().zip(right)) {
            *to = left ^ right;
        }
        answer
    }
}

/// What MAC1 of a load covers (card-crypto D.2).
pub(crate) fn load_data1(request: &LoadRequest) -> Vec<u8> {
    let LoadRequest { balance, amount, kind, terminal, .. } = request;
    [balance.as_slice(), amount, &[*kind], terminal].concat()
}

/// A process key (card-crypto C); it lives for one transaction.
pub(crate) enum Session {
    /// 8 bytes, a single-DES key.
    Des(Zeroizing<[u8; 8]>),
    /// 16 bytes.
    Sm4(Zeroizing<[u8; 16]>),
}

impl Session {
    /// The session of an online transaction: random ‖ online counter ‖ 80 00.
    pub(crate) fn online(key: &CardKey, rule: SessionRule, random: [u8; 4], counter: [u8; 2]) -> Self {
        let mut input = [0, 0, 0, 0, 0, 0, 0x80, 0];
        input.iter_mut().zip(random.into_iter().chain(counter)).for_each(|(to, from)| *to = from);
        Self::derive(key, rule, input)
    }

    pub(crate) fn derive(key: &CardKey, rule: SessionRule, input: [u8; 8]) -> Self {
        if key.algorithm == Algorithm::Tdes {
            let mut block = Zeroizing::new(input);
            lanes::tdes_encrypt(&key.key, &mut block);
            return Self::Des(block);
        }
        let mut block = Zeroizing::new([0; 16]);
        let (left, right) = block.split_at_mut(8);
        left.copy_from_slice(&input);
        match rule {
            SessionRule::Padded => right.copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0]),
            SessionRule::Complement => right.copy_from_slice(&input.map(|byte| !byte)),
        }
        lanes::sm4_encrypt(&key.key, &mut block);
        Self::Sm4(block)
    }

    /// MAC1, MAC2, MAC3 (card-crypto D.1): 4 bytes.
    pub(crate) fn mac(&self, data: &[u8]) -> [u8; 4] {
        match self {
            Self::Des(key) => {
                let [a, b, c, d, ..] = lanes::des_cbc_mac(key, data);
                [a, b, c, d]
            }
            Self::Sm4(key) => lanes::mac(MacRule::Sm4, key, data),
        }
    }
}

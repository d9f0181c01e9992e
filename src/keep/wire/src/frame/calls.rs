//! Calls whose results wait in the module until their log entry is durable (prepare → release): card keys, lists, loads,
//! scripts. Each answers a ticket; `Fetch` gives the result.

use crate::cbor::{Bytes, Empty};
use crate::command::{Digest, Id};
use crate::key::{Algorithm, KeyId};
use crate::licence::CardSerial;
use crate::list::ListKind;

/// Cards in one [`CardKeys`].
pub const CARDS_MAX: usize = 128;

/// Bytes of one [`ListBytes`].
pub const LIST_PART_MAX: usize = 1_000_000;

crate::cbor_code! {
    /// How card keys leave.
    pub enum KeyForm {
        /// Our own AEAD block under the line's transport key, bound to card, role and licence.
        Sealed = 1, "sealed";
        /// TR-31/X9.143: version B under a 3DES transport key, D under an AES one.
        Tr31 = 2, "tr31";
        /// WRITE KEY commands for the card's challenge, under the card's control key.
        WriteKey = 3, "write-key";
    }
}

crate::cbor_struct! {
    /// One card whose keys are wanted.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct CardItem {
        /// Its application serial number.
        0 => serial: CardSerial,
        /// The factor that its chip gives; exactly if the profile has such a step.
        1 => chip: Option<[u8; 8]>,
        /// Its challenge, for WRITE KEY. A card gives a fresh one for each command, so such a request names one role.
        2 => challenge: Option<[u8; 4]>,
    }
}

crate::cbor_struct! {
    /// Key sets under a licence.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CardKeys {
        /// SPIFFE id of the line, as keyd asserts it.
        0 => client: String,
        /// The licence.
        1 => licence: Id,
        /// How they leave.
        2 => form: KeyForm,
        /// Roles wanted, in this order; all of the licence if empty.
        3 => roles: Vec<String>,
        /// Different cards, 1 to [`CARDS_MAX`].
        4 => cards: Vec<CardItem>,
    }
}

crate::cbor_struct! {
    /// One wrapped card key.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CardKeyBlock {
        /// Its check value.
        0 => kcv: [u8; 3],
        /// Sealed block, TR-31 text, or the command's bytes.
        1 => block: Bytes,
    }
}

crate::cbor_struct! {
    /// A role as the key sets of an answer have it.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CardRole {
        /// Its name.
        0 => role: String,
        /// The master.
        1 => key: KeyId,
        /// Algorithm.
        2 => algorithm: Algorithm,
        /// Key index on the card.
        3 => index: u64,
    }
}

crate::cbor_struct! {
    /// One card's key set.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CardKeySet {
        /// The card.
        0 => serial: CardSerial,
        /// A block per role.
        1 => keys: Vec<CardKeyBlock>,
    }
}

crate::cbor_struct! {
    /// Released key sets.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CardKeySets {
        /// The licence.
        0 => licence: Id,
        /// How they leave.
        1 => form: KeyForm,
        /// The roles, in the order of each card's blocks.
        2 => roles: Vec<CardRole>,
        /// In the order of the request.
        3 => cards: Vec<CardKeySet>,
        /// Different cards under this licence so far, these included.
        4 => issued: u64,
        /// SHA-256 over serial ‖ KCVs, card by card: it stands in the log entry too.
        5 => digest: Digest,
    }
}

crate::cbor_struct! {
    /// What licence is asked about.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct LicenceQuery {
        /// SPIFFE id of the line, as keyd asserts it.
        0 => client: String,
        /// The licence.
        1 => licence: Id,
    }
}

crate::cbor_struct! {
    /// A licence and its count.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct LicenceInfo {
        /// Canonical licence bytes.
        0 => licence: Bytes,
        /// Different cards so far.
        1 => issued: u64,
        /// Of these spoiled, and made good.
        2 => spoiled: u64,
        /// Ended by quorum.
        3 => revoked: bool,
        /// Whether the applet's profile is still the licence's.
        4 => current: bool,
    }
}

crate::cbor_code! {
    /// What list bytes are of.
    pub enum ListPart {
        /// The full list in force, which the new one follows.
        Base = 1, "base";
        /// The new list.
        List = 2, "list";
    }
}

crate::cbor_struct! {
    /// More bytes of a list, up to [`LIST_PART_MAX`]; they gather on the connection until `ListSign`.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ListBytes {
        /// Of which.
        0 => part: ListPart,
        /// The bytes.
        1 => bytes: Bytes,
    }
}

crate::cbor_struct! {
    /// Signs the gathered list.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ListSign {
        /// SPIFFE id of the client, as keyd asserts it.
        0 => client: String,
        /// Applet, and wall: the keys are `WALL/blacklist/*`.
        1 => wall: String,
    }
}

crate::cbor_struct! {
    /// One signature over a whole list file.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ListSignature {
        /// The key.
        0 => key: KeyId,
        /// SM2 or P-256.
        1 => algorithm: Algorithm,
        /// DER.
        2 => signature: Bytes,
    }
}

crate::cbor_struct! {
    /// A signed list: the file is the client's body ‖ trailer.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SignedList {
        /// Wall.
        0 => wall: String,
        /// Epoch.
        1 => epoch: u64,
        /// Full or delta.
        2 => kind: ListKind,
        /// Trailer bytes.
        3 => trailer: Bytes,
        /// SHA-256 of the whole file.
        4 => digest: Digest,
        /// One per active signing key.
        5 => signatures: Vec<ListSignature>,
        /// Cards that left the list in force.
        6 => removed: u64,
        /// SHA-256 of the full list now in force: the body itself, or what `List::follow` makes of a delta.
        7 => effective: Digest,
    }
}

crate::cbor_struct! {
    /// One load (圈存): the whole of it in one call (service-protocol rule 4).
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct LoadAuthorize {
        /// SPIFFE id of the client, as keyd asserts it.
        0 => client: String,
        /// The load master.
        1 => key: KeyId,
        /// Issuer id of the card.
        2 => issuer: [u8; 8],
        /// The card.
        3 => serial: CardSerial,
        /// The card's factor from its chip, if the key has such a step.
        4 => chip: Option<[u8; 8]>,
        /// Purse type byte, 1 or 2.
        5 => purse: u64,
        /// The card's random.
        6 => random: [u8; 4],
        /// The card's online counter.
        7 => counter: u64,
        /// Balance before, fen.
        8 => balance: u64,
        /// Fen.
        9 => amount: u64,
        /// Terminal number.
        10 => terminal: [u8; 6],
        /// The card's MAC1.
        11 => mac1: [u8; 4],
        /// Name of the ledger's token key.
        12 => signer: String,
        /// Canonical token bytes.
        13 => token: Bytes,
        /// Its signature, r ‖ s.
        14 => signature: [u8; 64],
    }
}

crate::cbor_struct! {
    /// MAC2 of a load.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct LoadAnswer {
        /// MAC2.
        0 => mac2: [u8; 4],
        /// Date that it covers.
        1 => date: [u8; 4],
        /// Time that it covers.
        2 => time: [u8; 3],
        /// The same answer as before, to the same question.
        3 => again: bool,
    }
}

crate::cbor_struct! {
    /// New content of a transparent file.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct UpdateBinary {
        /// Short file id, 1 to 30.
        0 => sfi: u64,
        /// Offset, one byte.
        1 => offset: u64,
        /// Content.
        2 => data: Bytes,
    }
}

crate::cbor_struct! {
    /// New content of a record.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct UpdateRecord {
        /// Short file id, 1 to 30.
        0 => sfi: u64,
        /// Record number, one byte.
        1 => record: u64,
        /// Content.
        2 => data: Bytes,
    }
}

crate::cbor_union! {
    /// What a script does.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum ScriptAction {
        /// UPDATE BINARY.
        1 => UpdateBinary(UpdateBinary),
        /// UPDATE RECORD.
        2 => UpdateRecord(UpdateRecord),
        /// APPLICATION BLOCK.
        3 => BlockApplication(Empty),
        /// APPLICATION UNBLOCK.
        4 => UnblockApplication(Empty),
        /// CARD BLOCK.
        5 => BlockCard(Empty),
        /// RELOAD PIN with these PIN bytes.
        6 => ReloadPin(Bytes),
    }
}

crate::cbor_struct! {
    /// One card under a key of its applet.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct CardTarget {
        /// SPIFFE id of the client, as keyd asserts it.
        0 => client: String,
        /// The master.
        1 => key: KeyId,
        /// Issuer id.
        2 => issuer: [u8; 8],
        /// The card.
        3 => serial: CardSerial,
        /// The factor from its chip, if the key has such a step.
        4 => chip: Option<[u8; 8]>,
    }
}

crate::cbor_struct! {
    /// One issuer script.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Script {
        /// The card.
        0 => target: CardTarget,
        /// Its challenge.
        1 => challenge: [u8; 4],
        /// What it does.
        2 => action: ScriptAction,
    }
}

crate::cbor_struct! {
    /// One EXTERNAL AUTHENTICATE.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Authenticate {
        /// The card.
        0 => target: CardTarget,
        /// Its challenge.
        1 => challenge: [u8; 8],
    }
}

crate::cbor_union! {
    /// What waited under a ticket.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum Prepared {
        /// Key sets.
        1 => CardKeys(CardKeySets),
        /// A signed list.
        2 => List(SignedList),
        /// MAC2.
        3 => Load(LoadAnswer),
        /// A whole command APDU.
        4 => Script(Bytes),
        /// The answer to a challenge.
        5 => Authenticate([u8; 8]),
    }
}

//! What can be asked of keyd, by the names that policy files use.

use serde::Deserialize;

/// Everything that a client can ask of keyd and that a policy can grant.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums)]
pub enum Operation {
    /// `GET /v1/blacklists/{wall}`.
    BlacklistsRead,
    /// `POST /v1/blacklists/{wall}`.
    BlacklistsSign,
    /// `POST /v1/cards/authenticate`.
    CardsAuthenticate,
    /// `POST /v1/cards/keys`.
    CardsKeys,
    /// `POST /v1/commands`.
    CommandsRelay,
    /// `GET /v1/keys`.
    KeysRead,
    /// `GET /v1/licences/{id}`.
    LicencesRead,
    /// `POST /v1/loads/authorize`.
    LoadsAuthorize,
    /// `GET /v1/log/…`.
    LogRead,
    /// `POST /v1/macs/verify`.
    MacsVerify,
    /// `GET /v1/receipts/…`.
    ReceiptsRead,
    /// `POST /v1/scripts/issue`, but for what [`Self::ScriptsUnblock`] is for. See there what the difference is worth.
    ScriptsIssue,
    /// `POST /v1/scripts/issue` for scripts that give a card back: unblocking an application, reloading a PIN. Apart from
    /// the others so that no one desk is asked to block and to unblock (citycard-features §9.1: four eyes for unlock).
    ///
    /// The two part honest desks, and nothing else. Line protection covers the card's challenge XOR the command's header
    /// (card-crypto I.1), and the desk says what the challenge is: the answer to one block command is the MAC of an unblock
    /// command under another challenge. So whoever may issue a line-protected script under a key has all of them of its length
    /// for that card. The log says what was asked, not what the card got. A wall that holds a dishonest desk needs a challenge
    /// that the module has from the card itself. A PIN reload is under a key of its own and is apart in earnest.
    ScriptsUnblock,
    /// `POST /v1/settlement/verify`.
    SettlementVerify,
    /// `GET /v1/status`.
    StatusRead,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::BlacklistsRead,
        Self::BlacklistsSign,
        Self::CardsAuthenticate,
        Self::CardsKeys,
        Self::CommandsRelay,
        Self::KeysRead,
        Self::LicencesRead,
        Self::LoadsAuthorize,
        Self::LogRead,
        Self::MacsVerify,
        Self::ReceiptsRead,
        Self::ScriptsIssue,
        Self::ScriptsUnblock,
        Self::SettlementVerify,
        Self::StatusRead,
    ];

    /// The name in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlacklistsRead => "blacklists-read",
            Self::BlacklistsSign => "blacklists-sign",
            Self::CardsAuthenticate => "cards-authenticate",
            Self::CardsKeys => "cards-keys",
            Self::CommandsRelay => "commands-relay",
            Self::KeysRead => "keys-read",
            Self::LicencesRead => "licences-read",
            Self::LoadsAuthorize => "loads-authorize",
            Self::LogRead => "log-read",
            Self::MacsVerify => "macs-verify",
            Self::ReceiptsRead => "receipts-read",
            Self::ScriptsIssue => "scripts-issue",
            Self::ScriptsUnblock => "scripts-unblock",
            Self::SettlementVerify => "settlement-verify",
            Self::StatusRead => "status-read",
        }
    }

    /// Whether the operation is about keys, so that its grant names lineages. Card keys are not: the officers' licence
    /// names line, applet, roles and cards, and the module holds the line to it.
    pub const fn is_keyed(self) -> bool {
        match self {
            Self::BlacklistsRead
            | Self::BlacklistsSign
            | Self::CardsAuthenticate
            | Self::KeysRead
            | Self::LoadsAuthorize
            | Self::MacsVerify
            | Self::ScriptsIssue
            | Self::ScriptsUnblock
            | Self::SettlementVerify => true,
            Self::CardsKeys
            | Self::CommandsRelay
            | Self::LicencesRead
            | Self::LogRead
            | Self::ReceiptsRead
            | Self::StatusRead => false,
        }
    }

    /// Whether the operation is about a wall's blacklist, so that its grant names whole walls as `WALL/blacklist/*`: every
    /// active list key of the wall signs, none alone.
    pub const fn is_of_wall(self) -> bool {
        matches!(self, Self::BlacklistsRead | Self::BlacklistsSign)
    }

    /// Whether one request is one item of the quota; the others count their own.
    pub const fn is_one_item(self) -> bool {
        !self.is_keyed() && !matches!(self, Self::CardsKeys)
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

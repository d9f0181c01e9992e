//! The module's refusals: one stable code for programs, one sentence for people.

crate::cbor_code! {
    /// Why the module refused. Codes are never reused.
    pub enum Refusal {
        /// The frame is not one of the protocol.
        BadFrame = 1, "bad-frame";
        /// The module's state does not permit this command.
        WrongState = 2, "wrong-state";
        /// A frame or list is longer than the protocol allows.
        TooLarge = 3, "too-large";
        /// All slots for this kind of work are taken; try again.
        Busy = 4, "busy";
        /// A self-test or health test failed; only status is answered.
        Fault = 5, "fault";
        /// The log entry is not durable yet.
        NotDurable = 7, "not-durable";
        /// No result waits under this ticket.
        UnknownTicket = 8, "unknown-ticket";
        /// Records or close without an open batch, or open with one open.
        BatchOrder = 9, "batch-order";
        /// The group table has a row twice or too many rows.
        BatchGroups = 10, "batch-groups";
        /// No such key in this wall, or not for this use: the two look alike.
        NoSuchKey = 11, "no-such-key";
        /// The key's state does not permit this.
        KeyState = 12, "key-state";
        /// This lineage has this version already.
        KeyExists = 13, "key-exists";
        /// The same key bytes are in use under another name.
        KeyReused = 14, "key-reused";
        /// The key has no strength (equal halves, or all bytes alike).
        WeakKey = 15, "weak-key";
        /// The combined key does not have the check value that the command names.
        KeyKcv = 16, "key-kcv";
        /// Attributes that no applet may have (level count, factor, usage).
        KeyAttributes = 17, "key-attributes";

        /// The bytes are not a canonical command.
        BadCommand = 20, "bad-command";
        /// The command names another instance.
        WrongInstance = 21, "wrong-instance";
        /// The command was signed under another officer set.
        OfficerEpoch = 22, "officer-epoch";
        /// A signature of nobody in the officer set.
        UnknownOfficer = 23, "unknown-officer";
        /// A signature that does not verify over these bytes.
        BadSignature = 24, "bad-signature";
        /// The same officer twice.
        SignedTwice = 25, "signed-twice";
        /// Fewer approvals than the officer set demands.
        QuorumMissing = 26, "quorum-missing";
        /// The command was carried out before.
        CommandUsed = 27, "command-used";
        /// The log index is outside the command's window.
        CommandWindow = 28, "command-window";
        /// A kind of command that this socket or state does not take.
        CommandKind = 29, "command-kind";
        /// Limits may be raised in a rehearsal instance only, within the compiled-in caps.
        Limits = 30, "limits";
        /// An officer or custodian set that breaks the compiled-in floors (m ≥ 2, n ≤ 32, no name or key twice).
        BadSet = 31, "bad-set";

        /// A sealed box that does not open: another recipient, purpose, or damage.
        BoxDamaged = 40, "box-damaged";
        /// The share belongs to another set.
        ShareForeign = 41, "share-foreign";
        /// The share does not match its commitment.
        ShareDamaged = 42, "share-damaged";
        /// This share is already there.
        ShareTwice = 43, "share-twice";
        /// The shares do not give the root that the certificate was made with.
        ShareSet = 44, "share-set";
        /// Not every share of the new set has been proved.
        ShareUnproved = 45, "share-unproved";
        /// The component does not match the commitment in the command.
        ComponentCommitment = 46, "component-commitment";
        /// The component does not have the check value in the command.
        ComponentKcv = 47, "component-kcv";
        /// No import waits for this component.
        ComponentForeign = 48, "component-foreign";
        /// This component is already there.
        ComponentTwice = 49, "component-twice";

        /// The log's entries do not lead to a head that this module signed.
        LogForged = 60, "log-forged";
        /// The log ends below the floor, or has another root there.
        BelowFloor = 61, "below-floor";
        /// The floor names another boot of the module.
        FloorStale = 62, "floor-stale";
        /// A sealed record that does not open or is not in the log.
        RecordDamaged = 63, "record-damaged";
        /// An older version of a record than the log names.
        RecordOld = 64, "record-old";
        /// A record that the log names is not in the store.
        RecordMissing = 65, "record-missing";
        /// keyd acknowledges a head that this module did not sign, or an older one than before.
        AckForged = 66, "ack-forged";
        /// The witnesses' quorum has not cosigned what this waits for, or not for too long.
        Unwitnessed = 67, "unwitnessed";
        /// Entries that are too young to go, or went already.
        Retention = 68, "retention";
        /// A witness set that breaks its rules.
        BadWitnesses = 69, "bad-witnesses";

        /// No such licence for this client: another's and none look alike.
        NoSuchLicence = 70, "no-such-licence";
        /// The licence is not valid at this time, or was ended.
        LicenceExpired = 71, "licence-expired";
        /// The licence's quantity is used up.
        LicenceUsedUp = 72, "licence-used-up";
        /// The card is outside the licence's range, or no card number.
        CardRange = 73, "card-range";
        /// The card was declared spoiled.
        CardSpoiled = 74, "card-spoiled";
        /// The applet's profile is not the one of the licence any more.
        ProfileChanged = 75, "profile-changed";
        /// The transport key is not the licence's, or not usable.
        TransportKey = 76, "transport-key";
        /// A profile that no applet may have, or that does not fit the keys.
        BadProfile = 77, "bad-profile";
        /// The card came with another chip factor before, or the profile wants one and there is none.
        CardChip = 78, "card-chip";
        /// A licence that names what does not exist, or counts what cannot be.
        BadLicence = 79, "bad-licence";

        /// The bytes are no list.
        ListFormat = 80, "list-format";
        /// The list's epoch is not the next one.
        ListEpoch = 81, "list-epoch";
        /// The list takes more cards off than may go without a quorum.
        ListRemovals = 82, "list-removals";
        /// The list in force that came with the request is not the one that the log names.
        ListBase = 83, "list-base";

        /// This epoch was signed under another MAC key.
        ListMacKey = 84, "list-mac-key";

        /// No such ledger token key, or it has ended.
        NoSuchToken = 90, "no-such-token";
        /// The token is not canonical, or its signature is wrong.
        BadToken = 91, "bad-token";
        /// The token is for another card, counter, amount, terminal, or instance.
        TokenMismatch = 92, "token-mismatch";
        /// This card and counter were answered for another token or another session.
        TokenUsed = 93, "token-used";
        /// The card's counter is lower than one that was answered.
        LoadCounter = 94, "load-counter";
        /// The card's MAC is wrong.
        MacWrong = 95, "mac-wrong";
        /// The token key's value for this day is used up.
        ValueCeiling = 96, "value-ceiling";
        /// The token's date is too far from the module's.
        TokenDate = 97, "token-date";
        /// The card or key version is over its failure budget.
        Withheld = 98, "withheld";
        /// Fields that no card command may have.
        BadScript = 99, "bad-script";
        /// A client name or key that cannot be enrolled, or is not.
        BadClient = 100, "bad-client";
        /// The transport key is weaker than a card key that it would wrap.
        WeakTransport = 101, "weak-transport";
    }
}

/// A refusal: the stable code and a sentence that says what to do next. Never holds a secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message} [{code}]")]
#[allow(clippy::exhaustive_structs)]
pub struct Refused {
    /// For programs.
    pub code: Refusal,
    /// For people.
    pub message: String,
}

impl Refused {
    /// A refusal with its sentence.
    pub fn new(code: Refusal, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl crate::cbor::Cbor for Refused {
    fn encode(&self, out: &mut crate::cbor::Encoder) {
        out.array(2);
        self.code.encode(out);
        out.text(&self.message);
    }

    fn decode(input: &mut crate::cbor::Decoder<'_>) -> Result<Self, crate::cbor::CborError> {
        if input.array()? != 2 {
            return Err(crate::cbor::CborError::Range);
        }
        Ok(Self { code: Refusal::decode(input)?, message: input.text()?.to_owned() })
    }
}

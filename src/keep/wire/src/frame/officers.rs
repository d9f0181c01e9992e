//! What officers and custodians ask of the module, and what they are answered.

use super::{CommandDone, ModuleStatus, Progress, Purpose};
use crate::cbor::{Bytes, Empty};
use crate::command::{Digest, Id, PublicKey, Signature};
use crate::error::Refused;

crate::cbor_struct! {
    /// Asks for the module's one-time key of a purpose.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Hello {
        /// What for.
        0 => purpose: Purpose,
    }
}

crate::cbor_struct! {
    /// A one-time key, signed by the boot identity.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct OneTimeKey {
        /// What it is for.
        0 => purpose: Purpose,
        /// This boot.
        1 => boot: Id,
        /// SHA-256 of the module's program file.
        2 => module: Digest,
        /// The key.
        3 => key: PublicKey,
        /// The boot identity that signs.
        4 => identity: PublicKey,
        /// ECDSA P-256 over SHA-256([`one_time_bytes`]).
        5 => signature: Signature,
    }
}

/// What the boot identity signs: "citykeep one-time key v1" ‖ 0 ‖ purpose ‖ boot ‖ module ‖ key.
pub fn one_time_bytes(purpose: Purpose, boot: &Id, module: &Digest, key: &PublicKey) -> Vec<u8> {
    let domain: &[u8] = b"citykeep one-time key v1\0";
    [domain, &[purpose as u8], boot, module, key].concat()
}

crate::cbor_struct! {
    /// A sealed box and whose it is.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SealedShare {
        /// The share set's certificate (canonical bytes); the same at every share.
        0 => certificate: Bytes,
        /// x coordinate.
        1 => index: u64,
        /// Sealed box of the share's canonical bytes, context [`share_in_context`].
        2 => sealed: Bytes,
    }
}

crate::cbor_struct! {
    /// One component of a pending import.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SealedComponent {
        /// The import command's id.
        0 => command: Id,
        /// Who enters it.
        1 => custodian: String,
        /// Sealed box of the 16 component bytes, context [`component_context`].
        2 => sealed: Bytes,
    }
}

/// Context of a share's box on its way out: "share-out" ‖ 0 ‖ set ‖ index.
pub fn share_out_context(set: &Id, index: u64) -> Vec<u8> {
    [b"share-out\0".as_slice(), set, &index.to_be_bytes()].concat()
}

/// Context of a share's box on its way in: "share-in" ‖ 0 ‖ purpose ‖ boot ‖ set ‖ index.
pub fn share_in_context(purpose: Purpose, boot: &Id, set: &Id, index: u64) -> Vec<u8> {
    [b"share-in\0".as_slice(), &[purpose as u8], boot, set, &index.to_be_bytes()].concat()
}

/// Context of a component's box: "component" ‖ 0 ‖ boot ‖ command id ‖ custodian.
pub fn component_context(boot: &Id, command: &Id, custodian: &str) -> Vec<u8> {
    [b"component\0".as_slice(), boot, command, custodian.as_bytes()].concat()
}

crate::cbor_union! {
    /// What officers and custodians ask.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum OfficerRequest {
        /// → `Status`.
        1 => Status(Empty),
        /// → `OneTimeKey`.
        2 => Hello(Hello),
        /// Signed genesis command → `GenesisShares`.
        3 => Genesis(Bytes),
        /// A share of the new set comes back → `Progress`.
        4 => Prove(SealedShare),
        /// All shares proved: the instance exists from here on → `GenesisDone`, once durable.
        5 => GenesisFinish(Empty),
        /// → `Progress`.
        6 => Unseal(SealedShare),
        /// Signed floor command → `Done`.
        7 => Floor(Bytes),
        /// Signed command → `CommandDone`, once durable.
        8 => Command(Bytes),
        /// → `CommandDone`; with the last component once durable.
        9 => Component(SealedComponent),
        /// Gives up the genesis or import in progress → `Done`.
        10 => Abort(Empty),
    }
}

crate::cbor_struct! {
    /// The new root's shares, each for its custodian only.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct GenesisShares {
        /// [`crate::share::ShareCertificate`] bytes.
        0 => certificate: Bytes,
        /// Sealed boxes in the order of the slots, context [`share_out_context`].
        1 => shares: Vec<Bytes>,
    }
}

crate::cbor_struct! {
    /// The instance exists.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct GenesisDone {
        /// Log verifier key line.
        0 => vkey: String,
        /// Index of the genesis entry, 0.
        1 => index: u64,
        /// How many share sets of m were combined and found equal.
        2 => combinations: u64,
    }
}

crate::cbor_union! {
    /// What the module answers on the officers' socket.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum OfficerResponse {
        /// State.
        1 => Status(ModuleStatus),
        /// One-time key.
        2 => OneTimeKey(OneTimeKey),
        /// Nothing to say.
        3 => Done(Empty),
        /// Shares of the new root.
        4 => GenesisShares(GenesisShares),
        /// How far.
        5 => Progress(Progress),
        /// The instance exists.
        6 => GenesisDone(GenesisDone),
        /// A command's outcome.
        7 => CommandDone(CommandDone),
        /// No.
        15 => Refused(Refused),
    }
}

//! What genesis fixed and commands changed since.

use wire::cbor::Cbor;
use wire::command::{Digest, Id, Limits, PublicKey, Quorum};

use super::digest;

/// What genesis fixed, and what commands changed since.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Instance {
    /// Service.
    pub instance: Id,
    /// This module.
    pub node: Id,
    /// Log origin.
    pub origin: String,
    /// Rehearsal.
    pub rehearsal: bool,
    /// Boot identity pinned at genesis.
    pub identity: PublicKey,
    /// Ed25519 log key.
    pub log_key: [u8; 32],
    /// Share certificate bytes.
    pub certificate: Vec<u8>,
    /// Who decides.
    pub officers: Quorum,
    /// One more at each change of the officers; 1 after genesis.
    pub officer_epoch: u64,
    /// Who holds shares.
    pub custodians: Quorum,
    /// Approved policy.
    pub policy: Digest,
    /// Approved CA bundle.
    pub ca: Digest,
    /// Failure budgets.
    pub limits: Limits,
    /// The module was wiped; only a boot can follow.
    pub zeroised: bool,
}

impl Instance {
    pub(super) fn digest(&self) -> Digest {
        digest(&[
            b"instance",
            &self.instance,
            &self.node,
            self.origin.as_bytes(),
            &[u8::from(self.rehearsal), u8::from(self.zeroised)],
            &self.identity,
            &self.log_key,
            &digest(&[&self.certificate]),
            &self.officers.to_cbor(),
            &self.officer_epoch.to_be_bytes(),
            &self.custodians.to_cbor(),
            &self.policy,
            &self.ca,
            &self.limits.to_cbor(),
        ])
    }
}

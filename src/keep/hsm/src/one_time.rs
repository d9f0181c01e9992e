//! One-time keys: what shares and components are encrypted to on their way in, signed by the boot identity, so that
//! neither keyd nor another process can stand in for the module.

use std::collections::BTreeMap;

use p256::SecretKey;
use securemem::Secret;
use wire::command::PublicKey;
use wire::error::{Refusal, Refused};
use wire::frame::{OneTimeKey, Purpose, one_time_bytes};
use zeroize::Zeroize;

use crate::module::Module;

/// At most one key per purpose; it goes when the work that it was for is done.
#[derive(Debug, Default)]
pub(crate) struct OneTimeKeys {
    keys: BTreeMap<Purpose, (Secret, PublicKey)>,
}

impl OneTimeKeys {
    /// Drops the key of a purpose.
    pub(crate) fn forget(&mut self, purpose: Purpose) {
        self.keys.remove(&purpose);
    }
}

/// The P-256 key in secret memory, built on the caller's secret stack for one operation.
pub(crate) fn p256_secret(bytes: &Secret) -> Result<SecretKey, Refused> {
    let secret = bytes.with(SecretKey::from_slice);
    secret.map_err(|_| {
        Refused::new(Refusal::Fault, "a P-256 key of the module is not one; make a new identity")
    })
}

impl Module {
    /// Gives the one-time key of a purpose, making it if there is none.
    pub(crate) fn hello(&self, purpose: Purpose) -> Result<OneTimeKey, Refused> {
        let mut inner = self.lock();
        let key = if let Some((_, public)) = inner.one_time.keys.get(&purpose) {
            *public
        } else {
            let secret = self.random.p256()?;
            let public = wire::seal::public_key(&secret);
            let mut scalar = secret.to_bytes();
            let stored = self.arena.alloc(32, |bytes| {
                bytes.copy_from_slice(&scalar);
                Ok::<(), ()>(())
            });
            scalar.zeroize();
            let stored =
                stored.map_err(|_| Refused::new(Refusal::Busy, "the module's secret memory is full"))?;
            inner.one_time.keys.insert(purpose, (stored, public));
            public
        };
        drop(inner);
        let identity = p256_secret(&self.identity)?;
        let signature =
            wire::seal::sign(&identity, &one_time_bytes(purpose, &self.boot, &self.program, &key));
        let (boot, module) = (self.boot, self.program);
        Ok(OneTimeKey { purpose, boot, module, key, identity: self.identity_public, signature })
    }

    /// Opens a box that was sealed to the one-time key of `purpose`, straight into secret memory.
    pub(crate) fn open_box(
        &self,
        keys: &OneTimeKeys,
        purpose: Purpose,
        context: &[u8],
        sealed: &[u8],
        len: usize,
    ) -> Result<Secret, Refused> {
        let damaged = || {
            let why = "the sealed box does not open: it is for another boot or purpose, or damaged; ask the module for its \
                       one-time key again";
            Refused::new(Refusal::BoxDamaged, why)
        };
        let (secret, _) = keys.keys.get(&purpose).ok_or_else(damaged)?;
        let secret = p256_secret(secret)?;
        let sealed = wire::seal::parse(sealed).map_err(|_| damaged())?;
        if wire::seal::plain_len(&sealed) != len {
            return Err(damaged());
        }
        let opened = self.arena.alloc(len, |plain| wire::seal::open(&sealed, &secret, context, plain));
        opened.map_err(|error| match error {
            securemem::AllocError::Fill(_) => damaged(),
            securemem::AllocError::Full => Refused::new(Refusal::Busy, "the module's secret memory is full"),
        })
    }
}

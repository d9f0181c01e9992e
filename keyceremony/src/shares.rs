//! A custodian's share: taken from the genesis, kept as text, still encrypted to him, and brought to the module.

use wire::cbor::{Bytes, Cbor};
use wire::command::PublicKey;
use wire::frame::{Progress, Purpose, SealedShare, share_in_context, share_out_context};
use wire::seal;
use wire::share::{Share, ShareSet, ShareSlot, ShareTextError, from_text, to_text};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::{Failure, OrFail};
use crate::keyfile::Key;
use crate::link::Link;

/// A share set with its certificate, and the module that it was made in.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    /// The boot identity pinned at genesis: whoever cannot sign with it gets no share.
    pub(crate) pinned: PublicKey,
    /// The certificate's bytes.
    pub(crate) certificate: Vec<u8>,
    /// The set in it.
    pub(crate) set: ShareSet,
}

/// A share that its custodian has opened and found good. Wiped when it goes.
pub(crate) struct OpenShare {
    plain: Zeroizing<Vec<u8>>,
    index: u64,
    custodian: String,
}

impl std::fmt::Debug for OpenShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenShare").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The custodian's place in the set.
pub(crate) fn slot<'a>(set: &'a ShareSet, custodian: &Key) -> Result<&'a ShareSlot, Failure> {
    let slot = set.slots.iter().find(|slot| slot.key == custodian.public);
    slot.filter(|slot| slot.custodian == custodian.name).ok_or_else(|| {
        let name = &custodian.name;
        Failure::new(
            format!("{name} 的密钥不在份额证书中;请使用创世时登记的密钥文件。"),
            format!("the share certificate knows no custodian {name} with this key; bring the key file that was enrolled"),
        )
    })
}

/// Opens the custodian's box and checks what is in it against the certificate. Its text is what he keeps.
pub(crate) fn open(set: &ShareSet, sealed: &[u8], custodian: &Key) -> Result<OpenShare, Failure> {
    let (slot, name) = (slot(set, custodian)?, &custodian.name);
    let foreign = || {
        Failure::new(
            format!("{name} 的份额打不开:它不属于这一组、不是他本人的,或已损坏;请带来本组的份额。"),
            format!(
                "the share of {name} does not open: it is of another share set, another custodian's, or damaged; bring \
                 the share of this set"
            ),
        )
    };
    let parsed = seal::parse(sealed).map_err(|_| foreign())?;
    let mut plain = Zeroizing::new(vec![0; seal::plain_len(&parsed)]);
    let context = share_out_context(&set.set, slot.index);
    seal::open(&parsed, custodian.secret(), &context, &mut plain).map_err(|_| foreign())?;
    let mut share = Share::from_cbor(&plain).map_err(|_| foreign())?;
    let same_set = share.version == 1
        && (share.set, share.epoch) == (set.set, set.epoch)
        && (share.index, share.threshold) == (slot.index, set.threshold);
    let good = same_set && share.commitment() == slot.commitment;
    share.value.zeroize();
    if good {
        Ok(OpenShare { plain, index: slot.index, custodian: name.clone() })
    } else {
        Err(Failure::new(
            format!("{name} 的份额与证书中的承诺不符:已损坏或属于另一组;请停止并通知安全官。"),
            format!(
                "the share of {name} does not match its commitment in the certificate: it is damaged or of another set; \
                 stop, and bring another custodian's share"
            ),
        ))
    }
}

/// Reads the text that a custodian keeps.
pub(crate) fn read_text(text: &str, whose: &str) -> Result<Vec<u8>, Failure> {
    from_text(text).map_err(|error| {
        let zh = match &error {
            ShareTextError::Header => "第一行不是份额文本的开头".to_owned(),
            ShareTextError::Character { line, found } => format!("第 {line} 行的“{found}”不是份额字符"),
            ShareTextError::Line { line } => format!("第 {line} 行有错字"),
            _ => "缺行、重行或次序不对".to_owned(),
        };
        Failure::new(
            format!("{whose} 的份额:{zh};请与纸质份额核对。"),
            format!("the share of {whose}: {error}"),
        )
    })
}

/// The text that a custodian keeps.
pub(crate) fn text(sealed: &[u8]) -> String {
    to_text(sealed)
}

/// Encrypts the share to the module's one-time key and brings it.
pub(crate) fn bring(
    link: &Link,
    holding: &Holding,
    share: &OpenShare,
    purpose: Purpose,
) -> Result<Progress, Failure> {
    let boot = link.status()?.boot;
    let key = link.one_time_key(purpose, &holding.pinned, &boot)?;
    let context = share_in_context(purpose, &boot, &holding.set.set, share.index);
    let ephemeral = seal::generate().or_fail("系统随机数不可用。", "no ephemeral key can be made")?;
    let sealed = seal::seal(&key.key, &context, &share.plain, &ephemeral);
    let sealed = sealed.or_fail("无法加密份额。", "the share cannot be sealed")?;
    let part = SealedShare {
        certificate: Bytes(holding.certificate.clone()),
        index: share.index,
        sealed: Bytes(sealed.to_cbor()),
    };
    link.bring_share(purpose, part).map_err(|failure| failure.of(&share.custodian))
}

#[cfg(test)]
mod tests;

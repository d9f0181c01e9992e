//! The key file of an officer or custodian (SPEC.md §Key file): a P-256 secret under a passphrase.

use std::path::Path;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use argon2::{Algorithm, Argon2, Params, Version};
use p256::SecretKey;
use serde::{Deserialize, Serialize};
use wire::cbor::Cbor;
use wire::command::{Member, PublicKey};
use wire::purse::to_hex;
use wire::seal;
use zeroize::Zeroizing;

use crate::failure::{Failure, OrFail};
use crate::files;
use crate::secret::Passphrase;
use crate::words::from_hex;

const FORMAT: &str = "citykeep key file v1";
const KDF: &str = "argon2id";
const CIPHER: &str = "aes-256-gcm";
const SECRET_LEN: usize = 32;
const TAG_LEN: usize = 16;

/// The key that the passphrase gives is used once, since every file has its own salt.
const NONCE: [u8; 12] = [0; 12];

/// What a person does with his key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Signs commands.
    Officer,
    /// Holds a share of the root and enters components.
    Custodian,
    /// Certifies clients.
    Authority,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Officer => "officer",
            Self::Custodian => "custodian",
            Self::Authority => "authority",
        }
    }
}

/// What the passphrase costs whoever guesses it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Cost {
    /// A real key.
    pub(crate) const REAL: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };

    /// A rehearsal's key, which is no secret.
    pub(crate) const REHEARSAL: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };

    /// A file that costs a guesser next to nothing, or its reader the whole machine, is not read.
    fn is_sane(self, rehearsal: bool) -> bool {
        let least = if rehearsal { 8 } else { 19 * 1024 };
        (least..=1 << 20).contains(&self.memory_kib)
            && (1..=16).contains(&self.passes)
            && (1..=4).contains(&self.lanes)
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

/// The file as it is written: canonical JSON, every byte of it checked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    rehearsal: bool,
    name: String,
    role: Role,
    public: String,
    kdf: Kdf,
    cipher: String,
    sealed: String,
}

#[allow(unreachable_pub, reason = "the macro makes public types")]
mod header {
    wire::cbor_struct! {
        /// Everything about the key but the key: associated data of its box.
        pub struct Header {
            0 => format: String,
            1 => rehearsal: bool,
            2 => name: String,
            3 => role: String,
            4 => public: [u8; 33],
            5 => kdf: String,
            6 => memory_kib: u32,
            7 => passes: u32,
            8 => lanes: u32,
            9 => salt: [u8; 16],
            10 => cipher: String,
        }
    }
}
use header::Header;

/// A key file that was read but not opened: everything but the secret.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) rehearsal: bool,
    pub(crate) public: PublicKey,
    cost: Cost,
    salt: [u8; 16],
    sealed: [u8; SECRET_LEN + TAG_LEN],
}

/// An opened key. Wiped when it goes.
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) public: PublicKey,
    secret: SecretKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

impl Key {
    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// Name and public half, as a set of officers or custodians has them.
    pub(crate) fn member(&self) -> Member {
        Member { name: self.name.clone(), key: self.public }
    }

    /// A custodian's key signs nothing, and an officer's key opens no share.
    pub(crate) fn needs(self, role: Role) -> Result<Self, Failure> {
        if self.role == role {
            return Ok(self);
        }
        let (name, wanted) = (&self.name, role.as_str());
        Err(Failure::new(
            format!("{name} 的密钥文件角色不对;请使用 {wanted} 的密钥文件。"),
            format!(
                "the key file of {name} is of the other role; this step needs the key file of somebody enrolled as {wanted}"
            ),
        ))
    }
}

/// Makes a new key and its file.
pub(crate) fn create(
    path: &Path,
    name: &str,
    role: Role,
    rehearsal: bool,
    passphrase: &Passphrase,
) -> Result<Key, Failure> {
    if !is_name(name) {
        return Err(Failure::new(
            "名字为 1 到 32 个小写字母、数字或连字符,以字母开头。",
            "a name is 1 to 32 lower-case letters, digits and hyphens, starting with a letter",
        ));
    }
    let secret =
        seal::generate().or_fail("无法生成密钥。", "no key can be made; look after the random source")?;
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).or_fail("系统随机数不可用。", "the system gives no random bytes")?;
    let cost = if rehearsal { Cost::REHEARSAL } else { Cost::REAL };
    let text = lock(&secret, name, role, rehearsal, cost, salt, passphrase)?;
    files::write_new(path, text.as_bytes(), files::PRIVATE)?;
    let public = seal::public_key(&secret);
    let name = name.to_owned();
    Ok(Key { name, role, public, secret })
}

/// A name that reads the same on paper, in a file name and in the log.
fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn lock(
    secret: &SecretKey,
    name: &str,
    role: Role,
    rehearsal: bool,
    cost: Cost,
    salt: [u8; 16],
    passphrase: &Passphrase,
) -> Result<String, Failure> {
    let mut locked = Locked {
        name: name.to_owned(),
        role,
        rehearsal,
        public: seal::public_key(secret),
        cost,
        salt,
        sealed: [0; SECRET_LEN + TAG_LEN],
    };
    let mut plain = Zeroizing::new([0; SECRET_LEN]);
    let scalar = Zeroizing::new(secret.to_bytes());
    plain.copy_from_slice(&scalar);
    let header = locked.header().to_cbor();
    let tag = locked
        .cipher(passphrase)?
        .encrypt_inout_detached(&NONCE.into(), &header, plain.as_mut_slice().into())
        .or_fail("无法加密密钥文件。", "the key file cannot be encrypted")?;
    let (body, end) = locked.sealed.split_at_mut(SECRET_LEN);
    body.copy_from_slice(plain.as_slice());
    end.copy_from_slice(&tag);
    locked.to_text()
}

/// Reads a key file without opening it.
pub(crate) fn read(path: &Path) -> Result<Locked, Failure> {
    let bytes = files::read_private(path, "the key file")?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    parse(text).ok_or_else(|| {
        let path = path.display();
        Failure::new(
            format!("{path} 不是密钥文件,或已损坏;请用备份。"),
            format!("{path} is not a key file of this format, or it was changed; use its backup"),
        )
    })
}

fn parse(text: &str) -> Option<Locked> {
    let document: Document = serde_json::from_str(text).ok()?;
    let cost =
        Cost { memory_kib: document.kdf.memory_kib, passes: document.kdf.passes, lanes: document.kdf.lanes };
    let locked = Locked {
        public: from_hex(&document.public)?,
        salt: from_hex(&document.kdf.salt)?,
        sealed: from_hex(&document.sealed)?,
        name: document.name,
        role: document.role,
        rehearsal: document.rehearsal,
        cost,
    };
    let sound = is_name(&locked.name) && cost.is_sane(locked.rehearsal);
    // One key, one text: whatever else the file says or leaves out shows here.
    (sound && locked.to_text().ok()? == text).then_some(locked)
}

impl Locked {
    /// Opens it. A wrong passphrase and a changed file look alike.
    pub(crate) fn open(&self, passphrase: &Passphrase) -> Result<Key, Failure> {
        let wrong = || {
            let name = &self.name;
            Failure::new(
                format!("{name} 的口令不对,或密钥文件已改动;请重新输入。"),
                format!("the passphrase of {name} is wrong, or his key file was changed; enter it again"),
            )
        };
        let (body, tag) = self.sealed.split_at(SECRET_LEN);
        let tag: [u8; TAG_LEN] = tag.try_into().map_err(|_| wrong())?;
        let mut plain = Zeroizing::new([0; SECRET_LEN]);
        plain.copy_from_slice(body);
        self.cipher(passphrase)?
            .decrypt_inout_detached(
                &NONCE.into(),
                &self.header().to_cbor(),
                plain.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| wrong())?;
        let secret = SecretKey::from_slice(plain.as_slice()).map_err(|_| wrong())?;
        if seal::public_key(&secret) != self.public {
            return Err(wrong());
        }
        Ok(Key { name: self.name.clone(), role: self.role, public: self.public, secret })
    }

    fn cipher(&self, passphrase: &Passphrase) -> Result<Aes256Gcm, Failure> {
        let params = Params::new(self.cost.memory_kib, self.cost.passes, self.cost.lanes, Some(SECRET_LEN));
        let params = params.or_fail("密钥文件参数无效。", "the key file's cost is not one of Argon2")?;
        let mut key = Zeroizing::new([0; SECRET_LEN]);
        passphrase
            .with(|bytes| {
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
                    bytes,
                    &self.salt,
                    key.as_mut_slice(),
                )
            })
            .or_fail("口令处理失败。", "the passphrase cannot be worked on")?;
        Ok(Aes256Gcm::new(&(*key).into()))
    }

    fn header(&self) -> Header {
        Header {
            format: FORMAT.to_owned(),
            rehearsal: self.rehearsal,
            name: self.name.clone(),
            role: self.role.as_str().to_owned(),
            public: self.public,
            kdf: KDF.to_owned(),
            memory_kib: self.cost.memory_kib,
            passes: self.cost.passes,
            lanes: self.cost.lanes,
            salt: self.salt,
            cipher: CIPHER.to_owned(),
        }
    }

    fn to_text(&self) -> Result<String, Failure> {
        let document = Document {
            format: FORMAT.to_owned(),
            rehearsal: self.rehearsal,
            name: self.name.clone(),
            role: self.role,
            public: to_hex(&self.public),
            kdf: Kdf {
                name: KDF.to_owned(),
                memory_kib: self.cost.memory_kib,
                passes: self.cost.passes,
                lanes: self.cost.lanes,
                salt: to_hex(&self.salt),
            },
            cipher: CIPHER.to_owned(),
            sealed: to_hex(&self.sealed),
        };
        let text = serde_json::to_string_pretty(&document);
        Ok(text.or_fail("无法写出密钥文件。", "the key file has no text")? + "\n")
    }
}

#[cfg(test)]
mod tests;

//! What a first day needs beside TAC keys: the masters of the applets, keys that sign and MAC lists, profiles, licences, a
//! ledger. Whatever is in the log already is left as it is.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use translog::state::{LicenceState, LogState};
use wire::command::{Action, Digest, Id, SetKeyState};
use wire::key::{Algorithm, KeyAttributes, KeyId, KeyState, Level, Usage};
use wire::licence::{serial_number, serial_of};
use wire::purse::to_hex;
use wire::token::TokenKey;

use super::Rehearsal;
use crate::failure::{Failure, OrFail};
use crate::grants::{self, LicenceSpec};
use crate::instance::Instance;
use crate::logbook::{self, Logbook};
use crate::script::{KeyRow, LicenceRow};
use crate::words;

const DAY: u64 = 86_400;

impl<R: BufRead, W: Write> Rehearsal<R, W> {
    fn book(&self) -> Result<Logbook, Failure> {
        let known = self.known()?;
        logbook::read(&self.options.log, &self.instance()?.vkey, known.size)
    }

    /// Makes and activates what the profiles and the script name and nobody imported.
    pub(super) fn make_keys(&mut self) -> Result<(), Failure> {
        let mut wanted: Vec<KeyAttributes> =
            self.profiles.iter().flat_map(|file| file.masters.iter().cloned()).collect();
        for row in &self.script.keys {
            wanted.push(row.attributes()?);
        }
        let book = self.book()?;
        let mut made = 0;
        for key in wanted {
            let id = key.id();
            if book.state.key(&id).is_some() {
                continue;
            }
            let done = self.carry_out(Action::GenerateKey(key))?;
            let state = KeyState::Active;
            self.carry_out(Action::SetKeyState(SetKeyState { key: id.clone(), state }))?;
            let kcv = to_hex(&done.kcv.unwrap_or_default());
            self.room.say(&format!(
                "    {id}: 已在模块内生成并启用 made inside the module and active, KCV {kcv}"
            ))?;
            made += 1;
        }
        self.room.say(&format!("    {made} 个密钥新生成 keys made"))
    }

    pub(super) fn approve_profiles(&mut self) -> Result<(), Failure> {
        let book = self.book()?;
        for file in self.profiles.clone() {
            let (applet, digest) = (file.profile.applet.clone(), file.profile.digest());
            let (zh, en) = (&file.title_zh, &file.title_en);
            let digits = to_hex(&digest);
            if book.state.profile(&applet).is_some_and(|(known, _)| *known == digest) {
                self.room.say(&format!("    {zh} {en}: 方案 SHA-256 {digits} 已批准 approved"))?;
                continue;
            }
            self.carry_out(Action::SetProfile(file.profile))?;
            self.room.say(&format!("    {zh} {en}: 方案已批准 profile approved, SHA-256 {digits}"))?;
        }
        Ok(())
    }

    pub(super) fn grant_licences(&mut self) -> Result<(), Failure> {
        let book = self.book()?;
        let (now, instance) = (now(), self.instance()?.clone());
        if let (Some(row), Some(path)) = (&self.script.ledger, self.options.ledger.clone())
            && book.state.token(&row.name).is_none()
        {
            let (name, wall, daily) = (row.name.clone(), row.wall.clone(), row.daily_yuan * 100);
            let not_after = now + row.days * DAY;
            let key = ledger_key(&path)?;
            self.carry_out(Action::EnrolToken(TokenKey { name: name.clone(), key, wall, daily, not_after }))?;
            self.room.say(&format!(
                "    {name}: 账务令牌密钥已登记 ledger key enrolled, {}",
                words::fingerprint(&key)
            ))?;
        }
        let rows = std::mem::take(&mut self.script.licences);
        let outcome = rows.iter().try_for_each(|row| self.grant_licence(row, &book.state, &instance, now));
        self.script.licences = rows;
        outcome
    }

    /// A licence that the log has is left as it is. Where the applet's profile has changed since, it gives no cards any more, and
    /// another one takes its place, behind its numbers.
    fn grant_licence(
        &mut self,
        row: &LicenceRow,
        log: &LogState,
        instance: &Instance,
        now: u64,
    ) -> Result<(), Failure> {
        let current = log.profile(&row.applet).map(|(digest, _)| *digest);
        let (first, next) = (row.id(&instance.id, None), row.id(&instance.id, current));
        for (digits, known) in [first, next].iter().filter_map(|id| Some((to_hex(id), log.licence(id)?))) {
            let (issued, quantity) = (known.issued(), known.licence.quantity);
            if Some(known.licence.profile) == current {
                return self.room.say(&format!("    {digits}: 许可已有 licence exists, {issued}/{quantity}"));
            }
            self.room.say(&format!(
                "    {digits}: 方案已变更,许可停止 the profile has changed, no more cards of it, {issued}/{quantity}"
            ))?;
        }
        let id = if log.licence(&first).is_none() { first } else { next };
        let licence = behind(row.spec(now), log)
            .and_then(|spec| spec.licence(id, instance.node, log))
            .map_err(|why| {
                Failure::new(
                    format!("脚本中的许可无法授予({why})。"),
                    format!("a licence of the script cannot be granted: {why}; correct the script"),
                )
            })?;
        let (line, quantity, digits) = (licence.line.clone(), licence.quantity, to_hex(&id));
        self.carry_out(Action::GrantLicence(licence))?;
        self.room.say(&format!("    {digits}: 已授予 granted to {line}, {quantity} 张 cards"))
    }
}

/// The licence behind every number that was made of its range: a card is made once, whatever became of the licence.
fn behind(spec: LicenceSpec, log: &LogState) -> Result<LicenceSpec, String> {
    let number = |text: &str| grants::serial(text).and_then(|serial| serial_number(&serial));
    let (Some(first), Some(last)) = (number(&spec.first), number(&spec.last)) else {
        return Ok(spec);
    };
    let same = |known: &&LicenceState| {
        (&known.licence.applet, to_hex(&known.licence.issuer))
            == (&spec.applet, spec.issuer.to_ascii_uppercase())
    };
    let newest = |known: &LicenceState| {
        let made = (0..known.licence.span()?).rev().filter(|offset| known.has(*offset));
        made.filter_map(|offset| serial_number(&known.licence.serial_at(offset)?))
            .find(|made| (first..=last).contains(made))
    };
    let Some(newest) = log.licences().filter(same).filter_map(newest).max() else {
        return Ok(spec);
    };
    let left = u64::try_from(last - newest).unwrap_or(u64::MAX);
    let quantity = spec.quantity.min(left);
    match serial_of(newest + 1).filter(|_| left > 0) {
        Some(next) => Ok(LicenceSpec { first: to_hex(&next), quantity, ..spec }),
        None => {
            Err(format!("all card numbers from {} to {} were made; give it others", spec.first, spec.last))
        }
    }
}

impl KeyRow {
    fn attributes(&self) -> Result<KeyAttributes, Failure> {
        let key = KeyId::parse(&self.key);
        let known = Algorithm::from_name(&self.algorithm).zip(Usage::from_name(&self.usage));
        let Some((KeyId { lineage, version }, (algorithm, usage))) = key.zip(known) else {
            return Err(Failure::new(
                "脚本中的密钥有误。",
                format!(
                    "the script's key '{}' has no name, algorithm or usage that is one; correct it",
                    self.key
                ),
            ));
        };
        let (level, levels, usage) = (Level::City, Vec::new(), vec![usage]);
        Ok(KeyAttributes { lineage, version, algorithm, level, levels, usage, kcv: [0; 3], session: None })
    }
}

impl LicenceRow {
    /// The same licence has the same id on every run; one that takes its place under another profile has its own.
    fn id(&self, instance: &Id, profile: Option<Digest>) -> Id {
        let mut hash = Sha256::new();
        hash.update(instance);
        for text in [&self.line, &self.applet, &self.first, &self.last] {
            hash.update(text);
            hash.update([0]);
        }
        if let Some(profile) = profile {
            hash.update(profile);
        }
        let digest: [u8; 32] = hash.finalize().into();
        digest.first_chunk().copied().unwrap_or_default()
    }

    fn spec(&self, now: u64) -> LicenceSpec {
        LicenceSpec {
            line: self.line.clone(),
            applet: self.applet.clone(),
            transport: self.transport.clone(),
            roles: self.roles.clone(),
            issuer: self.issuer.clone(),
            first: self.first.clone(),
            last: self.last.clone(),
            quantity: self.quantity,
            // Clocks in the room may differ by hours.
            from: words::date(now - DAY),
            until: words::date(now + self.days * DAY),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn ledger_key(path: &Path) -> Result<wire::command::PublicKey, Failure> {
    use p256::pkcs8::DecodePublicKey as _;
    let pem = crate::files::read_text(path, "the ledger's public key")?;
    let key = p256::PublicKey::from_public_key_pem(&pem)
        .or_fail("账务公钥无效。", &format!("{} is no P-256 public key in PEM", path.display()))?;
    Ok(wire::seal::compressed(&key))
}

//! Key versions: imported from their custodians' components, then activated.

use std::io::{BufRead, Write};

use translog::state::KeyEntry;
use wire::cbor::Cbor;
use wire::command::{Action, SetKeyState};
use wire::frame::CommandDone;
use wire::key::KeyState;
use wire::purse::to_hex;

use super::{Rehearsal, out_of_order};
use crate::ceremony::{self, Outcome};
use crate::failure::Failure;
use crate::keys_file::KeyToImport;
use crate::logbook;

impl<R: BufRead, W: Write> Rehearsal<R, W> {
    /// Imports the versions that the log does not have.
    pub(super) fn import_keys(&mut self) -> Result<(), Failure> {
        let known = self.known()?;
        let book = logbook::read(&self.options.log, &self.instance()?.vkey, known.size)?;
        let keys = std::mem::take(&mut self.keys);
        let outcome = keys.iter().try_for_each(|key| match book.state.key(&key.id()) {
            Some(there) => {
                same(key, there)?;
                self.room.say(&format!("    {}: 已在日志中 in the log already, {}", key.id(), there.state))
            }
            None => self.import(key),
        });
        self.keys = keys;
        outcome
    }

    fn import(&mut self, key: &KeyToImport) -> Result<(), Failure> {
        let id = key.id();
        let names = self.script.custodians.names.clone();
        let name = |number: usize| names.get(number.wrapping_sub(1)).cloned().unwrap_or_default();
        let (instance, pinned) = (self.instance()?.id, self.instance()?.identity);
        let signed = self.approved(Action::ImportKey(key.spec(&instance, name)))?;
        let Outcome::Command(mut done) = ceremony::submit(&self.link, &signed)? else {
            return Err(out_of_order());
        };
        let (_, command) = ceremony::parse(&signed.to_cbor())?;
        for part in &key.parts {
            let custodian = name(part.custodian);
            done = ceremony::enter_component(&self.link, &pinned, &command.id, &custodian, &part.component)?;
            let kcv = to_hex(&part.kcv);
            self.room.say(&format!("    {custodian}: 分量校验值 component KCV {kcv} 正确 good"))?;
        }
        imported(key, &done)?;
        let kcv = to_hex(&key.attributes.kcv);
        self.room.say(&format!("    {id}: 已导入 imported, {} KCV {kcv}", key.attributes.algorithm))
    }

    /// Activates what waits to be activated.
    pub(super) fn activate_keys(&mut self) -> Result<(), Failure> {
        let known = self.known()?;
        let book = logbook::read(&self.options.log, &self.instance()?.vkey, known.size)?;
        let ids: Vec<_> = self.keys.iter().map(KeyToImport::id).collect();
        for id in ids {
            let there = book.state.key(&id).ok_or_else(|| {
                Failure::new(
                    format!("日志中没有 {id};请查看日志。"),
                    format!("the log has no {id} although it was imported; have the auditor verify the log"),
                )
            })?;
            if there.state == KeyState::PreActive {
                let state = KeyState::Active;
                self.carry_out(Action::SetKeyState(SetKeyState { key: id.clone(), state }))?;
                self.room.say(&format!("    {id}: 已启用 active"))?;
            } else {
                // Suspended or retired by somebody: that was a decision, and a rehearsal does not undo it.
                self.room.say(&format!("    {id}: {}", there.state))?;
            }
        }
        Ok(())
    }
}

/// The last component finishes the import, with the check value that the file names.
fn imported(key: &KeyToImport, done: &CommandDone) -> Result<(), Failure> {
    if done.index.is_some() && done.kcv == Some(key.attributes.kcv) {
        return Ok(());
    }
    let id = key.id();
    Err(Failure::new(
        format!("{id} 未导入,或校验值与文件不同;请查看日志。"),
        format!("{id} was not imported with the check value of the file; look at the log before you go on"),
    ))
}

/// A version number is never used again: what is in the log must be the key of the file.
fn same(key: &KeyToImport, there: &KeyEntry) -> Result<(), Failure> {
    let (wanted, found) = (&key.attributes, &there.made.attributes);
    if wanted == found {
        return Ok(());
    }
    let id = key.id();
    let (wanted_kcv, found_kcv) = (to_hex(&wanted.kcv), to_hex(&found.kcv));
    Err(Failure::new(
        format!("{id} 已存在,但与文件不同(校验值 {found_kcv},文件 {wanted_kcv});请改用新的版本号或换目录。"),
        format!(
            "{id} exists as {} with check value {found_kcv} and level {}, but the file has {} with check value {wanted_kcv} \
             and level {}; give the file's key a new version number, or rehearse in a new directory",
            found.algorithm, found.level, wanted.algorithm, wanted.level
        ),
    ))
}

//! Which commands are possible now; one table for the module, before it does anything, and for auditors.

use wire::command::{Action, Command};
use wire::error::{Refusal, Refused};
use wire::key::{KeyAttributes, KeyState, LEVELS_MAX};

use super::{Instance, LIMITS_MAX, LogState};

/// Which state a key version may go to; anything not listed is refused.
pub fn may_become(from: KeyState, to: KeyState) -> bool {
    use KeyState as S;
    matches!(
        (from, to),
        (S::PreActive | S::Suspended, S::Active)
            | (S::Active | S::VerifyOnly, S::Suspended)
            | (S::Active | S::Suspended, S::VerifyOnly)
    )
}

impl LogState {
    /// Checks everything about a command but its signatures: instance, officer epoch, window, used once, and whether its
    /// action is possible now.
    pub fn check_command(&self, command: &Command) -> Result<(), Refused> {
        let refuse = |code, why: &str| Err(Refused::new(code, why));
        let Some(instance) = &self.instance else {
            return refuse(Refusal::WrongState, "there is no instance yet; run a genesis ceremony first");
        };
        if command.instance != instance.instance {
            return refuse(Refusal::WrongInstance, "the command is for another instance");
        }
        if command.officer_epoch != instance.officer_epoch {
            return refuse(
                Refusal::OfficerEpoch,
                "the officer set has changed since; propose the command again",
            );
        }
        if self.used.contains(&command.id) {
            return refuse(Refusal::CommandUsed, "this command was carried out before; propose a new one");
        }
        if !(command.not_before..=command.not_after).contains(&self.size) {
            return refuse(
                Refusal::CommandWindow,
                "the log is outside the command's window; propose the command again",
            );
        }
        self.check_action(instance, &command.action)
    }

    fn check_action(&self, instance: &Instance, action: &Action) -> Result<(), Refused> {
        let refuse = |code, why: &str| Err(Refused::new(code, why));
        match action {
            Action::Genesis(_) => refuse(Refusal::WrongState, "the instance exists; genesis comes once"),
            Action::GenerateKey(key) => self.check_new_key(key),
            Action::ImportKey(import) => {
                let mut names: Vec<&str> =
                    import.components.iter().map(|part| part.custodian.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                if names.len() != import.components.len() || !(2..=32).contains(&names.len()) {
                    return refuse(
                        Refusal::BadSet,
                        "an import needs 2 to 32 components, each of another custodian",
                    );
                }
                self.check_new_key(&import.attributes)
            }
            Action::SetKeyState(change) => match self.keys.get(&change.key) {
                None => refuse(Refusal::NoSuchKey, "there is no such key version"),
                Some(key) if !may_become(key.state, change.state) => {
                    let why = format!("a key that is {} cannot become {}", key.state, change.state);
                    refuse(Refusal::KeyState, &why)
                }
                Some(_) => Ok(()),
            },
            Action::SetOfficers(set) if !set.is_sound() => {
                refuse(Refusal::BadSet, "an officer set needs 2 ≤ m ≤ n ≤ 32 and no name or key twice")
            }
            Action::SetLimits(limits) => {
                let within = limits.card <= LIMITS_MAX.card && limits.version <= LIMITS_MAX.version;
                if instance.rehearsal && within {
                    Ok(())
                } else {
                    refuse(
                        Refusal::Limits,
                        "budgets change in a rehearsal instance only, up to 65536 and 2^24",
                    )
                }
            }
            Action::ResetBudget(reset) if reset.key.is_none() && reset.card.is_none() => {
                refuse(Refusal::BadCommand, "the reset names neither a key version nor a card")
            }
            Action::SetWitnesses(set) if !set.is_sound() => refuse(
                Refusal::BadWitnesses,
                "a witness set needs 1 ≤ k ≤ n ≤ 32, no name or key twice, and a grace of at most 30 days",
            ),
            Action::SetOfficers(_)
            | Action::SetWitnesses(_)
            | Action::ResetBudget(_)
            | Action::SetPolicy(_)
            | Action::SetCa(_)
            | Action::Floor(_)
            | Action::Zeroise(_) => Ok(()),
            Action::Prune(prune) => self.check_prune(prune),
            Action::SetProfile(_)
            | Action::GrantLicence(_)
            | Action::RevokeLicence(_)
            | Action::Spoil(_)
            | Action::EnrolToken(_)
            | Action::RevokeToken(_)
            | Action::ApproveList(_)
            | Action::EnrolClient(_)
            | Action::EndClient(_) => self.check_grant(action),
        }
    }

    fn check_new_key(&self, key: &KeyAttributes) -> Result<(), Refused> {
        if key.levels.len() > LEVELS_MAX || key.usage.is_empty() {
            return Err(Refused::new(
                Refusal::KeyAttributes,
                "a key has at most 3 derivation levels and at least one use",
            ));
        }
        if self.keys.contains_key(&key.id()) {
            let why = format!("{} exists already; a version number is never used again", key.id());
            return Err(Refused::new(Refusal::KeyExists, why));
        }
        Ok(())
    }
}

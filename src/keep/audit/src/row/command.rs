//! Commands and who approved them.

use serde_json::{Value, json};
use translog::entry::KeyMade;
use wire::cbor::Cbor as _;
use wire::command::{Action, Command, SignedCommand};
use wire::purse::to_hex;

use super::Row;

impl Row {
    /// A signed command: its words, its proposer first among those who approved it.
    pub(super) fn command(&mut self, bytes: &[u8]) -> Option<Command> {
        let Ok(signed) = SignedCommand::from_cbor(bytes) else {
            self.say("无法读取的命令", "a command that cannot be read");
            return None;
        };
        let approvals: Vec<String> = signed.approvals.iter().map(|one| one.officer.clone()).collect();
        let command = signed.open().ok()?;
        self.actors = vec![command.proposer.clone()];
        self.actors.extend(approvals.iter().filter(|name| **name != command.proposer).cloned());
        let (chinese, english) = command.action.in_words();
        self.say(chinese, english);
        self.fact("command", to_hex(&command.id));
        self.fact("proposer", command.proposer.as_str());
        self.fact("proposed_at", command.proposed_at);
        self.fact("officer_epoch", command.officer_epoch);
        self.fact("approvals", approvals);
        self.fact("action", name(&command.action));
        self.keys = keys(&command.action);
        Some(command)
    }

    pub(super) fn made(&mut self, made: &KeyMade) {
        self.fact("made", made_json(made));
    }
}

fn made_json(made: &KeyMade) -> Value {
    json!({
        "key": made.attributes.id().to_string(),
        "algorithm": made.attributes.algorithm.to_string(),
        "kcv": to_hex(&made.attributes.kcv),
        "sequence": made.sequence,
        "record": to_hex(&made.digest),
    })
}

/// Key versions that a command is about.
fn keys(action: &Action) -> Vec<String> {
    match action {
        Action::GenerateKey(key) => vec![key.id().to_string()],
        Action::ImportKey(import) => vec![import.attributes.id().to_string()],
        Action::SetKeyState(change) => vec![change.key.to_string()],
        Action::ResetBudget(reset) => reset.key.iter().map(ToString::to_string).collect(),
        Action::SetProfile(profile) => profile.roles.iter().map(|role| role.key.to_string()).collect(),
        Action::GrantLicence(licence) => vec![licence.transport.to_string()],
        _ => Vec::new(),
    }
}

/// The action's name, for filters and collectors.
pub(crate) fn name(action: &Action) -> &'static str {
    match action {
        Action::Genesis(_) => "genesis",
        Action::SetOfficers(_) => "set-officers",
        Action::GenerateKey(_) => "generate-key",
        Action::ImportKey(_) => "import-key",
        Action::SetKeyState(_) => "set-key-state",
        Action::SetPolicy(_) => "set-policy",
        Action::SetCa(_) => "set-ca",
        Action::ResetBudget(_) => "reset-budget",
        Action::SetLimits(_) => "set-limits",
        Action::Floor(_) => "floor",
        Action::Zeroise(_) => "zeroise",
        Action::SetProfile(_) => "set-profile",
        Action::GrantLicence(_) => "grant-licence",
        Action::RevokeLicence(_) => "revoke-licence",
        Action::Spoil(_) => "spoil",
        Action::EnrolToken(_) => "enrol-token",
        Action::RevokeToken(_) => "revoke-token",
        Action::ApproveList(_) => "approve-list",
        Action::EnrolClient(_) => "enrol-client",
        Action::EndClient(_) => "end-client",
        Action::SetWitnesses(_) => "set-witnesses",
        Action::Prune(_) => "prune",
    }
}

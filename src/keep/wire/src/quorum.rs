//! Whether enough officers signed a command: the one place that decides it, for the module and for auditors.

use crate::command::{Action, Command, Quorum, SignedCommand, signed_bytes};
use crate::error::{Refusal, Refused};

/// Reads the command and checks every approval against the officer set.
///
/// Every signature must be good, of a member, and his only one; at least m of them, and the proposer's is among them, so
/// that with m ≥ 2 somebody else approved too. Genesis names its own set, and all n of it must sign.
pub fn check(signed: &SignedCommand, officers: Option<&Quorum>) -> Result<Command, Refused> {
    let command = signed.open().map_err(|error| {
        Refused::new(Refusal::BadCommand, format!("the command's bytes are not canonical: {error}"))
    })?;
    if (command.version, command.suite) != (1, 1) {
        return Err(Refused::new(
            Refusal::BadCommand,
            "the command's format or suite is not one that this module knows",
        ));
    }
    let (set, needed) = match (&command.action, officers) {
        (Action::Genesis(genesis), _) => (&genesis.officers, genesis.officers.members.len() as u64),
        (_, Some(set)) => (set, set.threshold),
        (_, None) => {
            return Err(Refused::new(
                Refusal::WrongState,
                "before genesis there are no officers who could approve this",
            ));
        }
    };
    if !set.is_sound() {
        return Err(Refused::new(
            Refusal::BadSet,
            "an officer set needs 2 ≤ m ≤ n ≤ 32 and no name or key twice",
        ));
    }
    let bytes = signed_bytes(&signed.command);
    let mut seen: Vec<&str> = Vec::with_capacity(signed.approvals.len());
    for approval in &signed.approvals {
        let name = approval.officer.as_str();
        let member = set.member(name).ok_or_else(|| {
            Refused::new(Refusal::UnknownOfficer, format!("'{name}' is not in the officer set"))
        })?;
        if seen.contains(&name) {
            return Err(Refused::new(
                Refusal::SignedTwice,
                format!("'{name}' signed twice; every approval is one person"),
            ));
        }
        if !crate::seal::verify(&member.key, &bytes, &approval.signature) {
            return Err(Refused::new(
                Refusal::BadSignature,
                format!("the signature of '{name}' is not over this command; sign the command again"),
            ));
        }
        seen.push(name);
    }
    if (seen.len() as u64) < needed || !seen.contains(&command.proposer.as_str()) {
        let have = seen.len();
        return Err(Refused::new(
            Refusal::QuorumMissing,
            format!(
                "{have} of {needed} approvals, the proposer '{}' among them, are needed",
                command.proposer
            ),
        ));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::{Bytes, Cbor, Empty};
    use crate::command::{Approval, Member};
    use crate::seal::{generate, public_key, sign};
    use p256::SecretKey;

    struct Room {
        keys: Vec<SecretKey>,
        set: Quorum,
    }

    fn room() -> Room {
        let keys: Vec<SecretKey> = (0..3).map(|_| generate().unwrap()).collect();
        let members = keys.iter().zip(["li", "wang", "zhao"]);
        let members = members.map(|(key, name)| Member { name: name.into(), key: public_key(key) }).collect();
        Room { keys, set: Quorum { threshold: 2, members } }
    }

    fn command(proposer: &str) -> Vec<u8> {
        Command {
            version: 1,
            suite: 1,
            instance: [1; 16],
            officer_epoch: 1,
            id: [2; 16],
            not_before: 0,
            not_after: 9,
            proposed_at: 0,
            proposer: proposer.into(),
            action: Action::Zeroise(Empty {}),
        }
        .to_cbor()
    }

    fn signed(room: &Room, bytes: &[u8], who: &[usize]) -> SignedCommand {
        let approvals = who.iter().map(|at| Approval {
            officer: room.set.members[*at].name.clone(),
            signature: sign(&room.keys[*at], &signed_bytes(bytes)),
        });
        SignedCommand { command: Bytes(bytes.to_vec()), approvals: approvals.collect() }
    }

    fn refusal(room: &Room, signed: &SignedCommand) -> Option<Refusal> {
        check(signed, Some(&room.set)).err().map(|refused| refused.code)
    }

    #[test]
    fn two_persons_or_nothing() {
        let room = room();
        let bytes = command("li");
        assert_eq!(refusal(&room, &signed(&room, &bytes, &[0, 1])), None);
        assert_eq!(refusal(&room, &signed(&room, &bytes, &[0, 1, 2])), None);
        assert_eq!(refusal(&room, &signed(&room, &bytes, &[])), Some(Refusal::QuorumMissing));
        assert_eq!(refusal(&room, &signed(&room, &bytes, &[0])), Some(Refusal::QuorumMissing));
        assert_eq!(refusal(&room, &signed(&room, &bytes, &[0, 0])), Some(Refusal::SignedTwice));
        assert_eq!(
            refusal(&room, &signed(&room, &bytes, &[1, 2])),
            Some(Refusal::QuorumMissing),
            "not the proposer"
        );
        let mut other = signed(&room, &bytes, &[0, 1]);
        other.command = Bytes(command("wang"));
        assert_eq!(refusal(&room, &other), Some(Refusal::BadSignature), "approval of other bytes");
        let mut stranger = signed(&room, &bytes, &[0, 1]);
        stranger.approvals[1].officer = "sun".into();
        assert_eq!(refusal(&room, &stranger), Some(Refusal::UnknownOfficer));
        let mut one_bad_of_three = signed(&room, &bytes, &[0, 1, 2]);
        one_bad_of_three.approvals[2].signature[0] ^= 1;
        assert_eq!(refusal(&room, &one_bad_of_three), Some(Refusal::BadSignature));
    }
}

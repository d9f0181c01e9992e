//! The making of an instance, for people and for the rehearsal alike: who decides and who holds is written down, all
//! officers sign it, and what the module answers is checked against what they signed.

use std::path::Path;

use serde::Deserialize;
use wire::cbor::{Bytes, Cbor};
use wire::command::{Action, Command, Digest, Genesis, Member, PublicKey, Quorum};
use wire::share::ShareCertificate;

use crate::ceremony;
use crate::failure::Failure;
use crate::files;
use crate::keyfile::Key;
use crate::shares::{self, Holding};
use crate::words::from_hex;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u64,
    rehearsal: bool,
    origin: String,
    officers: SetRow,
    custodians: SetRow,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetRow {
    threshold: u64,
    members: Vec<MemberRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberRow {
    name: String,
    key: String,
}

/// Reads the plan of an instance (TOML, closed): who decides, who holds.
pub(crate) fn read_plan(
    path: &Path,
    policy: Digest,
    ca: Digest,
    identity: PublicKey,
) -> Result<Genesis, Failure> {
    let text = files::read_text(path, "the plan")?;
    let plan = parse_plan(&text).map_err(|why| {
        let path = path.display();
        Failure::new(
            format!("实例计划 {path} 有误;请按英文说明改正。"),
            format!("{path}: {why}; correct the plan"),
        )
    })?;
    Ok(Genesis { policy, ca, identity, node: ceremony::fresh_id()?, ..plan })
}

fn parse_plan(text: &str) -> Result<Genesis, String> {
    let plan: Document = toml::from_str(text).map_err(|error| error.to_string())?;
    if plan.format != 1 {
        return Err(format!("format {} is not one that this program knows", plan.format));
    }
    Ok(Genesis {
        origin: plan.origin,
        node: [0; 16],
        rehearsal: plan.rehearsal,
        officers: set(&plan.officers, "officers")?,
        custodians: set(&plan.custodians, "custodians")?,
        policy: [0; 32],
        ca: [0; 32],
        identity: [0; 33],
    })
}

fn set(row: &SetRow, what: &str) -> Result<Quorum, String> {
    let member = |(at, member): (usize, &MemberRow)| {
        let key = from_hex(&member.key)
            .ok_or_else(|| format!("{what}.members[{at}].key: not the 66 hex digits that keygen prints"));
        key.map(|key| Member { name: member.name.clone(), key })
    };
    let members = row.members.iter().enumerate().map(member).collect::<Result<_, _>>()?;
    let set = Quorum { threshold: row.threshold, members };
    if set.is_sound() {
        Ok(set)
    } else {
        Err(format!("{what}: 2 ≤ threshold ≤ members ≤ 32, and no name or key twice"))
    }
}

/// The genesis in a command.
pub(crate) fn of(command: &Command) -> Result<&Genesis, Failure> {
    match &command.action {
        Action::Genesis(genesis) => Ok(genesis),
        _ => Err(Failure::new(
            "这不是创世命令;请给出创世命令文件。",
            "this is no genesis command; give the command file of the genesis",
        )),
    }
}

/// The certificate that the module gave must be one of what the officers signed.
pub(crate) fn holding(command: &Command, certificate: Vec<u8>) -> Result<Holding, Failure> {
    let genesis = of(command)?;
    let set = ShareCertificate::from_cbor(&certificate).and_then(|certificate| certificate.open());
    let members = &genesis.custodians.members;
    match set {
        Ok(set)
            if (set.version, set.suite, set.epoch) == (1, 1, 1)
                && set.instance == command.instance
                && set.threshold == genesis.custodians.threshold
                && set.slots.len() == members.len()
                && (1..).zip(&set.slots).zip(members).all(|((index, slot), member)| {
                    slot.index == index && slot.custodian == member.name && slot.key == member.key
                }) =>
        {
            Ok(Holding { pinned: genesis.identity, certificate, set })
        }
        _ => Err(Failure::new(
            "模块给出的份额证书与签署的创世命令不符;请停止。",
            "the share certificate is not one of the genesis that the officers signed; stop, and look at the module",
        )),
    }
}

/// A custodian's own box among those that the module gave.
pub(crate) fn own_box<'a>(
    holding: &Holding,
    boxes: &'a [Bytes],
    custodian: &Key,
) -> Result<&'a [u8], Failure> {
    let slot = shares::slot(&holding.set, custodian)?;
    let place = holding.set.slots.iter().position(|other| other.index == slot.index);
    let own = place.and_then(|place| boxes.get(place));
    own.map(|bytes| bytes.0.as_slice()).ok_or_else(|| {
        let name = &custodian.name;
        Failure::new(
            format!("模块没有给出 {name} 的份额;请重新创世。"),
            format!("the module gave no share for {name}; start the genesis again"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> String {
        let member = |name: &str, digit: u8| {
            format!("{{ name = \"{name}\", key = \"{}\" }}", format!("{digit:02x}").repeat(33))
        };
        let members = |names: [&str; 2], from: u8| {
            names.iter().zip(from..).map(|(name, digit)| member(name, digit)).collect::<Vec<_>>().join(", ")
        };
        format!(
            "format = 1\nrehearsal = false\norigin = \"weihai.example/keep\"\n[officers]\nthreshold = 2\nmembers = [{}]\n\
             [custodians]\nthreshold = 2\nmembers = [{}]\n",
            members(["li", "wang"], 2),
            members(["zhou", "wu"], 4)
        )
    }

    #[test]
    fn a_plan_is_closed_and_sound() {
        let genesis = parse_plan(&plan()).unwrap();
        assert_eq!(genesis.officers.members[1].name, "wang");
        assert_eq!(genesis.custodians.members[0].key, [4; 33]);
        for (from, to, named) in [
            ("format = 1", "format = 2", "format 2"),
            ("origin", "origins", "origins"),
            ("threshold = 2", "threshold = 1", "officers: 2 ≤"),
            ("\"wang\"", "\"li\"", "officers: 2 ≤"),
            ("\"wu\"", "\"zhou\"", "custodians: 2 ≤"),
            ("0303", "03", "officers.members[1].key"),
        ] {
            let error = parse_plan(&plan().replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(named), "{from}: {error}");
        }
    }
}

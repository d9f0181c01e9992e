//! The persons of a rehearsal, with their keys and passphrases, which are no secret.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wire::command::Quorum;

use super::place::{Place, Room};
use crate::failure::{Failure, OrFail};
use crate::files;
use crate::keyfile::{self, Key, Role};
use crate::script::{Script, Set};
use crate::secret::Passphrase;

const FIRST_LINE: &str = "# REHEARSAL 演练: the keys of a rehearsal are no secret; never use them for anything real. 演练密钥不是秘密,不得用于生产。";

/// Who plays.
#[derive(Debug, Default)]
pub(crate) struct Cast {
    pub(crate) officers: Vec<Key>,
    pub(crate) custodians: Vec<Key>,
}

impl Cast {
    /// Opens the keys of an earlier run.
    pub(crate) fn open(place: &Place, script: &Script) -> Result<Self, Failure> {
        let room = place.ceremony();
        let passphrases = Passphrases::read(&room)?;
        let open = |set: &Set, role: Role| {
            let keys = set.names.iter().map(|name| {
                let path = match role {
                    Role::Officer => room.officer(name),
                    Role::Custodian | Role::Authority => room.custodian(name),
                };
                keyfile::read(&path)?.open(&passphrases.of(name)?)?.needs(role)
            });
            keys.collect::<Result<Vec<Key>, Failure>>()
        };
        Ok(Self {
            officers: open(&script.officers, Role::Officer)?,
            custodians: open(&script.custodians, Role::Custodian)?,
        })
    }
}

/// m of these keys.
pub(crate) fn quorum(set: &Set, keys: &[Key]) -> Quorum {
    Quorum { threshold: set.threshold, members: keys.iter().map(Key::member).collect() }
}

/// Makes the keys of one set; their passphrases go into the rehearsal's file first.
pub(crate) fn enrol(room: &Room, set: &Set, role: Role) -> Result<Vec<Key>, Failure> {
    let mut passphrases = match role {
        Role::Officer => Passphrases::default(),
        Role::Custodian | Role::Authority => Passphrases::read(room)?,
    };
    for name in &set.names {
        passphrases.add(name)?;
    }
    passphrases.write(room)?;
    let keys = set.names.iter().map(|name| {
        let path = match role {
            Role::Officer => room.officer(name),
            Role::Custodian | Role::Authority => room.custodian(name),
        };
        keyfile::create(&path, name, role, true, &passphrases.of(name)?)
    });
    keys.collect()
}

/// `name: passphrase`, a line each.
#[derive(Default)]
struct Passphrases(BTreeMap<String, String>);

impl Passphrases {
    fn read(room: &Room) -> Result<Self, Failure> {
        let path = room.passphrases();
        let bytes = files::read_private(&path, "the rehearsal's passphrases")?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let mut lines = text.lines();
        let pairs = lines.next().filter(|first| *first == FIRST_LINE).and_then(|_| {
            lines
                .map(|line| line.split_once(": ").map(|(name, phrase)| (name.to_owned(), phrase.to_owned())))
                .collect::<Option<BTreeMap<_, _>>>()
        });
        pairs.map(Self).ok_or_else(|| {
            let path = path.display();
            Failure::new(
                format!("{path} 已损坏;请换一个目录重新演练。"),
                format!("{path} is not a rehearsal's passphrase file; rehearse in a new directory"),
            )
        })
    }

    fn write(&self, room: &Room) -> Result<(), Failure> {
        let mut text = format!("{FIRST_LINE}\n");
        for (name, phrase) in &self.0 {
            let _ = writeln!(text, "{name}: {phrase}");
        }
        files::replace(&room.passphrases(), text.as_bytes(), files::PRIVATE)
    }

    fn add(&mut self, name: &str) -> Result<(), Failure> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).or_fail("系统随机数不可用。", "the system gives no random bytes")?;
        self.0.insert(name.to_owned(), format!("rehearsal-{}", wire::purse::to_hex(&random)));
        Ok(())
    }

    fn of(&self, name: &str) -> Result<Passphrase, Failure> {
        let phrase = self.0.get(name).ok_or_else(|| {
            Failure::new(
                format!("演练口令中没有 {name};脚本与第一次演练时不同。"),
                format!("the rehearsal knows no {name}; play the script of the first run"),
            )
        })?;
        Passphrase::new(phrase.as_bytes())
    }
}

//! The register beside the authority (SPEC.md §Register of clients' certificates): every certificate and every revocation
//! list that it signed, one JSON object a line, in order. What is not written there is not given out.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wire::purse::to_hex;

use crate::failure::{Failure, OrFail};
use crate::files;

/// Some ten thousand certificates.
const REGISTER_MAX: usize = 64 << 20;

/// A line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Row {
    /// The first line: whose register it is.
    Authority(Whose),
    /// A certificate.
    Issued(Issued),
    /// A revocation list.
    List(List),
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    format: String,
    /// SHA-256 of the authority's certificate, DER, hex.
    certificate: String,
}

const FORMAT: &str = "citykeep clients register v1";

/// A certificate that was signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issued {
    /// Serial number, hex.
    pub(crate) serial: String,
    /// SPIFFE id.
    pub(crate) client: String,
    /// SHA-256 of its key, hex, as the log names it.
    pub(crate) key: String,
    /// Unix seconds at which it was signed.
    pub(crate) at: u64,
    /// Unix seconds of its last moment.
    pub(crate) not_after: u64,
    /// PEM.
    pub(crate) certificate: String,
}

/// A revocation list that was signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    /// Its number: higher each time.
    pub(crate) number: u64,
    /// Unix seconds at which it was signed.
    pub(crate) at: u64,
    /// Unix seconds by which the next one must be there.
    pub(crate) next: u64,
    /// What it names.
    pub(crate) revoked: Vec<Revoked>,
    /// Ended keys of which it was said that they were never certified, hex.
    pub(crate) uncertified: Vec<String>,
}

/// A revoked certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revoked {
    /// Serial number, hex.
    pub(crate) serial: String,
    /// Unix seconds of the first list that names it.
    pub(crate) since: u64,
    /// What the officers said.
    pub(crate) reason: String,
}

/// A line of the register as it was before it said whose it is.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Old {
    serial: String,
    client: String,
    key: String,
    not_after: u64,
}

/// The register of one authority.
#[derive(Debug)]
pub(crate) struct Register {
    path: PathBuf,
    rows: Vec<Row>,
    /// Its directory, locked from before it was read: it is written as a whole, and two who write would lose a line.
    _lock: Option<File>,
}

impl Register {
    /// Reads the register of the authority with this certificate (DER), for this process alone; one that is not there is begun.
    pub(crate) fn open(path: &Path, certificate: &[u8]) -> Result<Self, Failure> {
        let whose = Row::Authority(Whose {
            format: FORMAT.to_owned(),
            certificate: to_hex(&Sha256::digest(certificate)),
        });
        let lock = lock(path)?;
        if !path.exists() {
            return Ok(Self { path: path.to_owned(), rows: vec![whose], _lock: Some(lock) });
        }
        let mut register = Self { _lock: Some(lock), ..Self::read(path)? };
        if let Some(Row::Issued(_)) = register.rows.first() {
            // Written before registers had a head: it becomes this authority's with its next line.
            register.rows.insert(0, whose.clone());
        }
        if register.rows.first() != Some(&whose) {
            let path = path.display();
            return Err(Failure::new(
                format!("名录 {path} 属于另一个 CA;请用本 CA 的名录。"),
                format!("the register {path} is of another authority; bring the one of this certificate"),
            ));
        }
        Ok(register)
    }

    /// Reads a register, whosever it is.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = files::read_at_most(path, "the register", REGISTER_MAX)?;
        let rows = std::str::from_utf8(&bytes).ok().and_then(parse).ok_or_else(|| {
            let path = path.display();
            Failure::new(
                format!("证书名录 {path} 已损坏;请从备份恢复。"),
                format!("the register {path} is damaged, or of another format; restore it from its backup"),
            )
        })?;
        Ok(Self { path: path.to_owned(), rows, _lock: None })
    }

    /// Every certificate, oldest first.
    pub(crate) fn issued(&self) -> impl Iterator<Item = &Issued> {
        self.rows.iter().filter_map(|row| match row {
            Row::Issued(issued) => Some(issued),
            Row::Authority(_) | Row::List(_) => None,
        })
    }

    /// The newest list.
    pub(crate) fn list(&self) -> Option<&List> {
        self.rows.iter().rev().find_map(|row| match row {
            Row::List(list) => Some(list),
            Row::Authority(_) | Row::Issued(_) => None,
        })
    }

    /// The clock, unless it stands before what was signed already: certificates would last too long, and a list would
    /// look older than the one before it.
    pub(crate) fn time(&self, now: u64) -> Result<u64, Failure> {
        let latest = self.rows.iter().map(|row| match row {
            Row::Authority(_) => 0,
            Row::Issued(issued) => issued.at,
            Row::List(list) => list.at,
        });
        if latest.max().unwrap_or_default() <= now {
            return Ok(now);
        }
        Err(Failure::new(
            "本机时钟早于名录中最后一次签发;请校正时钟。",
            "this machine's clock stands before the last line of the register; set it right",
        ))
    }

    /// Adds a certificate, durably, unless it is there.
    pub(crate) fn add_issued(&mut self, issued: Issued) -> Result<(), Failure> {
        if self.issued().any(|row| row.serial == issued.serial) {
            return Ok(());
        }
        self.add(Row::Issued(issued))
    }

    /// Adds a list, durably.
    pub(crate) fn add_list(&mut self, list: List) -> Result<(), Failure> {
        self.add(Row::List(list))
    }

    fn add(&mut self, row: Row) -> Result<(), Failure> {
        self.rows.push(row);
        let text = text(&self.rows).or_fail("证书名录无法写出。", "the register has no text")?;
        files::replace(&self.path, text.as_bytes(), files::PUBLIC)
    }
}

fn lock(path: &Path) -> Result<File, Failure> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let failed =
        ("名录所在目录不可用。", format!("the register's directory {} cannot be opened", folder.display()));
    let lock = File::open(folder).or_fail(failed.0, &failed.1)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::new(
            "另一个 keyceremony client 正在使用名录;请等它结束后重试。",
            "another keyceremony client works on the register; wait until it has ended, then say this again",
        )
    })?;
    Ok(lock)
}

fn text(rows: &[Row]) -> serde_json::Result<String> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    Ok(text)
}

/// Closed, and one text for one meaning, so that nothing in the file goes unseen.
fn parse(read: &str) -> Option<Vec<Row>> {
    if read.starts_with("{\"serial\"") {
        return parse_old(read);
    }
    let rows: Vec<Row> = read.lines().map(|line| serde_json::from_str(line).ok()).collect::<Option<_>>()?;
    let (first, rest) = rows.split_first()?;
    let sound = matches!(first, Row::Authority(whose) if whose.format == FORMAT)
        && !rest.iter().any(|row| matches!(row, Row::Authority(_)));
    let mut numbers = rest.iter().filter_map(|row| match row {
        Row::List(list) => Some(list.number),
        Row::Authority(_) | Row::Issued(_) => None,
    });
    let counts_up = numbers.try_fold(0, |last, number| (number > last).then_some(number)).is_some();
    (sound && counts_up && text(&rows).ok()? == read).then_some(rows)
}

fn parse_old(read: &str) -> Option<Vec<Row>> {
    let mut again = String::new();
    let mut rows = Vec::new();
    for line in read.lines() {
        let old: Old = serde_json::from_str(line).ok()?;
        again.push_str(&serde_json::to_string(&old).ok()?);
        again.push('\n');
        let Old { serial, client, key, not_after } = old;
        // When it was signed, and its bytes, were not kept.
        rows.push(Row::Issued(Issued { serial, client, key, at: 0, not_after, certificate: String::new() }));
    }
    (again == read).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn issued(serial: &str, at: u64) -> Issued {
        Issued {
            serial: serial.into(),
            client: "spiffe://weihai.example/perso/line-1".into(),
            key: "5A".repeat(32),
            at,
            not_after: at + 1000,
            certificate: "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n".into(),
        }
    }

    fn list(number: u64, at: u64, serials: &[&str]) -> List {
        let revoked = serials.iter().map(|serial| Revoked {
            serial: (*serial).to_owned(),
            since: at,
            reason: "密钥遗失 lost".into(),
        });
        List { number, at, next: at + 100, revoked: revoked.collect(), uncertified: vec!["5B".repeat(32)] }
    }

    fn golden() -> Vec<Row> {
        let certificate = to_hex(&Sha256::digest(b"authority"));
        vec![
            Row::Authority(Whose { format: FORMAT.into(), certificate }),
            Row::List(list(1, 1_790_000_000, &[])),
            Row::Issued(issued("41000000000000000000000000000001", 1_790_000_100)),
            Row::List(list(2, 1_790_000_200, &["41000000000000000000000000000001"])),
        ]
    }

    #[test]
    fn the_golden_register_is_read_and_written_the_same() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clients/register-v1");
        if std::env::var_os("CITYKEEP_BLESS").is_some() && !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text(&golden()).unwrap()).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(parse(&kept).unwrap(), golden());
        assert_eq!(text(&golden()).unwrap(), kept);
    }

    #[test]
    fn what_was_added_is_there_and_nothing_else_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("register");
        let mut register = Register::open(&path, b"authority").unwrap();
        register.add_issued(issued("41", 5)).unwrap();
        register.add_list(list(1, 6, &["41"])).unwrap();
        let failure = Register::open(&path, b"authority").unwrap_err().to_string();
        assert!(failure.contains("another keyceremony client"), "two who write lose a line: {failure}");
        drop(register);
        let again = Register::open(&path, b"authority").unwrap();
        assert_eq!(again.issued().count(), 1);
        assert_eq!(again.list(), Some(&list(1, 6, &["41"])));
        assert_eq!(again.time(6).unwrap(), 6);
        assert!(again.time(5).unwrap_err().to_string().contains("clock"));
        drop(again);
        let failure = Register::open(&path, b"another").unwrap_err().to_string();
        assert!(failure.contains("another authority"), "{failure}");
        let good = fs::read_to_string(&path).unwrap();
        let (head, _) = good.split_once('\n').unwrap();
        for (what, bad) in [
            ("cut off", good.trim_end().to_owned()),
            ("a line cut off", good[..good.len() - 9].to_owned()),
            ("a blank", good.replacen(":5,", ": 5,", 1)),
            ("a field more", good.replacen("\"number\":1", "\"number\":1,\"x\":1", 1)),
            ("a list twice", format!("{good}{}\n", good.lines().last().unwrap())),
            ("no head", good.split_once('\n').unwrap().1.to_owned()),
            ("two heads", format!("{head}\n{good}")),
            ("empty", String::new()),
        ] {
            assert!(parse(&bad).is_none(), "{what}");
        }
    }
}

//! A job: asks batch by batch, keeps what came, goes on after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use client::Client;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wire::api::{CardBody, CardKeysAnswer, CardKeysRequest, LicenceBody};
use wire::frame::CARDS_MAX;
use wire::licence::{CardSerial, serial_number, serial_of};
use wire::purse::{bcd, hex, to_hex};

use crate::chips::Chips;
use crate::journal::{Journal, Row};

/// What a job is asked to make.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs)]
pub struct JobParameters {
    /// Format, 1.
    pub format: u64,
    /// Licence id, 32 hex digits.
    pub licence: String,
    /// `sealed` or `tr31`.
    pub form: String,
    /// First card number, 20 digits.
    pub first: String,
    /// Cards, one number after the other.
    pub count: u64,
    /// Cards per request, 1 to 128.
    pub batch: u64,
    /// SHA-256 of `chips.csv`, 64 hex digits, for cards whose keys derive with the chip's factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chips: Option<String>,
}

/// Why a job does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Another process works on it.
    #[error("another process works on this job ({0}); wait for it, or stop it")]
    Busy(PathBuf),
    /// The table of chip factors, in Chinese and English.
    #[error("{1}")]
    Chips(String, String),
    /// Files do not do what they must.
    #[error("{0}; look after the disk, then run the job again: it goes on where it was")]
    File(String),
    /// The journal was changed.
    #[error(
        "the journal {0} is damaged before its last line; do not go on: ask the officers what the licence has counted"
    )]
    Journal(PathBuf),
    /// The parameters make no job, or another one than this directory's.
    #[error("{0}")]
    Parameters(String),
    /// The service refused or is gone.
    #[error(transparent)]
    Service(#[from] client::Error),
    /// What came is not what was asked.
    #[error("THE ANSWER IS WRONG: {0}; use none of these keys and tell the operator")]
    Answer(String),
}

impl JobError {
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::File(format!("{}: {error}", path.display()))
    }
}

/// What a job has come to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Report {
    /// The licence before this run and after it.
    pub licence: String,
    /// Cards wanted.
    pub wanted: u64,
    /// Cards in the files.
    pub done: u64,
    /// Whether all of them are there.
    pub complete: bool,
    /// First and last card in the files.
    pub first: Option<String>,
    /// Last card in the files.
    pub last: Option<String>,
    /// Batches.
    pub batches: u64,
    /// Log entries of the batches.
    pub indices: Vec<u64>,
    /// The licence's quantity.
    pub quantity: u64,
    /// Its count now.
    pub issued: u64,
    /// Of these spoiled.
    pub spoiled: u64,
    /// What it has left.
    pub left: u64,
}

/// An open job.
#[derive(Debug)]
pub struct Job {
    dir: PathBuf,
    parameters: JobParameters,
    first: u128,
    chips: Option<Chips>,
    journal: Journal,
}

impl Job {
    /// Begins a job in a new or empty directory, or goes on with the same job. `chips` is a table of `serial,factor` rows, one
    /// for each card, for applets that derive with the chip's factor; all of it is read before anything is asked for.
    pub fn begin(dir: &Path, parameters: &JobParameters, chips: Option<&str>) -> Result<Self, JobError> {
        let first = check(parameters)?;
        let chips = chips.map(|text| Chips::read(text, first, parameters.count)).transpose()?;
        let table = chips.map(|chips| chips.text(first));
        let parameters = &JobParameters { chips: table.as_deref().map(sha256_hex), ..parameters.clone() };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir.join("keys"))
            .map_err(|error| JobError::file(dir, &error))?;
        let path = dir.join("job.json");
        if path.exists() {
            let known = read_parameters(&path)?;
            if known != *parameters {
                return Err(JobError::Parameters(format!(
                    "{} is another job (licence {}, {} cards from {}, {}); give this one a directory of its own",
                    dir.display(),
                    known.licence,
                    known.count,
                    known.first,
                    if known.chips.is_some() { "chip factors of its own" } else { "without chip factors" }
                )));
            }
        } else {
            // job.json last: it names what lies beside it.
            if let Some(table) = table {
                write_durably(&dir.join(CHIPS), table.as_bytes())?;
            }
            let text =
                serde_json::to_vec_pretty(parameters).map_err(|error| JobError::File(error.to_string()))?;
            write_durably(&path, &text)?;
        }
        Self::resume(dir)
    }

    /// Goes on with the job of this directory.
    pub fn resume(dir: &Path) -> Result<Self, JobError> {
        let parameters = read_parameters(&dir.join("job.json"))?;
        let first = check(&parameters)?;
        let chips =
            parameters.chips.as_deref().map(|digest| read_chips(dir, digest, first, parameters.count));
        let chips = chips.transpose()?;
        let journal = Journal::open(&dir.join("journal"))?;
        let job = Self { dir: dir.to_owned(), parameters, first, chips, journal };
        for row in job.journal.rows() {
            let path = job.keys(row.number);
            let bytes = fs::read(&path).map_err(|error| JobError::file(&path, &error))?;
            if <[u8; 32]>::from(Sha256::digest(&bytes)) != row.file {
                let why = format!("{} is not the file that the journal names", path.display());
                return Err(JobError::File(why));
            }
        }
        Ok(job)
    }

    /// What was asked.
    pub fn parameters(&self) -> &JobParameters {
        &self.parameters
    }

    /// Cards that are done.
    pub fn done(&self) -> u64 {
        self.journal.rows().iter().map(|row| row.cards).sum()
    }

    /// Serials of the cards that are done, with the log entry that names each.
    pub fn cards(&self) -> impl Iterator<Item = (CardSerial, u64)> + '_ {
        self.journal.rows().iter().flat_map(move |row| {
            let first = number(&row.first).unwrap_or_default();
            (0..row.cards).filter_map(move |at| Some((serial_of(first + u128::from(at))?, row.index)))
        })
    }

    /// Asks for everything that is not done yet; `progress` hears of done and wanted.
    pub async fn run(&mut self, client: &Client, mut progress: impl FnMut(u64, u64)) -> Result<(), JobError> {
        let (count, batch) = (self.parameters.count, self.parameters.batch);
        loop {
            let done = self.done();
            progress(done, count);
            if done >= count {
                return Ok(());
            }
            let cards = batch.min(count - done);
            match self.batch(client, done, cards).await {
                // A request is refused whole: what the licence still has is made before the job ends.
                Err(JobError::Service(client::Error::Refused(problem)))
                    if problem.code == "licence-used-up" && cards > 1 =>
                {
                    let left = client.licence(&self.parameters.licence).await?.left;
                    if left == 0 || left >= cards {
                        return Err(JobError::Service(client::Error::Refused(problem)));
                    }
                    self.batch(client, done, left).await?;
                }
                outcome => outcome?,
            }
        }
    }

    async fn batch(&mut self, client: &Client, done: u64, cards: u64) -> Result<(), JobError> {
        let serial = |at: u64| {
            let serial = serial_of(self.first + u128::from(done + at));
            serial.map(|serial| to_hex(&serial)).ok_or_else(|| {
                JobError::Parameters("the job's card numbers run beyond 20 digits; ask for fewer".to_owned())
            })
        };
        let serials = (0..cards).map(serial).collect::<Result<Vec<_>, _>>()?;
        let chip = |at: u64| self.chips.as_ref().and_then(|chips| chips.at(done + at));
        let body = |(at, serial): (u64, &String)| CardBody {
            serial: serial.clone(),
            chip: chip(at),
            challenge: None,
        };
        let request = CardKeysRequest {
            licence: self.parameters.licence.clone(),
            form: self.parameters.form.clone(),
            roles: Vec::new(),
            cards: (0..).zip(&serials).map(body).collect(),
        };
        let answer = client.card_keys(&request).await?;
        let digest = digest(&answer)?;
        let bytes = key_file(&answer)?;
        let number = self.journal.rows().len() as u64 + 1;
        write_durably(&self.keys(number), &bytes)?;
        let row = Row {
            number,
            first: serials.first().cloned().unwrap_or_default(),
            cards,
            index: answer.index,
            issued: answer.issued,
            digest,
            file: Sha256::digest(&bytes).into(),
        };
        self.journal.add(row).map_err(|error| JobError::file(&self.dir.join("journal"), &error))
    }

    /// Writes and gives the report, with what the licence says now.
    pub fn report(&self, licence: &LicenceBody) -> Result<Report, JobError> {
        let cards = self.done();
        let serial = |at: u128| serial_of(at).map(|serial| to_hex(&serial));
        let report = Report {
            licence: licence.id.clone(),
            wanted: self.parameters.count,
            done: cards,
            complete: cards == self.parameters.count,
            first: (cards > 0).then(|| serial(self.first)).flatten(),
            last: (cards > 0).then(|| serial(self.first + u128::from(cards) - 1)).flatten(),
            batches: self.journal.rows().len() as u64,
            indices: self.journal.rows().iter().map(|row| row.index).collect(),
            quantity: licence.quantity,
            issued: licence.issued,
            spoiled: licence.spoiled,
            left: licence.left,
        };
        let text = serde_json::to_vec_pretty(&report).map_err(|error| JobError::File(error.to_string()))?;
        write_durably(&self.dir.join("report.json"), &text)?;
        Ok(report)
    }

    fn keys(&self, number: u64) -> PathBuf {
        self.dir.join("keys").join(format!("{number:06}.jsonl"))
    }
}

/// The job's copy of the chip factors.
const CHIPS: &str = "chips.csv";

fn sha256_hex(text: &str) -> String {
    to_hex(&Sha256::digest(text))
}

fn read_chips(dir: &Path, digest: &str, first: u128, count: u64) -> Result<Chips, JobError> {
    let path = dir.join(CHIPS);
    let text = fs::read_to_string(&path).map_err(|error| JobError::file(&path, &error))?;
    if sha256_hex(&text) == digest {
        Chips::read(&text, first, count)
    } else {
        Err(JobError::File(format!("{} is not the file that job.json names", path.display())))
    }
}

pub(crate) fn number(text: &str) -> Option<u128> {
    bcd::<10>(text.as_bytes()).and_then(|serial| serial_number(&serial))
}

/// The number of the job's first card, if the parameters make a job.
fn check(parameters: &JobParameters) -> Result<u128, JobError> {
    let bad = |why: &str| Err(JobError::Parameters(why.to_owned()));
    if parameters.format != 1 {
        return bad("the job's format is not 1; use the program that made it");
    }
    if hex::<16>(parameters.licence.as_bytes()).is_none() {
        return bad("a licence id has 32 hex digits");
    }
    if !["sealed", "tr31"].contains(&parameters.form.as_str()) {
        return bad(
            "a line's form is sealed or tr31; write-key needs the card's challenge, so it goes card by card",
        );
    }
    if parameters.count == 0 || !(1..=CARDS_MAX as u64).contains(&parameters.batch) {
        return bad("a job makes at least one card, 1 to 128 per request");
    }
    number(&parameters.first).map_or_else(|| bad("a card number has 20 digits"), Ok)
}

fn read_parameters(path: &Path) -> Result<JobParameters, JobError> {
    let text = fs::read(path).map_err(|error| JobError::file(path, &error))?;
    serde_json::from_slice(&text)
        .map_err(|error| JobError::Parameters(format!("{}: {error}", path.display())))
}

/// SHA-256 over serial ‖ KCVs, card by card; what the service says must be what came.
fn digest(answer: &CardKeysAnswer) -> Result<[u8; 32], JobError> {
    let wrong = || JobError::Answer("a card number or check value cannot be read".to_owned());
    let mut hash = Sha256::new();
    for card in &answer.cards {
        hash.update(bcd::<10>(card.serial.as_bytes()).ok_or_else(wrong)?);
        for key in &card.keys {
            hash.update(hex::<3>(key.kcv.as_bytes()).ok_or_else(wrong)?);
        }
    }
    let found: [u8; 32] = hash.finalize().into();
    if hex(answer.digest.as_bytes()) == Some(found) {
        Ok(found)
    } else {
        Err(JobError::Answer("the digest is not that of these cards and check values".to_owned()))
    }
}

#[derive(Serialize)]
struct Head<'a> {
    licence: &'a str,
    form: &'a str,
    index: u64,
    roles: &'a [wire::api::CardRoleBody],
}

fn key_file(answer: &CardKeysAnswer) -> Result<Vec<u8>, JobError> {
    let mut bytes = Vec::new();
    let CardKeysAnswer { licence, form, index, roles, cards, .. } = answer;
    let mut line = |value: serde_json::Result<Vec<u8>>| {
        bytes.extend(value.map_err(|error| JobError::File(error.to_string()))?);
        bytes.push(b'\n');
        Ok::<(), JobError>(())
    };
    line(serde_json::to_vec(&Head { licence, form, index: *index, roles }))?;
    cards.iter().try_for_each(|card| line(serde_json::to_vec(card)))?;
    Ok(bytes)
}

/// Beside, synced, renamed, directory synced: whole or not there.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), JobError> {
    let failed = |error: std::io::Error| JobError::file(path, &error);
    let side = path.with_extension("part");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&side).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&side, path).map_err(failed)?;
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> JobParameters {
        JobParameters {
            format: 1,
            licence: "00112233445566778899AABBCCDDEEFF".to_owned(),
            form: "tr31".to_owned(),
            first: "00003701000040000000".to_owned(),
            count: 2,
            batch: 128,
            chips: None,
        }
    }

    const CHIPS: &str = "00003701000040000001,0102030405060709\n00003701000040000000,0102030405060708\n";

    #[test]
    fn a_job_keeps_its_chip_factors() {
        let dir = tempfile::tempdir().unwrap();
        let begin = |chips: Option<&str>| Job::begin(dir.path(), &parameters(), chips);
        let job = begin(Some(CHIPS)).unwrap();
        let chip = |job: &Job, at| job.chips.as_ref().and_then(|chips| chips.at(at));
        assert_eq!(chip(&job, 1).unwrap(), "0102030405060709");
        drop(job);
        // The same table in another order is the same job; other factors, or none, are another one.
        begin(Some(CHIPS.lines().rev().collect::<Vec<_>>().join("\n").as_str())).unwrap();
        for other in [Some(CHIPS.replace("09\n", "0A\n")), None] {
            assert!(matches!(begin(other.as_deref()), Err(JobError::Parameters(_))), "{other:?}");
        }
        assert_eq!(chip(&Job::resume(dir.path()).unwrap(), 0).unwrap(), "0102030405060708");
        let path = dir.path().join(super::CHIPS);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("0709", "070A")).unwrap();
        let Err(JobError::File(why)) = Job::resume(dir.path()) else { panic!("a changed table") };
        assert!(why.contains("chips.csv is not the file"), "{why}");
    }

    #[test]
    fn a_table_that_is_wrong_leaves_no_job() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("job");
        let short = CHIPS.lines().next();
        assert!(matches!(Job::begin(&place, &parameters(), short), Err(JobError::Chips(..))));
        assert!(!place.exists());
    }

    #[test]
    fn a_job_from_before_chip_factors_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"format":1,"licence":"00112233445566778899AABBCCDDEEFF","form":"tr31","first":"00003701000040000000","count":2,"batch":128}"#;
        fs::write(dir.path().join("job.json"), old).unwrap();
        assert_eq!(Job::resume(dir.path()).unwrap().parameters(), &parameters());
        assert_eq!(serde_json::to_string(&parameters()).unwrap(), old);
    }
}

//! One line of a settlement file, proved to somebody who has nothing else of it (SPEC.md §Line proof).

use std::path::Path as FilePath;

use serde_json::{Value, json};
use translog::entry::{BatchEvent, BatchTotal, Entry, Event};
use translog::policy::Policy;
use translog::proof::TlogProof;
use translog::tree::{leaf_hash, verify_inclusion};
use wire::batch::{BatchHeader, Group, RECORD_LEN, Record, Verdict};
use wire::cbor::Cbor as _;
use wire::purse::{F1Line, hex, to_hex};
use wire::tree16::{self, Hash, Path};

use crate::cli::CheckLine;
use crate::failure::{Failure, Said};
use crate::place;
use crate::row::instant;

/// Why a line is not proved.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Unproved(pub String);

impl std::fmt::Display for Unproved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn unproved<T>(why: impl Into<String>) -> Result<T, Unproved> {
    Err(Unproved(why.into()))
}

/// One line, its verdict, and the way from both to a signed head.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct LineProof {
    /// From 1, as in the verdict file.
    pub line: u64,
    /// The line without its LF.
    pub bytes: Vec<u8>,
    /// What the module said.
    pub verdict: Verdict,
    /// The batch's header: key and issuers of its groups.
    pub header: BatchHeader,
    /// From the line's leaf to the batch's top.
    pub path: Path,
    /// The entry that closed the batch.
    pub entry: Vec<u8>,
    /// The entry's tlog-proof.
    pub proof: String,
}

/// What a proof shows, once it is found good.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shown {
    /// Log.
    pub origin: String,
    /// The entry.
    pub index: u64,
    /// Its time by the module's clock, nanoseconds since 1970.
    pub wall_ns: u64,
    /// Who sent the batch.
    pub client: String,
    /// The batch.
    pub batch: [u8; 16],
    /// Lines in it.
    pub lines: u64,
    /// Who cosigned the head and when.
    pub witnesses: Vec<(String, u64)>,
}

impl LineProof {
    /// The text form.
    pub fn to_json(&self) -> Value {
        let hashes = |hashes: &[Hash]| hashes.iter().map(|hash| to_hex(hash)).collect::<Vec<_>>();
        let levels = self.path.levels().iter();
        let mut object = json!({
            "format": 1,
            "line": self.line,
            "verdict": self.verdict.as_str(),
            "header": to_hex(&self.header.to_bytes()),
            "path": levels.map(|(before, after)| [hashes(before), hashes(after)]).collect::<Vec<_>>(),
            "entry": to_hex(&self.entry),
            "proof": self.proof,
        });
        // A person reads the line itself; what is no plain text comes in hexadecimal.
        let plain = self.bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
        let text = str::from_utf8(&self.bytes).ok().filter(|_| plain);
        if let Some(object) = object.as_object_mut() {
            match text {
                Some(text) => object.insert("text".into(), json!(text)),
                None => object.insert("bytes".into(), json!(to_hex(&self.bytes))),
            };
        }
        object
    }

    /// Reads the text form: every field once, nothing besides.
    pub fn parse(text: &str) -> Result<Self, Unproved> {
        Self::read(text).ok_or_else(|| {
            Unproved("it is no line proof; give the file that `citykeep receipt show-line` wrote".to_owned())
        })
    }

    fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let object = value.as_object().filter(|object| object.len() == 8)?;
        let string = |name: &str| object.get(name)?.as_str();
        (object.get("format")?.as_u64()? == 1).then_some(())?;
        let bytes = match (string("text"), string("bytes")) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(text)) => unhex(text)?,
            _ => return None,
        };
        let hashes = |value: &Value| -> Option<Vec<Hash>> {
            value.as_array()?.iter().map(|hash| hex(hash.as_str()?.as_bytes())).collect()
        };
        let levels = object.get("path")?.as_array()?.iter().map(|level| match level.as_array()?.as_slice() {
            [before, after] => Some((hashes(before)?, hashes(after)?)),
            _ => None,
        });
        Some(Self {
            line: object.get("line")?.as_u64()?,
            bytes,
            verdict: Verdict::from_name(string("verdict")?)?,
            header: BatchHeader::parse(&unhex(string("header")?)?).ok()?,
            path: Path::from_levels(levels.collect::<Option<_>>()?),
            entry: unhex(string("entry")?)?,
            proof: string("proof")?.to_owned(),
        })
    }

    /// Checks everything: that the line gives this record, that record and verdict are at this place of the batch, that the
    /// entry closed this batch, and that the entry is in a log that the policy trusts.
    pub fn check(&self, policy: &Policy) -> Result<Shown, Unproved> {
        let proof = TlogProof::parse(&self.proof).or_else(|error| unproved(error.to_string()))?;
        let vouched = policy.open(&proof.checkpoint).or_else(|error| unproved(error.to_string()))?;
        let head = &vouched.head;
        if !verify_inclusion(&leaf_hash(&self.entry), proof.index, head.size, &proof.path, &head.root) {
            return unproved("its log entry is not in the signed log: the entry or the proof was changed");
        }
        let entry = Entry::from_cbor(&self.entry).or_else(|_| unproved("its log entry cannot be read"))?;
        let Event::Batch(event) = &entry.event else {
            return unproved("its log entry is of no batch");
        };
        let Some(total) = event.total.as_ref().filter(|_| !event.aborted && entry.seq == proof.index) else {
            return unproved("its log entry does not close a batch");
        };
        self.check_batch(event, total)?;
        Ok(Shown {
            origin: head.origin.clone(),
            index: proof.index,
            wall_ns: entry.wall_ns,
            client: event.client.clone(),
            batch: event.batch,
            lines: total.records,
            witnesses: vouched.witnesses,
        })
    }

    fn check_batch(&self, event: &BatchEvent, total: &BatchTotal) -> Result<(), Unproved> {
        let header = &self.header;
        if (header.profile, &header.lineage) != (event.profile, &event.lineage) {
            return unproved("its header is of another kind of batch or another key than the log entry");
        }
        if self.path.index(total.records).map(|index| index + 1) != Some(self.line) {
            return unproved(
                "its path is not that of this line of the file: another line, or the path was changed",
            );
        }
        let top = self.path.top(tree16::leaf(&self.record()?, self.verdict));
        if tree16::root(total.records, &header.to_bytes(), &top) != total.root {
            return unproved("line and verdict are not those that were checked: something of it was changed");
        }
        Ok(())
    }

    /// The record that the line gives under the header.
    fn record(&self) -> Result<[u8; RECORD_LEN], Unproved> {
        let profile = self.header.profile;
        let Some(line) = F1Line::parse(&self.bytes) else {
            return Ok(Record::malformed(&self.bytes, profile));
        };
        let wanted = Group { version: line.version, issuer: line.issuer };
        let row = self.header.groups.iter().position(|group| *group == wanted);
        match row.and_then(|row| u16::try_from(row).ok()) {
            Some(row) => Ok(line.record(row).to_bytes(profile)),
            None => unproved("its header has no group of the line's key version and issuer"),
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| hex(pair).map(|[byte]: [u8; 1]| byte)).collect()
}

/// `audit check-line`
pub(crate) fn run(arguments: &CheckLine) -> Result<Said, Failure> {
    let path: &FilePath = &arguments.proof;
    let policy = place::trusted(&arguments.anchor)?;
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::untried(format!("{}: cannot read the proof ({error}); check the path", path.display()))
    })?;
    let proved = LineProof::parse(&text).and_then(|proof| proof.check(&policy).map(|shown| (proof, shown)));
    let (proof, shown) = proved.map_err(|unproved| {
        let path = path.display();
        Failure::no_result("line", format!("证明无效 THE LINE IS NOT PROVED: {path}: {unproved}"))
    })?;
    Ok(Said { lines: lines(&proof, &shown), json: object(&proof, &shown) })
}

/// What a good proof says, for people.
pub fn lines(proof: &LineProof, shown: &Shown) -> Vec<String> {
    let text = String::from_utf8_lossy(&proof.bytes).replace(char::is_control, "\u{fffd}");
    let witnesses: Vec<String> = shown
        .witnesses
        .iter()
        .map(|(name, time)| format!("{name} {}", instant(time.saturating_mul(1_000_000_000))))
        .collect();
    let witnesses = if witnesses.is_empty() { "无 none".to_owned() } else { witnesses.join(", ") };
    vec![
        format!(
            "证明有效 proved: line {} of a file of {} lines was checked, verdict {}",
            proof.line, shown.lines, proof.verdict
        ),
        format!("原文 line      {text}"),
        format!("客户 client    {}", shown.client),
        format!("批次 batch     {}, {}", to_hex(&shown.batch), instant(shown.wall_ns)),
        format!("日志 log       {} entry {}", shown.origin, shown.index),
        format!("见证 witness   {witnesses}"),
    ]
}

/// The same for programs.
pub fn object(proof: &LineProof, shown: &Shown) -> Value {
    json!({
        "ok": true,
        "line": proof.line,
        "lines": shown.lines,
        "verdict": proof.verdict.as_str(),
        "client": shown.client,
        "batch": to_hex(&shown.batch),
        "time": instant(shown.wall_ns),
        "origin": shown.origin,
        "log_index": shown.index,
        "witnesses": shown.witnesses.iter().map(|(name, time)| json!({"name": name, "time": time})).collect::<Vec<_>>(),
    })
}

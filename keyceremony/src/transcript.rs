//! The transcript: what was said and done, for paper and for the next restart. The log heads in it are signed notes, so
//! that a floor can be taken from them (SPEC.md §Transcript).

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use translog::note::{Checkpoint, VerifierKey, open_checkpoint};
use translog::proof::TlogProof;
use wire::api::Receipt;

use crate::failure::{Failure, OrFail};
use crate::files;
use crate::words::hex_bytes;

/// Lines of a signed note stand behind this.
const QUOTE: &str = "| ";
const QUOTE_EMPTY: &str = "|";

/// Ends a note: one that a crash cut off has no end, and is no note.
const QUOTE_END: &str = "|.";

/// Writes to the terminal and to the transcript; a line that the transcript did not take is an error, a closed terminal
/// is not.
#[derive(Debug)]
pub(crate) struct Tee<W> {
    file: File,
    terminal: W,
}

impl<W: Write> Tee<W> {
    pub(crate) fn append(path: &Path, terminal: W) -> Result<Self, Failure> {
        let what = format!("the transcript {} cannot be opened", path.display());
        let file = OpenOptions::new().read(true).append(true).create(true).mode(files::PUBLIC).open(path);
        let mut file = file.or_fail("无法打开记录文件。", &what)?;
        end_line(&mut file).or_fail("无法打开记录文件。", &what)?;
        Ok(Self { file, terminal })
    }
}

/// A crash may have cut off the last line; what comes now starts on its own.
fn end_line(file: &mut File) -> std::io::Result<()> {
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_all(bytes)?;
        let _ = self.terminal.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.sync_data()?;
        let _ = self.terminal.flush();
        Ok(())
    }
}

/// A signed head as it stands in the transcript.
pub(crate) fn quote(note: &str) -> Vec<String> {
    let quoted = |line: &str| match line {
        "" => QUOTE_EMPTY.to_owned(),
        line => format!("{QUOTE}{line}"),
    };
    note.lines().map(quoted).chain([QUOTE_END.to_owned()]).collect()
}

/// The signed notes in a transcript.
fn quoted_notes(text: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = String::new();
    for line in text.lines() {
        match line.strip_prefix(QUOTE) {
            Some(part) => note.extend([part, "\n"]),
            None if line == QUOTE_EMPTY => note.push('\n'),
            None if line == QUOTE_END => notes.push(std::mem::take(&mut note)),
            None => note.clear(),
        }
    }
    notes
}

/// Where a log head can be taken from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Evidence<'a> {
    Receipt(&'a str),
    Transcript(&'a str),
    Checkpoint(&'a str),
}

/// The newest head in the evidence, `None` if there is none. Every head must be signed by the log's key: one that is not
/// sinks the whole, since somebody wrote it there.
pub(crate) fn newest(evidence: &[Evidence<'_>], vkey: &VerifierKey) -> Result<Option<Checkpoint>, Failure> {
    let mut newest: Option<Checkpoint> = None;
    for head in heads(evidence, vkey)? {
        match &newest {
            Some(best) if best.size == head.size && best.root != head.root => {
                return Err(Failure::new(
                    format!("有两个 {} 条的日志头,根不同:日志被分叉;请停止并通知审计员。", head.size),
                    format!(
                        "two signed heads of {} entries have different roots: the log was forked; stop and call the auditor",
                        head.size
                    ),
                ));
            }
            Some(best) if best.size >= head.size => {}
            _ => newest = Some(head),
        }
    }
    Ok(newest)
}

fn heads(evidence: &[Evidence<'_>], vkey: &VerifierKey) -> Result<Vec<Checkpoint>, Failure> {
    let mut heads = Vec::new();
    for source in evidence {
        match source {
            Evidence::Receipt(text) => heads.push(receipt_head(text, vkey)?),
            Evidence::Checkpoint(note) => heads.push(open(note, vkey, "checkpoint 日志头")?),
            Evidence::Transcript(text) => {
                for note in quoted_notes(text) {
                    heads.push(open(&note, vkey, "transcript 记录")?);
                }
            }
        }
    }
    Ok(heads)
}

fn open(note: &str, vkey: &VerifierKey, what: &str) -> Result<Checkpoint, Failure> {
    let opened = open_checkpoint(note, vkey).map(|head| head.checkpoint().clone());
    opened.map_err(|error| forged(what, &error.to_string()))
}

fn receipt_head(text: &str, vkey: &VerifierKey) -> Result<Checkpoint, Failure> {
    let what = "receipt 回执";
    let receipt: Receipt = serde_json::from_str(text).map_err(|error| forged(what, &error.to_string()))?;
    let entry = hex_bytes(&receipt.entry).ok_or_else(|| forged(what, "its entry is not hex"))?;
    let proof = TlogProof::parse(&receipt.proof).map_err(|error| forged(what, &error.to_string()))?;
    let head = proof.verify(vkey, &entry).map_err(|error| forged(what, &error.to_string()))?;
    Ok(head.checkpoint().clone())
}

fn forged(what: &str, why: &str) -> Failure {
    Failure::new(
        format!("{what} 中的日志头未由本实例的日志公钥签署;不能据此认可,请核对文件来源。"),
        format!(
            "a head in the {what} is not signed by this instance's log key ({why}): nothing is vouched for; find out where the file comes from"
        ),
    )
}

#[cfg(test)]
mod tests;

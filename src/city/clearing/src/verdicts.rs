//! The verdict file: `line,verdict`, one row per line of the day.

use wire::api::CSV_HEADER;
use wire::batch::Verdict;

use crate::output::{Output, OutputError};

/// Why a file is not a verdict file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerdictsError {
    /// The first row is not the header.
    #[error("the first row is not `line,verdict`; give the file that `citykeep clear verify` wrote")]
    Header,
    /// A row that is not the next line and a verdict.
    #[error(
        "row {0} is not `{0},` and a verdict; the file was changed or cut, use the one that was written with the receipt"
    )]
    Row(u64),
}

/// Writes the verdicts.
pub fn write_verdicts(output: &Output, verdicts: impl Iterator<Item = Verdict>) -> Result<(), OutputError> {
    output.write(|file| {
        writeln!(file, "{CSV_HEADER}")?;
        for (line, verdict) in (1_u64..).zip(verdicts) {
            writeln!(file, "{line},{verdict}")?;
        }
        Ok(())
    })
}

/// Reads what [`write_verdicts`] wrote.
pub fn read_verdicts(text: &str) -> Result<Vec<Verdict>, VerdictsError> {
    let mut rows = text.lines();
    if rows.next() != Some(CSV_HEADER) {
        return Err(VerdictsError::Header);
    }
    (1_u64..)
        .zip(rows)
        .map(|(line, row)| {
            let verdict = row.split_once(',').filter(|(number, _)| number.parse() == Ok(line));
            verdict.and_then(|(_, name)| by_name(name)).ok_or(VerdictsError::Row(line))
        })
        .collect()
}

fn by_name(name: &str) -> Option<Verdict> {
    Verdict::ALL.iter().copied().find(|verdict| verdict.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let output = Output::claim(&path, &[]).unwrap();
        write_verdicts(&output, Verdict::ALL.iter().copied()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "line,verdict\n1,ok\n2,bad_tac\n3,unknown_key\n4,malformed\n5,withheld\n");
        assert_eq!(read_verdicts(&text).unwrap(), Verdict::ALL);
        write_verdicts(&output, std::iter::empty()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line,verdict\n");
    }

    #[test]
    fn files_that_are_none() {
        for (text, why) in [
            ("", VerdictsError::Header),
            ("1,ok\n", VerdictsError::Header),
            ("line,verdict\n2,ok\n", VerdictsError::Row(1)),
            ("line,verdict\n1,ok\n1,ok\n", VerdictsError::Row(2)),
            ("line,verdict\n1,good\n", VerdictsError::Row(1)),
            ("line,verdict\n1\n", VerdictsError::Row(1)),
        ] {
            assert_eq!(read_verdicts(text), Err(why), "{text:?}");
        }
    }
}

//! How verdicts leave: bytes with a JSON line at the end, or rows of CSV.

use bytes::{BufMut, Bytes, BytesMut};
use wire::api::{BATCH_TYPE, CSV_HEADER, CSV_TYPE, Receipt, Trailer};
use wire::batch::Verdict;

use crate::problem::Refusal;

/// The shape of an answer.
#[derive(Debug)]
pub(crate) enum Shape {
    /// One byte per record, then the trailer.
    Binary,
    /// `line,verdict`; the number of the next line.
    Csv(u64),
}

impl Shape {
    pub(crate) fn media_type(&self) -> &'static str {
        match self {
            Self::Binary => BATCH_TYPE,
            Self::Csv(_) => CSV_TYPE,
        }
    }

    /// What stands before the first verdict.
    pub(crate) fn head(&self) -> Option<Bytes> {
        match self {
            Self::Binary => None,
            Self::Csv(_) => Some(format!("{CSV_HEADER}\n").into()),
        }
    }

    pub(crate) fn verdicts(&mut self, verdicts: Bytes) -> Bytes {
        let Self::Csv(line) = self else { return verdicts };
        // A number of up to 20 digits is rare; 16 bytes a row mostly do.
        let mut rows = BytesMut::with_capacity(verdicts.len() * 16);
        let mut digits = [0; 20];
        for verdict in verdicts.iter().filter_map(|byte| Verdict::from_byte(*byte)) {
            rows.put_slice(decimal(*line, &mut digits));
            rows.put_u8(b',');
            rows.put_slice(verdict.as_str().as_bytes());
            rows.put_u8(b'\n');
            *line += 1;
        }
        rows.freeze()
    }

    /// What stands behind the last verdict of a batch that stands.
    pub(crate) fn receipt(&self, receipt: Receipt) -> Option<Bytes> {
        match self {
            Self::Binary => Some(json_line(&Trailer::Receipt(Box::new(receipt)))),
            // Its receipt is fetched by the id in the head.
            Self::Csv(_) => None,
        }
    }

    /// The last words of a batch that does not stand.
    pub(crate) fn failure(&self, refusal: &Refusal) -> Bytes {
        match self {
            Self::Binary => json_line(&Trailer::Problem(refusal.problem())),
            Self::Csv(_) => format!("error,{}\n", refusal.code()).into(),
        }
    }
}

fn json_line(trailer: &Trailer) -> Bytes {
    let mut line = serde_json::to_vec(trailer).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut len = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        len += 1;
        if number == 0 {
            break;
        }
    }
    digits.last_chunk::<20>().and_then(|all| all.get(20 - len..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_rows_go_on_across_frames() {
        let mut shape = Shape::Csv(1);
        let all: Vec<u8> = (0..100_000_u32).map(|number| u8::try_from(number % 5).unwrap()).collect();
        let mut text = String::new();
        for part in all.chunks(777) {
            text.push_str(std::str::from_utf8(&shape.verdicts(Bytes::copy_from_slice(part))).unwrap());
        }
        let names = ["ok", "bad_tac", "unknown_key", "malformed", "withheld"];
        let expected = |at: usize| format!("{},{}", at + 1, names[at % 5]);
        assert_eq!(text.lines().count(), all.len());
        for (at, row) in text.lines().enumerate() {
            assert_eq!(row, expected(at));
        }
    }

    #[test]
    fn numbers() {
        for number in [0, 1, 9, 10, 99, 100, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}

//! Both kinds of body, as records that wait to be sent.

use bytes::{Buf, Bytes, BytesMut};
use wire::batch::{BatchError, BatchHeader, Group, RECORD_LEN};

use super::f1::{F1, TooManyGroups};
use crate::body::Reader;
use crate::problem::{Refusal, table};
use crate::rope::Rope;

/// Where records come from.
#[derive(Debug)]
pub(crate) enum Intake {
    /// Record bytes as they are.
    Binary {
        /// Received and not yet sent.
        rope: Rope,
        /// The header's table, until it is sent.
        groups: Vec<Group>,
    },
    /// Lines of a day.
    F1(Box<F1>),
}

impl Intake {
    pub(crate) fn feed(&mut self, part: Bytes) -> Result<(), Refusal> {
        match self {
            Self::Binary { rope, .. } => {
                rope.push(part);
                Ok(())
            }
            Self::F1(f1) => Ok(f1.feed(&part)?),
        }
    }

    /// The body is over.
    pub(crate) fn finish(&mut self) -> Result<(), Refusal> {
        match self {
            Self::Binary { rope, .. } if rope.len() % RECORD_LEN != 0 => Err(cut_short()),
            Self::Binary { .. } => Ok(()),
            Self::F1(f1) => Ok(f1.finish()?),
        }
    }

    pub(crate) fn ready(&self) -> usize {
        match self {
            Self::Binary { rope, .. } => rope.len() / RECORD_LEN,
            Self::F1(f1) => f1.ready(),
        }
    }

    pub(crate) fn take(&mut self, records: usize) -> Rope {
        match self {
            Self::Binary { rope, .. } => rope.split_front(records * RECORD_LEN),
            Self::F1(f1) => {
                let mut rope = Rope::default();
                rope.push(f1.take(records));
                rope
            }
        }
    }

    /// Rows of the group table that the module does not have yet.
    pub(crate) fn fresh_groups(&mut self) -> Vec<Group> {
        match self {
            Self::Binary { groups, .. } => std::mem::take(groups),
            Self::F1(f1) => f1.fresh_groups(),
        }
    }
}

impl From<TooManyGroups> for Refusal {
    fn from(_: TooManyGroups) -> Self {
        Self::because(
            &table::BATCH_GROUPS,
            "The day has more than 65535 pairs of key version and issuer; split it.",
        )
    }
}

fn cut_short() -> Refusal {
    Refusal::bad_batch(format_args!(
        "The batch does not end at a record of {RECORD_LEN} bytes; send whole records."
    ))
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        Self::bad_batch(format_args!("{error}; see wire's SPEC.md, Batch."))
    }
}

/// Reads the header of a binary batch; what came behind it is in the rope. A length that does not fit is refused before
/// anything is read.
pub(crate) async fn read_header(
    reader: &mut Reader,
    length: Option<u64>,
) -> Result<(BatchHeader, Rope), Refusal> {
    let mut start = BytesMut::new();
    loop {
        let wanted = BatchHeader::length(&start)?;
        if let Some(wanted) = wanted {
            let records = length.map(|length| length.checked_sub(wanted as u64));
            if let Some(records) = records
                && records.is_none_or(|records| records % RECORD_LEN as u64 != 0)
            {
                return Err(cut_short());
            }
            if start.len() >= wanted {
                let mut rest = start.split_off(wanted);
                let mut rope = Rope::default();
                rope.push(rest.copy_to_bytes(rest.len()));
                return Ok((BatchHeader::parse(&start)?, rope));
            }
        }
        match reader.next().await? {
            Some(part) => start.extend_from_slice(&part),
            None => return Err(BatchError::Truncated.into()),
        }
    }
}

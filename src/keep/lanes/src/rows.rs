//! The rows that lanes read: what a caller has, without a copy of it.

/// Bytes of a row in [`crate::verify`]: the length of a batch record.
pub const ROW: usize = 40;
/// What lanes beyond the last read.
const NOBODY: [u8; ROW] = [0; ROW];

/// The rows of one call: all of a slice, or those that a list picks, in its order.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    rows: &'a [[u8; ROW]],
    picks: Option<&'a [u32]>,
}

impl<'a> Rows<'a> {
    /// Every row.
    pub(crate) const fn all(rows: &'a [[u8; ROW]]) -> Self {
        Self { rows, picks: None }
    }

    /// The rows at these places. `None` if one lies outside.
    pub(crate) fn picked(rows: &'a [[u8; ROW]], picks: &'a [u32]) -> Option<Self> {
        // No early end: the loop vectorizes.
        let most = picks.iter().fold(0, |most, pick| most.max(*pick));
        (picks.is_empty() || (most as usize) < rows.len()).then_some(Self { rows, picks: Some(picks) })
    }

    /// Lanes.
    pub(crate) const fn len(&self) -> usize {
        match self.picks {
            Some(picks) => picks.len(),
            None => self.rows.len(),
        }
    }

    /// The row of a lane; zeros beyond the last.
    #[inline(always)]
    pub(crate) fn row(&self, lane: usize) -> &'a [u8; ROW] {
        let at = match self.picks {
            Some(picks) => picks.get(lane).map(|pick| *pick as usize),
            None => Some(lane),
        };
        at.and_then(|at| self.rows.get(at)).unwrap_or(&NOBODY)
    }

    /// The rows of `N` lanes, looked up once.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn many<const N: usize>(&self, first: usize) -> [&'a [u8; ROW]; N] {
        let mut out = [&NOBODY; N];
        match self.picks {
            Some(picks) => {
                for (out, pick) in out.iter_mut().zip(picks.get(first..).unwrap_or_default()) {
                    if let Some(row) = self.rows.get(*pick as usize) {
                        *out = row;
                    }
                }
            }
            None => {
                for (out, row) in out.iter_mut().zip(self.rows.get(first..).unwrap_or_default()) {
                    *out = row;
                }
            }
        }
        out
    }
}

/// The sixteen bytes from `AT` on of a row.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn part<const AT: usize>(row: &[u8; ROW]) -> &[u8; 16] {
    const { assert!(AT + 16 <= ROW) };
    let Some(part) = row[AT..].first_chunk() else { unreachable!("a part lies in its row") };
    part
}

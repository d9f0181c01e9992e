//! Which units of the region are free. Kept outside the region, so that an overflow inside cannot forge it.

/// Free runs in order of their start; two runs never touch, so that a freed neighbour is found at once.
#[derive(Debug)]
pub(crate) struct FreeList {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    start: usize,
    units: usize,
}

impl FreeList {
    pub(crate) fn new(units: usize) -> Self {
        Self { runs: vec![Run { start: 0, units }] }
    }

    /// First fit: the low end stays dense, long runs survive at the high end.
    pub(crate) fn take(&mut self, units: usize) -> Option<usize> {
        let at = self.runs.iter().position(|run| run.units >= units)?;
        let run = self.runs.get_mut(at)?;
        let start = run.start;
        run.start += units;
        run.units -= units;
        if run.units == 0 {
            self.runs.remove(at);
        }
        Some(start)
    }

    pub(crate) fn give(&mut self, start: usize, units: usize) {
        let at = self.runs.partition_point(|run| run.start < start);
        let end = start + units;
        let after = self.runs.get(at).filter(|run| run.start == end).map(|run| run.units);
        let before =
            at.checked_sub(1).and_then(|i| self.runs.get_mut(i)).filter(|run| run.start + run.units == start);
        match (before, after) {
            (Some(run), Some(more)) => {
                run.units += units + more;
                self.runs.remove(at);
            }
            (Some(run), None) => run.units += units,
            (None, Some(more)) => {
                if let Some(run) = self.runs.get_mut(at) {
                    *run = Run { start, units: units + more };
                }
            }
            (None, None) => self.runs.insert(at, Run { start, units }),
        }
    }

    pub(crate) fn free_units(&self) -> usize {
        self.runs.iter().map(|run| run.units).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::FreeList;

    #[test]
    fn neighbours_merge_in_every_order() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut list = FreeList::new(30);
            let starts = [list.take(10), list.take(10), list.take(10)].map(Option::unwrap);
            assert_eq!((starts, list.take(1)), ([0, 10, 20], None));
            for (given, at) in order.into_iter().enumerate() {
                list.give(starts[at], 10);
                assert_eq!(list.free_units(), 10 * (given + 1));
            }
            assert_eq!(list.runs.len(), 1, "{order:?}");
            assert_eq!(list.take(30), Some(0), "{order:?}");
        }
    }

    #[test]
    fn a_hole_that_is_too_short_is_skipped() {
        let mut list = FreeList::new(10);
        let (hole, wall) = (list.take(2).unwrap(), list.take(1).unwrap());
        list.give(hole, 2);
        assert_eq!(list.take(3), Some(wall + 1));
        assert_eq!(list.take(2), Some(hole));
    }
}

//! `audit show`

use translog::audit::Watch;
use translog::entry::Entry;
use translog::state::LogState;

use crate::cli::{Form, Show};
use crate::failure::{Failure, Said};
use crate::place;
use crate::render;
use crate::row::Row;
use crate::spool::Spool;

pub(crate) fn run(arguments: &Show) -> Result<Said, Failure> {
    let spool = Spool::new().map_err(|error| no_spool(&error))?;
    let mut rows = Rows { arguments, spool, shown: 0, failed: None };
    let (_, log) = place::verified(&arguments.which, &mut rows)?;
    if let Some(error) = rows.failed {
        return Err(no_spool(&error));
    }
    rows.spool.release(&mut std::io::stdout().lock()).map_err(|error| no_spool(&error))?;
    if arguments.form == Form::Table {
        eprintln!("{} / {} 条 entries, 日志有效 the log is good", rows.shown, log.size);
    }
    Ok(Said::nothing())
}

/// Rows that cannot be kept or printed.
pub(crate) fn no_spool(error: &std::io::Error) -> Failure {
    Failure::no_result(
        "file",
        format!("the rows cannot be kept until the log is proved ({error}); make room under TMPDIR"),
    )
}

struct Rows<'a> {
    arguments: &'a Show,
    spool: Spool,
    shown: u64,
    failed: Option<std::io::Error>,
}

impl Watch for Rows<'_> {
    fn entry(&mut self, state: &LogState, entry: &Entry) {
        let kinds = &self.arguments.filter.kind;
        if self.failed.is_some()
            || (!kinds.is_empty() && !kinds.iter().any(|kind| kind == entry.event.kind()))
        {
            return;
        }
        let row = Row::of(entry);
        if row.fits(&self.arguments.filter) {
            let origin = state.instance().map(|instance| instance.origin.as_str()).unwrap_or_default();
            self.shown += 1;
            self.failed = self.spool.line(&render::line(&row, self.arguments.form, origin)).err();
        }
    }
}

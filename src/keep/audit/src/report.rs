//! `audit report`

mod chart;
mod page;
mod story;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::cli::Report;
use crate::failure::{Failure, Said, unwritten};
use crate::place;
use crate::row::instant;
use crate::verify;

pub(crate) fn run(arguments: &Report) -> Result<Said, Failure> {
    let mut story = story::Story::default();
    let (verifier, log) = place::verified(&arguments.which, &mut story)?;
    let policy = place::trusted(&arguments.which.trust.anchor)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = instant(u64::try_from(now.as_nanos()).unwrap_or_default());
    let facts = page::Facts {
        story: &story,
        log: &log,
        policy: &policy,
        state: verifier.state(),
        source: &arguments.which.log,
        now: &now,
    };
    let html = page::html(&facts).into_string();
    let out = &arguments.out;
    std::fs::write(out, &html).map_err(|error| unwritten(out, &error))?;
    let mut lines = vec![format!("报告 report    {}", out.display())];
    lines.extend(verify::lines(&log));
    let mut object = verify::object(&log);
    if let Some(object) = object.as_object_mut() {
        object.insert("report".into(), json!(out.display().to_string()));
        object.insert("refusals".into(), json!(story.refusals.values().map(|one| one.count).sum::<u64>()));
        object.insert("privileged".into(), json!(story.acts.len()));
        object.insert("gaps".into(), json!(story.gaps.all));
        object.insert("clock_steps".into(), json!(story.steps.all));
    }
    Ok(Said { lines, json: object })
}

//! `citykeep receipt verify`

use std::path::Path;

use clearing::{Day, read_verdicts};
use client::receipt::{Pinned, Recount, check, check_log};
use serde_json::json;
use wire::api::Receipt;
use wire::batch::RECORD_LEN;

use crate::cli::ReceiptVerify;
use crate::failure::Failure;
use crate::files;
use crate::report::{Report, counts, warnings};

pub(crate) fn verify(arguments: &ReceiptVerify) -> Result<Report, Failure> {
    let text = files::read_text(&arguments.receipt, "the receipt")?;
    let receipt: Receipt = serde_json::from_str(&text).map_err(|error| {
        Failure::no_result(
            "receipt",
            format!(
                "{}: no receipt ({error}); give the file that came with the verdicts",
                arguments.receipt.display()
            ),
        )
    })?;
    let pinned = Pinned { log: files::read_vkey(&arguments.vkey)?, instance: None };
    check_log(&receipt, &pinned).map_err(|error| wrong(&error))?;
    let lines_checked = match (&arguments.day, &arguments.verdicts) {
        (Some(day), Some(verdicts)) => {
            check_lines(&receipt, &pinned, day, verdicts)?;
            true
        }
        _ => false,
    };
    Ok(report(&receipt, lines_checked))
}

fn check_lines(receipt: &Receipt, pinned: &Pinned, day: &Path, verdicts: &Path) -> Result<(), Failure> {
    let rows = read_verdicts(&files::read_text(verdicts, "the verdicts")?)
        .map_err(|error| Failure::no_result("verdicts", format!("{}: {error}", verdicts.display())))?;
    let day = Day::read(day, &files::lineage(&receipt.lineage)?)
        .map_err(|error| Failure::untried(error.to_string()))?;
    if rows.len() as u64 != day.lines() {
        let text = format!(
            "the day has {} lines, the verdict file {}: they do not belong together",
            day.lines(),
            rows.len()
        );
        return Err(Failure::no_result("verdicts", text));
    }
    let mut recount = Recount::new(day.header());
    let records = day.records();
    for (record, verdict) in records.as_chunks::<RECORD_LEN>().0.iter().zip(rows) {
        recount.add(record, verdict);
    }
    check(receipt, day.header(), &recount.totals(), pinned).map_err(|error| wrong(&error))
}

fn wrong(error: &client::receipt::ReceiptError) -> Failure {
    Failure::no_result(
        "receipt",
        format!("THE RECEIPT IS NOT GOOD: {error}; tell the operator and the auditor"),
    )
}

fn report(receipt: &Receipt, lines_checked: bool) -> Report {
    let index = receipt.indices.last().copied().unwrap_or_default();
    let mut lines = vec![if lines_checked {
        "回执有效 good: the log has this batch, of exactly these lines with exactly these verdicts".to_owned()
    } else {
        "回执有效 good: the log has a batch with this root and these counts; give --day and --verdicts to check the lines too"
            .to_owned()
    }];
    lines.extend(counts(receipt));
    lines.extend(warnings(receipt));
    lines.push(format!("回执 receipt   {}", receipt.batch));
    lines.push(format!("客户 client    {}", receipt.client));
    lines.push(format!("日志 log       {} entry {index}", receipt.origin));
    Report {
        lines,
        json: json!({
            "ok": true,
            "lines_checked": lines_checked,
            "batch": receipt.batch,
            "client": receipt.client,
            "origin": receipt.origin,
            "log_index": index,
            "records": receipt.records,
            "counts": receipt.counts,
            "versions": receipt.versions,
            "root": receipt.root,
        }),
    }
}

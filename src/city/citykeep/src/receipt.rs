//! `citykeep receipt`

use std::path::Path;

use audit::line::{LineProof, lines, object};
use clearing::{Day, Output, OutputError, read_verdicts};
use client::receipt::{Pinned, Recount, check, check_log};
use serde_json::json;
use translog::policy::{Policy, Vouched};
use translog::proof::TlogProof;
use wire::api::Receipt;
use wire::batch::{RECORD_LEN, Verdict};
use wire::purse::{F1Line, f1_lines};
use wire::tree16::{self, Path as TreePath};

use crate::cli::{ReceiptShowLine, ReceiptVerify};
use crate::failure::Failure;
use crate::files;
use crate::report::{Report, counts, warnings};

pub(crate) fn verify(arguments: &ReceiptVerify) -> Result<Report, Failure> {
    let policy = trusted(&arguments.anchor)?;
    let receipt = read(&arguments.receipt)?;
    let (pinned, vouched) = vouched(&receipt, &policy)?;
    check_log(&receipt, &pinned).map_err(|error| wrong(&error))?;
    let lines_checked = match (&arguments.day, &arguments.verdicts) {
        (Some(day), Some(verdicts)) => {
            let day = files::day(day, &files::lineage(&receipt.lineage)?)?;
            check_lines(&receipt, &pinned, &day, &verdicts_of(&day, verdicts)?)?;
            true
        }
        _ => false,
    };
    Ok(report(&receipt, &vouched, lines_checked))
}

/// The receipt is checked against the whole file before anything is proved with it.
pub(crate) fn show_line(arguments: &ReceiptShowLine) -> Result<Report, Failure> {
    let policy = trusted(&arguments.anchor)?;
    let receipt = read(&arguments.receipt)?;
    let (pinned, _) = vouched(&receipt, &policy)?;
    check_log(&receipt, &pinned).map_err(|error| wrong(&error))?;
    let file = &arguments.file;
    let bytes = std::fs::read(file).map_err(|error| {
        let zh = format!("{}: 无法读取,请检查路径和权限。", file.display());
        Failure::untried(zh, format!("cannot read the file ({error}); check the path"))
    })?;
    let day = Day::from_bytes(&bytes, &files::lineage(&receipt.lineage)?)
        .map_err(|error| files::bad_day(&error))?;
    let verdicts = match &arguments.verdicts {
        Some(path) => verdicts_of(&day, path)?,
        None => told_by(&receipt, &bytes)?,
    };
    check_lines(&receipt, &pinned, &day, &verdicts)?;
    let proof = prove(arguments.line, &bytes, &day, &verdicts, &receipt)?;
    // What is handed out is what the other side will check.
    let shown = proof.check(&policy).map_err(|error| {
        Failure::no_result("line", "该行无法证明,请用与回执一同写出的文件:", error.to_string())
    })?;
    let out = &arguments.out;
    let written = Output::claim(out, &[file, &arguments.receipt])
        .and_then(|out| out.write(|file| writeln!(file, "{}", proof.to_json())));
    written.map_err(|error: OutputError| {
        Failure::no_result("files", "证明文件未能写出,请检查目录和空间:", error.to_string())
    })?;
    let name = out.display();
    let mut said =
        vec![format!("已出具 written {name}; citykeep-audit check-line checks it with the policy alone")];
    said.extend(lines(&proof, &shown));
    let mut json = object(&proof, &shown);
    if let Some(json) = json.as_object_mut() {
        json.insert("file".to_owned(), json!(name.to_string()));
    }
    Ok(Report { lines: said, json })
}

fn prove(
    line: u64,
    bytes: &[u8],
    day: &Day,
    verdicts: &[Verdict],
    receipt: &Receipt,
) -> Result<LineProof, Failure> {
    let beyond = || {
        let lines = day.lines();
        let zh = format!("文件共 {lines} 行,没有第 {line} 行,请核对行号。");
        Failure::untried(zh, format!("the file has {lines} lines and no line {line}; count from 1"))
    };
    let at = usize::try_from(line - 1).map_err(|_| beyond())?;
    let text = f1_lines(bytes).nth(at).ok_or_else(beyond)?.to_vec();
    let verdict = *verdicts.get(at).ok_or_else(beyond)?;
    let records = day.records();
    let records = records.as_chunks::<RECORD_LEN>().0.iter().zip(verdicts);
    let leaves: Vec<tree16::Hash> = records.map(|(record, verdict)| tree16::leaf(record, *verdict)).collect();
    let path = TreePath::new(&leaves, at).ok_or_else(beyond)?;
    let pairs = receipt.entry.as_bytes().chunks(2);
    let entry: Option<Vec<u8>> =
        pairs.map(|pair| wire::purse::hex(pair).map(|[byte]: [u8; 1]| byte)).collect();
    let unreadable = || {
        let en = "the receipt's log entry cannot be read; give the file that came with the verdicts";
        Failure::no_result("receipt", "回执中的日志条目无法读取,请给出与结果一同写出的文件。", en)
    };
    Ok(LineProof {
        line,
        bytes: text,
        verdict,
        header: day.header().clone(),
        path,
        entry: entry.ok_or_else(unreadable)?,
        proof: receipt.proof.clone(),
    })
}

/// Without the verdict file: a receipt whose readable lines all had one verdict tells each line's.
fn told_by(receipt: &Receipt, bytes: &[u8]) -> Result<Vec<Verdict>, Failure> {
    let counts = &receipt.counts;
    let named = [
        (counts.ok, Verdict::Ok),
        (counts.bad_tac, Verdict::BadTac),
        (counts.unknown_key, Verdict::UnknownKey),
        (counts.withheld, Verdict::Withheld),
    ];
    let mut named = named.into_iter().filter(|(count, _)| *count > 0).map(|(_, verdict)| verdict);
    let (one, None) = (named.next().unwrap_or(Verdict::Malformed), named.next()) else {
        return Err(Failure::untried(
            "回执含多种结果,不能说明每一行的结果,请用 --verdicts 给出与回执一同写出的文件。",
            "the receipt counts different verdicts, and does not say which line had which; give --verdicts, the file that \
             came with the receipt",
        ));
    };
    let verdict = |line| F1Line::parse(line).map_or(Verdict::Malformed, |_| one);
    Ok(f1_lines(bytes).map(verdict).collect())
}

fn read(path: &Path) -> Result<Receipt, Failure> {
    let text = files::read_text(path, "the receipt")?;
    serde_json::from_str(&text).map_err(|error| {
        let path = path.display();
        Failure::no_result(
            "receipt",
            format!("{path}: 不是回执,请给出与结果一同写出的文件。"),
            format!("no receipt ({error}); give the file that came with the verdicts"),
        )
    })
}

/// The head under the receipt, as the policy demands it; and the log's key, for the rest.
fn vouched(receipt: &Receipt, policy: &Policy) -> Result<(Pinned, Vouched), Failure> {
    let proof = TlogProof::parse(&receipt.proof).map_err(|error| wrong(&error))?;
    let vouched = policy.open(&proof.checkpoint).map_err(|error| wrong(&error))?;
    let log = policy.logs().iter().find(|log| log.key.name() == receipt.origin);
    let log = log.ok_or_else(|| wrong(&format!("{} is no log of the policy", receipt.origin)))?;
    Ok((Pinned { log: log.key.clone(), instance: None }, vouched))
}

fn verdicts_of(day: &Day, path: &Path) -> Result<Vec<Verdict>, Failure> {
    let rows = read_verdicts(&files::read_text(path, "the verdicts")?).map_err(|error| {
        let zh = format!("{}: 不是核验结果文件,请使用与回执一同写出的文件。", path.display());
        Failure::no_result("verdicts", zh, error.to_string())
    })?;
    if rows.len() as u64 != day.lines() {
        let (lines, rows) = (day.lines(), rows.len());
        return Err(Failure::no_result(
            "verdicts",
            format!("清算文件有 {lines} 行,结果文件有 {rows} 行,两者不配套,请给出同一天的文件。"),
            format!("the day has {lines} lines, the verdict file {rows}: give the two that belong together"),
        ));
    }
    Ok(rows)
}

fn check_lines(receipt: &Receipt, pinned: &Pinned, day: &Day, verdicts: &[Verdict]) -> Result<(), Failure> {
    let mut recount = Recount::new(day.header());
    let records = day.records();
    for (record, verdict) in records.as_chunks::<RECORD_LEN>().0.iter().zip(verdicts) {
        recount.add(record, *verdict);
    }
    check(receipt, day.header(), &recount.totals(), pinned).map_err(|error| wrong(&error))
}

/// What the caller trusts.
fn trusted(anchor: &audit::cli::Anchor) -> Result<Policy, Failure> {
    audit::policy(anchor)
        .map_err(|why| Failure::untried("日志公钥或策略文件无法使用,请给出核对过的文件:", why))
}

fn wrong(error: &dyn core::fmt::Display) -> Failure {
    Failure::no_result(
        "receipt",
        "回执无效,请通知运维和审计。",
        format!("THE RECEIPT IS NOT GOOD: {error}; tell the operator and the auditor"),
    )
}

fn report(receipt: &Receipt, vouched: &Vouched, lines_checked: bool) -> Report {
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
    let witnesses: Vec<&str> = vouched.witnesses.iter().map(|(name, _)| name.as_str()).collect();
    if !witnesses.is_empty() {
        lines.push(format!("见证 witness   {}", witnesses.join(", ")));
    }
    Report {
        lines,
        json: json!({
            "ok": true,
            "lines_checked": lines_checked,
            "batch": receipt.batch,
            "client": receipt.client,
            "origin": receipt.origin,
            "log_index": index,
            "witnesses": witnesses,
            "records": receipt.records,
            "counts": receipt.counts,
            "versions": receipt.versions,
            "root": receipt.root,
        }),
    }
}

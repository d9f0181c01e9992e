//! `citykeep clear verify`

use std::io::{self, Write};
use std::path::Path;

use audit::Meter;
use clearing::{DayResult, Output, OutputError, verify_day, write_verdicts};
use serde_json::json;

use crate::cli::ClearVerify;
use crate::failure::Failure;
use crate::files;
use crate::report::{Report, counts, warnings};

pub(crate) fn verify(arguments: &ClearVerify) -> Result<Report, Failure> {
    // First of all: whatever happens from here on, nobody finds the verdicts of another run.
    let (verdicts, receipt) = claim(arguments)?;
    let lineage = files::lineage(&arguments.lineage)?;
    let vkey = files::read_vkey(&arguments.vkey)?;
    let client = files::client(&arguments.service, Some(vkey))?;
    let day = files::day(&arguments.day, &lineage)?;

    let mut meter = Meter::new("TAC");
    let result = files::run(verify_day(&client, &day, |progress| {
        meter.show(progress.done, progress.total);
    }))?;
    drop(meter);

    write_both(
        &receipt,
        |file| {
            serde_json::to_writer_pretty(&mut *file, &result.receipt)?;
            writeln!(file)
        },
        || write_verdicts(&verdicts, result.verdicts.iter()),
    )
    .map_err(|error| Failure::no_result("files", "结果文件未能写出,请检查目录和空间后重新执行:", error))?;
    Ok(report(arguments, &result))
}

fn claim(arguments: &ClearVerify) -> Result<(Output, Output), Failure> {
    let service = &arguments.service;
    let inputs: [&Path; 5] = [&arguments.day, &service.ca, &service.cert, &service.key, &arguments.vkey];
    if same_place(&arguments.verdicts, &arguments.receipt) {
        return Err(Failure::untried(
            "--verdicts 与 --receipt 是同一文件,请分别指定。",
            "--verdicts and --receipt name the same file; give each its own",
        ));
    }
    let claim = |path| {
        Output::claim(path, &inputs)
            .map_err(|error| Failure::untried("结果文件的位置无法使用,请另行指定:", error.to_string()))
    };
    Ok((claim(&arguments.verdicts)?, claim(&arguments.receipt)?))
}

fn same_place(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        (dir.canonicalize().ok(), path.file_name().map(ToOwned::to_owned))
    };
    place(one) == place(other)
}

/// Both files, or none. The receipt first: verdicts on disk always have their proof beside them.
fn write_both(
    receipt: &Output,
    fill_receipt: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    write_verdicts: impl FnOnce() -> Result<(), OutputError>,
) -> Result<(), String> {
    receipt.write(fill_receipt).map_err(|error| error.to_string())?;
    write_verdicts().map_err(|error| match receipt.remove() {
        Ok(()) => error.to_string(),
        Err(left) => format!("{error}; and {left}"),
    })
}

fn report(arguments: &ClearVerify, result: &DayResult) -> Report {
    let receipt = &result.receipt;
    let (seconds, rate) = (result.elapsed.as_secs_f64(), result.rate());
    let index = receipt.indices.last().copied().unwrap_or_default();
    let mut lines = vec![format!("清分核验完成 verified: {} lines, the receipt is good", receipt.records)];
    lines.extend(counts(receipt));
    lines.extend(warnings(receipt));
    lines.push(format!("速率 rate      {rate:.0} TAC/s, {seconds:.3} s"));
    lines.push(format!("回执 receipt   {}", receipt.batch));
    lines.push(format!("日志 log       {} entry {index}", receipt.origin));
    lines.push(format!("文件 files     {}, {}", arguments.verdicts.display(), arguments.receipt.display()));
    Report {
        lines,
        json: json!({
            "ok": true,
            "records": receipt.records,
            "counts": receipt.counts,
            "versions": receipt.versions,
            "batch": receipt.batch,
            "client": receipt.client,
            "instance": receipt.instance,
            "origin": receipt.origin,
            "log_index": index,
            "lineage": receipt.lineage,
            "root": receipt.root,
            "seconds": seconds,
            "tac_per_second": rate,
            "verdicts": arguments.verdicts,
            "receipt": arguments.receipt,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Service;

    fn arguments(dir: &Path) -> ClearVerify {
        let at = |name: &str| dir.join(name);
        ClearVerify {
            day: at("day.txt"),
            service: Service {
                url: "https://localhost:1".to_owned(),
                ca: at("ca.pem"),
                cert: at("c.pem"),
                key: at("c.key"),
            },
            vkey: at("vkey"),
            verdicts: at("out.csv"),
            receipt: at("out.json"),
            lineage: "transit/purse/tac".to_owned(),
            json: false,
        }
    }

    #[test]
    fn a_run_that_cannot_start_leaves_no_old_verdicts() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = arguments(dir.path());
        std::fs::write(&arguments.verdicts, "line,verdict\n1,ok\n").unwrap();
        std::fs::write(&arguments.receipt, "{}").unwrap();
        assert!(verify(&arguments).is_err());
        assert!(!arguments.verdicts.exists() && !arguments.receipt.exists());
    }

    #[test]
    fn a_receipt_does_not_stay_without_its_verdicts() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = arguments(dir.path());
        let (verdicts, receipt) = claim(&arguments).unwrap();
        let fill = |file: &mut dyn Write| file.write_all(b"{}");
        let full = || verdicts.write(|_| Err(io::Error::other("disk full")));
        let failed = write_both(&receipt, fill, full).unwrap_err();
        assert!(failed.contains("disk full"), "{failed}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        write_both(&receipt, fill, || write_verdicts(&verdicts, std::iter::empty())).unwrap();
        assert!(arguments.verdicts.exists() && arguments.receipt.exists());
    }

    #[test]
    fn an_output_that_is_an_input_or_the_other_output_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = arguments(dir.path());
        std::fs::write(&one.day, "a day").unwrap();
        one.verdicts.clone_from(&one.day);
        assert!(claim(&one).is_err());
        assert_eq!(std::fs::read_to_string(&one.day).unwrap(), "a day");
        let mut other = arguments(dir.path());
        other.receipt = dir.path().join(".").join("out.csv");
        assert!(claim(&other).is_err());
    }
}

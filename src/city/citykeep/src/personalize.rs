//! `citykeep perso`

use std::path::Path;
use std::time::{Duration, Instant};

use audit::Meter;
use client::VerifierKey;
use perso::{Job, JobError, JobParameters};
use serde_json::json;
use translog::note::open_checkpoint;

use crate::cli::{PersoReport, PersoResume, PersoRun, Service};
use crate::failure::Failure;
use crate::files;
use crate::report::Report;

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        let en = error.to_string();
        match error {
            JobError::Parameters(_) => Self::untried("任务参数有误,尚未请求任何卡片:", en),
            JobError::Chips(zh, en) => Self::untried(zh, en),
            JobError::Busy(_) => Self::untried("另一进程正在执行此任务,请等待或停止它:", en),
            JobError::Service(client::Error::Refused(refusal)) if refusal.code == "card-chip" => {
                Self::no_result(
                    "refused",
                    "服务拒绝了请求:该应用按芯片因子分散时须给出 --chips,否则不得给出;因子须与该卡首次请求时相同。",
                    format!(
                        "{en} Give --chips exactly if the applet derives with the chip's factor, and for each card its first one."
                    ),
                )
            }
            JobError::Service(error) => error.into(),
            JobError::File(_) => {
                Self::no_result("files", "文件有误,请检查磁盘后重新执行,任务从中断处继续:", en)
            }
            JobError::Journal(_) => {
                Self::no_result("files", "任务日志已损坏,不得继续,请安全官核对许可计数:", en)
            }
            _ => Self::no_result("answer", "服务的应答有误,这些密钥一律不得使用,请通知运维:", en),
        }
    }
}

pub(crate) fn run(arguments: &PersoRun) -> Result<Report, Failure> {
    let parameters = JobParameters {
        format: 1,
        licence: arguments.licence.to_ascii_uppercase(),
        form: arguments.form.clone(),
        first: arguments.first.clone(),
        count: arguments.count,
        batch: arguments.batch,
        chips: None,
    };
    let chips =
        arguments.chips.as_deref().map(|path| files::read_text(path, "the chip factors")).transpose()?;
    work(Job::begin(&arguments.out, &parameters, chips.as_deref())?, &arguments.out, &arguments.service)
}

pub(crate) fn resume(arguments: &PersoResume) -> Result<Report, Failure> {
    work(Job::resume(&arguments.dir)?, &arguments.dir, &arguments.service)
}

fn work(mut job: Job, dir: &Path, service: &Service) -> Result<Report, Failure> {
    let client = files::client(service, None)?;
    let begun = (Instant::now(), job.done());
    let mut meter = Meter::new("cards");
    let licence = job.parameters().licence.clone();
    let (outcome, known) = files::run(async {
        let outcome = job.run(&client, |done, count| meter.show(done, count)).await;
        // What was done is reported even if the licence ends in the middle.
        client.licence(&licence).await.map(|known| (outcome, known))
    })?;
    drop(meter);
    let report = job.report(&known)?;
    outcome?;
    let seconds = begun.0.elapsed().as_secs_f64();
    let made = report.done - begun.1;
    let rate = if seconds > 0.0 { f64::from(u32::try_from(made).unwrap_or(u32::MAX)) / seconds } else { 0.0 };
    let cards = |serial: &Option<String>| serial.clone().unwrap_or_else(|| "–".to_owned());
    let lines = vec![
        format!("个人化完成 done: {} of {} cards", report.done, report.wanted),
        format!("卡号 cards     {} … {}", cards(&report.first), cards(&report.last)),
        format!("本次 this run  {made} cards, {rate:.0} cards/s"),
        format!("许可 licence   {} issued of {}, {} left", report.issued, report.quantity, report.left),
        format!("文件 files     {}", dir.display()),
        format!("下一步 next    citykeep perso report {} --log LOG --vkey VKEY", dir.display()),
    ];
    let json =
        json!({"ok": true, "report": report, "made": made, "seconds": seconds, "cards_per_second": rate});
    Ok(Report { lines, json })
}

pub(crate) fn report(arguments: &PersoReport) -> Result<Report, Failure> {
    let job = Job::resume(&arguments.dir)?;
    let vkey = files::read_vkey(&arguments.vkey)?;
    covered(&arguments.log, &vkey, job.cards().map(|(_, index)| index).max(), PUBLISHED_WITHIN)?;
    let found = perso::reconcile(&job, &arguments.log, &vkey)?;
    if !found.agrees() {
        let few: Vec<&str> = found.missing.iter().take(5).map(String::as_str).collect();
        return Err(Failure::no_result(
            "reconciliation",
            "文件与日志不一致,请停止生产线并通知审计。",
            format!(
                "files and log do not agree: {} cards in the files, {} in the log, {} counted; not in the log: {} ({}…); \
                 stop the line and call the auditor",
                found.files,
                found.log,
                found.counted,
                found.missing.len(),
                few.join(", ")
            ),
        ));
    }
    let lines = vec![
        format!("与日志一致 files and log agree: {} cards of this job", found.files),
        format!("许可 licence   {} cards counted, {} of them in other jobs", found.counted, found.elsewhere),
    ];
    let json = json!({"ok": true, "files": found.files, "log": found.log, "counted": found.counted,
        "elsewhere": found.elsewhere});
    Ok(Report { lines, json })
}

/// keyd publishes about once a second.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);

/// Waits until the published log has the job's newest entry. A copy that ends before it is no sign of anything but its age, and
/// must not stop a line.
fn covered(log: &Path, vkey: &VerifierKey, newest: Option<u64>, patience: Duration) -> Result<(), Failure> {
    let Some(newest) = newest else { return Ok(()) };
    let started = Instant::now();
    loop {
        let note = files::read_text(&log.join("checkpoint"), "the published log's head")?;
        // Whether the head is signed is the comparison's to say.
        let size = open_checkpoint(&note, vkey).map_or(u64::MAX, |head| head.checkpoint().size);
        if newest < size {
            return Ok(());
        }
        if started.elapsed() >= patience {
            return Err(Failure::no_result(
                "log-behind",
                "日志副本早于任务的最后一批,尚不能核对;请使用服务自己的日志或取较新的副本。",
                format!(
                    "{} ends at entry {size} and the job's newest is {newest}, so nothing can be said yet; \
                     give the service's own log or fetch a newer copy; if keyd does not publish, citykeep doctor says why",
                    log.display()
                ),
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_older_than_the_job_is_no_accusation() {
        let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/log/v1");
        let vkey = files::read_vkey(&log.join("vkey")).unwrap();
        let look = |newest| covered(&log, &vkey, newest, Duration::ZERO);
        assert!(look(None).is_ok());
        assert!(look(Some(257)).is_ok());
        assert!(look(Some(258)).is_err());
    }
}

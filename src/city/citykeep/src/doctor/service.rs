//! What the service says over its own interface.

use std::fs;
use std::time::Duration;

use client::{Client, ClientBuilder, Error, Timeouts, VerifierKey};
use translog::note::{VerifiedCheckpoint, open_checkpoint};
use wire::api::StatusBody;

use super::finding::Finding;
use super::house::House;
use super::log::Key;
use crate::cli::Service;
use crate::files::run;

const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(10),
    idle: Duration::from_secs(10),
};
/// Under load the published head moves between two looks.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What was asked and answered.
pub(super) struct Seen {
    url: String,
    client: Option<Client>,
    /// Why there is no answer to the first question.
    failure: Option<Failed>,
    pub(super) status: Option<StatusBody>,
}

enum Failed {
    /// The files or the URL.
    Files(String),
    /// The connection is good, and this role may not ask.
    NotAllowed,
    /// No connection, or an answer that is none.
    Broken(String),
}

/// Asks for the status.
pub(super) fn ask(service: &Service) -> Seen {
    let builder =
        ClientBuilder::new(&service.url, &service.ca, &service.cert, &service.key).timeouts(TIMEOUTS);
    let mut seen = Seen { url: service.url.clone(), client: None, failure: None, status: None };
    let client = match builder.build() {
        Ok(client) => client,
        Err(error) => {
            seen.failure = Some(Failed::Files(error.to_string()));
            return seen;
        }
    };
    match in_one_runtime(client.status()) {
        Ok(status) => seen.status = Some(status),
        Err(Error::Refused(problem)) if matches!(problem.status, 403 | 404) => {
            seen.failure = Some(Failed::NotAllowed);
        }
        Err(error) => seen.failure = Some(Failed::Broken(error.to_string())),
    }
    seen.client = Some(client);
    seen
}

fn in_one_runtime<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut outcome = None;
    let ran = run(async {
        outcome = Some(work.await);
        Ok(())
    });
    match (outcome, ran) {
        (Some(outcome), _) => outcome,
        (None, _) => Err(Error::Config("no thread can be started; check the process limits".to_owned())),
    }
}

pub(super) fn check(seen: &Seen, house: Option<&House>, key: Option<&Key>) -> Vec<Finding> {
    let mut findings = vec![connection(seen)];
    if matches!(seen.failure, Some(Failed::Files(_) | Failed::Broken(_))) {
        findings.push(Finding::unchecked("log-head", "服务没有回答", "the service does not answer"));
    } else {
        findings.push(head(seen, house, key));
    }
    findings
}

fn connection(seen: &Seen) -> Finding {
    const CHECK: &str = "tls";
    let url = &seen.url;
    match &seen.failure {
        Some(Failed::Files(why)) => Finding::bad(
            CHECK,
            ["客户端文件或地址不能使用".to_owned(), why.clone()],
            ["按上面的说明修改", "mend the file or the address that is named"],
        ),
        Some(Failed::Broken(why)) => Finding::bad(
            CHECK,
            [format!("无法与 {url} 通话"), format!("{url} does not answer this client: {why}")],
            [
                "检查服务是否运行、是否已解封、证书是否有效",
                "see that keyd runs and serves (on the server: citykeep doctor, systemctl status citykeep-keyd), that the address is right, \
                 and that the lines about the client's certificate are green",
            ],
        ),
        _ => Finding::good(
            CHECK,
            format!("{url} 接受本客户端(TLS 1.3)"),
            format!("{url} takes this client, over TLS 1.3"),
        ),
    }
}

/// What the module says of itself, to the service's client or to an officer.
pub(super) fn module(status: Option<&StatusBody>) -> Finding {
    const CHECK: &str = "module";
    let Some(status) = status else {
        return Finding::unchecked(
            CHECK,
            "没有人告知其状态:请给出有 status-read 权限的客户端,或以 citykeep-officers 组成员运行",
            "nobody says its state: give a client with status-read (--url …), or run doctor as a member of citykeep-officers",
        );
    };
    let size = status.log_size.map_or_else(|| "–".to_owned(), |size| size.to_string());
    let kind = match status.rehearsal {
        Some(true) => "rehearsal 演练",
        Some(false) => "production 生产",
        None => "–",
    };
    let text = format!(
        "{}, {kind}, {size} entries, memory {}, backend {}, log {}",
        status.state,
        status.memory,
        status.backend,
        status.witness.as_deref().unwrap_or("–")
    );
    let witness = status.witness.as_deref().unwrap_or_default();
    let see = ["查看状态中的 witnesses", "see `witnesses` in the status: each says its trouble"];
    match (status.state.as_str(), witness) {
        ("operational", "waiting") => {
            return Finding::bad(CHECK, ["见证未达法定数,所有业务被拒绝".to_owned(), text], see);
        }
        ("operational", "grace") => {
            return Finding::warn(CHECK, ["见证未达法定数,宽限期后将停止服务".to_owned(), text], see);
        }
        ("operational", _) => return Finding::good(CHECK, "密码模块正常服务", text),
        _ => {}
    }
    Finding::bad(
        CHECK,
        [format!("密码模块状态为 {}", status.state), text],
        [
            "由保管人与安全官执行仪式:新实例 keyceremony genesis,重启后 keyceremony unseal 与 floor",
            "custodians and officers open it: a new instance with keyceremony genesis, after a restart with keyceremony unseal and \
             floor; after a fault restart it first",
        ],
    )
}

/// What the service gives out is signed, and is what lies in its directory.
fn head(seen: &Seen, house: Option<&House>, key: Option<&Key>) -> Finding {
    const CHECK: &str = "log-head";
    let auditor = [
        "停止使用,保存两份记录并通知审计员",
        "stop, keep a copy of the directory and of the answer, and call the auditor (citykeep audit verify)",
    ];
    let vkey = match key.map(|key| &key.vkey) {
        Some(Ok(vkey)) => vkey,
        Some(Err(why)) => {
            return Finding::bad(
                CHECK,
                ["日志公钥文件不能使用".to_owned(), format!("no vkey line: {why}")],
                ["给出仪式记录中的 vkey", "give the vkey line of the ceremony's transcript with --vkey"],
            );
        }
        None => {
            return Finding::unchecked(
                CHECK,
                "没有日志公钥;请用 --vkey 给出",
                "there is no log key to check it with; give --vkey",
            );
        }
    };
    let Some(client) = &seen.client else {
        return Finding::unchecked(CHECK, "服务没有回答", "the service does not answer");
    };
    let directory = house.and_then(|house| house.log_dir.as_deref());
    let read = || directory.map(|dir| fs::read_to_string(dir.join("checkpoint")).unwrap_or_default());
    for _ in 0..LOOKS {
        let before = read();
        let note = match in_one_runtime(client.log_checkpoint()) {
            Ok(note) => note,
            Err(Error::Refused(problem)) if matches!(problem.status, 403 | 404) => {
                return Finding::unchecked(CHECK, "本客户端无权读日志", "this client's role has no log-read");
            }
            Err(error) => return Finding::unchecked(CHECK, "读不到日志头", error.to_string()),
        };
        let Ok(signed) = open_checkpoint(&note, vkey) else {
            return Finding::bad(
                CHECK,
                [
                    "服务给出的日志头不是此日志公钥签署的",
                    "the head that the service gives out is not signed by this log's key",
                ],
                auditor,
            );
        };
        let size = signed.checkpoint().size;
        let Some(before) = before else {
            return Finding::good(
                CHECK,
                format!("日志头 {size} 条,签名有效"),
                format!("signed by the log's key, {size} entries"),
            );
        };
        if before == note || read().as_ref() == Some(&note) {
            return Finding::good(
                CHECK,
                format!("服务与目录的日志头相同({size} 条)"),
                format!("service and directory have the same head, signed by the log's key, {size} entries"),
            );
        }
        if let Some(finding) = contradiction(CHECK, &signed, &before, vkey, auditor) {
            return finding;
        }
        std::thread::sleep(PAUSE);
    }
    Finding::unchecked(
        CHECK,
        "日志增长过快",
        "the log grows too fast to be looked at twice; ask again in a quiet moment",
    )
}

/// A head of the directory that is unsigned, or another one for the same size, is no matter of timing.
fn contradiction(
    check: &'static str,
    given: &VerifiedCheckpoint,
    directory: &str,
    vkey: &VerifierKey,
    auditor: [&'static str; 2],
) -> Option<Finding> {
    let found = open_checkpoint(directory, vkey);
    let same = match &found {
        Ok(found) => {
            let (found, given) = (found.checkpoint(), given.checkpoint());
            found.size != given.size || found.root == given.root
        }
        Err(_) => false,
    };
    (!same).then(|| {
        Finding::bad(
            check,
            [
                "目录中的日志头与服务给出的不符",
                "the head in the log's directory is not the one that the service gives out",
            ],
            auditor,
        )
    })
}

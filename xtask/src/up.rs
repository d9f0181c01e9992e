//! A settlement day through the whole house.

use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cargo;
use crate::children::Daemon;
use crate::first_day;
use crate::show::Show;

const READY: Duration = Duration::from_mins(1);

/// The longest path that a Unix socket may have, with room for our file names.
const SOCKET_DIR_MAX: usize = 80;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Stop when everything has succeeded, instead of staying up.
    #[arg(long)]
    once: bool,
    /// Where everything lies. A second run on the same directory goes on from there.
    #[arg(long, value_name = "DIR", default_value = "target/up")]
    state: PathBuf,
    /// Test keys as components of custodians (JSON). Without it, keys are made for practice.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// A settlement day in the F1 layout. Without it, a day of 20,000 transactions is made for practice.
    #[arg(long, value_name = "FILE")]
    day: Option<PathBuf>,
    /// Where the verdicts go; the file is there only if everything succeeded.
    #[arg(long, value_name = "OUT.csv")]
    verdicts: Option<PathBuf>,
    /// Where a summary for programs goes.
    #[arg(long, value_name = "SUMMARY.json")]
    json: Option<PathBuf>,
    /// Transactions of a practice day.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    transactions: u64,
}

/// The places under the state directory.
pub(crate) struct Places {
    state: PathBuf,
    run: PathBuf,
    bin: PathBuf,
}

impl Places {
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.state.join(path)
    }

    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.bin.join(name))
    }
}

/// Runs `up`.
pub(crate) fn run(options: &Options) -> Result<()> {
    keep_inputs(options)?;
    for stale in [&options.verdicts, &options.json].into_iter().flatten() {
        remove(stale)?;
    }
    let mut show = Show::new(11);
    show.title(
        "citykeep 市民卡密钥服务 — a settlement day through the whole house 一个清算日 (REHEARSAL 演练)",
    );
    let bin = show.step(
        "build",
        "Build 构建",
        "the programs come from this tree, the module on its own",
        || {
            let bin = cargo::build_programs()?;
            let line = format!("release programs in {}", bin.display());
            Ok((bin, line))
        },
    )?;
    let places = prepare(&options.state, bin)?;
    let outcome = day(options, &places, &mut show);
    if outcome.is_err()
        && let Some(verdicts) = &options.verdicts
    {
        // Nobody may mistake half a run's file for a result.
        remove(verdicts)?;
    }
    outcome
}

fn day(options: &Options, places: &Places, show: &mut Show) -> Result<()> {
    let material = show.step(
        "material",
        "Material 演练材料",
        "keys as components of three custodians, and a day of transactions",
        || material(options, places),
    )?;
    let mut hsm = show.step(
        "hsm",
        "Module 密码模块",
        "self-tests passed, key memory reserved, system calls filtered: only then do its sockets answer",
        || start_hsm(places),
    )?;
    let mut keyd =
        show.step("keyd", "Daemon 守护进程", "one keyd on this state; it waits for the module", || {
            start_keyd(places)
        })?;
    let ceremony = show.step(
        "ceremony",
        "Ceremony 密钥仪式",
        "officers decide two by two, custodians hold shares three of five, no terminal sees two shares",
        || rehearse(places, &material),
    )?;
    // The certificate is for the name, not for the address.
    let url = keyd.ready(READY)?.trim_start_matches("ready ").replace("127.0.0.1", "localhost");
    let verified = show.step(
        "verify",
        "Settlement day 清算日",
        "every TAC checked over mutual TLS; the receipt proves each verdict and stands in the log",
        || verify(places, &material, &url),
    )?;
    let first_day = first_day::walk(places, show, &url, &ceremony)?;
    let audit = show.step(
        "audit",
        "Audit 审计",
        "every entry, tile and head, the life of every key, with nothing but the log's key",
        || audit(places, first_day.index),
    )?;
    hsm.alive()?;
    keyd.alive()?;
    finish(
        options,
        places,
        show,
        &Facts { hsm: &hsm, keyd: &keyd, ceremony, verified, first_day: first_day.summary, audit, url },
    )?;
    if options.once {
        if !keyd.stop() {
            bail!("keyd did not stop well; its log says why: {}", places.at("logs/keyd.log").display());
        }
        hsm.stop();
        return Ok(());
    }
    stay_up()
}

struct Material {
    keys: PathBuf,
    masters: PathBuf,
    day: PathBuf,
    expected: Option<PathBuf>,
}

struct Facts<'a> {
    hsm: &'a Daemon,
    keyd: &'a Daemon,
    ceremony: Value,
    verified: Value,
    first_day: Value,
    audit: Value,
    url: String,
}

fn prepare(state: &Path, bin: PathBuf) -> Result<Places> {
    for folder in ["", "hsm", "keyd", "run", "out", "logs"] {
        make_private(&state.join(folder))?;
    }
    let state = fs::canonicalize(state).with_context(|| state.display().to_string())?;
    let mut run = state.join("run");
    if run.as_os_str().len() > SOCKET_DIR_MAX {
        // A Unix socket's path has a short limit that a deep state directory would break.
        run = std::env::temp_dir().join(format!("citykeep-{}", std::process::id()));
        make_private(&run)?;
    }
    Ok(Places { state, run, bin })
}

fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("{} cannot be made ours alone", folder.display()))
}

/// An output that is an input would be gone before it was read.
fn keep_inputs(options: &Options) -> Result<()> {
    let same = |one: &Path, other: &Path| {
        let (one, other) = (fs::canonicalize(one), fs::canonicalize(other));
        matches!((one, other), (Ok(one), Ok(other)) if one == other)
    };
    let inputs: Vec<&PathBuf> = [&options.keys, &options.day].into_iter().flatten().collect();
    for output in [&options.verdicts, &options.json].into_iter().flatten() {
        if let Some(input) = inputs.iter().find(|input| same(input, output)) {
            bail!("{} is an input; give the output another name", input.display());
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn material(options: &Options, places: &Places) -> Result<(Material, String)> {
    make_private(&places.at("practice"))?;
    let keys = options.keys.clone().unwrap_or_else(|| places.at("practice/keys.json"));
    if options.keys.is_none() && !keys.exists() {
        output(places.program("citycard").arg("keys").arg("--out").arg(&keys), "citycard keys")?;
    }
    let masters = first_day::material(places)?;
    let Some(day) = options.day.clone() else {
        let (day, expected) = (places.at("practice/day.txt"), places.at("practice/expected.csv"));
        let mut citycard = places.program("citycard");
        citycard.arg("day").arg("--keys").arg(&keys).arg("--out").arg(&day).arg("--expected").arg(&expected);
        output(citycard.arg("--transactions").arg(options.transactions.to_string()), "citycard day")?;
        let line = format!("{} transactions made for practice", options.transactions);
        return Ok((Material { keys, masters, day, expected: Some(expected) }, line));
    };
    for file in [&keys, &day] {
        fs::metadata(file).with_context(|| format!("{} cannot be read", file.display()))?;
    }
    let line = format!("keys of {}, day of {}", keys.display(), day.display());
    Ok((Material { keys, masters, day, expected: None }, line))
}

fn start_hsm(places: &Places) -> Result<(Daemon, String)> {
    let identity = places.at("hsm/identity");
    if !identity.exists() {
        output(
            places.program("citykeep-hsm").args(["identity", "--new"]).arg(&identity),
            "citykeep-hsm identity",
        )?;
    }
    let mut command = places.program("citykeep-hsm");
    command.arg("run").arg("--keyd-socket").arg(places.run.join("keyd.sock"));
    command.arg("--officers-socket").arg(places.run.join("officers.sock")).arg("--identity").arg(identity);
    let mut hsm = Daemon::start("the module", &mut command, &places.at("logs/hsm.log"))?;
    let ready = hsm.ready(READY)?;
    fs::write(places.at("run/hsm.ready"), &ready)?;
    let line = format!("{} (pid {})", ready.trim_start_matches("ready "), hsm.id());
    Ok((hsm, line))
}

fn start_keyd(places: &Places) -> Result<(Daemon, String)> {
    output(places.program("keyceremony").args(["pki", "--out"]).arg(places.at("pki")), "keyceremony pki")?;
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let config = format!(
        "# Made by cargo xtask up: a rehearsal.\nlisten = \"127.0.0.1:0\"\nstate_dir = {}\nlog_dir = {}\nhsm_socket = {}\n\
         policy_file = {}\n\n[tls]\ncertificate = {}\nkey = {}\nclient_ca = {}\nclient_crl = {}\nserver_name = \"localhost\"\n",
        quoted(&places.at("keyd")),
        quoted(&places.at("log")),
        quoted(&places.run.join("keyd.sock")),
        quoted(&policy()),
        quoted(&places.at("pki/keyd.pem")),
        quoted(&places.at("pki/keyd.key")),
        quoted(&places.at("pki/ca.pem")),
        quoted(&places.at("pki/crl.pem")),
    );
    let path = places.at("keyd/keyd.toml");
    fs::write(&path, config).with_context(|| path.display().to_string())?;
    let mut command = places.program("citykeep-keyd");
    let mut keyd =
        Daemon::start("keyd", command.arg("run").arg("--config").arg(path), &places.at("logs/keyd.log"))?;
    std::thread::sleep(Duration::from_millis(200));
    keyd.alive()?;
    let line = format!("pid {}; its listener opens when the module is in service", keyd.id());
    Ok((keyd, line))
}

fn policy() -> PathBuf {
    cargo::root().join("policies/rehearsal.toml")
}

fn rehearse(places: &Places, material: &Material) -> Result<(Value, String)> {
    let summary = places.at("out/ceremony.json");
    let mut command = places.program("keyceremony");
    command.arg("rehearse").arg(cargo::root().join("keyceremony/scripts/settlement-day.toml"));
    command.arg("--state").arg(&places.state).arg("--officers-socket").arg(places.run.join("officers.sock"));
    command.arg("--keys").arg(&material.keys).arg("--policy").arg(policy());
    command.arg("--masters").arg(&material.masters).arg("--ledger").arg(places.at("practice/ledger.pem"));
    command.arg("--ca").arg(places.at("pki/ca.pem")).arg("--json").arg(&summary);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.context("keyceremony cannot be started")?;
    if let Some(stdout) = child.stdout.take() {
        let lines = std::io::BufReader::new(stdout).lines().map_while(Result::ok);
        lines.filter(|line| is_shown(line)).for_each(|line| println!("      {}", line.trim_end()));
    }
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!("{}", sentence(&done.stderr));
    }
    let summary = read_json(&summary)?;
    let count = summary.get("keys").and_then(Value::as_array).map_or(0, Vec::len);
    Ok((summary, format!("{count} key versions in service; every word of it is in transcript.txt")))
}

fn verify(places: &Places, material: &Material, url: &str) -> Result<(Value, String)> {
    let verdicts = places.at("out/verdicts.csv");
    remove(&verdicts)?;
    let mut command = places.program("citykeep");
    command.args(["clear", "verify", "--json", "--url", url]).arg("--day").arg(&material.day);
    command.arg("--ca").arg(places.at("pki/ca.pem")).arg("--cert").arg(places.at("pki/clearing.pem"));
    command.arg("--key").arg(places.at("pki/clearing.key")).arg("--vkey").arg(places.at("log/vkey"));
    command.arg("--verdicts").arg(&verdicts).arg("--receipt").arg(places.at("out/receipt.json"));
    let report: Value = serde_json::from_str(&output(&mut command, "citykeep clear verify")?)?;
    if let Some(expected) = &material.expected
        && fs::read_to_string(expected)? != fs::read_to_string(&verdicts)?
    {
        bail!("the verdicts differ from those that the practice day was made with ({})", expected.display());
    }
    let records = report.get("records").and_then(Value::as_u64).unwrap_or_default();
    let rate = report.get("tac_per_second").and_then(Value::as_f64).unwrap_or_default();
    let counts = report.get("counts").map(ToString::to_string).unwrap_or_default();
    Ok((report, format!("{records} verdicts, {rate:.0} TAC/s, {}", counts.replace(['{', '}', '"'], ""))))
}

fn audit(places: &Places, newest: u64) -> Result<(Value, String)> {
    // The published log lags commits by up to a second: the auditor waits until the newest entry that we know of is in it.
    let needed = newest + 1;
    let mut report = Value::Null;
    for _ in 0..50 {
        let mut command = places.program("citykeep");
        command
            .args(["audit", "verify", "--json"])
            .arg(places.at("log"))
            .arg("--vkey")
            .arg(places.at("log/vkey"));
        report = serde_json::from_str(&output(&mut command, "citykeep audit verify")?)?;
        if report.get("size").and_then(Value::as_u64).is_some_and(|size| size >= needed) {
            let line = format!("{} entries verified, root {}", at(&report, "size"), text(&report, "root"));
            return Ok((report, line));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the published log has {} entries; entry {newest} is not in it", at(&report, "size"))
}

fn finish(options: &Options, places: &Places, show: &mut Show, facts: &Facts<'_>) -> Result<()> {
    let line = show.step("finish", "Result 结果", "the verdicts' file appears only now", || {
        if let Some(verdicts) = &options.verdicts {
            let side = verdicts.with_extension("part");
            fs::copy(places.at("out/verdicts.csv"), &side).with_context(|| side.display().to_string())?;
            fs::rename(&side, verdicts).with_context(|| verdicts.display().to_string())?;
        }
        let place = options.verdicts.clone().unwrap_or_else(|| places.at("out/verdicts.csv"));
        Ok(((), place.display().to_string()))
    });
    line?;
    let ready = fs::read_to_string(places.at("run/hsm.ready"))?;
    let word = |name: &str| {
        ready.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    let summary = json!({
        "instance": at(&facts.ceremony, "instance"),
        "boot": word("boot="),
        "memory": word("memory="),
        "records": at(&facts.verified, "records"),
        "counts": at(&facts.verified, "counts"),
        "versions": at(&facts.verified, "versions"),
        "tac_per_second": at(&facts.verified, "tac_per_second"),
        "receipt": at(&facts.verified, "batch"),
        "personalized": at(&facts.first_day, "personalized"),
        "blacklist": at(&facts.first_day, "blacklist"),
        "load": at(&facts.first_day, "load"),
        "log": { "size": at(&facts.audit, "size"), "root": at(&facts.audit, "root") },
        "witness": "unwitnessed",
        "rss_kib": { "hsm": rss(facts.hsm.id()), "keyd": rss(facts.keyd.id()) },
        "seconds": show.seconds(),
    });
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&summary)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    show.title("Where to look 去哪里看");
    let state = places.state.display();
    println!("  transcript 仪式记录   {state}/transcript.txt");
    println!("  receipt 回执          {state}/out/receipt.json");
    println!("  cards 卡片密钥        {state}/out/perso-…   blacklist 黑名单 {state}/out/blacklist.bin");
    println!("  log 日志              {state}/log   key {state}/log/vkey");
    println!("  daemons 服务          {}   logs {state}/logs", facts.url);
    println!("  Both daemons run as one user here; the wall between their users needs the systemd units.");
    println!("  The log is unwitnessed: a roll-back to the last signed floor is possible (SECURITY.md).\n");
    println!(
        "  curl --cacert {state}/pki/ca.pem --cert {state}/pki/clearing.pem --key {state}/pki/clearing.key \\"
    );
    println!("       {}/v1/status", facts.url);
    println!("  citykeep audit verify {state}/log --vkey {state}/log/vkey");
    println!("  python3 tests/verify.py log {state}/log --vkey {state}/log/vkey\n");
    Ok(())
}

fn rss(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

fn stay_up() -> Result<()> {
    println!("  Both stay up; Ctrl-C stops them. 按 Ctrl-C 停止。");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}

/// The ceremony's steps and what came of each; what was signed word by word is in the transcript.
fn is_shown(line: &str) -> bool {
    // The long tables of keys are in the transcript.
    let table = line.starts_with("    密钥 key") || line.contains("made inside the module and active");
    line.starts_with('[') || (line.starts_with("    ") && !line.contains("vkey") && !table)
}

/// Runs a program to its end and gives its stdout; a failure gives its own sentence.
pub(crate) fn output(command: &mut Command, name: &str) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("{name} cannot be started"))?;
    if done.status.success() {
        return String::from_utf8(done.stdout).with_context(|| format!("{name} printed no text"));
    }
    bail!("{name}: {}", sentence(&done.stderr))
}

fn sentence(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    if text.is_empty() { "failed without a word".to_owned() } else { text.to_owned() }
}

/// A field of a report; absent is null.
pub(crate) fn at<'a>(report: &'a Value, field: &str) -> &'a Value {
    report.get(field).unwrap_or(&Value::Null)
}

pub(crate) fn text<'a>(report: &'a Value, field: &str) -> &'a str {
    at(report, field).as_str().unwrap_or_default()
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

//! `citycard`: practice keys and practice days.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use card::{Day, Explanation, Finding, PracticeKeys, PracticeLoad, PracticeMaster, Random};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use p256::ecdsa::SigningKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::json;
use wire::api::CSV_HEADER;
use wire::key::KeyId;
use wire::purse::{bcd, hex};
use zeroize::Zeroizing;

/// Rehearsal material: practice keys and practice days. Never production. 演练材料生成，不得用于生产。
#[derive(Debug, Parser)]
#[command(name = "citycard", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a settlement day and the verdicts that it must get. 生成一天的清算文件。
    ///
    /// Writes N lines in the F1 layout under the keys of a key file, some of them wrong on purpose, and `line,verdict` rows
    /// beside it. Talks to no service.
    #[command(after_help = "Example: citycard day --keys keys.json --out day.txt --transactions 100000")]
    Day(DayArguments),
    /// Say why practice records fail: which field cannot be read, or which mistake would make its TAC match. 解释演练记录。
    ///
    /// Of a whole day, each line that is not right; one line alone in any case.
    #[command(
        after_help = "Examples:\n  citycard explain --keys keys.json --day day.txt --line 17\n  citycard explain --keys keys.json \
        --day - --json < day.txt"
    )]
    Explain(ExplainArguments),
    /// Make practice keys: two 3DES and two SM4 versions, three components each. 生成演练密钥。
    #[command(after_help = "Example: citycard keys --out keys.json")]
    Keys(KeysArguments),
    /// Make practice masters of the transit applet and transport keys of the practice lines. 生成演练主密钥。
    #[command(after_help = "Example: citycard masters --out masters.json")]
    Masters(KeysArguments),
    /// Make the key of a practice ledger: ledger.key, and ledger.pem to enrol. 生成演练账务密钥。
    #[command(after_help = "Example: citycard ledger --out practice")]
    Ledger(LedgerArguments),
    /// Print what a load terminal sends for a practice card: MAC1 by the card, token by the ledger. 生成演练圈存请求。
    #[command(
        after_help = "Example: citycard load --masters masters.json --ledger ledger.key --instance HEX --serial \
  00003101000020000001 --counter 1 --amount 5000 > load.json"
    )]
    Load(LoadArguments),
    /// Write man pages and completions, for the package.
    #[command(hide = true)]
    Pages(pages::Pages),
}

#[derive(Debug, Args)]
struct LedgerArguments {
    /// The folder; ledger.key and ledger.pem must not exist in it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct LoadArguments {
    /// File that `citycard masters` made.
    #[arg(long, value_name = "FILE")]
    masters: PathBuf,
    /// ledger.key that `citycard ledger` made.
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// The ledger's name as it was enrolled.
    #[arg(long, default_value = "bank-1")]
    signer: String,
    /// The service's instance, 32 hex digits.
    #[arg(long, value_name = "HEX")]
    instance: String,
    /// The load master.
    #[arg(long, default_value = "transit/purse/load@41")]
    key: String,
    /// Issuer id of the card, 16 hex digits.
    #[arg(long, default_value = "2660FFFF00000001")]
    issuer: String,
    /// Application serial number of the card, 20 digits.
    #[arg(long)]
    serial: String,
    /// The card's online counter.
    #[arg(long)]
    counter: u16,
    /// Fen to load.
    #[arg(long)]
    amount: u32,
    /// Fen on the card before.
    #[arg(long, default_value_t = 0)]
    balance: u32,
    /// Terminal number, 12 hex digits.
    #[arg(long, default_value = "112233445566")]
    terminal: String,
    /// Log index of the answer to the load at this counter that was lost and not credited; this one takes its place.
    #[arg(long, value_name = "INDEX")]
    replaces: Option<u64>,
}

#[derive(Debug, Args)]
struct KeysArguments {
    /// The key file to make; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Same seed, same keys: whoever knows the seed knows the keys.
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
}

#[derive(Debug, Args)]
struct ExplainArguments {
    /// Key file that `citycard keys` made; it holds the keys in plain, so this works for practice alone.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The day; - reads standard input.
    #[arg(long, value_name = "FILE")]
    day: PathBuf,
    /// This line alone, from 1, as in the verdict file.
    #[arg(long, value_name = "N")]
    line: Option<usize>,
    /// One JSON object: lines, right, and line, finding, reasons of each that is explained.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DayArguments {
    /// Key file that `citycard keys` made.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Where the day goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Lines of the day.
    #[arg(long, value_name = "N")]
    transactions: u64,
    /// Where the expected verdicts go [default: expected.csv beside the day].
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// Same seed and same keys, same day.
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Day(arguments) => day(&arguments),
        Command::Explain(arguments) => explain(&arguments),
        Command::Keys(arguments) => keys(&arguments),
        Command::Masters(arguments) => masters(&arguments),
        Command::Ledger(arguments) => ledger(&arguments),
        Command::Load(arguments) => load(&arguments),
        Command::Pages(pages) => pages.write(Cli::command(), "1").context("the pages cannot be written"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("citycard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn random(purpose: &str, seed: Option<&str>) -> anyhow::Result<Random> {
    match seed {
        Some(seed) => Ok(Random::from_seed(purpose, seed)),
        None => Random::from_system().context("the system gives no random numbers; check /dev/urandom"),
    }
}

fn keys(arguments: &KeysArguments) -> anyhow::Result<()> {
    let text = PracticeKeys::generate(&mut random("keys", arguments.seed.as_deref())?)?;
    write_secret(&arguments.out, text.as_bytes())?;
    let path = arguments.out.display();
    println!("{path}: 演练密钥 practice keys 01 02 (3des), 41 42 (sm4), never for production");
    Ok(())
}

/// Never over an existing file: a service may have its keys already.
fn write_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(|| {
            format!("{}: cannot make the key file; name one that does not exist yet", path.display())
        })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.with_context(|| format!("{}: cannot write", path.display()))
}

fn masters(arguments: &KeysArguments) -> anyhow::Result<()> {
    let text = card::generate_masters(&mut random("masters", arguments.seed.as_deref())?)?;
    write_secret(&arguments.out, text.as_bytes())?;
    println!("{}: 演练主密钥 practice masters, never for production", arguments.out.display());
    Ok(())
}

fn ledger(arguments: &LedgerArguments) -> anyhow::Result<()> {
    let mut random = random("ledger", None)?;
    let key = p256::SecretKey::from_slice(&random.bytes::<32>()).context("chance made no key; try again")?;
    let secret = key.to_pkcs8_pem(LineEnding::LF).context("the key has no text")?;
    write_secret(&arguments.out.join("ledger.key"), secret.as_bytes())?;
    let public = key.public_key().to_public_key_pem(LineEnding::LF).context("the key has no text")?;
    let path = arguments.out.join("ledger.pem");
    std::fs::write(&path, public).with_context(|| path.display().to_string())?;
    println!("{}: 演练账务公钥 practice ledger key to enrol", path.display());
    Ok(())
}

fn load(arguments: &LoadArguments) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&arguments.masters).map(Zeroizing::new);
    let text =
        text.with_context(|| format!("{}: make it with citycard masters", arguments.masters.display()))?;
    let pem = std::fs::read_to_string(&arguments.ledger).map(Zeroizing::new);
    let pem = pem.with_context(|| format!("{}: make it with citycard ledger", arguments.ledger.display()))?;
    let signer = SigningKey::from_pkcs8_pem(&pem).context("the ledger's key is no PKCS#8 PEM of P-256")?;
    let id = KeyId::parse(&arguments.key).context("--key is like transit/purse/load@41")?;
    let master = PracticeMaster::find(&text, &id)?;
    let mut random = Random::from_system().context("the system gives no random numbers")?;
    let now = time::OffsetDateTime::now_utc();
    let date = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    let moment = format!("{:02}{:02}{:02}", now.hour(), now.minute(), now.second());
    let practice = PracticeLoad {
        instance: hex(arguments.instance.as_bytes()).context("--instance is 32 hex digits")?,
        commit: random.bytes(),
        signer: arguments.signer.clone(),
        issuer: hex(arguments.issuer.as_bytes()).context("--issuer is 16 hex digits")?,
        serial: bcd(arguments.serial.as_bytes()).context("--serial is 20 digits")?,
        purse: 2,
        random: random.bytes(),
        counter: arguments.counter,
        balance: arguments.balance,
        amount: arguments.amount,
        terminal: hex(arguments.terminal.as_bytes()).context("--terminal is 12 hex digits")?,
        date: bcd(date.as_bytes()).context("this year has no four digits")?,
        time: bcd(moment.as_bytes()).context("this moment has no six digits")?,
        replaces: arguments.replaces,
    };
    println!("{}", serde_json::to_string_pretty(&master.load(&practice, &signer)?)?);
    Ok(())
}

fn explain(arguments: &ExplainArguments) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&arguments.keys).map(Zeroizing::new);
    let place = arguments.keys.display();
    let keys = PracticeKeys::parse(&text.with_context(|| format!("{place}: cannot read the key file"))?)?;
    let place = arguments.day.display();
    let bytes = if arguments.day == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(&arguments.day)
    };
    let bytes = bytes.with_context(|| format!("{place}: cannot read the day; check the path"))?;
    let rows = (1_usize..).zip(wire::purse::f1_lines(&bytes));
    let rows: Vec<_> = rows.filter(|(number, _)| arguments.line.is_none_or(|line| line == *number)).collect();
    let lines = rows.len();
    // A day has many right lines, which need no words; a record that comes alone has an answer.
    let explained: Vec<_> = rows
        .into_iter()
        .map(|(number, line)| (number, card::explain(&keys, line)))
        .filter(|(_, explanation)| lines == 1 || explanation.finding != Finding::Right)
        .collect();
    let wrong = explained.iter().filter(|(_, explanation)| explanation.finding != Finding::Right).count();
    let right = lines - wrong;
    if lines == 0 {
        bail!("{place} has no such line; count from 1, as in the verdict file");
    }
    if arguments.json {
        let rows = explained.iter().map(|(line, Explanation { finding, reasons })| {
            json!({"line": line, "finding": finding, "reasons": reasons})
        });
        println!("{}", json!({"lines": lines, "right": right, "explained": rows.collect::<Vec<_>>()}));
        return Ok(());
    }
    for (number, explanation) in &explained {
        explanation.reasons.iter().for_each(|reason| println!("第 {number} 行 line {number}: {reason}"));
    }
    if lines > 1 {
        println!("共 {lines} 行,{right} 行正确 {lines} lines, {right} of them right");
    }
    Ok(())
}

fn day(arguments: &DayArguments) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&arguments.keys).map(Zeroizing::new);
    let place = arguments.keys.display();
    let text =
        text.with_context(|| format!("{place}: cannot read the key file; make one with `citycard keys`"))?;
    let keys = PracticeKeys::parse(&text).with_context(|| place.to_string())?;
    let expected = arguments.expected.clone().unwrap_or_else(|| arguments.out.with_file_name("expected.csv"));
    if [&arguments.out, &arguments.keys].contains(&&expected) || arguments.out == arguments.keys {
        bail!("the key file, the day and the expected verdicts need three names; give each its own");
    }
    let day = Day::new(&keys, arguments.transactions, random("day", arguments.seed.as_deref())?);
    let mut lines = create(&arguments.out)?;
    let mut rows = create(&expected)?;
    let made = write_day(day, &mut lines, &mut rows);
    made.context("cannot write the day; check the free space and start again")?;
    println!(
        "{}: {} 笔交易 lines; {}: 预期结果 expected verdicts",
        arguments.out.display(),
        arguments.transactions,
        expected.display()
    );
    Ok(())
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let file =
        File::create(path).with_context(|| format!("{}: cannot write; check the folder", path.display()))?;
    Ok(BufWriter::with_capacity(1 << 18, file))
}

fn write_day(day: Day<'_>, lines: &mut impl Write, rows: &mut impl Write) -> std::io::Result<()> {
    writeln!(rows, "{CSV_HEADER}")?;
    for (number, line) in (1_u64..).zip(day) {
        lines.write_all(&line.bytes)?;
        lines.write_all(b"\n")?;
        writeln!(rows, "{number},{}", line.expected)?;
    }
    lines.flush()?;
    rows.flush()
}

//! `citycard`: practice keys and practice days.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use card::{Day, PracticeKeys, Random};
use clap::{Args, Parser, Subcommand};
use wire::api::CSV_HEADER;
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
    /// Make practice keys: two 3DES and two SM4 versions, three components each. 生成演练密钥。
    #[command(after_help = "Example: citycard keys --out keys.json")]
    Keys(KeysArguments),
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
        Command::Keys(arguments) => keys(&arguments),
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
    let path = arguments.out.display();
    // Never over an existing file: a service may have its keys already.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&arguments.out)
        .with_context(|| format!("{path}: cannot make the key file; name one that does not exist yet"))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{path}: cannot write"))?;
    println!("{path}: 演练密钥 practice keys 01 02 (3des), 41 42 (sm4), never for production");
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

//! `keyceremony client`: the authority's verbs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;
use wire::purse::to_hex;

use super::{KeyFile, print};
use crate::client::{Authority, Draft, Register, Request, Seal, granted, new_authority, now};
use crate::failure::Failure;
use crate::files;
use crate::instance::Instance;
use crate::keyfile::Role;
use crate::logbook;
use crate::words;

/// What the authority does.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Make the authority's certificate for a key file (`keygen --role authority`); officers approve it with `propose set-ca`.
    Ca(Ca),
    /// Say who asks, and what the policy would grant him, in words. 查看请求与授权
    Show(Show),
    /// Certify a request that officers enrolled; a renewal is the same with a new request. 签发证书
    Issue(Issue),
    /// Sign the revocation list: every certificate whose key officers ended. keyd reads it within 30 s. 签发吊销列表
    Crl(Crl),
    /// Who is enrolled, until when, and who was ended, from the published log. 客户端名录
    List(List),
}

#[derive(Debug, Args)]
pub(super) struct Ca {
    #[command(flatten)]
    key: KeyFile,
    /// Name of the authority.
    #[arg(long)]
    name: String,
    /// The new certificate.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The signing request, PEM.
    csr: PathBuf,
    /// The policy that keyd loads.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
}

/// The log that says what officers decided.
#[derive(Debug, Args)]
struct Book {
    /// The published log.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// The instance file (instance.json).
    #[arg(long, value_name = "FILE")]
    instance: PathBuf,
}

impl Book {
    fn read(&self) -> Result<logbook::Logbook, Failure> {
        let instance = Instance::read(&self.instance)?;
        logbook::read(&self.log, &instance.vkey, 1)
    }
}

/// The authority, and its register of what it issued.
#[derive(Debug, Args)]
struct Desk {
    /// The authority's certificate.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    #[command(flatten)]
    key: KeyFile,
    /// The register of issued certificates, one JSON object a line; made if it is not there. Keep it: the revocation list needs it.
    #[arg(long, value_name = "FILE")]
    register: PathBuf,
}

impl Desk {
    /// The authority, its register, and the time at which it signs.
    fn open(&self) -> Result<(Authority, Register, u64), Failure> {
        let seal = Seal::read(&self.ca, now())?;
        let register = Register::open(&self.register, &seal.der)?;
        let at = register.time(now())?;
        Ok((Authority::open(seal, &self.key.open(Role::Authority)?)?, register, at))
    }
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// The signing request, PEM.
    csr: PathBuf,
    #[command(flatten)]
    desk: Desk,
    #[command(flatten)]
    book: Book,
    /// Days that the certificate lasts; never beyond the enrolment.
    #[arg(long, default_value_t = 30)]
    days: u64,
    /// The new certificate.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Crl {
    #[command(flatten)]
    desk: Desk,
    #[command(flatten)]
    book: Book,
    /// Days until the next list must be there; keyd refuses everybody afterwards.
    #[arg(long, default_value_t = 7)]
    days: u64,
    /// The list; it replaces the one before.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A certificate of this authority that the register lost; it is written there again.
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// A key (SHA-256, hex) that officers ended and that this authority never certified; it is remembered.
    #[arg(long, value_name = "KEY", value_parser = key)]
    uncertified: Vec<String>,
}

/// A key's digest as the register writes it.
fn key(text: &str) -> Result<String, String> {
    let key = words::from_hex::<32>(text).map(|key| to_hex(&key));
    key.ok_or_else(|| "a key is named by 64 hex digits, as `client list --json` prints them".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    book: Book,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(action: &Action) -> Result<(), Failure> {
    match action {
        Action::Ca(verb) => ca(verb),
        Action::Show(verb) => show(verb),
        Action::Issue(verb) => issue(verb),
        Action::Crl(verb) => crl(verb),
        Action::List(verb) => list(verb),
    }
}

fn ca(verb: &Ca) -> Result<(), Failure> {
    let pem = new_authority(&verb.key.open(Role::Authority)?, &verb.name, OffsetDateTime::now_utc())?;
    files::write_new(&verb.out, pem.as_bytes(), files::PUBLIC)?;
    let out = verb.out.display();
    print([
        format!("{out}: 客户端 CA 证书 the clients' authority"),
        format!("下一步 next: keyceremony propose … set-ca {out}"),
    ]);
    Ok(())
}

fn show(verb: &Show) -> Result<(), Failure> {
    let request = Request::read(&verb.csr)?;
    let mut lines = vec![
        format!("  客户端 client    {}", request.client),
        format!("  公钥 key         SHA-256 {}", to_hex(&request.key)),
    ];
    lines.extend(granted(&verb.policy, &request.client)?);
    lines.push(format!("下一步 next: keyceremony propose … client {}", verb.csr.display()));
    print(lines);
    Ok(())
}

fn issue(verb: &Issue) -> Result<(), Failure> {
    let request = Request::read(&verb.csr)?;
    let book = verb.book.read()?;
    let (authority, mut register, now) = verb.desk.open()?;
    let issued = authority.issue(&request, &book.state, verb.days, now)?;
    let (pem, until) = (issued.certificate.clone(), words::date(issued.not_after));
    // The register first: a certificate that it does not know could never be revoked.
    register.add_issued(issued)?;
    files::write_new(&verb.out, pem.as_bytes(), files::PUBLIC)?;
    print([format!("{}: {} 有效至 until {until}", verb.out.display(), request.client)]);
    Ok(())
}

fn crl(verb: &Crl) -> Result<(), Failure> {
    let book = verb.book.read()?;
    let (authority, mut register, now) = verb.desk.open()?;
    for path in &verb.certificate {
        register.add_issued(authority.recover(path)?)?;
    }
    let draft = Draft {
        register: &register,
        log: &book.state,
        lying: authority.lying(&verb.out)?,
        uncertified: &verb.uncertified,
        days: verb.days,
        now,
    };
    let (pem, list) = authority.revocations(&draft)?;
    let (number, count) = (list.number, list.revoked.len());
    // The register first: the next list counts on from here, whatever becomes of the file.
    register.add_list(list)?;
    files::replace(&verb.out, pem.as_bytes(), files::PUBLIC)?;
    print([format!(
        "{}: 第 {number} 号列表,吊销 {count} 张证书 list {number}, {count} certificates revoked, next list within {} days",
        verb.out.display(),
        verb.days
    )]);
    Ok(())
}

fn list(verb: &List) -> Result<(), Failure> {
    let book = verb.book.read()?;
    if verb.json {
        let rows = book.state.clients().map(|known| {
            let (client, key) = (&known.enrolled.client, to_hex(&known.enrolled.key));
            json!({"client": client, "key": key, "not_after": known.enrolled.not_after, "ended": known.ended})
        });
        print([json!({"clients": rows.collect::<Vec<_>>()}).to_string()]);
        return Ok(());
    }
    let rows = book.state.clients().map(|known| {
        let (client, until) = (&known.enrolled.client, words::date(known.enrolled.not_after));
        let state = known
            .ended
            .as_ref()
            .map_or_else(|| format!("有效至 until {until}"), |why| format!("已吊销 ended: {why}"));
        format!("{client}  {}  {state}", to_hex(known.enrolled.key.get(..4).unwrap_or_default()))
    });
    print(rows);
    Ok(())
}

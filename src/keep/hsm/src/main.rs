//! `citykeep-hsm`: the module as a process.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use hsm::start::{Options, new_identity, run_module};
use securemem::Preference;

const HELP: &str = "\
citykeep-hsm: the cryptographic module. It holds the master keys, has no network and no files, and answers frames on two
Unix sockets.

  citykeep-hsm run --keyd-socket PATH --officers-socket PATH --identity FILE
      [--memory auto|mlock]     memory for keys: memfd_secret where the kernel has it, else mlock (auto), or mlock
      [--keyd-uid UID] …        user that keyd runs as, beside our own
      [--officers-uid UID] …    users that officers work as, beside our own
  citykeep-hsm identity --new FILE
      makes the boot identity that genesis pins, and prints its public half

When it is ready it prints one line: ready boot=<id> memory=<mode>. It starts uninitialised or sealed; what comes next is
the officers' ceremony: keyceremony --help.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["--help" | "-h" | "help"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        ["--version"] => {
            println!("citykeep-hsm {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["identity", "--new", path] => new_identity(&PathBuf::from(path)).map(|public| {
            println!("{}", wire::purse::to_hex(&public));
        }),
        ["run", rest @ ..] => match options(rest) {
            Ok(options) => run_module(&options).map(|never| match never {}),
            Err(why) => return usage(&why),
        },
        _ => return usage("unknown command"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("citykeep-hsm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(why: &str) -> ExitCode {
    eprintln!("citykeep-hsm: {why}; see citykeep-hsm --help");
    ExitCode::from(2)
}

fn options(words: &[&str]) -> Result<Options, String> {
    let (mut keyd, mut officers, mut identity, mut memory) = (None, None, None, Preference::Auto);
    let (mut keyd_uids, mut officer_uids) = (Vec::new(), Vec::new());
    let (pairs, odd) = words.as_chunks::<2>();
    if let [word] = odd {
        return Err(format!("{word} has no value"));
    }
    for [name, value] in pairs {
        match *name {
            "--keyd-socket" => keyd = Some(PathBuf::from(value)),
            "--officers-socket" => officers = Some(PathBuf::from(value)),
            "--identity" => identity = Some(PathBuf::from(value)),
            "--memory" => {
                memory = match *value {
                    "auto" => Preference::Auto,
                    "mlock" => Preference::Mlock,
                    _ => return Err("--memory is auto or mlock".to_owned()),
                }
            }
            "--keyd-uid" => keyd_uids.push(uid(value)?),
            "--officers-uid" => officer_uids.push(uid(value)?),
            other => return Err(format!("unknown option {other}")),
        }
    }
    let missing = |name: &str| format!("{name} is missing");
    Ok(Options {
        keyd_socket: keyd.ok_or_else(|| missing("--keyd-socket"))?,
        officers_socket: officers.ok_or_else(|| missing("--officers-socket"))?,
        identity: identity.ok_or_else(|| missing("--identity"))?,
        memory,
        keyd_uids,
        officer_uids,
    })
}

fn uid(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text} is no user id"))
}

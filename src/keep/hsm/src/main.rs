//! `citykeep-hsm`: the module as a process.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use hsm::start::{Options, group, new_identity, run_module, user};
use hsm::{EPOCH_HOURS_DEFAULT, epoch_hours};
use securemem::Preference;

const HELP: &str = "\
citykeep-hsm: the cryptographic module. It holds the master keys, has no network and no files, and answers frames on two
Unix sockets.

  citykeep-hsm run --identity FILE
      [--keyd-socket PATH] [--officers-socket PATH]
                                where to listen; left out under systemd, which hands over the sockets keyd and officers
      [--memory auto|mlock]     memory for keys: memfd_secret where the kernel has it, else mlock (auto), or mlock
      [--keyd-uid USER] …       user that keyd runs as, beside our own: name or number
      [--officers-uid USER] …   users that officers work as, beside our own
      [--officers-gid GROUP] …  groups whose members may be officers
      [--epoch-hours N]         hours after which the log gets a new epoch key, 1 to 24 (24)
  citykeep-hsm identity --new FILE
      makes the boot identity that genesis pins, and prints its public half

When it is ready it prints one line, ready boot=<id> memory=<mode>, and tells systemd if that started it. It starts uninitialised or sealed; what comes next is
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
    let (mut keyd_uids, mut officer_uids, mut officer_gids) = (Vec::new(), Vec::new(), Vec::new());
    let mut epoch = EPOCH_HOURS_DEFAULT;
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
            "--keyd-uid" => keyd_uids.push(user(value)?),
            "--officers-uid" => officer_uids.push(user(value)?),
            "--epoch-hours" => epoch = epoch_hours(value)?,
            "--officers-gid" => officer_gids.push(group(value)?),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Options {
        keyd_socket: keyd,
        officers_socket: officers,
        identity: identity.ok_or("--identity is missing")?,
        memory,
        keyd_uids,
        officer_uids,
        officer_gids,
        epoch_hours: epoch,
    })
}

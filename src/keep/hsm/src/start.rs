//! From an ordinary process to a module: memory, self-tests, identity, sockets, threads, walls; then ready.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use securemem::{Arena, Preference, Secret, process, sandbox::Sandbox};
use wire::command::PublicKey;
use wire::purse::to_hex;
use zeroize::Zeroize;

use crate::accounts;
use crate::kat::{Answers, run};
use crate::module::Module;
use crate::random::Random;
use crate::serve::{Peers, start as serve};
use crate::supervisor::Supervisor;

/// Secret memory beside the stacks.
const ARENA_BYTES: usize = 1 << 20;

/// First line of an identity file.
const IDENTITY_HEADER: &str = "citykeep boot identity v1 (secret)\n";

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    /// Socket for keyd; none if the starter hands over one with the name `keyd`.
    pub keyd_socket: Option<PathBuf>,
    /// Socket for officers and custodians; none if the starter hands over one with the name `officers`.
    pub officers_socket: Option<PathBuf>,
    /// Boot identity file.
    pub identity: PathBuf,
    /// Memory mode.
    pub memory: Preference,
    /// User ids that may be keyd, beside our own.
    pub keyd_uids: Vec<u32>,
    /// User ids that may be officers, beside our own.
    pub officer_uids: Vec<u32>,
    /// Groups whose members may be officers.
    pub officer_gids: Vec<u32>,
    /// Hours that an epoch of the log key lasts.
    pub epoch_hours: u64,
}

/// Why the module does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The process could not be hardened.
    #[error("the process cannot be protected ({0}); run the module on a kernel that allows it")]
    Process(std::io::Error),
    /// No secret memory.
    #[error("{0}")]
    Memory(#[from] securemem::MemoryError),
    /// A self-test failed.
    #[error("{0}")]
    SelfTest(#[from] crate::kat::SelfTestError),
    /// The random source or the identity is not good.
    #[error("{0}")]
    Refused(#[from] wire::error::Refused),
    /// The identity file.
    #[error("{path}: {why}")]
    Identity {
        /// The file.
        path: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// A socket.
    #[error("{path}: {why}")]
    Socket {
        /// The socket.
        path: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// What the starter (systemd) hands over.
    #[error("what the starter hands over is not as the module's units say: {0}")]
    Starter(std::io::Error),
    /// The sandbox.
    #[error("the system-call filter cannot be installed: {0}")]
    Sandbox(#[from] securemem::sandbox::SandboxError),
}

/// The id of a user, given by name or number.
pub fn user(word: &str) -> Result<u32, String> {
    accounts::id(word, Path::new(accounts::USERS))
}

/// The id of a group, given by name or number.
pub fn group(word: &str) -> Result<u32, String> {
    accounts::id(word, Path::new(accounts::GROUPS))
}

/// Runs the module. Returns only on an error before it is ready.
pub fn run_module(options: &Options) -> Result<std::convert::Infallible, StartError> {
    // Before anything is opened: the descriptors have fixed numbers.
    let mut handed = securemem::handed::unix_listeners().map_err(StartError::Starter)?;
    let supervisor = Supervisor::from_environment().map_err(StartError::Starter)?;
    process::single_malloc_arena().map_err(StartError::Process)?;
    process::deny_dumps().map_err(StartError::Process)?;
    process::no_new_privileges().map_err(StartError::Process)?;
    let arena = Arena::reserve(ARENA_BYTES, options.memory)?;
    run(&Answers::STANDARD)?;
    let random = Random::system()?;
    let program = program_digest().map_err(StartError::Process)?;
    let identity = read_identity(&arena, &options.identity)?;
    let module = Arc::new(Module::new(arena, random, program, identity)?.with_epochs_of(options.epoch_hours));
    // The locks are held as long as the process lives: a second module on the same sockets is refused.
    let (keyd, _keyd_lock) = socket(&mut handed, "keyd", options.keyd_socket.as_deref())?;
    let (officers, _officers_lock) = socket(&mut handed, "officers", options.officers_socket.as_deref())?;
    if let Some((name, _)) = handed.first() {
        let why = format!("{name} is no socket of the module's; it has keyd and officers");
        return Err(StartError::Starter(std::io::Error::other(why)));
    }
    let own = rustix::process::geteuid().as_raw();
    let keyd_peers = Peers { uids: options.keyd_uids.clone(), gids: Vec::new(), own };
    let (uids, gids) = (options.officer_uids.clone(), options.officer_gids.clone());
    serve(&module, keyd, officers, keyd_peers, Peers { uids, gids, own }, options.memory)?;
    // No backtrace: reading symbols would open files, and there are none any more.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "citykeep-hsm: a fault at {place}; the module stops");
    }));
    Sandbox::module().install()?;
    let ready = format!("ready boot={} memory={}\n", to_hex(&module.boot), module.arena.mode());
    // Nobody may be listening to our output; the sockets answer all the same.
    let _ = std::io::stdout().write_all(ready.as_bytes()).and_then(|()| std::io::stdout().flush());
    if let Some(supervisor) = supervisor {
        supervisor.report(&module);
    }
    loop {
        std::thread::park();
    }
}

fn program_digest() -> std::io::Result<[u8; 32]> {
    let mut bytes = Vec::new();
    File::open("/proc/self/exe")?.read_to_end(&mut bytes)?;
    Ok(crate::recovery::program_digest(&bytes))
}

/// Makes a new identity file and gives its public half.
pub fn new_identity(path: &Path) -> Result<PublicKey, StartError> {
    let failed = |why: String| StartError::Identity { path: path.display().to_string(), why };
    let random = Random::system()?;
    let secret = random.p256()?;
    let mut scalar = secret.to_bytes();
    let mut text = format!("{IDENTITY_HEADER}{}\n", to_hex(&scalar));
    scalar.zeroize();
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    text.zeroize();
    written.map_err(|error| {
        failed(format!("the identity cannot be written ({error}); it is never overwritten"))
    })?;
    Ok(wire::seal::public_key(&secret))
}

fn read_identity(arena: &Arena, path: &Path) -> Result<Secret, StartError> {
    let failed = |why: String| StartError::Identity { path: path.display().to_string(), why };
    let make = "make one with: citykeep-hsm identity --new FILE";
    let mut file = File::open(path).map_err(|error| failed(format!("cannot be read ({error}); {make}")))?;
    let meta = file.metadata().map_err(|error| failed(error.to_string()))?;
    let own = meta.mode().trailing_zeros() >= 6 && meta.uid() == rustix::process::geteuid().as_raw();
    // systemd's copy (LoadCredential=) is root's and opened to us alone by an access list, which shows as group bits.
    let credential = (meta.uid(), meta.gid()) == (0, 0) && meta.mode() & 0o337 == 0;
    if !own && !credential {
        return Err(failed("must be ours and closed to everybody else: chmod 600".to_owned()));
    }
    let mut bytes = [0; IDENTITY_HEADER.len() + 65];
    let read = file.read_exact(&mut bytes);
    let scalar: Option<[u8; 32]> = bytes
        .strip_prefix(IDENTITY_HEADER.as_bytes())
        .and_then(|rest| rest.strip_suffix(b"\n"))
        .and_then(wire::purse::hex);
    bytes.zeroize();
    let (Ok(()), Some(mut scalar)) = (read, scalar) else {
        return Err(failed(format!("is no identity file; {make}")));
    };
    let secret = arena.alloc(32, |place| {
        place.copy_from_slice(&scalar);
        Ok::<(), ()>(())
    });
    scalar.zeroize();
    secret.map_err(|_| failed("does not fit into secret memory".to_owned()))
}

/// The socket of this name: handed over, or bound by ourselves with a lock beside it; one and only one of the two.
fn socket(
    handed: &mut Vec<(String, UnixListener)>,
    name: &str,
    path: Option<&Path>,
) -> Result<(UnixListener, Option<File>), StartError> {
    let failed = |why: &str| StartError::Socket { path: format!("the socket {name}"), why: why.to_owned() };
    let place = handed.iter().position(|(known, _)| known == name);
    match (place.map(|place| handed.swap_remove(place).1), path) {
        (Some(listener), None) => Ok((listener, None)),
        (None, Some(path)) => listen(path).map(|(listener, lock)| (listener, Some(lock))),
        (None, None) => {
            Err(failed(&format!("is missing; say --{name}-socket PATH, or start the socket unit")))
        }
        (Some(_), Some(_)) => Err(failed(&format!("is handed over already; leave --{name}-socket out"))),
    }
}

/// Binds a socket that only its own user and group can reach. The lock beside it lives as long as the process, so a
/// socket that a killed module left behind can be replaced, and a living one cannot.
fn listen(path: &Path) -> Result<(UnixListener, File), StartError> {
    let failed = |why: String| StartError::Socket { path: path.display().to_string(), why };
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
    let lock = lock.map_err(|error| failed(format!("its lock file cannot be made ({error})")))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| failed("another module serves here; stop it first".to_owned()))?;
    if UnixStream::connect(path).is_ok() {
        return Err(failed("somebody else serves here; stop it first".to_owned()));
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|error| failed(format!("cannot be bound ({error})")))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))
        .map_err(|error| failed(error.to_string()))?;
    Ok((listener, lock))
}

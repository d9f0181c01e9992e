//! What several test programs share: tests that must run in a process of their own, and a look at our own memory.

#![allow(dead_code, reason = "each test program uses a part")]

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Output};

const CASE: &str = "SECUREMEM_TEST_CASE";

/// The case this process was started for by `child`, if it was.
pub(crate) fn case() -> Option<String> {
    env::var(CASE).ok()
}

/// Runs the named test alone in a new process of this test program, with `case()` set.
pub(crate) fn child(test: &str, case: &str) -> Output {
    command(case)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        // The harness has threads before a case could call `single_malloc_arena`.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap()
}

/// Runs this test program in a new process, with `case()` set.
pub(crate) fn command(case: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(CASE, case).env("RUST_BACKTRACE", "0");
    command
}

/// Ends a child at once, without the test harness's own farewell.
pub(crate) fn leave() -> ! {
    // SAFETY: `_exit` takes an integer and does not return.
    // JUSTIFICATION: `std::process::exit` runs exit handlers, which this is to avoid.
    unsafe { libc::_exit(0) }
}

/// Reads our own memory the way a debugger would.
pub(crate) fn peek(address: usize, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    File::open("/proc/self/mem")?.read_exact_at(&mut bytes, address as u64)?;
    Ok(bytes)
}

/// The line of `/proc/self/maps` for the mapping that holds this address.
pub(crate) fn mapping_of(address: usize) -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let holds = |line: &&str| {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        (usize::from_str_radix(from, 16).unwrap()..usize::from_str_radix(to, 16).unwrap()).contains(&address)
    };
    maps.lines().find(holds).unwrap().to_owned()
}

/// The flags of that mapping in `/proc/self/smaps`.
pub(crate) fn flags_of(address: usize) -> Vec<String> {
    let head = mapping_of(address);
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines().skip_while(|line| *line != head);
    let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
    flags.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Enough randomness for a test, the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound
    }
}

//! What the process gives up.

#![allow(unsafe_code, reason = "the tests do what a faulty or hostile program would")]
#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the report")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Resource, getrlimit};
use securemem::process;
use support::{case, child, leave};

fn no_new_privileges() -> bool {
    fs::read_to_string("/proc/thread-self/status").unwrap().lines().any(|line| line == "NoNewPrivs:\t1")
}

#[test]
fn privileges_and_dumps_are_gone_for_good() {
    if case().is_some() {
        // SAFETY: `prctl` with this option takes no pointer.
        // JUSTIFICATION: the answer is wanted from the kernel itself.
        let dumpable = || unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        assert_eq!((dumpable(), no_new_privileges()), (1, false), "the red control");
        process::deny_dumps().unwrap();
        process::no_new_privileges().unwrap();
        process::single_malloc_arena().unwrap();
        assert_eq!((dumpable(), no_new_privileges()), (0, true));
        let core = getrlimit(Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
        // The files in /proc now belong to root, whoever we are.
        assert_eq!(fs::metadata("/proc/self/mem").unwrap().uid(), 0);
        if !rustix::process::geteuid().is_root() {
            assert!(File::open("/proc/self/mem").is_err());
        }
        println!("given up");
        leave();
    }
    let output = child("privileges_and_dumps_are_gone_for_good", "yes");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("given up"), "{output:?}");
}

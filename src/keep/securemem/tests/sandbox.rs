//! The policy: what it forbids kills. What the module needs is in `service.rs`.

#![allow(unsafe_code, reason = "the tests do what a faulty or hostile program would")]
#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the report")]

mod support;

use std::ffi::c_long;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::abort;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use securemem::sandbox::{ALLOWED, Sandbox};
use securemem::{Preference, spawn_secret_stack};
use support::{case, child, leave};

type Arguments = [c_long; 6];

/// Calls that must kill, with arguments that do no harm where they are let through.
#[rustfmt::skip]
const FORBIDDEN: &[(&str, c_long, Arguments)] = &[
    ("openat", libc::SYS_openat, [-1, 0, 0, 0, 0, 0]),
    ("openat2", libc::SYS_openat2, [-1, 0, 0, 0, 0, 0]),
    ("unlinkat", libc::SYS_unlinkat, [-1, 0, 0, 0, 0, 0]),
    ("newfstatat", libc::SYS_newfstatat, [-1, 0, 0, 0, 0, 0]),
    ("socket", libc::SYS_socket, [libc::AF_UNIX as c_long, libc::SOCK_STREAM as c_long, 0, 0, 0, 0]),
    ("socketpair", libc::SYS_socketpair, [-1, 0, 0, 0, 0, 0]),
    ("connect", libc::SYS_connect, [-1, 0, 0, 0, 0, 0]),
    ("bind", libc::SYS_bind, [-1, 0, 0, 0, 0, 0]),
    ("listen", libc::SYS_listen, [-1, 0, 0, 0, 0, 0]),
    ("setsockopt", libc::SYS_setsockopt, [-1, 0, 0, 0, 0, 0]),
    ("execve", libc::SYS_execve, [0; 6]),
    ("execveat", libc::SYS_execveat, [-1, 0, 0, 0, 0, 0]),
    ("ptrace", libc::SYS_ptrace, [-1, 0, 0, 0, 0, 0]),
    ("process_vm_readv", libc::SYS_process_vm_readv, [0; 6]),
    ("process_vm_writev", libc::SYS_process_vm_writev, [0; 6]),
    ("pidfd_open", libc::SYS_pidfd_open, [-1, 0, 0, 0, 0, 0]),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, [-1, 0, 0, 0, 0, 0]),
    ("clone", libc::SYS_clone, [libc::CLONE_THREAD as c_long, 0, 0, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0; 6]),
    ("unshare", libc::SYS_unshare, [0; 6]),
    ("setns", libc::SYS_setns, [-1, 0, 0, 0, 0, 0]),
    ("mprotect", libc::SYS_mprotect, [0; 6]),
    ("pkey_mprotect", libc::SYS_pkey_mprotect, [0; 6]),
    ("mmap executable", libc::SYS_mmap, [0, 4096, (libc::PROT_READ | libc::PROT_EXEC) as c_long, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as c_long, -1, 0]),
    ("mmap of a file", libc::SYS_mmap, [0, 4096, libc::PROT_READ as c_long, libc::MAP_PRIVATE as c_long, -1, 0]),
    ("madvise DODUMP", libc::SYS_madvise, [0, 0, libc::MADV_DODUMP as c_long, 0, 0, 0]),
    ("madvise DOFORK", libc::SYS_madvise, [0, 0, libc::MADV_DOFORK as c_long, 0, 0, 0]),
    ("munlock", libc::SYS_munlock, [0; 6]),
    ("munlockall", libc::SYS_munlockall, [0; 6]),
    ("memfd_create", libc::SYS_memfd_create, [0; 6]),
    ("fcntl F_GETFL", libc::SYS_fcntl, [0, libc::F_GETFL as c_long, 0, 0, 0, 0]),
    ("fcntl F_DUPFD", libc::SYS_fcntl, [-1, libc::F_DUPFD as c_long, 0, 0, 0, 0]),
    ("ioctl", libc::SYS_ioctl, [-1, 0, 0, 0, 0, 0]),
    ("dup", libc::SYS_dup, [-1, 0, 0, 0, 0, 0]),
    ("prctl", libc::SYS_prctl, [libc::PR_GET_DUMPABLE as c_long, 0, 0, 0, 0, 0]),
    ("prlimit64", libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as c_long, 0, 0, 0, 0]),
    ("rt_sigaction", libc::SYS_rt_sigaction, [libc::SIGUSR1 as c_long, 0, 0, 8, 0, 0]),
    ("kill", libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
    ("tgkill SIGCONT", libc::SYS_tgkill, [-1, -1, libc::SIGCONT as c_long, 0, 0, 0]),
    ("tgkill of another", libc::SYS_tgkill, [0x7fff_ffff, 0x7fff_ffff, libc::SIGABRT as c_long, 0, 0, 0]),
    ("setuid", libc::SYS_setuid, [-1, 0, 0, 0, 0, 0]),
    ("seccomp", libc::SYS_seccomp, [-1, 0, 0, 0, 0, 0]),
    ("bpf", libc::SYS_bpf, [-1, 0, 0, 0, 0, 0]),
    ("keyctl", libc::SYS_keyctl, [-1, 0, 0, 0, 0, 0]),
    ("userfaultfd", libc::SYS_userfaultfd, [-1, 0, 0, 0, 0, 0]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [0; 6]),
    ("perf_event_open", libc::SYS_perf_event_open, [0; 6]),
    ("mount", libc::SYS_mount, [0; 6]),
    ("sendfile", libc::SYS_sendfile, [-1, -1, 0, 0, 0, 0]),
    ("a number from the future", 4095, [0; 6]),
];

fn raw(number: c_long, arguments: Arguments) -> c_long {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    // SAFETY: every row of the table names no memory (null, zero length or a bad descriptor), so that the kernel
    // refuses it, or asks for something without effect on memory in use.
    // JUSTIFICATION: what a hostile program would do has no safe wrapper.
    unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) }
}

#[test]
fn every_forbidden_call_kills() {
    if let Some(case) = case() {
        let (walls, index) = case.split_once(' ').unwrap();
        let (_, number, arguments) = FORBIDDEN[index.parse::<usize>().unwrap()];
        if walls == "sandboxed" {
            Sandbox::module().install().unwrap();
        }
        raw(number, arguments);
        leave();
    }
    for (index, (name, ..)) in FORBIDDEN.iter().enumerate() {
        let inside = child("every_forbidden_call_kills", &format!("sandboxed {index}")).status;
        assert_eq!(inside.signal(), Some(libc::SIGSYS), "{name}: {inside}");
        // The red control: the call itself is not what kills.
        let outside = child("every_forbidden_call_kills", &format!("free {index}")).status;
        assert!(outside.success(), "{name}: {outside}");
    }
}

#[test]
fn ordinary_code_that_leaves_the_policy_dies() {
    if let Some(case) = case() {
        let (walls, deed) = case.split_once(' ').unwrap();
        let (go, gone) = mpsc::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let older = thread::spawn(move || {
            ready.send(()).unwrap();
            gone.recv().unwrap();
            drop(std::fs::File::open("/dev/null"));
        });
        is_ready.recv().unwrap();
        if walls == "sandboxed" {
            Sandbox::module().install().unwrap();
        }
        match deed {
            "open" => drop(std::fs::File::open("/dev/null")),
            "connect" => drop(UnixStream::connect("/nonexistent")),
            "tcp" => drop(std::net::TcpStream::connect(("127.0.0.1", 1))),
            "spawn" => thread::spawn(|| ()).join().unwrap(),
            "exec" => drop(std::process::Command::new("/nonexistent").spawn()),
            // The policy is in force on threads that were there before it.
            _ => {
                go.send(()).unwrap();
                older.join().unwrap();
            }
        }
        leave();
    }
    for deed in ["open", "connect", "tcp", "spawn", "exec", "older thread"] {
        let inside = child("ordinary_code_that_leaves_the_policy_dies", &format!("sandboxed {deed}")).status;
        assert_eq!(inside.signal(), Some(libc::SIGSYS), "{deed}: {inside}");
        let outside = child("ordinary_code_that_leaves_the_policy_dies", &format!("free {deed}")).status;
        assert!(outside.success(), "{deed}: {outside}");
    }
}

/// A thread that still sets itself up would be caught by a policy that comes too early.
#[test]
fn a_secret_stack_thread_is_ready_when_it_is_handed_over() {
    if case().is_some() {
        for _ in 0..20 {
            spawn_secret_stack("quick", 64 * 1024, Preference::Mlock, thread::park).unwrap();
        }
        Sandbox::module().install().unwrap();
        thread::sleep(Duration::from_millis(5));
        leave();
    }
    for _ in 0..20 {
        let status = child("a_secret_stack_thread_is_ready_when_it_is_handed_over", "yes").status;
        assert!(status.success(), "{status}");
    }
}

#[test]
fn abort_looks_like_an_abort() {
    if let Some(case) = case() {
        if case == "panic on a secret stack" {
            let (go, gone) = mpsc::channel::<()>();
            spawn_secret_stack("doomed", 64 * 1024, Preference::Auto, move || {
                gone.recv().unwrap();
                panic!("on purpose");
            })
            .unwrap();
            Sandbox::module().install().unwrap();
            go.send(()).unwrap();
            thread::sleep(Duration::from_secs(10));
            leave();
        }
        Sandbox::module().install().unwrap();
        abort();
    }
    for case in ["abort", "panic on a secret stack"] {
        let status = child("abort_looks_like_an_abort", case).status;
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{case}: {status}");
    }
}

#[test]
fn the_listing_is_the_policy() {
    let shown: Vec<String> = ALLOWED.iter().map(ToString::to_string).collect();
    assert!(shown.contains(&"read".to_owned()));
    assert!(shown.contains(&"mmap (MAP_ANONYMOUS, no PROT_EXEC)".to_owned()), "{shown:?}");
    let mut names: Vec<_> = ALLOWED.iter().map(|call| call.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALLOWED.len());
}

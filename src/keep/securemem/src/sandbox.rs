//! The system calls that are left once the module serves.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::error::Error;
use std::ffi::{c_int, c_long};
use std::fmt;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// A system call that the policy lets through. `Display` writes the name and, in brackets, the condition.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Name of the call.
    pub name: &'static str,
    /// What its arguments must be; empty if any will do.
    pub only_if: &'static str,
    number: c_long,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if self.only_if.is_empty() { Ok(()) } else { write!(f, " ({})", self.only_if) }
    }
}

/// The policy. What is not here ends the process with `SIGSYS`.
pub const ALLOWED: &[Allowed] = &[
    // The sockets that are open already, and connections that come in through them.
    call("read", libc::SYS_read),
    call("write", libc::SYS_write),
    call("readv", libc::SYS_readv),
    call("writev", libc::SYS_writev),
    call("recvfrom", libc::SYS_recvfrom),
    call("sendto", libc::SYS_sendto),
    call("recvmsg", libc::SYS_recvmsg),
    call("sendmsg", libc::SYS_sendmsg),
    call("accept4", libc::SYS_accept4),
    call("getsockopt", libc::SYS_getsockopt),
    call("shutdown", libc::SYS_shutdown),
    #[cfg(target_arch = "x86_64")]
    call("poll", libc::SYS_poll),
    call("ppoll", libc::SYS_ppoll),
    #[cfg(target_arch = "x86_64")]
    call("epoll_wait", libc::SYS_epoll_wait),
    call("epoll_pwait", libc::SYS_epoll_pwait),
    call("epoll_ctl", libc::SYS_epoll_ctl),
    call("close", libc::SYS_close),
    // Before it closes a descriptor, the standard library of a debug build asks whether it is open.
    Allowed { name: "fcntl", only_if: "F_GETFD", number: libc::SYS_fcntl },
    // Locks, randomness, time.
    call("futex", libc::SYS_futex),
    call("getrandom", libc::SYS_getrandom),
    call("clock_gettime", libc::SYS_clock_gettime),
    call("clock_nanosleep", libc::SYS_clock_nanosleep),
    call("nanosleep", libc::SYS_nanosleep),
    call("gettimeofday", libc::SYS_gettimeofday),
    call("sched_yield", libc::SYS_sched_yield),
    // The heap. No code can be added: nothing executable is mapped, and nothing becomes executable.
    Allowed { name: "mmap", only_if: "MAP_ANONYMOUS, no PROT_EXEC", number: libc::SYS_mmap },
    call("munmap", libc::SYS_munmap),
    call("mremap", libc::SYS_mremap),
    // Other advice could put secret memory back into dumps and forked children.
    Allowed { name: "madvise", only_if: "MADV_DONTNEED or MADV_FREE", number: libc::SYS_madvise },
    call("brk", libc::SYS_brk),
    // Signals whose handlers are set already, and the ways to end. Abort may signal this process and no other, so that
    // a panic (SIGABRT) does not look like a broken policy (SIGSYS).
    call("rt_sigreturn", libc::SYS_rt_sigreturn),
    call("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    call("sigaltstack", libc::SYS_sigaltstack),
    call("restart_syscall", libc::SYS_restart_syscall),
    call("gettid", libc::SYS_gettid),
    call("getpid", libc::SYS_getpid),
    Allowed { name: "tgkill", only_if: "this process, SIGABRT", number: libc::SYS_tgkill },
    call("exit", libc::SYS_exit),
    call("exit_group", libc::SYS_exit_group),
];

const fn call(name: &'static str, number: c_long) -> Allowed {
    Allowed { name, only_if: "", number }
}

/// A seccomp policy, not yet in force.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox {
    calls: &'static [Allowed],
}

impl Sandbox {
    /// The policy of the cryptographic module: [`ALLOWED`], for x86_64 and aarch64.
    pub const fn module() -> Self {
        Self { calls: ALLOWED }
    }

    /// Puts the policy in force, for all threads of the process and for good. Implies `no_new_privileges`.
    pub fn install(self) -> Result<(), SandboxError> {
        let program = self.program().map_err(SandboxError::Build)?;
        seccompiler::apply_filter_all_threads(&program).map_err(SandboxError::Install)
    }

    fn program(self) -> Result<BpfProgram, BackendError> {
        let rules = self.calls.iter().map(|call| Ok((call.number, rules_of(call.number)?)));
        let rules = rules.collect::<Result<BTreeMap<_, _>, BackendError>>()?;
        let arch = TargetArch::try_from(ARCH)?;
        SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
    }
}

/// The alternatives under which a call passes; none means that it always does.
fn rules_of(number: c_long) -> Result<Vec<SeccompRule>, BackendError> {
    let alternatives = match number {
        libc::SYS_fcntl => vec![vec![equal(1, libc::F_GETFD)]],
        libc::SYS_madvise => vec![vec![equal(2, libc::MADV_DONTNEED)], vec![equal(2, libc::MADV_FREE)]],
        libc::SYS_mmap => {
            vec![vec![masked(2, libc::PROT_EXEC, 0), masked(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)]]
        }
        libc::SYS_tgkill => vec![vec![
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, std::process::id().into()),
            equal(2, libc::SIGABRT),
        ]],
        _ => vec![],
    };
    alternatives
        .into_iter()
        .map(|conditions| SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?))
        .collect()
}

fn equal(argument: u8, value: c_int) -> Result<SeccompCondition, BackendError> {
    // The kernel reads these arguments as C ints: the upper half does not count.
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, word(value))
}

fn masked(argument: u8, mask: c_int, value: c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(word(mask)), word(value))
}

fn word(value: c_int) -> u64 {
    value.cast_unsigned().into()
}

/// The sandbox is not in force; the process must not go on to serve.
#[derive(Debug)]
#[non_exhaustive]
pub enum SandboxError {
    /// The policy does not compile, or this processor is unknown to it.
    Build(BackendError),
    /// The kernel does not take it.
    Install(seccompiler::Error),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => write!(f, "cannot build the seccomp policy for {ARCH}: {error}"),
            Self::Install(error) => write!(
                f,
                "cannot install the seccomp policy ({error}): the kernel needs CONFIG_SECCOMP_FILTER, and a container must allow seccomp(2)"
            ),
        }
    }
}

impl Error for SandboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Build(error) => Some(error),
            Self::Install(error) => Some(error),
        }
    }
}

//! What the whole process gives up at start.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// No core files, and no ptrace, `/proc/PID/mem` or `process_vm_readv` from the same user. Root is not stopped.
///
/// Changing the user id or executing a file resets the first half: call this after either.
pub fn deny_dumps() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Executing a set-uid file gains nothing from now on, for this thread and all that it starts.
///
/// Call it before the first thread starts; `Sandbox::install` does the same for all threads.
pub fn no_new_privileges() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Makes all threads share malloc's main arena. Call it before the first thread starts.
///
/// The others grow with `mprotect`, which the sandbox forbids; the main one grows with `brk` and `mmap`.
#[cfg(target_env = "gnu")]
pub fn single_malloc_arena() -> io::Result<()> {
    // SAFETY: `mallopt` takes two integers and sets a number under malloc's own lock.
    // JUSTIFICATION: the allocator is the C library's, and so is its switch.
    let accepted = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    if accepted == 1 { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Nothing to do: this C library has no per-thread arenas.
#[cfg(not(target_env = "gnu"))]
pub fn single_malloc_arena() -> io::Result<()> {
    Ok(())
}

/// How many bytes this process may lock; `None` is "unlimited".
pub fn memlock_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Memlock).current
}

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::mpsc::{self, SyncSender};

use crate::region::Region;
use crate::{MemoryError, MemoryMode, Preference};

/// Below this, the C library's own needs (its thread block, a signal frame with wide vector state) take too large a
/// part.
const STACK_MIN: usize = 64 * 1024;

/// Runs `f` on a new thread whose stack is secret memory of its own, and returns once that thread runs.
///
/// The size is raised to 64 KiB and rounded up to pages. The thread is detached, its stack never given back. Call this
/// before the sandbox is on: starting a thread is then forbidden.
///
/// A panic in `f` aborts the process: nobody could join the thread and hear of it.
pub fn spawn_secret_stack(
    name: &str,
    stack_bytes: usize,
    preference: Preference,
    f: impl FnOnce() + Send + 'static,
) -> Result<MemoryMode, MemoryError> {
    let stack = Region::reserve(stack_bytes.max(STACK_MIN), preference)?;
    let mode = stack.mode();
    let name = CString::new(name).map_err(|error| MemoryError::Thread { source: error.into() })?;
    let (started, runs) = mpsc::sync_channel(1);
    create(&stack, Box::new(Start { name, started, body: Box::new(f) }))
        .map_err(|source| MemoryError::Thread { source })?;
    // The thread outlives every owner that could be given to the region.
    mem::forget(stack);
    // A thread that is still setting itself up makes system calls that the sandbox forbids.
    runs.recv().map_err(|_| MemoryError::Thread { source: io::ErrorKind::BrokenPipe.into() })?;
    Ok(mode)
}

struct Start {
    name: CString,
    started: SyncSender<()>,
    body: Box<dyn FnOnce() + Send>,
}

fn create(stack: &Region, start: Box<Start>) -> io::Result<()> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: `attributes` points to room for the object, which this call initialises.
    // JUSTIFICATION: the standard library lets nobody choose a thread's stack.
    check(unsafe { libc::pthread_attr_init(attributes) })?;
    let start = Box::into_raw(start);
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: `attributes` is initialised. The stack is page-aligned, readable and writable, used by nothing else and
    // (by the caller, on success) never unmapped. `entry` has the C signature and takes over `start`, which outlives
    // this frame because it was leaked. `thread` is written by the call and not read: the thread is detached.
    // JUSTIFICATION: as above.
    let created = unsafe {
        check(libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED))
            .and_then(|()| check(libc::pthread_attr_setstack(attributes, stack.base().cast(), stack.len())))
            .and_then(|()| check(libc::pthread_create(thread.as_mut_ptr(), attributes, entry, start.cast())))
    };
    // SAFETY: initialised above and used no more.
    // JUSTIFICATION: as above.
    unsafe { libc::pthread_attr_destroy(attributes) };
    if created.is_err() {
        // SAFETY: no thread was made, so that the pointer from `Box::into_raw` is still ours alone.
        // JUSTIFICATION: the closure would leak, with whatever it captured.
        drop(unsafe { Box::from_raw(start) });
    }
    created
}

/// Being `extern "C"`, it turns a panic that reaches it into an abort.
extern "C" fn entry(start: *mut c_void) -> *mut c_void {
    // SAFETY: `create` passes a pointer from `Box::into_raw` to exactly one thread and does not touch it again.
    // JUSTIFICATION: a C thread gets its argument as a bare pointer.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    let Start { name, started, body } = *start;
    // The name is for people reading `top`; without it the thread works as well.
    let _ = rustix::thread::set_name(&name);
    // The receiver waits until this arrives; it is never gone.
    let _ = started.send(());
    drop((name, started));
    body();
    ptr::null_mut()
}

fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

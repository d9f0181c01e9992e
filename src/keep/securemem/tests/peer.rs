//! The other end of a socket.

#![allow(unsafe_code, reason = "the tests do what a faulty or hostile program would")]
#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the report")]

use std::ffi::c_int;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use securemem::peer;

#[test]
fn peers_are_seen_and_waited_for() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let who = peer::credentials(&near).unwrap();
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!((who.pid, (who.uid, who.gid)), (std::process::id(), ids));
    assert!(!peer::wait_readable(&near, Duration::ZERO).unwrap());
    assert!(peer::wait_writable(&near, Duration::MAX).unwrap());
    far.write_all(b"x").unwrap();
    assert!(peer::wait_readable(&near, Duration::MAX).unwrap());
    drop(far);
    assert!(peer::wait_readable(&near, Duration::ZERO).unwrap(), "an end of stream is readable");
}

#[test]
fn groups_of_a_peer_are_its_own_and_its_further_ones() {
    let (near, _far) = UnixStream::pair().unwrap();
    let own = rustix::process::getegid().as_raw();
    assert!(peer::is_in_group(&near, &[own]).unwrap());
    assert!(!peer::is_in_group(&near, &[]).unwrap());
    let further: Vec<u32> =
        rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
    for group in &further {
        assert!(peer::is_in_group(&near, &[*group]).unwrap());
    }
    let foreign = (60_000..70_000).find(|group| *group != own && !further.contains(group)).unwrap();
    assert!(!peer::is_in_group(&near, &[foreign]).unwrap());
}

/// A signal in the middle of a wait neither ends it early nor makes it longer.
#[test]
fn signals_do_not_end_a_wait() {
    extern "C" fn ignore(_: c_int) {}
    // SAFETY: the handler does nothing; the signal goes to this very thread, which lives until the sender is joined.
    // JUSTIFICATION: the standard library sends and handles no signals.
    let me = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(c_int) as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, ptr::null_mut()), 0);
        libc::pthread_self()
    };
    let sender = thread::spawn(move || {
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(10));
            // SAFETY: as above.
            // JUSTIFICATION: as above.
            unsafe { libc::pthread_kill(me, libc::SIGUSR2) };
        }
    });
    let (near, _far) = UnixStream::pair().unwrap();
    let began = Instant::now();
    assert!(!peer::wait_readable(&near, Duration::from_millis(150)).unwrap());
    assert!((150..1000).contains(&began.elapsed().as_millis()));
    sender.join().unwrap();
}

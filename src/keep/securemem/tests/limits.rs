//! Memory-lock limits, as the ordinary user under whom the module runs.

#![allow(unsafe_code, reason = "the tests do what a faulty or hostile program would")]
#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the report")]

mod support;

use std::sync::mpsc;

use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use securemem::{Arena, MemoryError, Preference, process, spawn_secret_stack};
use support::{case, child, leave};

/// Root may lock without limit; give that up.
fn become_ordinary_user(limit: u64) {
    setrlimit(Resource::Memlock, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
    if geteuid().is_root() {
        // SAFETY: `setuid` takes an integer; the C library applies it to every thread.
        // JUSTIFICATION: changing only one thread's user would not be the user's real situation.
        assert_eq!(unsafe { libc::setuid(65534) }, 0);
    }
    assert_eq!(process::memlock_limit(), Some(limit));
}

fn preference(case: &str) -> Preference {
    if case == "Auto" { Preference::Auto } else { Preference::Mlock }
}

#[test]
fn too_low_a_limit_is_an_error_at_start() {
    if let Some(case) = case() {
        become_ordinary_user(64 * 1024);
        let preference = preference(&case);
        for error in [
            Arena::reserve(1 << 20, preference).unwrap_err(),
            spawn_secret_stack("refused", 256 * 1024, preference, || ()).unwrap_err(),
        ] {
            assert!(matches!(error, MemoryError::Lock { limit: Some(65536), .. }), "{error:?}");
            assert!(error.to_string().contains("raise LimitMEMLOCK="), "{error}");
        }
        // The red control: what fits the limit is granted.
        Arena::reserve(32 * 1024, preference).unwrap();
        println!("refused as expected");
        leave();
    }
    for case in ["Auto", "Mlock"] {
        let output = child("too_low_a_limit_is_an_error_at_start", case);
        assert!(output.status.success(), "{case}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("refused as expected"), "{output:?}");
    }
}

#[test]
fn the_module_fits_eight_mebibytes() {
    if let Some(case) = case() {
        become_ordinary_user(8 << 20);
        let preference = preference(&case);
        let arena = Arena::reserve(1 << 20, preference).unwrap();
        let expected = arena.mode();
        let (send, receive) = mpsc::channel();
        for i in 0..10_u8 {
            let (arena, send) = (arena.clone(), send.clone());
            let work = move || {
                let secret = arena.alloc(16, |slot| {
                    slot.fill(i);
                    Ok::<(), ()>(())
                });
                send.send(secret.unwrap().with(|bytes| bytes[15])).unwrap();
            };
            let mode = spawn_secret_stack(&format!("worker-{i}"), 256 * 1024, preference, work).unwrap();
            assert_eq!(mode, expected);
        }
        drop(send);
        let sum: u32 = receive.iter().map(u32::from).sum();
        assert_eq!(sum, 45);
        println!("all ten worked");
        leave();
    }
    for case in ["Auto", "Mlock"] {
        let output = child("the_module_fits_eight_mebibytes", case);
        assert!(output.status.success(), "{case}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("all ten worked"), "{output:?}");
    }
}

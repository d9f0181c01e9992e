//! Threads on secret stacks.

#![allow(unsafe_code, reason = "the tests do what a faulty or hostile program would")]
#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the report")]

mod support;

use std::cell::Cell;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use securemem::{MemoryError, MemoryMode, Preference, spawn_secret_stack};
use support::{case, child, leave, mapping_of, peek};

const PATTERN: [u8; 32] = *b"on the stack and nowhere else !!";

thread_local! {
    static OWN: Cell<u32> = const { Cell::new(7) };
}

#[test]
fn locals_lie_in_secret_memory() {
    for preference in [Preference::Auto, Preference::Mlock] {
        let (send, receive) = mpsc::channel();
        let mode = spawn_secret_stack("stack-test", 128 * 1024, preference, move || {
            let local = black_box(PATTERN);
            let at = local.as_ptr().addr();
            send.send((mapping_of(at), peek(at, 32).ok(), thread_name())).unwrap();
            black_box(&local);
        })
        .unwrap();
        let (mapping, seen, name) = receive.recv().unwrap();
        assert_eq!(name, "stack-test");
        match mode {
            MemoryMode::MemfdSecret => {
                assert!(mapping.contains("secretmem") && seen.is_none(), "{mapping} {seen:?}");
            }
            // The red control: the same local is found when the stack is only locked.
            MemoryMode::Mlock => {
                assert!(!mapping.contains("secretmem") && seen == Some(PATTERN.to_vec()), "{mapping}");
            }
        }
    }
    // The red control: an ordinary thread's stack is found.
    let ordinary = thread::spawn(|| {
        let local = black_box(PATTERN);
        peek(black_box(&local).as_ptr().addr(), 32).unwrap()
    });
    assert_eq!(ordinary.join().unwrap(), PATTERN);
}

fn thread_name() -> String {
    std::fs::read_to_string("/proc/thread-self/comm").unwrap().trim().to_owned()
}

#[test]
fn the_standard_library_works_there() {
    let shared = Arc::new((Mutex::new(0_u32), Condvar::new()));
    let (ask, asked) = mpsc::channel::<u32>();
    let (answer, answered) = mpsc::channel();
    let theirs = Arc::clone(&shared);
    spawn_secret_stack("std", 256 * 1024, Preference::Auto, move || {
        OWN.set(OWN.get() + 1);
        for question in asked {
            answer.send((depth(question), OWN.get(), format!("{question:>4}"))).unwrap();
        }
        // A lock that lives on the secret stack itself, fought over with an ordinary thread.
        let local = Mutex::new(0_u32);
        thread::scope(|scope| {
            scope.spawn(|| (0..10_000).for_each(|_| *local.lock().unwrap() += 1));
            (0..10_000).for_each(|_| *local.lock().unwrap() += 1);
        });
        *theirs.0.lock().unwrap() = *local.lock().unwrap();
        theirs.1.notify_all();
    })
    .unwrap();
    for question in [1, 10, 100] {
        ask.send(question).unwrap();
        assert_eq!(answered.recv().unwrap(), (question, 8, format!("{question:>4}")));
    }
    assert_eq!(OWN.get(), 7);
    drop(ask);
    let (lock, condition) = &*shared;
    let wait =
        condition.wait_timeout_while(lock.lock().unwrap(), Duration::from_secs(10), |n| *n == 0).unwrap();
    assert_eq!(*wait.0, 20_000);
}

fn depth(left: u32) -> u32 {
    let frame = black_box([0_u8; 1024]);
    let deeper = if left == 0 { 0 } else { 1 + depth(left - 1) };
    black_box(&frame);
    deeper
}

#[test]
fn overflow_and_panic_end_the_process() {
    if let Some(case) = case() {
        let work = move || match case.as_str() {
            "overflow" => drop(black_box(depth(1_000_000))),
            "panic" => panic!("on purpose"),
            _ => drop(black_box(depth(10))),
        };
        let (send, receive) = mpsc::channel::<()>();
        spawn_secret_stack("doomed", 64 * 1024, Preference::Auto, move || {
            work();
            drop(send);
        })
        .unwrap();
        assert!(receive.recv().is_err(), "the thread ended");
        leave();
    }
    for (case, signal) in
        [("overflow", Some(libc::SIGSEGV)), ("panic", Some(libc::SIGABRT)), ("neither", None)]
    {
        let output = child("overflow_and_panic_end_the_process", case);
        assert_eq!(output.status.signal(), signal, "{case}: {output:?}");
    }
}

#[test]
fn a_name_with_a_nul_is_refused() {
    let refused = spawn_secret_stack("a\0b", 0, Preference::Auto, || ());
    assert!(matches!(refused, Err(MemoryError::Thread { .. })));
}

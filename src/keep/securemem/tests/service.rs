//! The module in small, under the sandbox. A program with its own `main`, because the order at start is part of the
//! test: the ordinary harness has threads before the first line of a test.

#![allow(unsafe_code, reason = "the tests do what a faulty or hostile program would")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the report")]

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use securemem::sandbox::Sandbox;
use securemem::{Arena, Preference, peer, process, spawn_secret_stack};
use support::{case, command};

fn main() {
    if let Some(case) = case() {
        let (start, socket) = case.split_once(' ').unwrap();
        if start == "proper" {
            process::single_malloc_arena().unwrap();
        }
        serve(Path::new(socket));
        println!("alive");
        return;
    }
    // The red control: with one malloc arena per thread, the same work runs into the policy.
    for (start, signal) in [("proper", None), ("careless", Some(libc::SIGSYS))] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("keyd.sock");
        let output = command(&format!("{start} {}", socket.display())).output().unwrap();
        assert_eq!(output.status.signal(), signal, "{start}: {output:?}");
        assert_eq!(output.status.success(), signal.is_none(), "{start}: {output:?}");
        assert_eq!(output.stdout == b"alive\n", signal.is_none(), "{start}: {output:?}");
        println!("{start} start: {}", output.status);
    }
}

/// The module in small: threads, sockets and memory first, the sandbox, then work.
fn serve(socket: &Path) {
    process::deny_dumps().unwrap();
    process::no_new_privileges().unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    let mut client = UnixStream::connect(socket).unwrap();
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let arena = Arena::reserve(1 << 20, Preference::Auto).unwrap();
    let (answers, answered) = mpsc::channel();
    let workers: Vec<_> = (0..4).map(|_| worker(&arena, answers.clone())).collect();
    drop(answers);
    let (ordinary, ready) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let talker = thread::spawn(move || {
        ordinary.send(()).unwrap();
        gone.recv().unwrap();
        thread::sleep(Duration::from_millis(5));
        heap(3);
        client.write_all(b"frame").unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).unwrap();
        reply
    });
    ready.recv().unwrap();

    Sandbox::module().install().unwrap();

    for work in workers {
        work.send(64).unwrap();
    }
    go.send(()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let who = peer::credentials(&stream).unwrap();
    assert_eq!(who.pid, std::process::id());
    assert!(peer::wait_readable(&stream, Duration::from_secs(10)).unwrap());
    assert!(peer::wait_writable(&stream, Duration::from_secs(10)).unwrap());
    let mut frame = [0; 5];
    stream.read_exact(&mut frame).unwrap();
    stream.write_all(&frame).unwrap();
    drop(stream);
    assert_eq!(talker.join().unwrap(), b"frame");
    assert!(!peer::wait_readable(&near, Duration::from_millis(20)).unwrap());
    far.write_all(&[1]).unwrap();
    near.read_exact(&mut frame[..1]).unwrap();
    heap(1);
    let results: Vec<u8> = answered.iter().collect();
    assert_eq!(results.len(), 4);
    arena.zeroise();
    drop((near, far, listener));
}

fn worker(arena: &Arena, answers: mpsc::Sender<u8>) -> mpsc::Sender<usize> {
    let (ask, asked) = mpsc::channel();
    let arena = arena.clone();
    spawn_secret_stack("worker", 256 * 1024, Preference::Auto, move || {
        let rounds: usize = asked.recv().unwrap();
        for round in 1..=rounds {
            heap(round);
            let random = |slot: &mut [u8]| {
                // SAFETY: the call writes at most `slot.len()` bytes to `slot`.
                // JUSTIFICATION: the random source itself is to be tested, on secret memory.
                let got = unsafe { libc::getrandom(slot.as_mut_ptr().cast(), slot.len(), 0) };
                usize::try_from(got).ok().filter(|got| *got == slot.len()).map(|_| ()).ok_or(())
            };
            let secret = arena.alloc(32, random).unwrap();
            assert!(secret.with(|bytes| bytes.iter().any(|byte| *byte != 0)));
        }
        answers.send(1).unwrap();
    })
    .unwrap();
    ask
}

/// Small, large and growing allocations.
fn heap(factor: usize) {
    let mut grows = vec![1_u8; 1 << 20];
    grows.resize((1 << 20) + factor * (1 << 18), 2);
    let many: Vec<Vec<u8>> = (0..200).map(|i| vec![0; 1000 + i * factor]).collect();
    assert_eq!(many.len() + grows.len(), 200 + (1 << 20) + factor * (1 << 18));
}

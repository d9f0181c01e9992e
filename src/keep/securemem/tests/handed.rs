//! Sockets from the starter: the right ones are taken, anything else is an error at start.

#![allow(unsafe_code, reason = "what the test programs share ends processes at once")]
#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the report")]

mod support;

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Output};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{SocketType, sockopt};
use securemem::handed::unix_listeners;
use support::case;

const TEST: &str = "listening_unix_sockets_are_taken_and_nothing_else";

/// Starts this test program with descriptors 3 and 4, as systemd would: environment and number come with the exec.
fn start(environment: &str, first: &OwnedFd, second: &OwnedFd) -> Output {
    let mut command = Command::new("bash");
    // Numbers that the shell's own redirections do not touch on the way.
    let [first, second] = [first, second].map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 20).unwrap());
    for fd in [&first, &second] {
        fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    let script =
        format!("exec 3<&{} 4<&{}; {environment} exec \"$0\" \"$@\"", first.as_raw_fd(), second.as_raw_fd());
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
    command.args([TEST, "--exact", "--nocapture", "--test-threads=1"]).env("SECUREMEM_TEST_CASE", "take");
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn said(environment: &str, first: &OwnedFd, second: &OwnedFd) -> String {
    let output = start(environment, first, second);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.split_once("taken: ")).unwrap_or_else(|| panic!("{text}")).1.to_owned()
}

#[test]
fn listening_unix_sockets_are_taken_and_nothing_else() {
    if case().is_some() {
        let taken = unix_listeners();
        let words = match &taken {
            Ok(sockets) => sockets
                .iter()
                .map(|(name, socket)| {
                    assert_eq!(sockopt::socket_type(socket).unwrap(), SocketType::STREAM);
                    assert!(fcntl_getfd(socket.as_fd()).unwrap().contains(FdFlags::CLOEXEC), "{name}");
                    assert!(
                        !rustix::fs::fcntl_getfl(socket).unwrap().contains(rustix::fs::OFlags::NONBLOCK),
                        "{name}"
                    );
                    format!("{name}={}", socket.local_addr().unwrap().as_pathname().unwrap().display())
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("refused: {error}"),
        };
        println!("taken: {words}");
        if taken.is_ok_and(|sockets| !sockets.is_empty()) {
            assert!(unix_listeners().is_err(), "a second call would make a second owner");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let listener = |name: &str| {
        let socket = UnixListener::bind(place(name)).unwrap();
        socket.set_nonblocking(true).unwrap();
        OwnedFd::from(socket)
    };
    let (keyd, officers) = (listener("k"), listener("o"));
    let good = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=keyd:officers";
    let both = format!("keyd={} officers={}", place("k").display(), place("o").display());
    assert_eq!(said(good, &keyd, &officers), both);
    assert_eq!(said("LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=keyd:officers", &keyd, &officers), "");
    assert_eq!(said("", &keyd, &officers), "");
    assert!(said("LISTEN_PID=$$ LISTEN_FDS=2", &keyd, &officers).starts_with("refused"));
    assert!(said("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=keyd", &keyd, &officers).starts_with("refused"));
    assert!(
        said("LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=a:b:c", &keyd, &officers)
            .starts_with("refused: the socket c")
    );
    let wrong: [(&str, OwnedFd); 5] = [
        ("datagram", UnixDatagram::bind(place("d")).unwrap().into()),
        ("connected", UnixStream::pair().unwrap().0.into()),
        ("unbound", UnixDatagram::unbound().unwrap().into()),
        ("tcp", TcpListener::bind("127.0.0.1:0").unwrap().into()),
        ("file", std::fs::File::open("/dev/null").unwrap().into()),
    ];
    for (what, fd) in wrong {
        let said = said(good, &keyd, &fd);
        assert!(said.starts_with("refused: officers is no listening Unix stream socket"), "{what}: {said}");
    }
}

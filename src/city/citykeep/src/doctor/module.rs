//! The module itself, on its sockets: whether anybody is behind them, and what it says of itself to officers.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wire::cbor::Empty;
use wire::frame::{self, FrameError, ModuleStatus, OfficerRequest, OfficerResponse};

use super::finding::Finding;
use super::house::House;
use super::processes;

const CHECK: &str = "sockets-answer";
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of a question on the officers' socket.
enum Told {
    Status(Box<ModuleStatus>),
    /// Somebody took the connection and hung up: what the module does with strangers.
    TurnedAway,
    /// This user may not even connect.
    NoRight,
    Failed(String),
}

/// Asks, but only a module that runs: under systemd a connection would start one.
pub(super) fn ask(house: &House) -> (Option<Finding>, Option<ModuleStatus>) {
    let Some(keyd) = house.hsm_socket.as_deref() else { return (None, None) };
    if processes::module(house).is_none() {
        let finding = Finding::unchecked(
            CHECK,
            "看不到运行中的密码模块;连接会由 systemd 启动它",
            "no module is seen to run, and a connection would have systemd start one",
        );
        return (Some(finding), None);
    }
    let (finding, status) = judge(&knock(keyd), question(&keyd.with_file_name("officers.sock")), keyd);
    (Some(finding), status)
}

/// Whether anybody listens on keyd's socket. Nothing is said there: that is keyd's to do.
fn knock(socket: &Path) -> Told {
    match UnixStream::connect(socket) {
        Ok(_) => Told::TurnedAway,
        Err(error) => why_not(&error),
    }
}

fn why_not(error: &std::io::Error) -> Told {
    match error.kind() {
        ErrorKind::PermissionDenied => Told::NoRight,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Told::TurnedAway,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Told::Failed(format!("no answer within {} s", PATIENCE.as_secs()))
        }
        _ => Told::Failed(error.to_string()),
    }
}

/// The status, which whoever is let in may ask for.
fn question(socket: &Path) -> Told {
    let exchange = || -> Result<OfficerResponse, FrameError> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        frame::write(&mut stream, &OfficerRequest::Status(Empty {}))?;
        frame::read(&mut stream)
    };
    match exchange() {
        Ok(OfficerResponse::Status(status)) => Told::Status(Box::new(status)),
        Ok(_) => Told::Failed("it answers something else than its status".to_owned()),
        Err(FrameError::Io(error)) => why_not(&error),
        Err(error) => Told::Failed(error.to_string()),
    }
}

fn judge(keyd: &Told, officers: Told, socket: &Path) -> (Finding, Option<ModuleStatus>) {
    let name = socket.display();
    let finding = match (keyd, &officers) {
        (Told::Failed(why), _) | (_, Told::Failed(why)) => Finding::bad(
            CHECK,
            [
                format!("{name} 或 officers.sock 没有回答({why})"),
                format!("{name} or officers.sock beside it does not answer ({why})"),
            ],
            [
                "查看 systemctl status citykeep-hsm.service;重启模块须有保管人在场",
                "look at systemctl status citykeep-hsm.service; a restarted module is sealed, so restart it when the custodians are there",
            ],
        ),
        (_, Told::NoRight) => Finding::unchecked(
            CHECK,
            "本用户无权连接;请以 citykeep-officers 组成员运行",
            "this user may not connect; run doctor as a member of the group citykeep-officers",
        ),
        (_, Told::TurnedAway) => Finding::good(
            CHECK,
            "密码模块在监听,并拒绝本用户;citykeep-officers 组成员可见其状态",
            "the module listens, and turns this user away as it should; members of citykeep-officers see its state",
        ),
        (Told::NoRight, Told::Status(status)) => Finding::good(
            CHECK,
            format!("密码模块回答安全官:{}", status.state),
            format!(
                "the module answers officers: {}; keyd's socket is closed to this user, as it should be",
                status.state
            ),
        ),
        (_, Told::Status(status)) => Finding::good(
            CHECK,
            format!("密码模块在两个套接字上回答:{}", status.state),
            format!("the module listens on both and answers officers: {}", status.state),
        ),
    };
    let status = if let Told::Status(status) = officers { Some(*status) } else { None };
    (finding, status)
}

/// Whether the files of the configuration are those that the officers approved, as the module's log says.
pub(super) fn approved(house: &House, status: Option<&ModuleStatus>) -> Option<Finding> {
    const CHECK: &str = "approved-files";
    let known = status?.instance.as_ref()?;
    for (path, digest) in [(&house.policy, &known.policy), (&house.client_ca, &known.ca)] {
        let path = path.as_ref()?;
        let name = path.display();
        let Ok(bytes) = fs::read(path) else {
            return Some(Finding::unchecked(
                CHECK,
                format!("{name} 不可读"),
                format!("{name} cannot be read from here"),
            ));
        };
        if Sha256::digest(&bytes).as_slice() != digest.as_ref() {
            return Some(Finding::bad(
                CHECK,
                [
                    format!("{name} 不是安全官批准的内容"),
                    format!("{name} is not what the officers approved, so it is not in force"),
                ],
                [
                    "恢复已批准的文件,或由安全官批准新内容",
                    "put the approved file back, or have the officers approve this one (keyceremony propose --help)",
                ],
            ));
        }
    }
    Some(Finding::good(
        CHECK,
        "策略与 CA 文件就是安全官批准的",
        "policy and CA bundle are those that the officers approved",
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::super::finding::State;
    use super::*;

    #[test]
    fn who_is_behind_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let (keyd, officers) = (dir.path().join("keyd.sock"), dir.path().join("officers.sock"));
        let state = || judge(&knock(&keyd), question(&officers), &keyd).0.state;
        assert_eq!(state(), State::Bad, "no sockets at all");
        let listening = UnixListener::bind(&keyd).unwrap();
        let door = UnixListener::bind(&officers).unwrap();
        // Hung up on, as a stranger is.
        let stranger = std::thread::spawn(move || {
            drop(door.accept().unwrap());
            door
        });
        assert_eq!(state(), State::Good);
        let door = stranger.join().unwrap();
        // Something that speaks, and not our language.
        let odd = std::thread::spawn(move || {
            use std::io::Write as _;
            door.accept().unwrap().0.write_all(b"\xff\xff\xff\xffHTTP").unwrap();
            door
        });
        assert_eq!(state(), State::Bad);
        drop(odd.join().unwrap());
        // The file is still there, and nobody behind it.
        assert!(officers.exists());
        assert_eq!(state(), State::Bad);
        drop(listening);
        assert!(matches!(knock(&keyd), Told::Failed(_)));
    }

    #[test]
    fn what_cannot_be_connected_to_is_never_good() {
        let judged = |keyd, officers| judge(&keyd, officers, Path::new("/run/keyd.sock")).0.state;
        assert_eq!(judged(Told::NoRight, Told::NoRight), State::Unchecked);
        assert_eq!(judged(Told::TurnedAway, Told::NoRight), State::Unchecked);
        assert_eq!(judged(Told::NoRight, Told::Failed(String::new())), State::Bad);
        assert_eq!(judged(Told::TurnedAway, Told::TurnedAway), State::Good);
        let late = why_not(&std::io::Error::from(ErrorKind::WouldBlock));
        assert_eq!(judged(Told::TurnedAway, late), State::Bad);
    }
}

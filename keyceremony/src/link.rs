//! The module on its officers' socket: one request per connection, and its one-time keys checked against the identity that
//! was pinned at genesis.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wire::cbor::Empty;
use wire::command::{Id, PublicKey};
use wire::frame::{
    self, CommandDone, GenesisDone, GenesisShares, Hello, ModuleState, ModuleStatus, OfficerRequest,
    OfficerResponse, OneTimeKey, Progress, Purpose, one_time_bytes,
};
use wire::seal;

use crate::failure::Failure;

/// The module answers a command when its entry is durable, which may take half a minute; longer is no answer.
const ANSWER_WAIT: Duration = Duration::from_mins(1);

/// How often a state is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(100);

/// The officers' socket.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    socket: PathBuf,
}

impl Link {
    pub(crate) fn new(socket: &Path) -> Self {
        let socket = socket.to_owned();
        Self { socket }
    }

    fn ask(&self, request: &OfficerRequest) -> Result<OfficerResponse, Failure> {
        let socket = self.socket.display();
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| {
            Failure::new(
                format!("无法连接模块 {socket};请确认 citykeep-hsm 正在运行,且本人有权使用该套接字。"),
                format!("the module's socket {socket} cannot be reached ({error}); see that citykeep-hsm runs and that you may use it"),
            )
        })?;
        let exchange = stream
            .set_read_timeout(Some(ANSWER_WAIT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_WAIT)))
            .map_err(frame::FrameError::from)
            .and_then(|()| frame::write(&mut stream, request))
            .and_then(|()| frame::read(&mut stream));
        match exchange {
            Ok(OfficerResponse::Refused(refused)) => Err(refused.into()),
            Ok(response) => Ok(response),
            Err(error) => Err(Failure::new(
                "模块没有回答;请查看状态后再决定是否重复此步。",
                format!("the module did not answer ({error}); look at its status before you repeat the step"),
            )),
        }
    }

    pub(crate) fn status(&self) -> Result<ModuleStatus, Failure> {
        match self.ask(&OfficerRequest::Status(Empty {}))? {
            OfficerResponse::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// The module's one-time key, if it is signed by `pinned` for this purpose and boot.
    pub(crate) fn one_time_key(
        &self,
        purpose: Purpose,
        pinned: &PublicKey,
        boot: &Id,
    ) -> Result<OneTimeKey, Failure> {
        let OfficerResponse::OneTimeKey(key) = self.ask(&OfficerRequest::Hello(Hello { purpose }))? else {
            return Err(unexpected());
        };
        let signed = one_time_bytes(purpose, boot, &key.module, &key.key);
        let ours = key.purpose == purpose && key.boot == *boot && key.identity == *pinned;
        if ours && seal::verify(pinned, &signed, &key.signature) {
            Ok(key)
        } else {
            Err(Failure::new(
                "对方不是创世时登记的模块,或模块刚刚重启;不要提交任何秘密,请通知安全官。",
                "what answers is not the module that was pinned at genesis, or it restarted just now: give it no secret; \
                 look at its status, and call the officers if the identity differs",
            ))
        }
    }

    pub(crate) fn genesis(&self, signed: Vec<u8>) -> Result<GenesisShares, Failure> {
        match self.ask(&OfficerRequest::Genesis(signed.into()))? {
            OfficerResponse::GenesisShares(shares) => Ok(shares),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn bring_share(
        &self,
        purpose: Purpose,
        share: frame::SealedShare,
    ) -> Result<Progress, Failure> {
        let request = match purpose {
            Purpose::Prove => OfficerRequest::Prove(share),
            Purpose::Unseal | Purpose::Component => OfficerRequest::Unseal(share),
        };
        match self.ask(&request)? {
            OfficerResponse::Progress(progress) => Ok(progress),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn genesis_finish(&self) -> Result<GenesisDone, Failure> {
        match self.ask(&OfficerRequest::GenesisFinish(Empty {}))? {
            OfficerResponse::GenesisDone(done) => Ok(done),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn floor(&self, signed: Vec<u8>) -> Result<(), Failure> {
        self.done(&OfficerRequest::Floor(signed.into()))
    }

    pub(crate) fn command(&self, signed: Vec<u8>) -> Result<CommandDone, Failure> {
        match self.ask(&OfficerRequest::Command(signed.into()))? {
            OfficerResponse::CommandDone(done) => Ok(done),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn component(&self, component: frame::SealedComponent) -> Result<CommandDone, Failure> {
        match self.ask(&OfficerRequest::Component(component))? {
            OfficerResponse::CommandDone(done) => Ok(done),
            _ => Err(unexpected()),
        }
    }

    /// Gives up the genesis or import in progress.
    pub(crate) fn abort(&self) -> Result<(), Failure> {
        self.done(&OfficerRequest::Abort(Empty {}))
    }

    fn done(&self, request: &OfficerRequest) -> Result<(), Failure> {
        match self.ask(request)? {
            OfficerResponse::Done(_) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Waits until the module is in one of `states`. A refusal that it names meanwhile is the answer.
    pub(crate) fn wait_for(
        &self,
        states: &[ModuleState],
        patience: Duration,
    ) -> Result<ModuleStatus, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let status = self.status()?;
            if states.contains(&status.state) {
                return Ok(status);
            }
            if let Some(trouble) = status.trouble {
                return Err(trouble.into());
            }
            if matches!(status.state, ModuleState::Fault | ModuleState::Zeroised)
                || Instant::now() >= deadline
            {
                return Err(not_yet(status.state));
            }
            std::thread::sleep(POLL);
        }
    }
}

fn not_yet(state: ModuleState) -> Failure {
    let (zh, en) = match state {
        ModuleState::Uninitialised => (
            "模块未初始化,而此处已有实例:keyd 没有连接,或它的日志是空的;请检查 keyd 后重试。",
            "the module is uninitialised although there is an instance here: keyd is not attached, or its log is empty; \
             look after keyd and try again",
        ),
        ModuleState::Sealed => ("模块在等待份额;请先解封。", "the module waits for shares; unseal it first"),
        ModuleState::Recovering => (
            "模块在等待 keyd 重放日志;请检查 keyd 后重试。",
            "the module still waits for keyd to replay the log; look after keyd and try again",
        ),
        ModuleState::Operational => {
            ("模块已在服务中。", "the module is in service already; go on with the next step")
        }
        ModuleState::Zeroised => {
            ("模块已被清除;请重启模块后解封。", "the module was wiped; restart it and unseal it")
        }
        ModuleState::Fault => (
            "模块自检失败;请重启模块,再次失败则检查机器。",
            "a self-test of the module failed; restart it, and examine the machine if it fails again",
        ),
    };
    Failure::new(zh, en)
}

fn unexpected() -> Failure {
    Failure::new(
        "模块的回答不符合协议;请使用同一版本的程序。",
        "the module's answer is not the one that belongs to the request; use programs of the same version",
    )
}

//! What the module answers to each request, once the table permits it.

use std::time::Instant;

use translog::entry::{Event, TruncatedEvent};
use wire::cbor::Empty;
use wire::error::{Refusal, Refused};
use wire::frame::{
    BatchOpened, InstanceStatus, KeydRequest, KeydResponse, ModuleState, ModuleStatus, OfficerRequest,
    OfficerResponse, Ticket, TornTail,
};

use crate::batch::{self, Batch};
use crate::calls::ListBuffer;
use crate::command::Door;
use crate::module::{KEYD_WAIT, Live, Module, OFFICER_WAIT, Phase, wrong_state};
use crate::table;

/// Bytes of a client's name or a reason code.
const NAME_MAX: usize = 256;

/// Assertions in one frame.
const ASSERTIONS_MAX: usize = 256;

/// One connection of keyd's: at most one open batch and one list that gathers.
#[derive(Debug, Default)]
pub struct Connection {
    batch: Option<Box<Batch>>,
    list: ListBuffer,
}

impl Connection {
    /// The connection ended.
    pub fn closed(self, module: &Module) {
        if let Some(batch) = self.batch {
            batch.abort(module);
        }
    }
}

impl Module {
    /// Answers keyd.
    pub fn keyd(&self, connection: &mut Connection, request: KeydRequest) -> KeydResponse {
        let tag = request.tag();
        self.keyd_answer(connection, request).unwrap_or_else(|refused| {
            self.deny("keyd", tag, &refused);
            KeydResponse::Refused(refused)
        })
    }

    fn keyd_answer(
        &self,
        connection: &mut Connection,
        request: KeydRequest,
    ) -> Result<KeydResponse, Refused> {
        self.permit(table::keyd_states(&request))?;
        bounded(&request)?;
        match request {
            KeydRequest::Status(_) => Ok(KeydResponse::Status(self.status())),
            KeydRequest::Collect(ack) => self.collect(&ack).map(KeydResponse::Collected),
            KeydRequest::Assert(assertions) => {
                if !(1..=ASSERTIONS_MAX).contains(&assertions.items.len()) {
                    return Err(Refused::new(Refusal::TooLarge, "a frame has 1 to 256 assertions"));
                }
                self.live_unseen(|live| {
                    live.log.room()?;
                    let mut ticket = 0;
                    for assertion in assertions.items {
                        ticket = live.log.make(&self.random, Event::Asserted(assertion), None)?;
                    }
                    Ok(KeydResponse::Ticket(Ticket { ticket }))
                })
            }
            KeydRequest::Keys(_) => self.live(|live| Ok(KeydResponse::Keys(live.list_keys()))),
            KeydRequest::BatchOpen(open) => {
                self.live(|live| live.log.within_grace())?;
                if connection.batch.is_some() {
                    return Err(Refused::new(Refusal::BatchOrder, "this connection has an open batch"));
                }
                let batch = Batch::new(self.random.array()?, open);
                let id = batch.id();
                connection.batch = Some(Box::new(batch));
                Ok(KeydResponse::BatchOpened(BatchOpened { batch: id }))
            }
            KeydRequest::BatchGroups(groups) => {
                open_batch(connection)?.add_groups(groups.groups)?;
                Ok(KeydResponse::Done(Empty {}))
            }
            KeydRequest::BatchRecords(bytes) => {
                let verdicts = open_batch(connection)?.records(self, &bytes);
                // A frame that could not be checked to its end leaves nothing that a total could be made of.
                let verdicts = verdicts.inspect_err(|_| {
                    if let Some(batch) = connection.batch.take() {
                        batch.abort(self);
                    }
                })?;
                Ok(KeydResponse::Verdicts(verdicts.into()))
            }
            KeydRequest::BatchClose(_) => {
                let batch = connection.batch.take().ok_or_else(no_batch)?;
                let ticket = batch.close(self)?;
                Ok(KeydResponse::Ticket(Ticket { ticket }))
            }
            KeydRequest::Release(ticket) => {
                self.live(|live| live.release(ticket.ticket)).map(KeydResponse::Released)
            }
            KeydRequest::MacVerify(items) => {
                batch::singles(self, &items.items).map(KeydResponse::MacVerdicts)
            }
            KeydRequest::Replay(replay) => self.replay(&replay),
            KeydRequest::Records(records) => self.take_records(records),
            KeydRequest::ReplayEnd(end) => self.replay_end(&end),
            KeydRequest::Command(bytes) => {
                let done = self.command(&bytes, Door::Keyd, Instant::now() + KEYD_WAIT)?;
                Ok(KeydResponse::CommandDone(done))
            }
            KeydRequest::Licence(query) => {
                self.live(|live| live.licence_info(&query)).map(KeydResponse::Licence)
            }
            KeydRequest::ListBytes(part) => {
                connection.list.add(&part).inspect_err(|_| connection.list = ListBuffer::default())?;
                Ok(KeydResponse::Done(Empty {}))
            }
            KeydRequest::ListSign(request) => {
                let list = std::mem::take(&mut connection.list);
                self.sign_list(&list, &request).map(ticket)
            }
            KeydRequest::CardKeys(request) => self.card_keys(&request).map(ticket),
            KeydRequest::LoadAuthorize(request) => self.load(&request).map(ticket),
            KeydRequest::Script(request) => self.script(&request).map(ticket),
            KeydRequest::Authenticate(request) => self.authenticate(&request).map(ticket),
            KeydRequest::Cosigned(cosigned) => {
                self.live_unseen(|live| live.log.cosigned(&cosigned)).map(|()| KeydResponse::Done(Empty {}))
            }
            KeydRequest::Truncated(TornTail { bytes, digest }) => self.live_unseen(|live| {
                live.log.room()?;
                let event = Event::Truncated(TruncatedEvent { bytes, digest });
                Ok(ticket(live.log.make(&self.random, event, None)?))
            }),
            KeydRequest::Fetch(at) => self.live(|live| live.fetch(at.ticket)).map(KeydResponse::Prepared),
        }
    }

    /// Answers officers and custodians.
    pub fn officers(&self, request: OfficerRequest) -> OfficerResponse {
        let tag = request.tag();
        self.officers_answer(request).unwrap_or_else(|refused| {
            self.deny("officers", tag, &refused);
            OfficerResponse::Refused(refused)
        })
    }

    fn officers_answer(&self, request: OfficerRequest) -> Result<OfficerResponse, Refused> {
        self.permit(table::officer_states(&request))?;
        match request {
            OfficerRequest::Status(_) => Ok(OfficerResponse::Status(self.status())),
            OfficerRequest::Hello(hello) => self.hello(hello.purpose).map(OfficerResponse::OneTimeKey),
            OfficerRequest::Genesis(bytes) => self.genesis(&bytes).map(OfficerResponse::GenesisShares),
            OfficerRequest::Prove(share) => self.prove(&share).map(OfficerResponse::Progress),
            OfficerRequest::GenesisFinish(_) => self.genesis_finish().map(OfficerResponse::GenesisDone),
            OfficerRequest::Unseal(share) => self.unseal(&share).map(OfficerResponse::Progress),
            OfficerRequest::Floor(bytes) => self.floor(&bytes).map(|()| OfficerResponse::Done(Empty {})),
            OfficerRequest::Command(bytes) => {
                let deadline = Instant::now() + OFFICER_WAIT;
                let done = self.command(&bytes, Door::Officers, deadline)?;
                self.settle(done, deadline).map(OfficerResponse::CommandDone)
            }
            OfficerRequest::Component(component) => {
                let done = self.component(&component)?;
                self.settle(done, Instant::now() + OFFICER_WAIT).map(OfficerResponse::CommandDone)
            }
            OfficerRequest::Abort(_) => {
                self.abort();
                Ok(OfficerResponse::Done(Empty {}))
            }
        }
    }

    fn permit(&self, states: &[ModuleState]) -> Result<(), Refused> {
        let state = self.lock().state(&self.random);
        if states.contains(&state) { Ok(()) } else { Err(wrong_state(state)) }
    }

    /// What anyone on a socket may know.
    pub fn status(&self) -> ModuleStatus {
        let inner = self.lock();
        let instance = match &inner.phase {
            Phase::Operational(live) => live.status(),
            _ => None,
        };
        ModuleStatus {
            version: 1,
            state: match &inner.phase {
                Phase::Operational(live) if live.is_zeroised() => ModuleState::Zeroised,
                _ => inner.state(&self.random),
            },
            boot: self.boot,
            module: self.program,
            memory: self.arena.mode().to_string(),
            backend: lanes::backend().to_owned(),
            identity: self.identity_public,
            instance,
            shares: match &inner.phase {
                Phase::Uninitialised(Some(proving)) => Some(proving.progress()),
                Phase::Sealed(unsealing) => unsealing.progress(),
                _ => None,
            },
            trouble: inner.trouble.clone(),
            replayed: match &inner.phase {
                Phase::Recovering(recovering) => recovering.replayed(),
                _ => None,
            },
            epoch_key: match &inner.phase {
                Phase::Recovering(recovering) => recovering.epoch_key(),
                Phase::Operational(live) => Some(live.log.epoch_key()),
                _ => None,
            },
        }
    }
}

impl Live {
    fn status(&self) -> Option<InstanceStatus> {
        let known = self.log.state().instance()?;
        Some(InstanceStatus {
            instance: known.instance,
            node: known.node,
            origin: known.origin.clone(),
            rehearsal: known.rehearsal,
            size: self.log.size(),
            root: self.log.root(),
            durable: self.log.durable(),
            officer_epoch: known.officer_epoch,
            policy: known.policy,
            ca: known.ca,
            vkey: self.log.verifier().to_string(),
            witness: self.log.witness_word().to_owned(),
            epoch: self.log.state().epochs().number(),
            witnessed: self.log.witnessed(),
        })
    }
}

const fn ticket(ticket: u64) -> KeydResponse {
    KeydResponse::Ticket(Ticket { ticket })
}

/// Names that keyd gives are as long as keyd's own names can be, so that no entry is longer than an entry may be.
fn bounded(request: &KeydRequest) -> Result<(), Refused> {
    let fits = match request {
        KeydRequest::BatchOpen(open) => open.client.len() <= NAME_MAX,
        KeydRequest::MacVerify(items) => items.items.iter().all(|item| item.client.len() <= NAME_MAX),
        KeydRequest::CardKeys(request) => {
            request.client.len() <= NAME_MAX && request.roles.iter().all(|role| role.len() <= NAME_MAX)
        }
        KeydRequest::ListSign(request) => request.client.len() <= NAME_MAX && request.wall.len() <= NAME_MAX,
        KeydRequest::LoadAuthorize(request) => {
            request.client.len() <= NAME_MAX && request.signer.len() <= NAME_MAX
        }
        KeydRequest::Script(request) => request.target.client.len() <= NAME_MAX,
        KeydRequest::Authenticate(request) => request.target.client.len() <= NAME_MAX,
        KeydRequest::Assert(assertions) => assertions.items.iter().all(|assertion| {
            let client = assertion.client.as_ref().map_or(0, String::len);
            assertion.code.len() <= NAME_MAX && client <= NAME_MAX
        }),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Refused::new(Refusal::TooLarge, "a name is longer than 256 bytes")) }
}

fn open_batch(connection: &mut Connection) -> Result<&mut Batch, Refused> {
    connection.batch.as_deref_mut().ok_or_else(no_batch)
}

fn no_batch() -> Refused {
    Refused::new(Refusal::BatchOrder, "this connection has no open batch")
}

//! From start to serving: waits for officers and custodians, replays the log and the records when the module asks.

use std::time::Duration;

use tokio::time::sleep;
use wire::cbor::Bytes;
use wire::frame::{
    InstanceStatus, KeydRequest, KeydResponse, ModuleState, ModuleStatus, Records, Replay, ReplayEnd,
};

use crate::commit::Ledger;
use crate::module::{Control, ModuleError, unexpected};
use crate::notify::Notifier;
use crate::store;

const POLL_EVERY: Duration = Duration::from_millis(200);
/// After a refusal: officers may give another floor meanwhile.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Bytes of entries or records in one frame, well below its limit.
const FRAME_BYTES: usize = 768 << 10;
/// Entries that are read from the log at once.
const READ_ENTRIES: u64 = 256;
/// CBOR around each entry or record.
const OVERHEAD: usize = 16;

/// Why recovery stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The module failed or said no.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// keyd's own log can't be read.
    #[error("keyd's log cannot be read for the replay: {0}; put a good copy in place")]
    Log(String),
}

/// What keyd replays from.
#[derive(Debug)]
pub struct Sources {
    /// The log.
    pub ledger: Ledger,
    /// All sealed records, as they were at start: while the module recovers, nothing new is stored.
    pub records: Vec<store::Record>,
}

/// Waits until the module is operational, replaying whenever it asks for it.
pub async fn until_operational(
    control: &Control,
    sources: &Sources,
    notifier: &Notifier,
) -> Result<InstanceStatus, RecoveryError> {
    let mut shown = None;
    loop {
        let status = control.status().await?;
        show(&mut shown, &status, notifier);
        if let (ModuleState::Operational, Some(instance)) = (status.state, &status.instance) {
            return Ok(instance.clone());
        }
        if let (ModuleState::Recovering, Some(from)) = (status.state, status.replayed) {
            match replay(control, sources, from).await {
                Ok(()) => continue,
                Err(RecoveryError::Module(ModuleError::Refused(refused))) => {
                    // The module tells the officers as well; another floor, log or store may still be right.
                    tracing::error!(
                        "the module refuses this log or store: {refused}. Ask the officers for the right floor, or put the newest log and store in place and start again / 模块拒绝此日志或存储"
                    );
                    sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(error),
            }
        }
        sleep(POLL_EVERY).await;
    }
}

/// Says what the module waits for, once per state.
fn show(shown: &mut Option<(ModuleState, bool)>, status: &ModuleStatus, notifier: &Notifier) {
    let now = (status.state, status.replayed.is_some());
    if shown.replace(now) == Some(now) {
        return;
    }
    let waits_for = match now {
        (ModuleState::Uninitialised, _) => "genesis: run keyceremony / 等待创世仪式",
        (ModuleState::Sealed, _) => "shares: the custodians unseal it with keyceremony / 等待保管人解封",
        (ModuleState::Recovering, false) => {
            "a floor: officers vouch for the newest head that they know / 等待安全官认可日志头"
        }
        (ModuleState::Recovering, true) => "the replay of the log, which runs now / 正在重放日志",
        (ModuleState::Operational, _) => "nothing: it serves / 已就绪",
        (ModuleState::Zeroised, _) => "a restart: it was wiped by quorum / 已清除,需重启",
        (ModuleState::Fault, _) => "repair: a self-test failed; restart it and look at its log / 自检失败",
    };
    tracing::info!(state = %status.state, "the module waits for {waits_for}");
    notifier.status(&format!("the module ({}) waits for {waits_for}", status.state));
}

async fn replay(control: &Control, sources: &Sources, from: u64) -> Result<(), RecoveryError> {
    let failed = |error: crate::log::LogFailure| RecoveryError::Log(error.to_string());
    let (size, checkpoint) = sources
        .ledger
        .read(|log| Ok((log.size(), log.last_checkpoint().unwrap_or_default())))
        .await
        .map_err(failed)?;
    let mut next = from;
    while next < size {
        let end = size.min(next + READ_ENTRIES);
        let read = sources.ledger.read(move |log| log.entries(next..end)).await.map_err(failed)?;
        for entries in parts(read) {
            let count = entries.len() as u64;
            done(control, KeydRequest::Replay(Replay { first: next, entries })).await?;
            next += count;
        }
    }
    let records: Vec<Vec<u8>> = sources.records.iter().map(|(_, bytes)| bytes.clone()).collect();
    for records in parts(records) {
        done(control, KeydRequest::Records(Records { records })).await?;
    }
    done(control, KeydRequest::ReplayEnd(ReplayEnd { checkpoint })).await
}

async fn done(control: &Control, request: KeydRequest) -> Result<(), RecoveryError> {
    match control.ask(request).await? {
        KeydResponse::Done(_) => Ok(()),
        _ => Err(unexpected().into()),
    }
}

/// Cuts a list into frames. Each has at least one item: an entry fits into a frame many times.
fn parts(items: Vec<Vec<u8>>) -> Vec<Vec<Bytes>> {
    let (mut all, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let cost = item.len() + OVERHEAD;
        if bytes + cost > FRAME_BYTES && !part.is_empty() {
            all.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += cost;
        part.push(Bytes(item));
    }
    if !part.is_empty() {
        all.push(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_order_and_fit() {
        let items: Vec<Vec<u8>> = (0..300).map(|number: u16| vec![7; usize::from(number) * 200]).collect();
        let parts = parts(items.clone());
        assert!(parts.len() > 5);
        for part in &parts {
            assert!(!part.is_empty());
            assert!(part.iter().map(|item| item.len() + OVERHEAD).sum::<usize>() <= FRAME_BYTES);
        }
        let joined: Vec<Vec<u8>> = parts.into_iter().flatten().map(|item| item.0).collect();
        assert_eq!(joined, items);
        assert!(super::parts(Vec::new()).is_empty());
    }
}

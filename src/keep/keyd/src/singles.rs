//! Single checks: whatever came while the last frame was on its way goes out together in the next.

use tokio::sync::{mpsc, oneshot};
use wire::frame::{KeydRequest, KeydResponse, MAC_ITEMS_MAX, MacItem, MacItems};

use crate::fatal::Fatal;
use crate::module::{GONE, Link, ModuleError, unexpected};

/// Requests that may wait; above it they are answered 503.
const QUEUE: usize = 1024;

/// Verdict bytes and the entry that covers them.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) verdicts: Vec<u8>,
    pub(crate) ticket: u64,
}

struct Job {
    items: Vec<MacItem>,
    reply: oneshot::Sender<Result<Checked, ModuleError>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NotChecked {
    /// Too many wait.
    Full,
    /// The module's answer.
    Module(ModuleError),
}

/// The queue to the singles connection.
#[derive(Clone)]
pub(crate) struct Singles(mpsc::Sender<Job>);

impl std::fmt::Debug for Singles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Singles").field("room", &self.0.capacity()).finish()
    }
}

impl Singles {
    /// Starts the task that owns the connection.
    pub(crate) fn start(link: Link, fatal: Fatal) -> Self {
        let (sender, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(link, jobs, fatal));
        Self(sender)
    }

    /// How many requests wait, and how many may.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (QUEUE.saturating_sub(self.0.capacity()), QUEUE)
    }

    /// Checks items of one request, 1 to [`MAC_ITEMS_MAX`].
    pub(crate) async fn check(&self, items: Vec<MacItem>) -> Result<Checked, NotChecked> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Job { items, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotChecked::Full,
            mpsc::error::TrySendError::Closed(_) => NotChecked::Module(closed()),
        })?;
        answer.await.unwrap_or_else(|_| Err(closed())).map_err(NotChecked::Module)
    }
}

fn closed() -> ModuleError {
    ModuleError::Gone("the connection for single checks is closed".to_owned())
}

async fn run(mut link: Link, mut jobs: mpsc::Receiver<Job>, fatal: Fatal) {
    let mut held: Option<Job> = None;
    loop {
        let first = match held.take() {
            Some(job) => job,
            None => match jobs.recv().await {
                Some(job) => job,
                None => return,
            },
        };
        let mut count = first.items.len();
        let mut window = vec![first];
        while let Ok(job) = jobs.try_recv() {
            if count + job.items.len() > MAC_ITEMS_MAX {
                held = Some(job);
                break;
            }
            count += job.items.len();
            window.push(job);
        }
        if let Err(ModuleError::Gone(why)) = check_window(&mut link, window).await {
            fatal.raise(format!("{GONE} ({why})"));
            return;
        }
    }
}

async fn check_window(link: &mut Link, mut window: Vec<Job>) -> Result<(), ModuleError> {
    let items = window.iter_mut().flat_map(|job| job.items.clone()).collect();
    match link.ask(&KeydRequest::MacVerify(MacItems { items })).await {
        Ok(KeydResponse::MacVerdicts(answer)) => {
            let mut verdicts = answer.verdicts.0.into_iter();
            for job in window {
                let part: Vec<u8> = verdicts.by_ref().take(job.items.len()).collect();
                let whole = part.len() == job.items.len();
                let checked = Checked { verdicts: part, ticket: answer.ticket };
                // A client that went away does not mind.
                let _ = job.reply.send(if whole { Ok(checked) } else { Err(unexpected()) });
            }
            Ok(())
        }
        Err(ModuleError::Refused(refused)) => {
            for job in window {
                let _ = job.reply.send(Err(refused.clone().into()));
            }
            Ok(())
        }
        Ok(_) => Err(unexpected()),
        Err(gone) => Err(gone),
    }
}

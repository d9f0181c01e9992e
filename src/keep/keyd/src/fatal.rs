//! The one way out when keyd cannot go on: the first sentence wins, and `main` prints it and exits 1.

use std::sync::Arc;

use tokio::sync::watch;

/// Handle with which any task or thread ends the daemon.
#[derive(Clone, Debug)]
pub struct Fatal(Arc<watch::Sender<Option<String>>>);

impl Default for Fatal {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Fatal {
    /// Ends the daemon with this sentence, unless another came first.
    pub fn raise(&self, sentence: impl Into<String>) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(sentence.into());
            }
            first
        });
    }

    /// Waits for the sentence.
    pub async fn raised(&self) -> String {
        let mut receiver = self.0.subscribe();
        let sentence = receiver.wait_for(Option::is_some).await.map(|sentence| sentence.clone());
        match sentence {
            Ok(sentence) => sentence.unwrap_or_default(),
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// The sentence, if there is one.
    pub fn sentence(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

//! The module against a room of officers and a keyd, all in one process: the protocol's promises without sockets.

mod budgets;
mod ceremony;
mod epochs;
mod golden;
mod hostile;
mod intents;
mod licences;
mod lists;
mod loads;
mod mint;
mod restrict;
mod room;
mod witnesses;

pub(crate) use room::arena;

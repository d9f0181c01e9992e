#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod answer;
pub mod assertions;
pub mod blacklists;
mod body;
pub mod client_id;
pub mod commit;
pub mod config;
pub mod connections;
pub mod daemon;
mod expiry;
pub mod fatal;
pub mod front;
pub mod handed;
mod http;
pub mod log;
pub mod metrics;
pub mod module;
pub mod notify;
mod place;
pub mod policy;
mod prepared;
mod problem;
pub mod quota;
pub mod receipts;
pub mod recovery;
mod rope;
mod routes;
mod settlement;
mod singles;
pub mod store;
mod tasks;
pub mod tls;
mod upkeep;
mod watched;
mod witnesses;

#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod chips;
mod job;
mod journal;
mod reconcile;

pub use job::{Job, JobError, JobParameters, Report};
pub use reconcile::{Reconciliation, reconcile};

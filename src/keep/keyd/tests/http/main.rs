//! keyd as a process, with a stand-in for the module on its socket.

#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test, that is the report"
)]

mod calls;
mod ends;
mod fake;
mod house;
mod issue;
mod life;
mod limits;
mod lists;
mod metrics;
#[path = "../support/pki.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod pki;
mod routes;
mod settlement;
mod witnesses;

//! The TLS refusal matrix: every row against a real listener, each with the server's own reason, each followed by a good
//! client that is let in.

#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test, that is the report"
)]

mod gate;
mod handshakes;
mod leaves;
mod lists;
#[path = "../support/pki.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod pki;

//! Clients whose keys officers enrolled: what a CA may certify, and what its revocation list must name.

use wire::command::{Digest, EndClient, EnrolClient};
use wire::error::{Refusal, Refused};

use super::super::LogState;
use super::refuse;

/// A client's key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientState {
    /// What was enrolled.
    pub enrolled: EnrolClient,
    /// Why it ended, if it did.
    pub ended: Option<String>,
}

impl ClientState {
    pub(super) fn new(enrolled: EnrolClient) -> Self {
        Self { enrolled, ended: None }
    }
}

impl LogState {
    /// A client's key, by SHA-256 of its SubjectPublicKeyInfo.
    pub fn client(&self, key: &Digest) -> Option<&ClientState> {
        self.grants.clients.get(key)
    }

    /// All enrolled keys.
    pub fn clients(&self) -> impl Iterator<Item = &ClientState> {
        self.grants.clients.values()
    }

    pub(super) fn check_client(&self, client: &EnrolClient) -> Result<(), Refused> {
        let name = &client.client;
        let printable = name.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if !(10..=256).contains(&name.len()) || !name.starts_with("spiffe://") || !printable {
            return refuse(
                Refusal::BadClient,
                "a client's name is its SPIFFE id, up to 256 printable characters",
            );
        }
        match self.client(&client.key) {
            Some(known) if known.ended.is_some() => {
                refuse(Refusal::BadClient, "this key was ended; the client makes a new one")
            }
            Some(known) if known.enrolled.client != *name => refuse(
                Refusal::BadClient,
                format!("this key is enrolled as {}; every client has its own", known.enrolled.client),
            ),
            _ => Ok(()),
        }
    }

    pub(super) fn check_end_of_client(&self, end: &EndClient) -> Result<(), Refused> {
        if !(1..=200).contains(&end.reason.len()) {
            return refuse(Refusal::BadClient, "an end has a reason of 1 to 200 characters");
        }
        match self.client(&end.key) {
            Some(known) if known.ended.is_none() => Ok(()),
            _ => refuse(Refusal::BadClient, "no such key is enrolled, or it was ended before"),
        }
    }
}

//! Who may do what: a closed, typed file; what it does not grant is denied.

mod operation;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use wire::client::is_client_path;
use wire::key::Lineage;

pub use self::operation::Operation;
use crate::client_id::{ClientId, TrustDomain};

const FORMAT: u64 = 1;

/// Why a policy file is not one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML, an unknown key, a missing key.
    #[error("the policy file does not parse: {0}; compare it with policies/sample.toml")]
    Syntax(String),
    /// Another format number.
    #[error("the policy file has format {0}; this keyd reads format 1")]
    Format(u64),
    /// Its trust domain is not lower-case letters, digits, dots.
    #[error(
        "trust_domain '{0}' is not a SPIFFE trust domain; write it in lower case, without scheme or slash"
    )]
    TrustDomain(String),
    /// A pattern that is not a path.
    #[error("client pattern '{pattern}' of role '{role}' is not a path like clearing/engine-1 or clearing/*")]
    Pattern {
        /// The role.
        role: String,
        /// The pattern.
        pattern: String,
    },
    /// The same pattern twice.
    #[error("client pattern '{0}' stands in two places; a client has one role, so remove one of them")]
    PatternTwice(String),
    /// Not a lineage.
    #[error("lineage '{lineage}' of role '{role}' is not like transit/purse/tac or transit/purse/*")]
    Lineage {
        /// The role.
        role: String,
        /// The text.
        lineage: String,
    },
    /// A grant mixes operations with and without keys, or names too little.
    #[error("a grant of role '{role}' {what}")]
    Grant {
        /// The role.
        role: String,
        /// What is wrong with it, and what to do.
        what: &'static str,
    },
}

/// Why a client may not do something. All of them look the same to the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_enums)]
pub enum Denied {
    /// No role names this client.
    NoRole,
    /// The client's role does not have the operation.
    NotGranted,
    /// Two roles name this client: nobody can say which one he has.
    TwoRoles,
}

impl Denied {
    /// Stable code for the log.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoRole => "policy-no-role",
            Self::NotGranted => "policy-not-granted",
            Self::TwoRoles => "policy-two-roles",
        }
    }
}

/// A loaded policy.
#[derive(Clone, Debug)]
pub struct Policy {
    trust_domain: TrustDomain,
    roles: Vec<Role>,
}

#[derive(Clone, Debug)]
struct Role {
    clients: Vec<Pattern>,
    grants: Vec<Grant>,
}

/// Operations on lineages, with a quota.
#[derive(Clone, Debug)]
pub struct Grant {
    operations: Vec<Operation>,
    lineages: Vec<LineagePattern>,
    items_per_second: Option<u64>,
}

/// What a role may do with one operation.
#[derive(Debug)]
pub struct Permission<'a> {
    grants: Vec<&'a Grant>,
}

impl Policy {
    /// Reads a policy file.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: PolicyFile =
            toml::from_str(text).map_err(|error| PolicyError::Syntax(error.message().to_owned()))?;
        if file.format != FORMAT {
            return Err(PolicyError::Format(file.format));
        }
        let trust_domain =
            TrustDomain::parse(&file.trust_domain).ok_or(PolicyError::TrustDomain(file.trust_domain))?;
        let mut seen = BTreeSet::new();
        let mut roles = Vec::with_capacity(file.roles.len());
        for (name, role) in file.roles {
            roles.push(Role::build(&name, role, &mut seen)?);
        }
        Ok(Self { trust_domain, roles })
    }

    /// The trust domain that all clients are of.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What the client may do with this operation.
    pub fn permits(&self, client: &ClientId, operation: Operation) -> Result<Permission<'_>, Denied> {
        let role = self.role(client)?;
        let grants: Vec<&Grant> =
            role.grants.iter().filter(|grant| grant.operations.contains(&operation)).collect();
        if grants.is_empty() {
            return Err(Denied::NotGranted);
        }
        Ok(Permission { grants })
    }

    /// Whether the client has a role at all: enough for what is public among clients.
    pub fn knows(&self, client: &ClientId) -> Result<(), Denied> {
        self.role(client).map(|_| ())
    }

    fn role(&self, client: &ClientId) -> Result<&Role, Denied> {
        let mut roles = self.roles.iter().filter(|role| role.has(client));
        let role = roles.next().ok_or(Denied::NoRole)?;
        if roles.next().is_some() {
            return Err(Denied::TwoRoles);
        }
        Ok(role)
    }
}

impl Permission<'_> {
    /// The grant that covers this key, if there is one. Callers answer "no such key" if there is none.
    pub fn for_key(&self, lineage: &Lineage) -> Option<&Grant> {
        let covers = |grant: &&&Grant| grant.lineages.iter().any(|pattern| pattern.matches(lineage));
        self.grants.iter().find(covers).copied()
    }

    /// The grant that covers this wall's blacklist, if there is one. Callers answer "no such list" if there is none.
    pub fn for_wall(&self, wall: &str) -> Option<&Grant> {
        let covers =
            |grant: &&&Grant| grant.lineages.iter().any(|pattern| pattern.wall_of_list() == Some(wall));
        self.grants.iter().find(covers).copied()
    }

    /// The quota of an operation without keys, or of one on all keys at once: the first grant's.
    pub fn items_per_second(&self) -> Option<u64> {
        self.grants.first().and_then(|grant| grant.items_per_second)
    }
}

impl Grant {
    /// The quota, if there is one.
    pub fn items_per_second(&self) -> Option<u64> {
        self.items_per_second
    }
}

impl Role {
    fn build(name: &str, file: RoleFile, seen: &mut BTreeSet<String>) -> Result<Self, PolicyError> {
        let mut clients = Vec::with_capacity(file.clients.len());
        for pattern in file.clients {
            clients.push(
                Pattern::parse(&pattern).ok_or_else(|| PolicyError::Pattern {
                    role: name.to_owned(),
                    pattern: pattern.clone(),
                })?,
            );
            if !seen.insert(pattern.clone()) {
                return Err(PolicyError::PatternTwice(pattern));
            }
        }
        let mut grants = Vec::with_capacity(file.grants.len());
        for grant in file.grants {
            grants.push(Grant::build(name, grant)?);
        }
        let role = Self { clients, grants };
        role.check_overlap(name)?;
        Ok(role)
    }

    fn has(&self, client: &ClientId) -> bool {
        self.clients.iter().any(|pattern| pattern.matches(client.path()))
    }

    /// Two grants for the same thing would leave open whose quota counts.
    fn check_overlap(&self, name: &str) -> Result<(), PolicyError> {
        for (at, one) in self.grants.iter().enumerate() {
            for other in self.grants.iter().skip(at + 1) {
                let shared = one.operations.iter().any(|operation| other.operations.contains(operation));
                let meets = |pattern: &LineagePattern| other.lineages.iter().any(|it| it.meets(pattern));
                let keys = one.lineages.is_empty() || one.lineages.iter().any(meets);
                if shared && keys {
                    return Err(grant_error(
                        name,
                        "grants an operation on a key twice; write it in one grant only",
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Grant {
    fn build(role: &str, file: GrantFile) -> Result<Self, PolicyError> {
        let keyed = file.operations.iter().filter(|operation| operation.is_keyed()).count();
        let distinct: BTreeSet<_> = file.operations.iter().collect();
        let error = |what| Err(grant_error(role, what));
        if file.operations.is_empty() || distinct.len() != file.operations.len() {
            return error("names no operation, or one twice; list each operation once");
        }
        if keyed != 0 && keyed != file.operations.len() {
            return error(
                "mixes operations on keys with others; write two grants, lineages only in the one on keys",
            );
        }
        if (keyed == 0) != file.lineages.is_empty() {
            return error(
                "needs lineages if its operations are on keys (keys-read, settlement-verify, loads-authorize, blacklists-sign …), and none otherwise",
            );
        }
        if file.items_per_second == Some(0) {
            return error("has items_per_second = 0; remove the grant instead");
        }
        let mut lineages = Vec::with_capacity(file.lineages.len());
        for lineage in file.lineages {
            lineages.push(
                LineagePattern::parse(&lineage)
                    .ok_or_else(|| PolicyError::Lineage { role: role.to_owned(), lineage })?,
            );
        }
        let of_wall = file.operations.iter().any(|operation| operation.is_of_wall());
        if of_wall && !lineages.iter().all(|pattern| pattern.wall_of_list().is_some()) {
            return error(
                "grants blacklists-read or blacklists-sign on something else than whole walls; write every lineage as WALL/blacklist/*",
            );
        }
        Ok(Self { operations: file.operations, lineages, items_per_second: file.items_per_second })
    }
}

fn grant_error(role: &str, what: &'static str) -> PolicyError {
    PolicyError::Grant { role: role.to_owned(), what }
}

/// A client path whose last segment may be `*`, which stands for exactly one segment.
#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    Under(String),
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix("/*") {
            Some(parent) => is_client_path(parent).then(|| Self::Under(parent.to_owned())),
            None => is_client_path(text).then(|| Self::Exact(text.to_owned())),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Under(parent) => path.rsplit_once('/').is_some_and(|(above, _)| above == parent),
        }
    }
}

/// A lineage whose role may be `*`.
#[derive(Clone, Debug)]
enum LineagePattern {
    Exact(Lineage),
    /// `applet/key-set/`, with the slash.
    Set(String),
}

impl LineagePattern {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            // Any role will do to check that the rest is a lineage.
            Some(set) => Lineage::parse(&format!("{set}any")).map(|_| Self::Set(set.to_owned())),
            None => Lineage::parse(text).map(Self::Exact),
        }
        .filter(|_| !text.ends_with('*') || text.ends_with("/*"))
    }

    fn matches(&self, lineage: &Lineage) -> bool {
        match self {
            Self::Exact(exact) => exact == lineage,
            Self::Set(set) => lineage.as_str().starts_with(set.as_str()),
        }
    }

    /// The wall whose list keys these are, all of them.
    fn wall_of_list(&self) -> Option<&str> {
        match self {
            Self::Exact(_) => None,
            Self::Set(set) => set.strip_suffix("/blacklist/"),
        }
    }

    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(two)) => one == two,
            (Self::Set(one), Self::Set(two)) => one == two,
            (Self::Exact(exact), set) | (set, Self::Exact(exact)) => set.matches(exact),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    format: u64,
    trust_domain: String,
    roles: BTreeMap<String, RoleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleFile {
    clients: Vec<String>,
    grants: Vec<GrantFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantFile {
    operations: Vec<Operation>,
    #[serde(default)]
    lineages: Vec<String>,
    items_per_second: Option<u64>,
}

#[cfg(test)]
mod tests;

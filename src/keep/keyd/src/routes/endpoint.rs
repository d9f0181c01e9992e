//! The table of routes: method, path, and the operations of which a client needs one. `openapi.json` is held to it by a test.

use crate::policy::Operation;

/// One route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Endpoint {
    BlacklistRead,
    BlacklistSign,
    CardsAuthenticate,
    CardsKeys,
    Checkpoint,
    Commands,
    Keys,
    Licence,
    LoadsAuthorize,
    Macs,
    OpenApi,
    Proof,
    Receipt,
    Scripts,
    Settlement,
    Status,
    Tile,
}

impl Endpoint {
    /// All of them.
    pub(crate) const ALL: [Self; 17] = [
        Self::BlacklistRead,
        Self::BlacklistSign,
        Self::CardsAuthenticate,
        Self::CardsKeys,
        Self::Checkpoint,
        Self::Commands,
        Self::Keys,
        Self::Licence,
        Self::LoadsAuthorize,
        Self::Macs,
        Self::OpenApi,
        Self::Proof,
        Self::Receipt,
        Self::Scripts,
        Self::Settlement,
        Self::Status,
        Self::Tile,
    ];

    /// Its path. A parameter stands at the end and takes the rest of the path, slashes too: what it may be is for the
    /// route to say, after policy.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::BlacklistRead | Self::BlacklistSign => "/v1/blacklists/{wall}",
            Self::CardsAuthenticate => "/v1/cards/authenticate",
            Self::CardsKeys => "/v1/cards/keys",
            Self::Checkpoint => "/v1/log/checkpoint",
            Self::Commands => "/v1/commands",
            Self::Keys => "/v1/keys",
            Self::Licence => "/v1/licences/{id}",
            Self::LoadsAuthorize => "/v1/loads/authorize",
            Self::Macs => "/v1/macs/verify",
            Self::OpenApi => "/v1/openapi.json",
            Self::Proof => "/v1/log/proof",
            Self::Receipt => "/v1/receipts/{batch}",
            Self::Scripts => "/v1/scripts/issue",
            Self::Settlement => "/v1/settlement/verify",
            Self::Status => "/v1/status",
            Self::Tile => "/v1/log/tile/{tile}",
        }
    }

    /// Whether it is POST; all others are GET.
    pub(crate) const fn is_post(self) -> bool {
        match self {
            Self::BlacklistSign
            | Self::CardsAuthenticate
            | Self::CardsKeys
            | Self::Commands
            | Self::LoadsAuthorize
            | Self::Macs
            | Self::Scripts
            | Self::Settlement => true,
            Self::BlacklistRead
            | Self::Checkpoint
            | Self::Keys
            | Self::Licence
            | Self::OpenApi
            | Self::Proof
            | Self::Receipt
            | Self::Status
            | Self::Tile => false,
        }
    }

    /// Its method.
    pub(crate) const fn method(self) -> &'static str {
        if self.is_post() { "POST" } else { "GET" }
    }

    /// The operations of which a client needs one. The route with none is open to every client that has a role.
    pub(crate) const fn operations(self) -> &'static [Operation] {
        match self {
            Self::BlacklistRead => &[Operation::BlacklistsRead],
            Self::BlacklistSign => &[Operation::BlacklistsSign],
            Self::CardsAuthenticate => &[Operation::CardsAuthenticate],
            Self::CardsKeys => &[Operation::CardsKeys],
            Self::Checkpoint | Self::Proof | Self::Tile => &[Operation::LogRead],
            Self::Commands => &[Operation::CommandsRelay],
            Self::Keys => &[Operation::KeysRead],
            Self::Licence => &[Operation::LicencesRead],
            Self::LoadsAuthorize => &[Operation::LoadsAuthorize],
            Self::Macs => &[Operation::MacsVerify],
            Self::OpenApi => &[],
            Self::Receipt => &[Operation::ReceiptsRead],
            // Which of the two is for the body to say.
            Self::Scripts => &[Operation::ScriptsIssue, Operation::ScriptsUnblock],
            Self::Settlement => &[Operation::SettlementVerify],
            Self::Status => &[Operation::StatusRead],
        }
    }

    /// Whether the path is this route's, and what its parameter is; empty where there is none.
    fn takes(self, path: &str) -> Option<&str> {
        match self.path().split_once('{') {
            Some((before, _)) => path.strip_prefix(before),
            None => (path == self.path()).then_some(""),
        }
    }

    /// The routes under this path, and their parameter.
    pub(crate) fn at(path: &str) -> Option<(Vec<Self>, &str)> {
        let here: Vec<_> = Self::ALL.into_iter().filter(|endpoint| endpoint.takes(path).is_some()).collect();
        let parameter = here.first()?.takes(path)?;
        Some((here, parameter))
    }
}

/// What `Allow` says of these routes.
pub(crate) fn allow(here: &[Endpoint]) -> &'static str {
    let has = |post| here.iter().any(|endpoint| endpoint.is_post() == post);
    match (has(false), has(true)) {
        (true, true) => "GET, POST",
        (false, true) => "POST",
        (_, false) => "GET",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_paths_are_routes() {
        for (good, parameter) in [
            ("/v1/status", ""),
            ("/v1/keys", ""),
            ("/v1/log/checkpoint", ""),
            ("/v1/log/tile/0/000", "0/000"),
            ("/v1/receipts/AB", "AB"),
            ("/v1/licences/", ""),
            ("/v1/blacklists/a/b", "a/b"),
        ] {
            assert_eq!(Endpoint::at(good).map(|(_, parameter)| parameter), Some(parameter), "{good}");
        }
        for bad in [
            "/",
            "/v1",
            "/v1/",
            "/v2/status",
            "/v1/status/",
            "/v1//status",
            "/v1/log/../status",
            "/v1/log/vkey",
            "/v1/receipts",
            "/V1/status",
        ] {
            assert_eq!(Endpoint::at(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_path_has_a_method_once_and_parameters_stand_at_the_end() {
        for endpoint in Endpoint::ALL {
            let sample = endpoint.path().replace(['{', '}'], "");
            let (here, _) = Endpoint::at(&sample).unwrap();
            assert!(here.contains(&endpoint), "{endpoint:?}");
            let same = here.iter().filter(|other| other.is_post() == endpoint.is_post()).count();
            assert_eq!(same, 1, "{endpoint:?}");
            assert!(here.iter().all(|other| other.path() == endpoint.path()), "{here:?}");
            let path = endpoint.path();
            assert!(path.split_once('{').is_none_or(|(_, name)| name.ends_with('}') && !name.contains('/')));
        }
        assert_eq!(allow(&Endpoint::at("/v1/blacklists/transit").unwrap().0), "GET, POST");
        assert_eq!(allow(&[Endpoint::Status]), "GET");
        assert_eq!(allow(&[Endpoint::Macs]), "POST");
    }
}

use super::*;

const REHEARSAL: &str = include_str!("../../../../../policies/rehearsal.toml");

fn rehearsal() -> Policy {
    Policy::parse(REHEARSAL).unwrap()
}

fn client(path: &str) -> ClientId {
    let domain = TrustDomain::parse("weihai.example").unwrap();
    ClientId::parse(&format!("spiffe://weihai.example/{path}"), &domain).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    /// Granted, not about keys.
    Yes,
    /// Granted on the rehearsal's key and on no other.
    Tac,
    No,
}

/// The requirements, written by hand: clearing, audit, officers, somebody without a role. An operation without a row
/// does not compile.
#[expect(clippy::match_same_arms, reason = "one row per operation")]
fn oracle(operation: Operation) -> [Cell; 4] {
    use Cell::{No, Tac, Yes};
    match operation {
        Operation::CommandsRelay => [No, No, Yes, No],
        Operation::KeysRead => [Tac, Tac, No, No],
        Operation::LogRead => [Yes, Yes, No, No],
        Operation::MacsVerify => [Tac, No, No, No],
        Operation::ReceiptsRead => [Yes, No, No, No],
        Operation::SettlementVerify => [Tac, No, No, No],
        Operation::StatusRead => [Yes, Yes, Yes, No],
    }
}

#[test]
fn every_role_and_operation_is_as_the_oracle_says() {
    let policy = rehearsal();
    let clients = ["clearing/engine-1", "audit/desk-1", "officers/relay-1", "perso/line-1"].map(client);
    let (tac, other) = ("transit/purse/tac", "transit/purse/purchase");
    let [tac, other] = [tac, other].map(|text| Lineage::parse(text).unwrap());
    let mut cells = 0;
    for operation in Operation::ALL {
        for (client, expected) in clients.iter().zip(oracle(operation)) {
            let permission = policy.permits(client, operation);
            let on = |lineage| permission.as_ref().is_ok_and(|it| it.for_key(lineage).is_some());
            let found = match (permission.is_ok(), on(&tac), on(&other)) {
                (false, false, false) => Cell::No,
                (true, false, false) => Cell::Yes,
                (true, true, false) => Cell::Tac,
                odd => panic!("{client} {operation}: {odd:?}"),
            };
            assert_eq!(found, expected, "{client} {operation}");
            cells += 1;
        }
    }
    assert_eq!(cells, 4 * Operation::ALL.len());
}

#[test]
fn operations_are_complete_and_have_one_name_each() {
    let names: BTreeSet<_> = Operation::ALL.iter().map(|operation| operation.as_str()).collect();
    assert_eq!(names.len(), Operation::ALL.len());
    for operation in Operation::ALL {
        let lineages = if operation.is_keyed() { "lineages = ['a/b/c']" } else { "" };
        let text = format!(
            "format = 1\ntrust_domain = 'weihai.example'\n[roles.r]\nclients = ['a/b']\n[[roles.r.grants]]\noperations = ['{operation}']\n{lineages}"
        );
        let policy = Policy::parse(&text).unwrap();
        for other in Operation::ALL {
            assert_eq!(
                policy.permits(&client("a/b"), other).is_ok(),
                other == operation,
                "{operation} {other}"
            );
        }
    }
}

fn with(body: &str) -> Result<Policy, PolicyError> {
    Policy::parse(&format!("format = 1\ntrust_domain = 'weihai.example'\n{body}"))
}

const STATUS: &str = "grants = [{ operations = ['status-read'] }]";

#[test]
fn two_roles_are_no_role() {
    let policy =
        with(&format!("[roles.one]\nclients = ['a/*']\n{STATUS}\n[roles.two]\nclients = ['a/b']\n{STATUS}"))
            .unwrap();
    let denied = |path: &str| policy.permits(&client(path), Operation::StatusRead).err();
    assert_eq!(denied("a/b"), Some(Denied::TwoRoles));
    assert_eq!(denied("a/c"), None);
    assert_eq!(denied("a/c/d"), Some(Denied::NoRole));
    assert_eq!(denied("a"), Some(Denied::NoRole));
    assert_eq!(denied("ab/c"), Some(Denied::NoRole));
}

#[test]
fn lineage_wildcards_stay_in_their_key_set() {
    let grant = "grants = [{ operations = ['macs-verify'], lineages = ['transit/purse/*'] }]";
    let policy = with(&format!("[roles.r]\nclients = ['a/b']\n{grant}")).unwrap();
    let client = client("a/b");
    let permission = policy.permits(&client, Operation::MacsVerify).unwrap();
    let on = |text| permission.for_key(&Lineage::parse(text).unwrap()).is_some();
    assert!(on("transit/purse/tac") && on("transit/purse/load"));
    assert!(!on("transit/purses/tac") && !on("campus/purse/tac"));
}

#[test]
fn refused_files() {
    let role = |grants: &str| with(&format!("[roles.r]\nclients = ['a/b']\ngrants = [{grants}]"));
    assert!(matches!(Policy::parse("format = 2\ntrust_domain = 'a'\n[roles]"), Err(PolicyError::Format(2))));
    assert!(matches!(
        Policy::parse("format = 1\ntrust_domain = 'A'\n[roles]"),
        Err(PolicyError::TrustDomain(_))
    ));
    for syntax in [
        role("{ operations = ['status-read'], extra = 1 }"),
        role("{ operations = ['status'] }"),
        role("{ operations = ['status-read'], operations = ['log-read'] }"),
        role("{ }"),
        with("[roles.r]\nclients = ['a/b']"),
        with("[roles.r]\nclients = ['a/b']\ngrants = []\nadmin = true"),
        with("more = 1\n[roles]"),
        Policy::parse("format = 1\ntrust_domain = 'a'"),
    ] {
        assert!(matches!(syntax, Err(PolicyError::Syntax(_))), "{syntax:?}");
    }
    for grant in [
        role("{ operations = [] }"),
        role("{ operations = ['status-read', 'status-read'] }"),
        role("{ operations = ['status-read'], lineages = ['a/b/c'] }"),
        role("{ operations = ['macs-verify'] }"),
        role("{ operations = ['macs-verify', 'status-read'], lineages = ['a/b/c'] }"),
        role("{ operations = ['status-read'], items_per_second = 0 }"),
        role("{ operations = ['status-read'] }, { operations = ['status-read', 'log-read'] }"),
        role(
            "{ operations = ['macs-verify'], lineages = ['a/b/*'] }, { operations = ['macs-verify'], lineages = ['a/b/c'] }",
        ),
    ] {
        assert!(matches!(grant, Err(PolicyError::Grant { .. })), "{grant:?}");
    }
    for lineage in ["*", "a/*/c", "a/b/c*", "a/b", "a/b/*/"] {
        let refused = role(&format!("{{ operations = ['macs-verify'], lineages = ['{lineage}'] }}"));
        assert!(matches!(refused, Err(PolicyError::Lineage { .. })), "{lineage}");
    }
    for pattern in ["*", "/a", "a/", "a/*/b", "a*", "", "spiffe://weihai.example/a"] {
        let refused = with(&format!("[roles.r]\nclients = ['{pattern}']\n{STATUS}"));
        assert!(matches!(refused, Err(PolicyError::Pattern { .. })), "{pattern}");
    }
    let twice =
        with(&format!("[roles.r]\nclients = ['a/b']\n{STATUS}\n[roles.s]\nclients = ['a/b']\n{STATUS}"));
    assert!(matches!(twice, Err(PolicyError::PatternTwice(_))));
}

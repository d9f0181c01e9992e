use super::*;

const REHEARSAL: &str = include_str!("../../../../../policies/rehearsal.toml");

fn rehearsal() -> Policy {
    Policy::parse(REHEARSAL).unwrap()
}

fn client(path: &str) -> ClientId {
    let domain = TrustDomain::parse("weihai.example").unwrap();
    ClientId::parse(&format!("spiffe://weihai.example/{path}"), &domain).unwrap()
}

/// What a client may do an operation on. Keys are asked for by these names, in this order.
const ASKED: [&str; 6] = [
    "transit/purse/tac",
    "transit/purse/load",
    "transit/perso/line-1",
    "transit/blacklist/sm2",
    "health/ddf1/stk",
    "campus/purse/tac",
];

/// Nothing at all.
const NO: &str = "no";
/// Granted, and not about keys.
const YES: &str = "yes";
/// One letter of each key of [`ASKED`] that is covered.
const PURSE: &str = "tl";

const CLIENTS: [&str; 10] = [
    "clearing/engine-1",
    "audit/desk-1",
    "officers/relay-1",
    "perso/line-1",
    "cards/desk-1",
    "unblock/desk-1",
    "terminals/load-1",
    "gates/depot-1",
    "health/perso-1",
    "nobody/at-all",
];

/// The requirements, written by hand. An operation without a row does not compile.
#[expect(clippy::match_same_arms, reason = "one row per operation")]
fn oracle(operation: Operation) -> [&'static str; 10] {
    match operation {
        Operation::BlacklistsRead => [NO, NO, NO, NO, "b", NO, NO, "b", NO, NO],
        Operation::BlacklistsSign => [NO, NO, NO, NO, "b", NO, NO, NO, NO, NO],
        Operation::CardsAuthenticate => [NO, NO, NO, NO, PURSE, NO, NO, NO, NO, NO],
        Operation::CardsKeys => [NO, NO, NO, YES, NO, NO, NO, NO, YES, NO],
        Operation::CommandsRelay => [NO, NO, YES, NO, NO, NO, NO, NO, NO, NO],
        Operation::KeysRead => ["t", "t", NO, "tlp", "tlb", PURSE, "tl", "b", "h", NO],
        Operation::LicencesRead => [NO, NO, NO, YES, NO, NO, NO, NO, YES, NO],
        Operation::LoadsAuthorize => [NO, NO, NO, NO, NO, NO, "l", NO, NO, NO],
        Operation::LogRead => [NO, YES, NO, NO, NO, NO, NO, NO, NO, NO],
        Operation::MacsVerify => ["t", NO, NO, NO, NO, NO, "t", NO, NO, NO],
        Operation::ReceiptsRead => [YES, NO, NO, NO, NO, NO, NO, NO, NO, NO],
        Operation::ScriptsIssue => [NO, NO, NO, NO, PURSE, NO, NO, NO, NO, NO],
        Operation::ScriptsUnblock => [NO, NO, NO, NO, NO, PURSE, NO, NO, NO, NO],
        Operation::SettlementVerify => ["t", NO, NO, NO, NO, NO, NO, NO, NO, NO],
        Operation::StatusRead => [YES, YES, YES, YES, YES, YES, YES, NO, YES, NO],
    }
}

#[test]
fn every_role_and_operation_is_as_the_oracle_says() {
    let policy = rehearsal();
    for operation in Operation::ALL {
        for (path, expected) in CLIENTS.iter().zip(oracle(operation)) {
            let client = client(path);
            let permission = policy.permits(&client, operation);
            let covers = |key: &str| {
                permission.as_ref().is_ok_and(|it| it.for_key(&Lineage::parse(key).unwrap()).is_some())
            };
            let letters = ASKED.iter().zip("tlpbhc".chars()).filter(|(key, _)| covers(key));
            let letters: String = letters.map(|(_, letter)| letter).collect();
            let found = match (permission.is_ok(), letters.as_str()) {
                (false, "") => NO,
                (true, "") => YES,
                (_, letters) => letters,
            };
            assert_eq!(found, expected, "{path} {operation}");
            let wall = permission.as_ref().is_ok_and(|it| it.for_wall("transit").is_some());
            assert_eq!(wall, letters.contains('b'), "{path} {operation}");
            for other in ["health", "campus", "transit/blacklist", "", "*"] {
                assert!(!permission.as_ref().is_ok_and(|it| it.for_wall(other).is_some()), "{path} {other}");
            }
        }
    }
    for path in CLIENTS {
        assert_eq!(policy.knows(&client(path)).is_ok(), path != "nobody/at-all", "{path}");
    }
}

#[test]
fn operations_are_complete_and_have_one_name_each() {
    let names: BTreeSet<_> = Operation::ALL.iter().map(|operation| operation.as_str()).collect();
    assert_eq!(names.len(), Operation::ALL.len());
    for operation in Operation::ALL {
        let lineages = if operation.is_keyed() { "lineages = ['a/blacklist/*']" } else { "" };
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

/// The sample grants each operation to somebody, and nothing across walls.
#[test]
fn the_sample_is_a_policy() {
    let text = include_str!("../../../../../policies/sample.toml");
    let policy = Policy::parse(text).unwrap();
    for operation in Operation::ALL {
        let holders = policy
            .roles
            .iter()
            .filter(|role| role.grants.iter().any(|it| it.operations.contains(&operation)));
        assert!(holders.count() > 0, "{operation} is granted to nobody");
        assert!(text.contains(&format!("\n#   {operation} ")), "{operation} is not explained");
    }
    for role in &policy.roles {
        let walls: BTreeSet<_> = role
            .grants
            .iter()
            .flat_map(|grant| &grant.lineages)
            .map(|pattern| match pattern {
                LineagePattern::Exact(lineage) => lineage.wall(),
                LineagePattern::Set(set) => set.split('/').next().unwrap(),
            })
            .collect();
        assert!(walls.len() <= 1, "{walls:?}");
        let has = |operation| role.grants.iter().any(|grant| grant.operations.contains(&operation));
        assert!(!(has(Operation::ScriptsIssue) && has(Operation::ScriptsUnblock)), "four eyes");
    }
}

/// A policy as the first release took it: what was granted then is granted now, and nothing else.
#[test]
fn a_policy_of_before_is_read_as_it_was() {
    let policy = Policy::parse(include_str!("../../tests/golden/policy-v1.toml")).unwrap();
    let clients = ["clearing/engine-1", "audit/desk-1", "officers/relay-1"].map(client);
    for operation in Operation::ALL {
        let expected = match operation {
            Operation::KeysRead | Operation::LogRead => [true, true, false],
            Operation::MacsVerify | Operation::ReceiptsRead | Operation::SettlementVerify => {
                [true, false, false]
            }
            Operation::StatusRead => [true, true, true],
            Operation::CommandsRelay => [false, false, true],
            _ => [false; 3],
        };
        let found = clients.each_ref().map(|client| policy.permits(client, operation).is_ok());
        assert_eq!(found, expected, "{operation}");
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
        role("{ operations = ['blacklists-sign'] }"),
        role("{ operations = ['blacklists-sign'], lineages = ['a/blacklist/sm2'] }"),
        role("{ operations = ['blacklists-read'], lineages = ['a/blacklist/*', 'a/purse/*'] }"),
        role("{ operations = ['cards-keys'], lineages = ['a/purse/*'] }"),
        role("{ operations = ['cards-keys', 'loads-authorize'], lineages = ['a/purse/*'] }"),
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

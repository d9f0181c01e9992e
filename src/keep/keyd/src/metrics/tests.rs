use super::*;
use crate::metrics::families::{ALL, Family};

const DOCUMENT: &str = include_str!("../../METRICS.md");
const ALERTS: &str = include_str!("../../../../../systemd/citykeep-alerts.yml");

fn row(family: &Family) -> String {
    let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
    format!("| `{}` | {} | {labels} | {} |", family.name, family.kind, family.help)
}

#[test]
fn the_document_has_every_metric_and_no_other() {
    let rows: Vec<&str> = DOCUMENT.lines().filter(|line| line.starts_with("| `citykeep_")).collect();
    let families: Vec<String> = ALL.iter().map(row).collect();
    assert_eq!(rows, families);
}

/// The words of a text that may be names of metrics.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("citykeep_"))
}

#[test]
fn alerts_stand_on_metrics_that_are_there() {
    let known = |word: &str| {
        let of_histogram = |family: &Family| {
            family.kind == "histogram"
                && word
                    .strip_prefix(family.name)
                    .is_some_and(|ending| ["_bucket", "_sum", "_count"].contains(&ending))
        };
        ALL.iter().any(|family| family.name == word || of_histogram(family))
    };
    let expressions: Vec<&str> =
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    let alerts = ALERTS.matches("- alert: ").count();
    assert_eq!((expressions.len(), ALERTS.matches("summary: ").count()), (alerts, alerts));
    assert!(alerts > 10);
    for expression in &expressions {
        assert!(words(expression).next().is_some() || expression.starts_with("up{"), "{expression}");
        for word in words(expression) {
            assert!(known(word), "{word} in {expression}");
        }
        let balance = |open, close| expression.matches(open).count() == expression.matches(close).count();
        assert!(balance('(', ')') && balance('{', '}') && balance('[', ']'), "{expression}");
    }
    // Which labels an alert asks for, and by what it groups.
    for label in ["what", "code", "state", "end", "verdict", "queue", "directory", "category"] {
        assert!(ALL.iter().any(|family| family.labels.contains(&label)), "{label}");
    }
    assert!(!known("citykeep_batch_seconds_total") && !known("citykeep_serving_bucket"), "the test can tell");
}

#[test]
fn seconds_are_counted_up_to_each_end() {
    let counters = Counters::default();
    for millis in [50, 100, 101, 2_000, 400_000] {
        counters.batch(Duration::from_millis(millis));
    }
    let seconds = *lock(&counters.0.seconds);
    assert_eq!((seconds.upto, seconds.count), ([2, 3, 3, 4, 4, 4, 4, 4], 5));
    assert!((seconds.sum - 402.251).abs() < 1e-9);
}

#[test]
fn only_this_machine_may_ask() {
    let place = |text: &str| Place::try_from(text.to_owned());
    for good in ["127.0.0.1:9464", "127.8.8.8:1", "[::1]:9464"] {
        assert!(matches!(place(good), Ok(Place::Loopback(_))), "{good}");
    }
    for good in ["/run/citykeep/metrics.sock", "./metrics.sock", "run/metrics.sock"] {
        assert!(matches!(place(good), Ok(Place::Socket(_))), "{good}");
    }
    for bad in [
        "0.0.0.0:9464",
        "192.168.1.2:9464",
        "[::]:9464",
        "[2001:db8::1]:9464",
        "[::ffff:10.0.0.1]:1",
        "metrics",
        "",
    ] {
        assert!(place(bad).is_err(), "{bad}");
    }
    let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    assert!(Listener::of_tcp(everywhere).is_err(), "whoever opened it");
    assert!(Listener::of_tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).is_ok());
}

#[test]
fn verdicts_are_counted_each_under_its_name() {
    let counters = Counters::default();
    for (at, verdict) in Verdict::ALL.iter().enumerate() {
        counters.verdicts(&vec![verdict.byte(); at + 1]);
    }
    let counted: Vec<u64> = counters.0.verdicts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert_eq!(counted, [1, 2, 3, 4, 5]);
}

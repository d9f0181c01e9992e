//! The page of metrics, from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use translog::note::WitnessKey;
use wire::frame::ModuleState;

use crate::house::{House, Keyd, begin, send, whole};

const DOCUMENT: &str = include_str!("../../METRICS.md");
const PATH: &str = "/v1/settlement/verify";
const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];

fn house() -> House {
    let house = House::new();
    let file = house.dir.path().join("keyd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("metrics = './metrics.sock'\n{text}")).unwrap();
    house
}

fn ask(socket: &Path, head: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "{head} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Values by name with labels, as they stand on the page; and the page.
fn scrape(house: &House) -> (BTreeMap<String, f64>, String) {
    let answer = ask(&house.dir.path().join("metrics.sock"), "GET /metrics");
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    (samples.collect(), page.to_owned())
}

/// Name, labels: of the document's rows.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `citykeep_"));
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(", ").filter(|label| *label != "–");
        (
            cells[1].trim_matches('`').to_owned(),
            labels.map(|label| label.trim_matches('`').to_owned()).collect(),
        )
    });
    rows.collect()
}

/// Metric and labels of a sample's name.
fn parts(sample: &str, histograms: &BTreeSet<&str>) -> (String, BTreeSet<String>) {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
    let labels = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
    let labels: BTreeSet<String> = labels.map(|pair| pair.split_once('=').unwrap().0.to_owned()).collect();
    let family = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
    match family.into_iter().find(|family| histograms.contains(family)) {
        Some(family) => (family.to_owned(), labels.into_iter().filter(|label| label != "le").collect()),
        None => (name.to_owned(), labels),
    }
}

async fn work(house: &House, keyd: &Keyd) {
    let mut clearing = house.clearing(keyd).await;
    let reply = send(&mut clearing, "POST", PATH, TEXT, "x\ny\nz\n").await;
    assert!(reply.whole);
    for path in
        ["/v1/status", "/v1/nothing/here?a=SPIFFE", "/v1/receipts/ABCDEF", "/v1/blacklists/secret-wall"]
    {
        let _ = send(&mut clearing, "GET", path, &[("user-agent", "chosen-by-client")], "").await;
    }
    let _ = send(&mut clearing, "BREW", "/v1/status", &[], "").await;
    let mut other = house.clearing(keyd).await;
    let (mut parts, answer) = begin(&mut other, PATH, TEXT);
    parts.send_data("x\n".repeat(5000).into()).await.unwrap();
    let response = answer.await.unwrap().unwrap();
    drop(other);
    parts.abort(std::io::Error::other("the client breaks off"));
    let _ = whole(response).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_the_document() {
    let house = house();
    let keyd = house.run();
    work(&house, &keyd).await;
    house.fake.wait_noted("not-found", 2);
    // The module's state is asked every 2 seconds.
    let (samples, page) = loop {
        let found = scrape(&house);
        if found.0.keys().any(|name| name.starts_with("citykeep_batches_total{end=\"body")) {
            break found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let documented = documented();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types: Vec<(&str, &str)> = types.map(|line| line.split_once(' ').unwrap()).collect();
    let names: BTreeSet<String> = types.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, documented.keys().cloned().collect(), "the page's metrics are the document's");
    assert_eq!(names.len(), types.len(), "each once");
    let histograms = types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| *name).collect();
    let shown: BTreeMap<String, BTreeSet<String>> =
        samples.keys().map(|sample| parts(sample, &histograms)).collect();
    assert_eq!(shown, documented, "every metric has a sample, with the documented labels");

    let value = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("{name}\n{page}"));
    let requests = |route: &str, method: &str, code: &str| {
        value(&format!(r#"citykeep_requests_total{{route="{route}",method="{method}",code="{code}"}}"#))
    };
    assert!((requests("/v1/status", "GET", "ok") - 1.0).abs() < 0.1);
    assert!((requests("/v1/settlement/verify", "POST", "ok") - 2.0).abs() < 0.1);
    assert!((requests("other", "other", "not-found") - 1.0).abs() < 0.1);
    assert!((requests("other", "other", "method-not-allowed") - 1.0).abs() < 0.1);
    assert!((requests("/v1/receipts/{batch}", "GET", "not-found") - 1.0).abs() < 0.1);
    assert!(value(r#"citykeep_verdicts_total{verdict="malformed"}"#) >= 3.0);
    assert!((value(r#"citykeep_batches_total{end="receipt"}"#) - 1.0).abs() < 0.1);
    assert!((value("citykeep_batch_seconds_count") - 1.0).abs() < 0.1);
    assert!((value("citykeep_serving") - 1.0).abs() < 0.1);
    assert!((value(r#"citykeep_module_state{state="operational"}"#) - 1.0).abs() < 0.1);
    assert!(value("citykeep_log_durable_entries") > 0.0);
    assert!(value(r#"citykeep_certificate_expiry_seconds{what="client-crl"}"#) > 86_400.0);
    assert!(value(r#"citykeep_disk_free_bytes{directory="state"}"#) > 0.0);
    assert!(
        value(r#"citykeep_queue_limit{queue="connections"}"#)
            > value(r#"citykeep_queue_depth{queue="connections"}"#)
    );
}

/// Whatever a client sends, the page has no name of its making and does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn no_label_holds_what_a_client_chose() {
    let house = house();
    let keyd = house.run();
    work(&house, &keyd).await;
    let before = scrape(&house).0.len();
    let mut auditor = house.connect(&keyd, &house.leaf("audit/very-special-desk")).await;
    for number in 0..200 {
        for path in
            [format!("/v1/log/tile/{number}"), format!("/chosen-{number}"), format!("/v1/licences/L{number}")]
        {
            let method = if number % 2 == 0 { "GET" } else { "CHOSEN" };
            let _ = send(&mut auditor, method, &path, &[("accept", "chosen/type")], "").await;
        }
    }
    let (samples, page) = scrape(&house);
    let page = page.to_lowercase();
    for chosen in ["chosen", "special", "spiffe", "secret-wall", "abcdef", "weihai", "engine", "localhost"] {
        assert!(!page.contains(chosen), "{chosen}\n{page}");
    }
    assert!(samples.len() < before + 10, "{before} samples, then {}", samples.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_that_the_module_waits_for_people() {
    let house = house();
    house.fake.change(|inner| inner.state = ModuleState::Sealed);
    let mut child = house.spawn();
    let socket = house.dir.path().join("metrics.sock");
    let sealed = r#"citykeep_module_state{state="sealed"} 1"#;
    let seen = |want: &str| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::time::Instant::now() < until {
            if socket.exists() && UnixStream::connect(&socket).is_ok() && scrape(&house).1.contains(want) {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        false
    };
    assert!(seen(sealed));
    let (_, page) = scrape(&house);
    assert!(page.contains("citykeep_serving 0\n"), "{page}");
    assert!(page.contains(r#"citykeep_certificate_expiry_seconds{what="server-certificate"}"#), "{page}");
    for (head, status) in [("GET /", "404"), ("GET /v1/status", "404"), ("POST /metrics", "405")] {
        assert!(ask(&socket, head).starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
    assert_eq!(house.mode("metrics.sock") & 0o077, 0, "for keyd's own user");
    child.kill().unwrap();
    child.wait().unwrap();
    // A killed keyd leaves its socket behind; the next one takes the place.
    house.fake.change(|inner| inner.state = ModuleState::Operational);
    let _keyd = house.run();
    assert!(scrape(&house).1.contains("citykeep_serving 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_that_the_module_waits_for_witnesses() {
    let house = house();
    let _keyd = house.run();
    let seen = |word: &str, serving: u8| {
        let want = [
            format!("citykeep_witness_state{{state=\"{word}\"}} 1\n"),
            format!("citykeep_serving {serving}\n"),
        ];
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !want.iter().all(|line| scrape(&house).1.contains(line)) {
            assert!(std::time::Instant::now() < until, "{want:?}\n{}", scrape(&house).1);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(scrape(&house).1.matches("\ncitykeep_witness_state{").count(), 4);
    };
    seen("unwitnessed", 1);
    house.fake.change(|inner| inner.enrolled = vec![WitnessKey::new("w.example/1", [1; 32])]);
    seen("waiting", 0);
    house.fake.change(|inner| inner.witnessed = 1);
    seen("witnessed", 1);
}

#[test]
fn a_listener_that_the_network_reaches_is_refused() {
    for place in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"] {
        let house = House::new();
        let file = house.dir.path().join("keyd.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("metrics = '{place}'\n{text}")).unwrap();
        let (status, said) = Keyd::finish(&mut house.spawn());
        assert!(!status.success() && said.contains("not a loopback address"), "{place}: {said}");
    }
}

//! `citykeep sandbox`: the whole service on published keys, why records fail, and that nothing else explains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use system_tests::house::{Places, must, program, run};

/// The sandbox's own process, and what it said when it was up.
struct Sandbox(Child, String);

impl Sandbox {
    fn up(state: &Path) -> Self {
        use std::io::BufRead as _;
        use std::os::unix::process::CommandExt as _;
        let mut sandbox = program("citykeep");
        sandbox
            .args(["sandbox", "--port", "0", "--state"])
            .arg(state)
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = sandbox.spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // The sample's whole command is the last of them.
        let mut said = String::new();
        for line in lines {
            said.push_str(&line);
            said.push('\n');
            if line.contains("curl.sh") {
                break;
            }
        }
        Self(child, said)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // As Ctrl-C: the daemons are of its process group.
        let group = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_sandbox_explains() {
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let state = dir.path().join("sandbox");
    let sandbox = Sandbox::up(&state);
    let command = sandbox
        .1
        .lines()
        .find_map(|line| line.split_once("why records fail: "))
        .unwrap_or_else(|| panic!("{}", sandbox.1))
        .1;
    let url = command.split(' ').next_back().unwrap();
    // As the welcome prints it.
    let said = must(Command::new("bash").args(["-c", command]));
    let expected = fs::read_to_string(state.join("expected.csv")).unwrap();
    let wrong: Vec<&str> = expected.lines().skip(1).filter(|row| !row.ends_with(",ok")).collect();
    for row in &wrong {
        let line = row.split(',').next().unwrap();
        assert!(said.contains(&format!("第 {line} 行 line {line}: ")), "{row}: {said}");
    }
    let right = 1000 - wrong.len();
    assert!(!wrong.is_empty() && said.ends_with(&format!("1000 lines, {right} of them right\n")), "{said}");

    // One record at a time, with mistakes that integrators make.
    let day = fs::read(state.join("day.txt")).unwrap();
    let good = expected.lines().skip(1).position(|row| row.ends_with(",ok")).unwrap();
    let good = day.split(|byte| *byte == b'\n').nth(good).unwrap().to_vec();
    let version = String::from_utf8(good[169..171].to_vec()).unwrap();
    let explain = |record: &[u8], words: &[&str]| {
        fs::write(state.join("record.txt"), record).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20"]).args(words);
        run(curl.arg("--data-binary").arg(format!("@{}", state.join("record.txt").display())).arg(url))
    };
    let json = |record: &[u8]| -> Value {
        serde_json::from_str(&explain(record, &["-H", "Accept: application/json"]).out).unwrap()
    };
    let found = json(&good);
    assert_eq!((&found["right"], &found["explained"][0]["finding"]), (&1.into(), &"right".into()), "{found}");
    let mut other = good.clone();
    let another = if version == "02" { "01" } else { "02" };
    other[169..171].copy_from_slice(another.as_bytes());
    let found = json(&other);
    let reasons = found["explained"][0]["reasons"].as_array().unwrap();
    let names = |zh: &str, en: &str| reasons.iter().any(|why| why["zh"] == zh && why["en"] == en);
    assert!(
        names(
            &format!("若如此则 TAC 相符:用密钥版本 {version}"),
            &format!("would match under key version {version}")
        ),
        "{found}"
    );
    let mut damaged = good.clone();
    damaged[79] = b'x';
    assert_eq!(json(&damaged)["explained"][0]["finding"], "malformed");
    assert!(explain(&damaged, &[]).out.contains("79: 金额不是十六进制"));
    let empty = explain(b"", &[]);
    assert!(empty.out.contains("send F1 lines"), "{}", empty.out);

    // This machine only; and keyd has nothing of the kind, under whatever name.
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let keyd = sandbox.1.split_whitespace().find(|word| word.starts_with("https://localhost:")).unwrap();
    let places = Places(state.clone());
    for path in ["/explain", "/v1/explain"] {
        let said = places.curl("clearing", &["--data-binary", "x", &format!("{keyd}{path}")]);
        assert!(said.out.contains("\"not-found\""), "{path}: {}", said.out);
    }
    assert!(!places.curl("clearing", &[&format!("{keyd}/v1/openapi.json")]).out.contains("explain"));
    drop(sandbox);

    // Keys that are not the published ones make no sandbox.
    let keys = state.join("keys.json");
    fs::remove_file(&keys).unwrap();
    must(program("citycard").args(["keys", "--seed", "mine", "--out"]).arg(&keys));
    let said = run(program("citykeep").args(["sandbox", "--once", "--port", "0", "--state"]).arg(&state));
    assert!(
        !said.ok && said.err.contains("not the published ones") && said.err.contains("不是公开的测试密钥"),
        "{}",
        said.err
    );
}

/// The integrator's own service, twice on the same directory, and the reasons of a day's bad records.
#[test]
fn a_sandbox_is_up_and_explains() {
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let state = dir.path().join("sandbox");
    for _ in 0..2 {
        let mut sandbox = program("citykeep");
        sandbox.args(["sandbox", "--once", "--json", "--port", "0", "--state"]).arg(&state);
        let up: Value = serde_json::from_str(&must(&mut sandbox)).unwrap();
        assert!(up["url"].as_str().unwrap().starts_with("https://localhost:"), "{up}");
    }
    let expected = fs::read_to_string(state.join("expected.csv")).unwrap();
    let bad = expected
        .lines()
        .find(|row| row.ends_with(",malformed"))
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .to_owned();
    let explain = |line: &str| {
        let mut citycard = program("citycard");
        must(
            citycard
                .args(["explain", "--keys", "keys.json", "--day", "day.txt", "--line", line])
                .current_dir(&state),
        )
    };
    let good =
        expected.lines().find(|row| row.ends_with(",ok")).unwrap().split(',').next().unwrap().to_owned();
    assert!(explain(&good).contains("is right"));
    assert!(!explain(&bad).contains("is right"));
    // Everybody's sandbox has the same keys: that is what makes them unusable for anything real.
    let again = tempfile::tempdir().unwrap();
    let copy = again.path().join("keys.json");
    must(program("citycard").args(["keys", "--seed", "citykeep sandbox", "--out"]).arg(&copy));
    assert_eq!(fs::read(copy).unwrap(), fs::read(state.join("keys.json")).unwrap());
}

/// A daemon that says of itself what it is told to say.
const KEYD: &str = r#"#!/usr/bin/env python3
import http.server, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b'{"state":"operational","boot":"00","memory":"mlock","backend":"scalar","instance":null,"origin":null,"rehearsal":REHEARSAL,"log_size":1,"witness":"unwitnessed"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("pki/keyd.pem", "pki/keyd.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"ready https://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"#;

/// Beside a service that does not say that it is a rehearsal, nothing is explained: the sandbox ends.
#[test]
fn an_instance_that_is_no_rehearsal_is_not_explained() {
    let dir = tempfile::Builder::new().prefix("ck").tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["citykeep", "citycard"] {
        fs::copy(program(name).get_program(), bin.join(name)).unwrap();
    }
    let stub = |name: &str, text: &str| {
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    stub(
        "citykeep-hsm",
        "#!/bin/sh\n[ \"$1\" = identity ] && exec touch hsm/identity\necho ready\nexec sleep 600\n",
    );
    let real = program("keyceremony").get_program().to_str().unwrap().to_owned();
    stub(
        "keyceremony",
        &format!(
            "#!/bin/sh\n[ \"$1\" = rehearse ] && echo '{{}}' > out/ceremony.json && exit 0\nexec {real} \"$@\"\n"
        ),
    );
    for (at, (answer, served)) in [("true", true), ("false", false), ("null", false)].into_iter().enumerate()
    {
        stub("citykeep-keyd", &KEYD.replace("REHEARSAL", answer));
        let mut sandbox = Command::new(bin.join("citykeep"));
        sandbox.args(["sandbox", "--once", "--json", "--port", "0", "--state"]);
        let said = run(sandbox.arg(dir.path().join(at.to_string())));
        assert_eq!(said.ok, served, "{answer}: {}{}", said.out, said.err);
        assert_eq!(said.out.contains("/explain"), served, "{answer}: {}", said.out);
        if !served {
            for words in ["此实例不是演练实例", "this instance is no rehearsal", "empty directory"] {
                assert!(said.err.contains(words), "{answer}: {}", said.err);
            }
        }
    }
}

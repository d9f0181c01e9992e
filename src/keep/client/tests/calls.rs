//! Small calls against a server double over real TLS.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use client::receipt::ReceiptError;
    use client::{Client, Error, Timeouts};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use wire::api::{MacsVerify, Problem};

    use crate::support::{BATCH, Pki, entry, header, log_key, proof, receipt_of, totals};

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(2),
        idle: Duration::from_secs(2),
    };

    const STATUS: &str = r#"{"state":"operational","boot":"00","memory":"mlock","backend":"scalar","instance":null,"origin":null,"rehearsal":true,"log_size":3,"witness":"unwitnessed"}"#;

    /// Answers every request with `status`, `kind` and `body`, and closes a connection after `per_connection` answers.
    struct Double {
        pki: Pki,
        port: u16,
        connections: Arc<AtomicUsize>,
    }

    impl Double {
        async fn new(status: u16, kind: &'static str, body: String, per_connection: usize) -> Self {
            let pki = Pki::new();
            let listener = TcpListener::bind("localhost:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let connections = Arc::new(AtomicUsize::new(0));
            let (acceptor, opened) = (pki.acceptor.clone(), Arc::clone(&connections));
            tokio::spawn(async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let Ok(mut tls) = acceptor.accept(tcp).await else {
                        continue;
                    };
                    opened.fetch_add(1, Ordering::Relaxed);
                    for _ in 0..per_connection {
                        let mut request = Vec::new();
                        while !request.ends_with(b"\r\n\r\n") {
                            let Ok(byte) = tls.read_u8().await else { break };
                            request.push(byte);
                        }
                        let answer = format!(
                            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        let _ = tls.write_all(answer.as_bytes()).await;
                        let _ = tls.flush().await;
                    }
                    let _ = tls.shutdown().await;
                }
            });
            Self { pki, port, connections }
        }

        fn client(&self) -> Client {
            self.pki.client(self.port, TIMEOUTS)
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_connection_serves_many_calls() {
        let double = Double::new(200, "application/json", STATUS.to_owned(), 10).await;
        let client = double.client();
        for _ in 0..5 {
            assert_eq!(client.status().await.unwrap().state, "operational");
        }
        assert_eq!(double.connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_kept_connection_that_was_closed_is_opened_anew() {
        let double = Double::new(200, "application/json; charset=utf-8", STATUS.to_owned(), 1).await;
        let client = double.client();
        for _ in 0..4 {
            assert!(client.status().await.is_ok());
        }
        assert_eq!(double.connections.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn answers_that_are_not_the_protocol() {
        for (kind, body) in [("text/html", STATUS), ("application/json", "{}"), ("application/json", "x")] {
            let double = Double::new(200, kind, body.to_owned(), 1).await;
            assert!(matches!(double.client().status().await, Err(Error::Answer(_))), "{kind} {body}");
        }
        let double = Double::new(200, "application/json", r#"{"results":[],"index":4}"#.to_owned(), 1).await;
        let one = r#"{"key":"a/b/c","items":[{"kind":"purchase-tac","version":"01","issuer":"1234500012345000","serial":"00003101000012345678","amount":500,"type":"09","terminal":"112233445566","sequence":291,"date":"20240131","time":"093015","tac":"D00A87B6"}]}"#;
        let request: MacsVerify = serde_json::from_str(one).unwrap();
        // The double reads no body, so the connection must not be used again; the answer still is.
        let result = double.client().macs_verify(&request).await;
        assert!(
            matches!(&result, Err(Error::Answer(text)) if text.contains("0 results for 1")),
            "{result:?}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn refusals_with_and_without_a_reason() {
        let problem = Problem::new(404, "not-found", "not found", "there is no such receipt");
        let body = serde_json::to_string(&problem).unwrap();
        let double = Double::new(404, "application/problem+json", body, 1).await;
        let result = double.client().receipt(&BATCH).await;
        assert!(matches!(&result, Err(Error::Refused(found)) if found.problem == problem), "{result:?}");
        let double = Double::new(502, "text/html", "<h1>".to_owned(), 1).await;
        let result = double.client().keys().await;
        assert!(matches!(&result, Err(Error::Refused(found)) if found.status == 502), "{result:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn how_long_to_wait_is_told() {
        let body = serde_json::to_string(&Problem::new(429, "quota", "a title", "Wait.")).unwrap();
        for (header, seconds) in [
            ("application/problem+json\r\nretry-after: 7", Some(7)),
            ("application/problem+json\r\nretry-after: 99999999", Some(3600)),
            ("application/problem+json\r\nretry-after: soon", None),
            ("application/problem+json", None),
        ] {
            let double = Double::new(429, header, body.clone(), 1).await;
            let Err(Error::Refused(refusal)) = double.client().keys().await else { panic!("no refusal") };
            assert_eq!(refusal.retry_after.map(|wait| wait.as_secs()), seconds, "{header}");
            let told = seconds
                .map_or_else(|| "Wait.".to_owned(), |seconds| format!("Wait. Come again in {seconds} s."));
            assert!(refusal.to_string().ends_with(&told), "{refusal}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn receipts_checkpoints_and_proofs_are_checked() {
        let entry = entry(&header(), &totals(10));
        let good = receipt_of(&entry);
        let serve = |receipt: &wire::api::Receipt| {
            Double::new(200, "application/json", serde_json::to_string(receipt).unwrap(), 2)
        };
        let double = serve(&good).await;
        assert_eq!(double.client().receipt(&BATCH).await.unwrap(), good);
        assert!(matches!(double.client().receipt(&[1; 16]).await, Err(Error::Answer(_))));
        let mut bad = good.clone();
        bad.root.replace_range(..2, "zz");
        let result = serve(&bad).await.client().receipt(&BATCH).await;
        assert!(matches!(result, Err(Error::Receipt(ReceiptError::Entry("root")))), "{result:?}");

        let proved = proof(&entry, 1, &log_key());
        let double = Double::new(200, "text/plain; charset=utf-8", proved.to_text(), 2).await;
        assert_eq!(double.client().log_proof(1).await.unwrap().index, 1);
        assert!(matches!(double.client().log_proof(0).await, Err(Error::Answer(_))));
        let double = Double::new(200, "text/plain", proved.checkpoint.clone(), 1).await;
        assert_eq!(double.client().log_checkpoint().await.unwrap(), proved.checkpoint);
        let foreign = proof(&entry, 1, &ed25519_dalek::SigningKey::from_bytes(&[1; 32])).checkpoint;
        let double = Double::new(200, "text/plain", foreign, 1).await;
        assert!(matches!(double.client().log_checkpoint().await, Err(Error::Answer(_))));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn strangers_and_closed_doors() {
        let double = Double::new(200, "application/json", STATUS.to_owned(), 1).await;
        let stranger = double.pki.builder(double.port, "stranger").timeouts(TIMEOUTS);
        let stranger = stranger.build().unwrap();
        // The refusal comes before, in or after the first request, as the threads run.
        for _ in 0..20 {
            let result = stranger.status().await;
            assert!(
                matches!(&result, Err(Error::Certificate(text)) if text.contains("refused this certificate")),
                "{result:?}"
            );
        }

        let expired = double.pki.builder(double.port, "expired").timeouts(TIMEOUTS).build().unwrap();
        for _ in 0..20 {
            let result = expired.status().await;
            assert!(
                matches!(&result, Err(Error::Certificate(text)) if text.contains("is expired: ask the officers")),
                "{result:?}"
            );
        }

        // Another authority's service under the same name.
        let other = Pki::new();
        let result = other.client(double.port, TIMEOUTS).status().await;
        assert!(
            matches!(&result, Err(Error::Certificate(text)) if text.contains("compare the CA bundle")),
            "{result:?}"
        );

        let nobody = TcpListener::bind("localhost:0").await.unwrap().local_addr().unwrap().port();
        let start = Instant::now();
        let result = double.pki.client(nobody, TIMEOUTS).status().await;
        assert!(
            matches!(&result, Err(Error::Connection(text)) if text.contains("cannot connect")),
            "{result:?}"
        );
        assert!(start.elapsed() >= Duration::from_secs(1), "three waits of 50, 200 and 800 ms");
    }
}

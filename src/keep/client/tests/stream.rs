//! Batches against a server double: real TLS on a real socket, and every way in which an answer can end.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use client::receipt::{ReceiptError, Recount};
    use client::{Error, Timeouts, Verified};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;
    use tokio_rustls::server::TlsStream;
    use wire::api::{Problem, Receipt, Trailer};
    use wire::batch::{BatchHeader, RECORD_LEN};
    use wire::purse::to_hex;

    use crate::support::{BATCH, Pki, entry, header, receipt_of, record, records, totals, verdict_of};

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(5),
        idle: Duration::from_secs(5),
    };
    const FRAME: usize = 8192 * RECORD_LEN;

    /// How the double strays from the protocol.
    #[derive(Clone, Copy)]
    enum Twist {
        Honest,
        Receipt(fn(&mut Receipt)),
        /// Something else instead of the trailer.
        Instead(&'static [u8]),
        BatchId([u8; 16]),
        /// Says `100 Continue` and its status only after the first records.
        Continue,
        ExtraVerdict,
        MissingVerdict,
        /// Knows no `100 Continue` and says nothing before the first records.
        NoContinue,
        BadByte,
        WrongVerdict,
        /// Drops the connection after the verdicts.
        Cut,
        /// The same after the first frame.
        CutEarly,
        ProblemAtOnce,
        /// Refuses when it has read the header, as a service does that has no such key, with records under way.
        ProblemAfterHeader,
        ProblemAtEnd,
        /// A problem line, then the connection breaks, as a server that gives up does.
        ProblemThenBreak,
        Silent,
        WrongType,
    }

    type Stream = TlsStream<TcpStream>;

    async fn serve(pki: &Pki, twist: Twist) -> u16 {
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = pki.acceptor.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                // A client that is refused or goes away ends its connection, not the server.
                if let Ok(tls) = acceptor.accept(tcp).await {
                    let _ = batch(tls, twist).await;
                }
            }
        });
        port
    }

    /// Reads up to and with the empty line.
    async fn head(stream: &mut Stream) -> std::io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        Ok(String::from_utf8(head).unwrap())
    }

    async fn chunk(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
        stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
        stream.write_all(bytes).await?;
        stream.write_all(b"\r\n").await?;
        stream.flush().await
    }

    fn problem() -> Problem {
        Problem::new(503, "module-busy", "busy", "the module is busy; send the day again in a minute")
    }

    async fn batch(mut stream: Stream, twist: Twist) -> std::io::Result<()> {
        let head_text = head(&mut stream).await?;
        assert!(head_text.starts_with("POST /v1/settlement/verify HTTP/1.1\r\n"), "{head_text}");
        let length = head_text.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
        let length: usize = length.parse().unwrap();
        if matches!(twist, Twist::ProblemAtOnce | Twist::ProblemAfterHeader) {
            if matches!(twist, Twist::ProblemAfterHeader) {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                stream.read_exact(&mut [0; 100]).await?;
            }
            let body = serde_json::to_string(&problem()).unwrap();
            let answer = format!(
                "HTTP/1.1 503 Busy\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            return stream.flush().await;
        }
        if matches!(twist, Twist::Silent) {
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        let batch = if let Twist::BatchId(id) = twist { id } else { BATCH };
        let kind = if matches!(twist, Twist::WrongType) { "text/csv" } else { "application/octet-stream" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncitykeep-batch: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            to_hex(&batch)
        );
        let header = header();
        let mut bytes = vec![0; header.to_bytes().len()];
        if matches!(twist, Twist::Continue) {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            stream.read_exact(&mut bytes).await?;
            stream.write_all(answer.as_bytes()).await?;
        } else if matches!(twist, Twist::NoContinue) {
            stream.read_exact(&mut bytes).await?;
            stream.write_all(answer.as_bytes()).await?;
        } else {
            stream.write_all(answer.as_bytes()).await?;
            stream.read_exact(&mut bytes).await?;
        }
        assert_eq!(BatchHeader::parse(&bytes).unwrap(), header);
        let totals = verdicts(&mut stream, twist, &header, length - bytes.len()).await?;
        let mut receipt = receipt_of(&entry(&header, &totals));
        if let Twist::Receipt(change) = twist {
            change(&mut receipt);
        }
        let trailer = match twist {
            Twist::Instead(bytes) => bytes.to_vec(),
            Twist::ProblemAtEnd | Twist::ProblemThenBreak => line(&Trailer::Problem(problem())),
            _ => line(&Trailer::Receipt(Box::new(receipt))),
        };
        if matches!(twist, Twist::Cut) {
            return Ok(());
        }
        if !trailer.is_empty() {
            // In two pieces, since nothing says that a line comes in one.
            let (one, two) = trailer.split_at(trailer.len() / 2);
            chunk(&mut stream, one).await?;
            chunk(&mut stream, two).await?;
        }
        if matches!(twist, Twist::ProblemThenBreak) {
            return Ok(());
        }
        stream.write_all(b"0\r\n\r\n").await?;
        stream.flush().await
    }

    fn line(trailer: &Trailer) -> Vec<u8> {
        let mut line = serde_json::to_vec(trailer).unwrap();
        line.push(b'\n');
        line
    }

    async fn verdicts(
        stream: &mut Stream,
        twist: Twist,
        header: &BatchHeader,
        mut left: usize,
    ) -> std::io::Result<client::receipt::Totals> {
        let mut recount = Recount::new(header);
        let mut first = true;
        while left > 0 {
            let mut frame = vec![0; left.min(FRAME)];
            stream.read_exact(&mut frame).await?;
            left -= frame.len();
            let mut answer = Vec::new();
            for record in frame.as_chunks::<RECORD_LEN>().0 {
                recount.add(record, verdict_of(record));
                answer.push(verdict_of(record).byte());
            }
            match twist {
                Twist::BadByte if first => answer[7] = 5,
                Twist::WrongVerdict if first => answer[0] ^= 1,
                Twist::MissingVerdict if first => _ = answer.pop(),
                Twist::ExtraVerdict if left == 0 => answer.push(0),
                _ => {}
            }
            chunk(stream, &answer).await?;
            if first && matches!(twist, Twist::CutEarly) {
                return Err(std::io::Error::other("cut"));
            }
            first = false;
        }
        Ok(recount.totals())
    }

    async fn send(twist: Twist, count: u64) -> Result<Verified, Error> {
        let pki = Pki::new();
        let port = serve(&pki, twist).await;
        let timeouts = if matches!(twist, Twist::Silent) {
            Timeouts { idle: Duration::from_millis(200), ..TIMEOUTS }
        } else {
            TIMEOUTS
        };
        let client = pki.client(port, timeouts);
        client.settlement_verify(&header(), count, Bytes::from(records(count)), |_| {}).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn verdicts_come_back_in_order_with_a_good_receipt() {
        for count in [0, 1, 2048, 8192, 8193, 70_000] {
            let verified = send(Twist::Honest, count).await.unwrap();
            assert_eq!(verified.verdicts.len() as u64, count);
            assert!(verified.verdicts.iter().eq((0..count).map(|number| record(number).1)));
            assert_eq!(verified.totals, totals(count));
            assert_eq!(verified.receipt.batch, to_hex(&BATCH));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn services_with_and_without_100_continue() {
        for (twist, waits) in [(Twist::Continue, false), (Twist::NoContinue, true)] {
            let start = Instant::now();
            assert_eq!(send(twist, 20_000).await.unwrap().totals, totals(20_000));
            assert_eq!(start.elapsed() >= Duration::from_secs(1), waits);
        }
    }

    fn is_answer(result: &Result<Verified, Error>, part: &str) -> bool {
        matches!(result, Err(error @ Error::Answer(text)) if text.contains(part) && error.to_string().contains("WRONG"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_receipt_that_is_not_good_gives_no_verdicts() {
        let result = send(Twist::Receipt(|receipt| receipt.counts.ok += 1), 20_000).await;
        assert!(matches!(result, Err(Error::Receipt(ReceiptError::Entry("counts")))), "{result:?}");
        let result = send(Twist::WrongVerdict, 20_000).await;
        assert!(matches!(result, Err(Error::Receipt(ReceiptError::Own(_)))), "{result:?}");
        let result = send(Twist::BatchId([9; 16]), 10).await;
        assert!(is_answer(&result, "another batch"), "{result:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn streams_that_do_not_follow_the_protocol() {
        for (twist, part) in [
            (Twist::Instead(b""), "without a receipt"),
            (Twist::Instead(b"{\"receipt\":"), "without a receipt"),
            (Twist::Instead(b"{}\n"), "no receipt and no problem"),
            (Twist::Instead(b"{\"problem\":1}\n"), "no receipt and no problem"),
            (Twist::ExtraVerdict, "more verdicts"),
            (Twist::MissingVerdict, "after 19999 verdicts for 20000"),
            (Twist::BadByte, "byte 05"),
            (Twist::WrongType, "text/csv"),
        ] {
            let result = send(twist, 20_000).await;
            assert!(is_answer(&result, part), "{part}: {result:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_that_breaks_gives_no_result() {
        for twist in [Twist::Cut, Twist::CutEarly] {
            let result = send(twist, 20_000).await;
            assert!(
                matches!(&result, Err(Error::Connection(text)) if text.contains("no result")),
                "{result:?}"
            );
        }
        let result = send(Twist::Silent, 20_000).await;
        assert!(matches!(&result, Err(Error::Connection(text)) if text.contains("silent")), "{result:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_is_a_refusal_wherever_it_comes() {
        for twist in
            [Twist::ProblemAtOnce, Twist::ProblemAfterHeader, Twist::ProblemAtEnd, Twist::ProblemThenBreak]
        {
            let result = send(twist, 200_000).await;
            assert!(
                matches!(&result, Err(Error::Refused(found)) if found.problem == problem()),
                "{result:?}"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_source_that_fails_or_miscounts_gives_the_batch_up() {
        let pki = Pki::new();
        let client = pki.client(serve(&pki, Twist::Honest).await, TIMEOUTS);
        let good = Bytes::from(records(100));
        for (chunks, part) in [
            (vec![Ok(good.clone()), Err("the disk failed".to_owned())], "the disk failed"),
            (vec![Ok(good.slice(..99 * RECORD_LEN))], "did not give the 100"),
            (vec![Ok(good.clone()), Ok(good.slice(..RECORD_LEN))], "did not give the 100"),
            (vec![Ok(good.slice(..100)), Ok(good.slice(100..))], "did not give the 100"),
        ] {
            let (sender, source) = mpsc::channel(8);
            for chunk in chunks {
                sender.try_send(chunk).unwrap();
            }
            drop(sender);
            let result = client.settlement_verify(&header(), 100, source, |_| {}).await;
            assert!(
                matches!(&result, Err(Error::Records(text)) if text.contains(part)),
                "{part}: {result:?}"
            );
        }
        let (sender, source) = mpsc::channel(8);
        sender.try_send(Ok(good.slice(..40 * RECORD_LEN))).unwrap();
        sender.try_send(Ok(good.slice(40 * RECORD_LEN..))).unwrap();
        drop(sender);
        assert!(client.settlement_verify(&header(), 100, source, |_| {}).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_reads_but_does_not_answer_is_not_flooded() {
        let pki = Pki::new();
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = pki.acceptor.clone();
        let read = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&read);
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(tcp).await.unwrap();
            let mut buffer = vec![0; 1 << 16];
            while let Ok(more @ 1..) = stream.read(&mut buffer).await {
                seen.fetch_add(more as u64, Ordering::Relaxed);
            }
        });
        let client = pki.client(port, Timeouts { idle: Duration::from_secs(2), ..TIMEOUTS });
        let count = 400_000;
        let source = Bytes::from(vec![1; usize::try_from(count).unwrap() * RECORD_LEN]);
        let result = client.settlement_verify(&header(), count, source, |_| {}).await;
        assert!(matches!(result, Err(Error::Connection(_))), "{result:?}");
        let sent = read.load(Ordering::Relaxed);
        // 64 chunks of 80 KiB wait for verdicts, one more is in hand; 16 MB were to be sent.
        assert!((5_000_000..5_800_000).contains(&sent), "{sent} bytes");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_a_log_key_no_batch_is_sent() {
        let pki = Pki::new();
        let client = pki.builder(1, "client").timeouts(TIMEOUTS).build().unwrap();
        let result = client.settlement_verify(&header(), 0, Bytes::new(), |_| {}).await;
        assert!(matches!(&result, Err(Error::Config(text)) if text.contains("vkey")), "{result:?}");
    }
}

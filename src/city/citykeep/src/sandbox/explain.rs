//! The sandbox explains: HTTP on loopback that says why practice records fail.
//!
//! Neither the module nor keyd has such a call, in no instance: it would be an oracle for guessing TACs. Here the practice card
//! answers (`citycard explain`), from the keys that everybody knows, and only beside an instance that calls itself a rehearsal.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Output, Stdio};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use wire::api::StatusBody;

use super::Place;
use crate::failure::Failure;

/// A day of a hundred thousand lines.
const DAY_MAX: usize = 32 << 20;

const USAGE: &str = "记录为何失败 why a record fails: POST /explain, F1 行 F1 lines\n\
    curl --data-binary @day.txt http://127.0.0.1:PORT/explain\n\
    curl -H 'Accept: application/json' --data-binary @day.txt http://127.0.0.1:PORT/explain\n";

/// That the service beside us said it is a rehearsal. There is no other way to [`serve`].
pub(super) struct Rehearsal(());

impl Rehearsal {
    /// Believes nothing but a clear yes.
    pub(super) fn of(status: &StatusBody) -> Result<Self, Failure> {
        if status.rehearsal == Some(true) {
            return Ok(Self(()));
        }
        Err(Failure::no_result(
            "sandbox",
            "此实例不是演练实例,不解释任何记录;请用 --state 另选空目录。",
            "this instance is no rehearsal, so nothing of it is explained; give --state an empty directory",
        ))
    }
}

/// Answers on `door` until the process ends.
pub(super) fn serve(_: &Rehearsal, door: TcpListener, place: Place) -> std::io::Result<()> {
    door.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = async move {
        let Ok(door) = tokio::net::TcpListener::from_std(door) else { return };
        loop {
            // What fails here is one connection; the next one may do.
            let Ok((tcp, _)) = door.accept().await else { continue };
            let place = place.clone();
            let answer = service_fn(move |request| answer(request, place.clone()));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), answer);
            tokio::spawn(connection);
        }
    };
    std::thread::Builder::new().name("explain".to_owned()).spawn(move || runtime.block_on(work)).map(drop)
}

async fn answer(request: Request<Incoming>, place: Place) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let is_json = |value: &hyper::header::HeaderValue| value.as_bytes().starts_with(b"application/json");
    let json = head.headers.get(ACCEPT).is_some_and(is_json);
    Ok(match (&head.method, head.uri.path()) {
        (&Method::POST, "/explain") => match Limited::new(body, DAY_MAX).collect().await {
            Ok(day) => explained(day.to_bytes(), json, place).await,
            Err(error) => {
                let why = format!("至多 32 MiB,请分开发送 send at most 32 MiB at once ({error})\n");
                said(StatusCode::PAYLOAD_TOO_LARGE, false, why)
            }
        },
        (&Method::GET, "/" | "/explain") => said(StatusCode::OK, false, USAGE),
        _ => said(StatusCode::NOT_FOUND, false, USAGE),
    })
}

async fn explained(day: Bytes, json: bool, place: Place) -> Response<Full<Bytes>> {
    let done = tokio::task::spawn_blocking(move || ask(&place, &day, json)).await;
    match done.map_err(std::io::Error::other).flatten() {
        Ok(output) if output.status.success() => said(StatusCode::OK, json, output.stdout),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            said(StatusCode::UNPROCESSABLE_ENTITY, false, format!("请发送 F1 行 send F1 lines: {why}"))
        }
        Err(error) => {
            let why = format!(
                "citycard 无法运行,请安装在 citykeep 旁 install citycard beside citykeep ({error})\n"
            );
            said(StatusCode::INTERNAL_SERVER_ERROR, false, why)
        }
    }
}

/// The practice card, which reads the whole day before it says anything.
fn ask(place: &Place, day: &[u8], json: bool) -> std::io::Result<Output> {
    let mut card = place.program("citycard");
    card.args(["explain", "--keys", "keys.json", "--day", "-"]).args(json.then_some("--json"));
    let mut card = card.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // One that ends early has said why.
    let _ = card.stdin.take().map(|mut stdin| stdin.write_all(day));
    card.wait_with_output()
}

fn said(status: StatusCode, json: bool, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(rehearsal: &str) -> StatusBody {
        let text = format!(
            r#"{{"state":"operational","boot":"00","memory":"mlock","backend":"scalar","instance":null,"origin":null,
                "rehearsal":{rehearsal},"log_size":3,"witness":"unwitnessed"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn only_a_rehearsal_is_explained() {
        assert!(Rehearsal::of(&status("true")).is_ok());
        for other in ["false", "null"] {
            assert!(Rehearsal::of(&status(other)).is_err(), "{other}");
        }
    }
}

//! Outgoing HTTP: the hosts that a task may reach, and the responses that it gets.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wasq_engine::{Addresses, Limits};
use wasq_protocol::Settings;

use crate::{output, run, run_with, verbs_with};

/// A server on loopback. `/echo` returns the method and two headers of the request, `/authorization` that
/// header, `/key` the header `idempotency-key`, `/connection` the connection's number. `/large` sends 9 MiB, `/moved` redirects, `/headers` sends
/// 200 headers, `/header` sends one header of 200 KiB, and `/never` does not answer.
pub(crate) async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        for connection in 0.. {
            let Ok((stream, _)) = listener.accept().await else { break };
            let respond = service_fn(move |request| respond(request, connection));
            let serve = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serve.serve_connection(TokioIo::new(stream), respond));
        }
    });
    address
}

async fn respond(
    request: Request<hyper::body::Incoming>,
    connection: u32,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
    let (body, status) = match request.uri().path() {
        "/echo" => (format!("{} {} {}", request.method(), header("user-agent"), header("x-verb")), 200),
        "/authorization" => (header("authorization").to_owned(), 200),
        "/key" => (header("idempotency-key").to_owned(), 200),
        "/connection" => (connection.to_string(), 200),
        "/large" => ("x".repeat(9 << 20), 200),
        "/moved" => (String::new(), 302),
        "/headers" | "/header" => (String::new(), 200),
        _ => std::future::pending().await,
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
    let (count, bytes) = match request.uri().path() {
        "/headers" => (200, 1),
        "/header" => (1, 200 << 10),
        _ => (0, 0),
    };
    for i in 0..count {
        let name: hyper::header::HeaderName = format!("x-{i}").parse().expect("a name");
        response.headers_mut().insert(name, "v".repeat(bytes).parse().expect("a value"));
    }
    response.headers_mut().insert("location", "http://169.254.169.254/".parse().expect("a value"));
    Ok(response)
}

async fn fetch(url: String, allow: &str) -> Value {
    let allow_hosts = vec![allow.parse().expect("a valid entry")];
    let settings = Settings { allow_hosts, ..Settings::default() };
    output(&run(json!({"verb": "fetch", "url": url}), &settings).await)
}

#[tokio::test]
async fn an_allowed_host_answers() {
    let allowed = format!("http://{}", server().await);
    let got = fetch(format!("{allowed}/echo"), &allowed).await;
    assert_eq!(got, json!({"status": 200, "body": "GET wasq/0.1.0 fetch"}));
}

#[tokio::test]
async fn runs_share_connections_and_not_permissions() {
    let allowed = format!("http://{}", server().await);
    let url = format!("{allowed}/connection");
    let first = fetch(url.clone(), &allowed).await;
    for _ in 0..5 {
        assert_eq!(fetch(url.clone(), &allowed).await, first, "the connection is used again");
    }
    // The connection is still open, but a task that may not reach the host cannot use it.
    let denied = fetch(url.clone(), "https://api.github.com").await;
    assert!(denied["error"].as_str().is_some_and(|error| error.contains("Denied")), "{denied}");
    assert_eq!(fetch(url, &allowed).await, first);
}

#[tokio::test]
async fn any_other_is_denied() {
    let address = server().await;
    let got = fetch(format!("http://{address}/echo"), "https://api.github.com").await;
    let error = got["error"].as_str().expect("an error");
    assert!(error.contains("Denied") && error.contains(&format!("add \\\"http://{address}\\\"")), "{error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let allowed = format!("http://{}", server().await);
    assert_eq!(fetch(format!("{allowed}/moved"), &allowed).await["status"], 302);
}

#[tokio::test]
async fn large_answers_are_cut_off() {
    let allowed = format!("http://{}", server().await);
    assert_eq!(fetch(format!("{allowed}/large"), &allowed).await["error"], "HttpError::TooLarge(8388608)");
}

#[tokio::test]
async fn the_tasks_own_timeout() {
    let allowed = format!("http://{}", server().await);
    assert_eq!(fetch(format!("{allowed}/never"), &allowed).await["error"], "HttpError::Timeout");
}

#[tokio::test]
async fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let allowed = format!("http://{free}");
    let error = fetch(allowed.clone(), &allowed).await["error"].to_string();
    assert!(error.contains("Failed") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn urls_that_are_none() {
    let error = fetch("not a url".to_owned(), "http://127.0.0.1").await["error"].to_string();
    assert!(error.contains("InvalidRequest") && error.contains("url:"), "{error}");
}

/// The same through `wasi:http`: one policy holds for both.
async fn wasi_fetch(address: SocketAddr, path: &str, allow: &str) -> Value {
    let settings =
        Settings { allow_hosts: vec![allow.parse().expect("a valid entry")], ..Settings::default() };
    let params = json!({"verb": "wasi-fetch", "authority": address.to_string(), "path": path});
    output(&run(params, &settings).await)
}

#[tokio::test]
async fn wasi_http_to_an_allowed_host() {
    let address = server().await;
    let got = wasi_fetch(address, "/echo", &format!("http://{address}")).await;
    assert_eq!(got, json!({"status": 200, "body": "GET wasq/0.1.0 -"}));
}

#[tokio::test]
async fn wasi_http_to_any_other() {
    let got = wasi_fetch(server().await, "/echo", "https://api.github.com").await;
    assert_eq!(got["error"], "ErrorCode::HttpRequestDenied");
}

fn settings(address: SocketAddr) -> Settings {
    let allow_hosts = vec![format!("http://{address}").parse().expect("a valid entry")];
    Settings { allow_hosts, ..Settings::default() }
}

/// Runs the guest with these limits and params against the tests' server, and returns its output.
async fn within(limits: Limits, address: SocketAddr, params: Value) -> Value {
    let addresses = Addresses { allow: vec!["127.0.0.1".parse().expect("a range")], never: Vec::new() };
    let verbs = verbs_with(Limits { addresses, ..limits });
    output(&run_with(&verbs, params, &settings(address)).await)
}

#[tokio::test]
async fn requests_of_a_run() {
    let address = server().await;
    let limits = Limits { http_requests_max: 3, ..Limits::default() };
    let fetch =
        |count| json!({"verb": "fetch-many", "url": format!("http://{address}/echo"), "count": count});
    assert_eq!(within(limits.clone(), address, fetch(3)).await, json!({"answered": 3, "error": null}));
    let violated = within(limits, address, fetch(4)).await;
    assert_eq!(violated["answered"], 3);
    assert!(violated["error"].to_string().contains("has made 3 requests"), "{violated}");
}

#[tokio::test]
async fn requests_under_way_at_once() {
    let address = server().await;
    let limits = Limits { http_open_max: 3, ..Limits::default() };
    let open = |count| {
        let authority = address.to_string();
        json!({"verb": "wasi-open", "authority": authority, "path": "/echo", "count": count})
    };
    assert_eq!(within(limits.clone(), address, open(3)).await, json!({"answered": 3, "error": null}));
    let violated = within(limits.clone(), address, open(4)).await;
    assert_eq!(violated["answered"], 3);
    assert!(violated["error"].to_string().contains("has 3 requests under way"), "{violated}");
    // Requests that are sent one after the other are never under way together.
    let fetch = json!({"verb": "fetch-many", "url": format!("http://{address}/echo"), "count": 10});
    assert_eq!(within(limits, address, fetch).await["answered"], 10);
}

#[tokio::test]
async fn headers_of_a_request() {
    let address = server().await;
    let url = format!("http://{address}/echo");
    let send = |count, bytes| {
        let params = json!({"verb": "fetch-headers", "url": url, "count": count, "bytes": bytes});
        async { output(&run(params, &settings(address)).await) }
    };
    assert_eq!(send(90, 100).await["status"], 200);
    assert!(send(101, 1).await["error"].to_string().contains("headers: 101; the most is 100"));
    assert_eq!(send(10, 6000).await["status"], 200);
    let violated = send(10, 7000).await;
    assert!(violated["error"].to_string().contains("headers: 70030 bytes; the most is 65536"), "{violated}");
}

#[tokio::test]
async fn headers_of_a_response() {
    let allowed = format!("http://{}", server().await);
    for path in ["/headers", "/header"] {
        let error = fetch(format!("{allowed}{path}"), &allowed).await["error"].to_string();
        assert!(error.contains("Failed") && error.contains("too large"), "{error}");
    }
}

#[tokio::test]
async fn a_response_that_does_not_begin() {
    let address = server().await;
    let limits = Limits { http_first_byte_max: std::time::Duration::from_millis(300), ..Limits::default() };
    let params = json!({"verb": "wasi-fetch", "authority": address.to_string(), "path": "/never"});
    let got = within(limits, address, params).await;
    assert!(got["error"].to_string().contains("no response within"), "{got}");
}

#[tokio::test]
async fn all_responses_of_a_run_together() {
    let address = server().await;
    let limits = Limits { http_received_bytes_max: 512 << 10, ..Limits::default() };
    let fetch = |path| json!({"verb": "wasi-fetch", "authority": address.to_string(), "path": path});
    assert_eq!(within(limits.clone(), address, fetch("/echo")).await["body"], "GET wasq/0.1.0 -");
    let violated = within(limits.clone(), address, fetch("/large")).await;
    assert!(violated["body"].as_str().is_some_and(|body| body.len() <= 512 << 10), "cut off");
    // The bytes that one run has received do not count against the next run.
    assert_eq!(within(limits, address, fetch("/echo")).await["status"], 200);
}

#[tokio::test]
async fn denied_requests_are_counted() {
    let url = "https://elsewhere.test/";
    let report = run(json!({"verb": "fetch-many", "url": url, "count": 3}), &Settings::default()).await;
    assert_eq!(report.denied, 3);
}

//! Outgoing HTTP: where a task may go, and what it gets.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wasq_protocol::Settings;

use crate::{output, run};

/// A server on loopback: `/echo` says what came, `/large` sends 9 MiB, `/moved` redirects, `/never` does not answer.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(respond)),
            );
        }
    });
    address
}

async fn respond(request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
    let (body, status) = match request.uri().path() {
        "/echo" => (format!("{} {} {}", request.method(), header("user-agent"), header("x-verb")), 200),
        "/large" => ("x".repeat(9 << 20), 200),
        "/moved" => (String::new(), 302),
        _ => std::future::pending().await,
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
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

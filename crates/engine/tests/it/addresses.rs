//! The addresses that a task reaches, whatever name it uses for them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use wasq_engine::{Addresses, Engine, Limits, Module, Resolver, Resolving};
use wasq_protocol::Settings;

use crate::http::server;
use crate::{output, run_with, verbs_with};

/// Fetches a URL in a run whose own settings allow it. Only the operator's policy can deny it.
async fn fetch(verbs: &(Engine, Module), url: &str) -> Value {
    let entry = url.trim_end_matches("/echo");
    let settings =
        Settings { allow_hosts: vec![entry.parse().expect("a valid entry")], ..Settings::default() };
    let report = run_with(verbs, json!({"verb": "fetch", "url": url}), &settings).await;
    let got = output(&report);
    assert_eq!(report.denied, u32::from(got["error"].to_string().contains("Denied")), "{got}");
    got
}

fn strict() -> (Engine, Module) {
    verbs_with(Limits::default())
}

#[tokio::test]
async fn special_addresses_are_denied_in_every_way_to_write_them() {
    let verbs = strict();
    let port = server().await.port();
    for (host, what) in [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[::ffff:7f00:1]", "loopback"),
        ("0.0.0.0", "this host"),
        ("169.254.169.254", "metadata"),
        ("[fd00:ec2::254]", "private"),
        ("10.0.0.1", "private"),
        ("[64:ff9b::a9fe:a9fe]", "metadata"),
    ] {
        let got = fetch(&verbs, &format!("http://{host}:{port}/echo")).await;
        let error = got["error"].to_string();
        assert!(error.contains("Denied") && error.contains(what), "{host}: {error}");
    }
}

#[tokio::test]
async fn texts_that_mean_127_0_0_1_are_read_as_that() {
    let verbs = strict();
    let port = server().await.port();
    for host in ["2130706433", "0x7f.1", "0177.0.0.1", "127.1"] {
        let url = format!("http://{host}:{port}/echo");
        let allow_hosts = vec![format!("http://127.0.0.1:{port}").parse().expect("a valid entry")];
        let settings = Settings { allow_hosts, ..Settings::default() };
        let report = run_with(&verbs, json!({"verb": "fetch", "url": url}), &settings).await;
        let error = output(&report)["error"].to_string();
        assert!(error.contains("Denied") && error.contains("loopback"), "{host}: {error}");
    }
}

#[tokio::test]
async fn the_same_through_wasi_http() {
    let (verbs, address) = (strict(), server().await);
    let allow_hosts = vec![format!("http://{address}").parse().expect("a valid entry")];
    let settings = Settings { allow_hosts, ..Settings::default() };
    let params = json!({"verb": "wasi-fetch", "authority": address.to_string(), "path": "/echo"});
    let report = run_with(&verbs, params, &settings).await;
    assert_eq!((output(&report)["error"].clone(), report.denied), (json!("ErrorCode::HttpRequestDenied"), 1));
}

fn on_loopback(never: Vec<SocketAddr>) -> (Engine, Module) {
    let addresses = Addresses { allow: vec!["127.0.0.1".parse().expect("a range")], never };
    verbs_with(Limits { addresses, ..Limits::default() })
}

#[tokio::test]
async fn what_the_operator_allows_answers_and_the_runtime_api_never() {
    let (address, api) = (server().await, server().await);
    let verbs = on_loopback(vec![api]);
    assert_eq!(fetch(&verbs, &format!("http://{address}/echo")).await["status"], 200);
    assert_eq!(fetch(&verbs, &format!("http://localhost:{}/echo", address.port())).await["status"], 200);
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let got = fetch(&verbs, &format!("http://{host}:{}/echo", api.port())).await;
        assert!(got["error"].to_string().contains("the worker's own"), "{got}");
    }
}

/// A name server that gives one list of addresses after the other, and then the last for ever.
struct Changing {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Resolver for Changing {
    fn resolve(&self, _: String, port: u16) -> Resolving {
        let at = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let address = |ip: &&str| SocketAddr::new(ip.parse().expect("an address"), port);
        let found: Vec<_> = self.answers[at].iter().map(address).collect();
        Box::pin(async move { io::Result::Ok(found) })
    }
}

fn resolved(
    (engine, module): (Engine, Module),
    answers: &[&[&'static str]],
) -> ((Engine, Module), Arc<Changing>) {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    let resolver = Arc::new(Changing { answers, asked: AtomicUsize::new(0) });
    ((engine.resolved_by(resolver.clone()), module), resolver)
}

#[tokio::test]
async fn a_name_that_changes_its_mind() {
    let port = server().await.port();
    let url = format!("http://rebind.test:{port}/echo");
    // The first answer is a forbidden address: the request is denied, and the next request asks the resolver
    // again.
    let (verbs, resolver) =
        resolved(on_loopback(Vec::new()), &[&["169.254.169.254"], &["127.0.0.1"], &["10.0.0.1"]]);
    assert!(fetch(&verbs, &url).await["error"].to_string().contains("metadata"));
    assert_eq!(fetch(&verbs, &url).await["status"], 200);
    // The open connection leads to the address that was checked, whatever the name resolves to now.
    assert_eq!(fetch(&verbs, &url).await["status"], 200);
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2, "one look-up for each connection");
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_tried() {
    let port = server().await.port();
    let (verbs, _) = resolved(on_loopback(Vec::new()), &[&["127.0.0.2", "169.254.169.254", "127.0.0.1"]]);
    assert_eq!(fetch(&verbs, &format!("http://mixed.test:{port}/echo")).await["status"], 200);
    let (verbs, _) = resolved(strict(), &[&["127.0.0.1", "10.0.0.1"]]);
    let got = fetch(&verbs, &format!("http://mixed.test:{port}/echo")).await;
    assert!(got["error"].to_string().contains("loopback"), "{got}");
    let (verbs, _) = resolved(strict(), &[&[]]);
    let got = fetch(&verbs, &format!("http://nowhere.test:{port}/echo")).await;
    assert!(got["error"].to_string().contains("nowhere.test has no address"), "{got}");
}

//! The verbs that send requests, by `wasq:task/http` and by `wasi:http`.

use serde::Deserialize;
use serde_json::{Value, json};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::streams::OutputStream;

use crate::Failure;
use crate::wasq::task::context;
use crate::wasq::task::http::{self, Header, Request};
use crate::wasq::task::queue::{self, EnqueueOptions};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sending {
    /// Through `wasi:http`; otherwise through `wasq:task/http`.
    #[serde(default)]
    wasi: bool,
    #[serde(default = "get_method")]
    method: String,
    /// For `wasi:http`, the part up to the first slash or star behind `http://` is the authority.
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// The large part of a request that is not sent.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Held {
    Body,
    Headers,
    Method,
    Path,
}

/// The parts of a request that is held. They are dropped in this order: a stream before its body.
pub(crate) type HeldRequest = (Option<(OutputStream, OutgoingBody)>, OutgoingRequest);

pub(crate) fn hold(what: &Held) -> HeldRequest {
    let headers = Fields::new();
    if let Held::Headers = what {
        for name in ["one", "two"] {
            headers.append(name, &vec![b'x'; 30_000]).expect("it fits");
        }
    }
    let request = OutgoingRequest::new(headers);
    match what {
        Held::Headers => {}
        Held::Method => request.set_method(&Method::Other("x".repeat(1 << 20))).expect("a method"),
        Held::Path => {
            let path = format!("/{}", "x".repeat(60_000));
            request.set_path_with_query(Some(&path)).expect("a path");
        }
        Held::Body => {
            let body = request.body().expect("its first body");
            let stream = body.write().expect("its first stream");
            // As much as the host takes.
            while let Ok(room) = stream.check_write() {
                if room == 0 {
                    break;
                }
                stream.write(&vec![0; room.min(1 << 20) as usize]).expect("there is room");
                stream.flush().expect("it is open");
            }
            return (Some((stream, body)), request);
        }
    }
    (None, request)
}

fn get_method() -> String {
    "GET".to_owned()
}

pub(crate) fn post(url: &str) -> Result<String, Failure> {
    let request = Request {
        method: "POST".to_owned(),
        body: Some(format!("attempt {}", context::attempt()).into_bytes()),
        ..request(url, Vec::new())
    };
    let response = http::send(&request).map_err(|error| Failure::Retry(format!("{error:?}")))?;
    Ok(String::from_utf8_lossy(&response.body).into_owned())
}

pub(crate) fn request(url: &str, headers: Vec<Header>) -> Request {
    Request { method: "GET".to_owned(), url: url.to_owned(), headers, body: None, timeout_ms: Some(1000) }
}

pub(crate) fn fetch(url: String, name: &str, value: String) -> Result<Value, Failure> {
    let header = Header { name: name.to_owned(), value };
    match http::send(&request(&url, vec![header])) {
        Ok(response) => Ok(json!({
            "status": response.status,
            "body": String::from_utf8_lossy(&response.body),
        })),
        Err(error) => Ok(json!({ "error": format!("{error:?}") })),
    }
}

pub(crate) fn send(sending: Sending) -> Value {
    let Sending { wasi, method, url, headers, body } = sending;
    if wasi {
        return send_by_wasi(method, &url, headers, body).unwrap_or_else(|error| json!({ "error": error }));
    }
    let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    let body = body.map(String::into_bytes);
    match http::send(&Request { method, url, headers, body, timeout_ms: Some(10_000) }) {
        Ok(response) => {
            let headers: Vec<_> =
                response.headers.into_iter().map(|header| (header.name, header.value)).collect();
            let body = String::from_utf8_lossy(&response.body).into_owned();
            json!({ "status": response.status, "headers": headers, "body": body })
        }
        Err(error) => json!({ "error": format!("{error:?}") }),
    }
}

fn send_by_wasi(
    method: String,
    url: &str,
    headers: Vec<(String, String)>,
    body: Option<String>,
) -> Result<Value, String> {
    let rest = url.strip_prefix("http://").ok_or("the url begins with http://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '*']).unwrap_or(rest.len()));
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(&name, value.as_bytes()).map_err(|e| format!("{e:?}"))?;
    }
    let request = OutgoingRequest::new(fields);
    let method = match method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        _ => Method::Other(method),
    };
    request.set_method(&method).map_err(|()| "the method is refused")?;
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).map_err(|()| "the authority is refused")?;
    request.set_path_with_query(Some(path)).map_err(|()| "the path is refused")?;
    if let Some(text) = body {
        let body = request.body().expect("it is asked for once");
        let stream = body.write().expect("it is asked for once");
        stream.blocking_write_and_flush(text.as_bytes()).map_err(|e| format!("{e:?}"))?;
        drop(stream);
        OutgoingBody::finish(body, None).map_err(|e| format!("{e:?}"))?;
    }
    let pending = outgoing_handler::handle(request, None).map_err(|e| format!("{e:?}"))?;
    pending.subscribe().block();
    let response = pending.get().expect("it is ready").expect("it is asked for once");
    let response = response.map_err(|e| format!("{e:?}"))?;
    let headers: Vec<_> = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let (status, body) = read(response);
    Ok(json!({ "status": status, "headers": headers, "body": body }))
}

pub(crate) fn visit(url: &str, children: u32) -> Result<Value, Failure> {
    for i in 0..children {
        let params = json!({ "verb": "visit", "url": format!("{url}.{i}") }).to_string();
        let options = EnqueueOptions { delay_seconds: None, id: None };
        queue::enqueue(&context::task(), &params, &options).map_err(|e| Failure::Reject(format!("{e:?}")))?;
    }
    reach("GET", url)?;
    // The effect: a request that must not be carried out twice.
    reach("POST", &format!("{url}/done"))?;
    Ok(Value::Null)
}

fn reach(method: &str, url: &str) -> Result<(), Failure> {
    let request = Request {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: None,
        timeout_ms: Some(10_000),
    };
    match http::send(&request) {
        Ok(response) if response.status == 200 => Ok(()),
        Ok(response) => Err(Failure::Retry(format!("{url}: status {}", response.status))),
        Err(error) => Err(Failure::Retry(format!("{url}: {error:?}"))),
    }
}

pub(crate) fn wasi_answer(
    authority: &str,
    path: &str,
    headers: Fields,
) -> Result<IncomingResponse, ErrorCode> {
    let request = OutgoingRequest::new(headers);
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(path)).expect("a path");
    let pending = outgoing_handler::handle(request, None)?;
    pending.subscribe().block();
    pending.get().expect("it is ready").expect("it is asked for once")
}

pub(crate) fn wasi_fetch(authority: &str, path: &str, headers: Fields) -> Result<(u16, String), ErrorCode> {
    Ok(read(wasi_answer(authority, path, headers)?))
}

fn read(response: IncomingResponse) -> (u16, String) {
    let body = response.consume().expect("it is consumed once");
    let stream = body.stream().expect("it is streamed once");
    let mut bytes = Vec::new();
    while let Ok(chunk) = stream.blocking_read(64 << 10) {
        bytes.extend(chunk);
    }
    (response.status(), String::from_utf8_lossy(&bytes).into_owned())
}

//! The no-op as `wasmtime serve` wants it, with wasi:http: reads the request's body as JSON, and answers null.

use serde_json::Value;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

struct Proxy;

wasip2::http::proxy::export!(Proxy);

impl Guest for Proxy {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let params: Option<Value> = serde_json::from_slice(&body(&request)).ok();
        let response = OutgoingResponse::new(Fields::new());
        if std::hint::black_box(params).is_none() {
            response.set_status_code(400).expect("a status");
        }
        let body = response.body().expect("it is taken once");
        ResponseOutparam::set(answer, Ok(response));
        let stream = body.write().expect("it is taken once");
        stream.blocking_write_and_flush(b"null").expect("the client reads");
        drop(stream);
        OutgoingBody::finish(body, None).expect("it is whole");
    }
}

fn body(request: &IncomingRequest) -> Vec<u8> {
    let body = request.consume().expect("it is consumed once");
    let stream = body.stream().expect("it is taken once");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => break,
            Err(e) => panic!("read the request: {e:?}"),
        }
    }
    drop(stream);
    IncomingBody::finish(body);
    bytes
}

//! `wasq:task/http`: one request, one whole response.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use wasmtime_wasi_http::WasiBody;

use crate::bindings::wasq::task::http::{self, Header, Host, HttpError, Response};
use crate::destination::SendError;
use crate::outgoing::Outgoing;
use crate::state::RunState;

impl Host for RunState {
    async fn send(&mut self, request: http::Request) -> Result<Response, HttpError> {
        let timeout = request.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        let request = hyper_request(request, self.limits.http_request_bytes_max)?;
        let exchange = exchange(&self.outgoing, request, self.limits.http_response_bytes_max);
        match timeout {
            Some(limit) => tokio::time::timeout(limit, exchange).await.map_err(|_| HttpError::Timeout)?,
            None => exchange.await,
        }
    }
}

/// Converts the guest's request into hyper's. Only the host sets the headers that frame the message.
fn hyper_request(request: http::Request, bytes_max: usize) -> Result<Request<WasiBody>, HttpError> {
    let http::Request { method, url, headers, body, timeout_ms: _ } = request;
    let body = body.unwrap_or_default();
    if body.len() > bytes_max {
        return Err(HttpError::InvalidRequest(format!(
            "body: {} bytes; the most is {bytes_max}",
            body.len()
        )));
    }
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut hyper_request = Request::new(body.boxed_unsync());
    *hyper_request.method_mut() =
        method.parse().map_err(|_| HttpError::InvalidRequest(format!("method: {method:?} is not valid")))?;
    *hyper_request.uri_mut() =
        url.parse().map_err(|e| HttpError::InvalidRequest(format!("url: {url:?}: {e}")))?;
    for Header { name, value } in headers {
        let parsed: HeaderName =
            name.parse().map_err(|_| HttpError::InvalidRequest(format!("headers: {name:?} is not valid")))?;
        if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&parsed) {
            let problem = format!("headers: {parsed} is set by the host");
            return Err(HttpError::InvalidRequest(problem));
        }
        let value = HeaderValue::from_str(&value).map_err(|_| {
            HttpError::InvalidRequest(format!("headers: the value of {parsed} has a control character"))
        })?;
        hyper_request.headers_mut().append(parsed, value);
    }
    Ok(hyper_request)
}

async fn exchange(
    outgoing: &Outgoing,
    request: Request<WasiBody>,
    bytes_max: usize,
) -> Result<Response, HttpError> {
    let response = outgoing.send(request).await.map_err(|e| match e {
        SendError::Denied(why) => HttpError::Denied(why),
        SendError::Invalid(why) => HttpError::InvalidRequest(why),
        SendError::Failed(why) => HttpError::Failed(why),
    })?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, bytes_max).collect().await.map_err(|e| {
        if e.is::<LengthLimitError>() {
            HttpError::TooLarge(bytes_max as u64)
        } else {
            HttpError::Failed(format!("read the response: {e}"))
        }
    })?;
    let headers = head.headers.iter().map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    Ok(Response { status: head.status.as_u16(), headers: headers.collect(), body: body.to_bytes().into() })
}

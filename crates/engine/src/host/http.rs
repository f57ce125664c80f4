//! `wasq:task/http`: one request, one whole response.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, RANGE,
    RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Request};

use wasq_protocol::{Clock, SystemClock, Timestamp};

use crate::bindings::wasq::task::http::{self, Header, Host, HttpError, Response};
use crate::content_coding::{ACCEPTED, DecodeError, decode};
use crate::destination::SendError;
use crate::outgoing::{Outgoing, RequestBody};
use crate::request_url::RequestUrl;
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
fn hyper_request(request: http::Request, bytes_max: usize) -> Result<Request<RequestBody>, HttpError> {
    let http::Request { method, url, headers, body, timeout_ms: _ } = request;
    let body = body.unwrap_or_default();
    if body.len() > bytes_max {
        return Err(HttpError::InvalidRequest(format!(
            "body: {} bytes; the most is {bytes_max}",
            body.len()
        )));
    }
    let RequestUrl { uri, authorization } = RequestUrl::parse(&url).map_err(HttpError::InvalidRequest)?;
    let mut hyper_request = Request::new(RequestBody::Whole(Bytes::from(body)));
    *hyper_request.method_mut() =
        method.parse().map_err(|_| HttpError::InvalidRequest(format!("method: {method:?} is not valid")))?;
    *hyper_request.uri_mut() = uri;
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
    if let Some(authorization) = authorization {
        hyper_request.headers_mut().entry(AUTHORIZATION).or_insert(authorization);
    }
    Ok(hyper_request)
}

async fn exchange(
    outgoing: &Outgoing,
    request: Request<RequestBody>,
    bytes_max: usize,
) -> Result<Response, HttpError> {
    let decodes = asks_for_codings(request.headers());
    let added = decodes.then_some((ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED)));
    let response = outgoing.send(request, added).await.map_err(|e| match e {
        SendError::Denied(why) => HttpError::Denied(why),
        SendError::Invalid(why) => HttpError::InvalidRequest(why),
        SendError::Failed(why) => HttpError::Failed(why),
    })?;
    let (mut head, body) = response.into_parts();
    let body = Limited::new(body, bytes_max).collect().await.map_err(|e| {
        if e.is::<LengthLimitError>() {
            HttpError::TooLarge(bytes_max as u64)
        } else {
            HttpError::Failed(format!("read the response: {e}"))
        }
    })?;
    let mut body = body.to_bytes();
    if decodes {
        body = decoded(&mut head, body, bytes_max).await?;
    }
    if let Some(seconds) = retry_after_seconds(&head.headers, SystemClock.now()) {
        head.headers.insert(RETRY_AFTER, seconds.into());
    }
    let headers = head.headers.iter().map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    Ok(Response { status: head.status.as_u16(), headers: headers.collect(), body: body.into() })
}

/// Whether the host asks for a coded body. It does not if the task asks for codings itself, or for a part of
/// the body.
fn asks_for_codings(headers: &HeaderMap) -> bool {
    !headers.contains_key(ACCEPT_ENCODING) && !headers.contains_key(RANGE)
}

/// Decodes a body that the host asked for in a coding, and removes the headers that no longer describe it.
async fn decoded(head: &mut Parts, body: Bytes, bytes_max: usize) -> Result<Bytes, HttpError> {
    let values = head.headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::to_str);
    let Ok(values) = values.collect::<Result<Vec<_>, _>>() else { return Ok(body) };
    if values.is_empty() {
        return Ok(body);
    }
    let codings = values.join(",");
    // A small body can become a large one, so the work is kept away from the other runs.
    let decoding = tokio::task::spawn_blocking(move || match decode(&codings, &body, bytes_max) {
        Some(decoded) => decoded.map(|bytes| (Bytes::from(bytes), true)),
        None => Ok((body, false)),
    });
    let decoded = decoding.await.map_err(|e| HttpError::Failed(format!("decode the response: {e}")))?;
    let (body, changed) = decoded.map_err(|e| match e {
        DecodeError::TooLarge => HttpError::TooLarge(bytes_max as u64),
        DecodeError::Invalid(why) => HttpError::Failed(format!("read the response: {why}")),
    })?;
    if changed {
        head.headers.remove(CONTENT_ENCODING);
        head.headers.remove(CONTENT_LENGTH);
    }
    Ok(body)
}

/// The seconds until the time that `retry-after` names as a date (RFC 9110, 10.2.3); 1 if it is over. A
/// number of seconds that fits into no `u32` becomes the largest one. `None` if the header can stay as it is.
///
/// Tasks get seconds, so that no library for tasks has to read dates.
fn retry_after_seconds(headers: &HeaderMap, now: Timestamp) -> Option<u32> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse::<u32>().is_err().then_some(u32::MAX);
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now.ms());
    let left = httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default();
    Some(u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Option<u32>) {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = Timestamp::from_ms(784_111_777_000);
        let headers = [(RETRY_AFTER, HeaderValue::from_str(value).expect("a value"))];
        assert_eq!(retry_after_seconds(&HeaderMap::from_iter(headers), now), expected, "{value:?}");
    }

    #[test]
    fn retry_after_as_a_date_in_each_form_of_rfc_9110() {
        check("Sun, 06 Nov 1994 08:50:37 GMT", Some(60));
        check("Sunday, 06-Nov-94 08:50:37 GMT", Some(60));
        check("Sun Nov  6 08:50:37 1994", Some(60));
        check("Sun, 06 Nov 1994 08:00:00 GMT", Some(1));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(u32::MAX));
    }

    #[test]
    fn retry_after_as_seconds_stays() {
        check("0", None);
        check("120", None);
        check("4294967295", None);
        check("4294967296", Some(u32::MAX));
        check("99999999999999999999999", Some(u32::MAX));
    }

    #[test]
    fn retry_after_that_means_nothing_stays() {
        for value in ["", "soon", "-5", "1.5", "1e3", "12 s", "Sun, 99 Nov 1994 08:49:37 GMT", "1994-11-06"] {
            check(value, None);
        }
    }
}

//! The page alone, without a queue at the same port: `wasq ui`.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use wasq_page::{Body, Callers, Data, Site, refused};

use crate::endpoint::bodies::Bodies;
use crate::endpoint::connections;

/// Serves a page for ever, for browsers on this machine.
pub async fn serve_page<D: Data>(listener: TcpListener, site: Site<D>) -> Infallible {
    let bodies = Bodies::default();
    let respond = move |request, is_here| {
        let (site, bodies) = (site.clone(), bodies.clone());
        async move {
            match check(&request, is_here) {
                Ok(()) => show(&site, &bodies, request).await,
                Err(why) => refused(&why),
            }
        }
    };
    connections::serve(listener, respond).await
}

fn check(request: &Request<Incoming>, is_here: bool) -> Result<(), String> {
    Callers::default().check(request.headers())?;
    if is_here { Ok(()) } else { Err(ELSEWHERE.to_owned()) }
}

/// Why a page is not shown to another machine.
pub(super) const ELSEWHERE: &str = "the page is for browsers on the machine that serves it";

/// Answers a request for a page. It is carried out to its end, also if the browser goes away meanwhile.
pub(super) async fn show<D: Data>(
    site: &Site<D>,
    bodies: &Bodies,
    request: Request<Incoming>,
) -> Response<Body> {
    let (site, bodies) = (site.clone(), bodies.clone());
    let (parts, body) = request.into_parts();
    let answering = tokio::spawn(async move {
        let read = match site.is_upload(&parts) {
            true => bodies.read_upload(body).await,
            false => bodies.read(body).await,
        };
        match read {
            Ok((body, _held)) => site.respond(&parts, body).await,
            Err(e) => plain(StatusCode::BAD_REQUEST, format!("{}\n", e.message)),
        }
    });
    answering.await.unwrap_or_else(|e| plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")))
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = status;
    response
}

//! One request's way: route, rewrite, send, answer.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;

use cos_platform::{Clock, entropy};

use super::headers::{self, Origin};
use super::pool::{Pool, Upstream};
use super::redirect;
use crate::normalize::normalize;
use crate::table::{Route, Table, Target};

/// The body of an answer: an instance's, or our own short one.
type Body = Either<Incoming, Full<Bytes>>;

/// How many instances are tried when one does not accept the connection. Nothing was sent to
/// those that did not, so trying another is safe for any request.
const INSTANCES_TRIED_MAX: usize = 3;

/// What a worker needs to answer requests.
#[derive(Debug)]
pub(super) struct Forwarder {
    table: Arc<ArcSwap<Table>>,
    clock: Arc<dyn Clock>,
    pool: Pool,
    /// State of the sequence from which targets are picked; seeded once, one step per request.
    entropy: std::cell::Cell<u64>,
}

impl Forwarder {
    pub(super) fn new(table: Arc<ArcSwap<Table>>, clock: Arc<dyn Clock>) -> Self {
        let seed = u64::try_from(entropy::draw() >> 64).unwrap_or(1) | 1;
        Self { table, clock, pool: Pool::default(), entropy: std::cell::Cell::new(seed) }
    }

    /// Closes upstream connections that rested too long.
    pub(super) fn prune(&self) {
        self.pool.prune(self.clock.monotonic());
    }

    /// Answers one request. Every failure is an answer too.
    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
        origin: &Origin,
    ) -> Result<Response<Body>, Infallible> {
        if is_ambiguous(request.headers()) {
            return Ok(short(StatusCode::BAD_REQUEST, "bad request\n"));
        }
        // Both are counted references; the names below are borrowed from them.
        let uri = request.uri().clone();
        let host_header = request.headers().get(header::HOST).cloned();
        let host = bare_host(host_header.as_ref());
        let Some(path) = normalize(uri.path()) else {
            return Ok(short(StatusCode::BAD_REQUEST, "bad path\n"));
        };
        let asked =
            Asked { uri: &uri, host_header: host_header.as_ref(), host: &host, path: &path };
        let table = self.table.load_full();
        let (route, mut target) = match self.choose(&table, &asked) {
            Ok(chosen) => chosen,
            Err(response) => return Ok(*response),
        };
        origin.add_to(request.headers_mut(), asked.host_header);
        let mut upgrade = clean(&mut request);
        let mut tried: Vec<&Target> = Vec::new();
        loop {
            match self.send(request, target, &asked, &mut upgrade).await {
                Sent::Answered(response) => return Ok(response),
                Sent::Refused(returned) => request = *returned,
            }
            tried.push(target);
            let other = route
                .from_anywhere(self.next_entropy())
                .find(|other| tried.iter().all(|tried| tried.address != other.address));
            match other {
                Some(other) if tried.len() < INSTANCES_TRIED_MAX => target = other,
                _ => return Ok(short(StatusCode::BAD_GATEWAY, "no instance answers\n")),
            }
        }
    }

    /// Finds the instance that a request is meant for, or the answer if there is none.
    fn choose<'t>(
        &self,
        table: &'t Table,
        asked: &Asked<'t>,
    ) -> Result<(&'t Route, &'t Target), Box<Response<Body>>> {
        let point = self.next_entropy();
        for route in table.candidates(asked.host, asked.path) {
            let Some(target) = route.pick(point) else { continue };
            let Some((code, url)) = &target.spec.redirect else { return Ok((route, target)) };
            let query = asked.uri.query();
            // A redirect to the same place would go round for ever; a wider route may serve it.
            if let Some(to) = redirect::target(&target.spec, url, asked.host, asked.path, query) {
                return Err(Box::new(moved(*code, &to)));
            }
        }
        Err(Box::new(short(StatusCode::NOT_FOUND, "")))
    }

    /// Sends a request to one instance. Gives it back if nothing of it was sent.
    async fn send(
        &self,
        request: Request<Incoming>,
        target: &Target,
        asked: &Asked<'_>,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Sent {
        let mut request = match rewrite(request, target, asked.path) {
            Ok(request) => request,
            Err(response) => return Sent::Answered(*response),
        };
        loop {
            let resting = self.pool.take(&target.address, target.protocol);
            let fresh = resting.is_none();
            let mut upstream = if let Some(upstream) = resting {
                upstream
            } else {
                let name = server_name(target, asked.host);
                match self.pool.connect(&target.address, target.protocol, name).await {
                    Ok(upstream) => upstream,
                    Err(error) => {
                        tracing::debug!(target = %target.address, %error, "cannot connect");
                        return asked.given_back(request);
                    }
                }
            };
            match upstream.try_send_request(request).await {
                Ok(response) => {
                    return Sent::Answered(self.pass_on(
                        response,
                        upstream,
                        target,
                        upgrade.take(),
                    ));
                }
                Err(mut error) => match error.take_message() {
                    // A resting connection was closed under us: a fresh one may do.
                    Some(returned) if !fresh => request = returned,
                    Some(returned) => return asked.given_back(returned),
                    None => {
                        let error = error.into_error();
                        tracing::debug!(target = %target.address, %error, "instance failed");
                        return Sent::Answered(short(StatusCode::BAD_GATEWAY, "instance failed\n"));
                    }
                },
            }
        }
    }

    /// Passes an instance's answer on and keeps the connection.
    fn pass_on(
        &self,
        mut response: Response<Incoming>,
        upstream: Upstream,
        target: &Target,
        client_side: Option<OnUpgrade>,
    ) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client_side) = client_side else {
                return short(StatusCode::BAD_GATEWAY, "instance switched protocols unasked\n");
            };
            let instance_side = hyper::upgrade::on(&mut response);
            tokio::task::spawn_local(splice(client_side, instance_side));
            return response.map(Either::Left);
        }
        self.pool.give(&target.address, target.protocol, upstream, self.clock.monotonic());
        headers::remove_hop_by_hop(response.headers_mut());
        response.map(Either::Left)
    }

    /// One step of xorshift64*: cheap, and even enough for balancing.
    fn next_entropy(&self) -> u64 {
        let mut state = self.entropy.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.entropy.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// What became of sending.
enum Sent {
    /// There is an answer.
    Answered(Response<Body>),
    /// The instance took nothing; here is the request as it came.
    Refused(Box<Request<Incoming>>),
}

/// What the client asked for, as it came.
struct Asked<'a> {
    uri: &'a Uri,
    host_header: Option<&'a HeaderValue>,
    /// The host in lower case without its port; empty if there was none.
    host: &'a str,
    /// The path in the form by which routes are looked up.
    path: &'a str,
}

impl Asked<'_> {
    /// Undoes what was rewritten for one instance, so that another can be tried.
    fn given_back(&self, mut request: Request<Incoming>) -> Sent {
        *request.uri_mut() = self.uri.clone();
        if let Some(host) = self.host_header {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        Sent::Refused(Box::new(request))
    }
}

/// Takes away what concerned the client's connection. Returns its end of an upgrade, if it wants
/// one; that can be had once only, however many instances are tried.
fn clean(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    let wanted = headers::wanted_upgrade(request.headers());
    headers::remove_hop_by_hop(request.headers_mut());
    request.headers_mut().remove(header::UPGRADE);
    wanted.map(|protocol| {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, protocol);
        hyper::upgrade::on(request)
    })
}

/// Applies what the tag says of path and host.
fn rewrite(
    mut request: Request<Incoming>,
    target: &Target,
    path: &str,
) -> Result<Request<Incoming>, Box<Response<Body>>> {
    let spec = &target.spec;
    if spec.strip.is_some() || spec.prepend.is_some() {
        if let Some(strip) = spec.strip.as_deref()
            && let Ok(prefix) = HeaderValue::from_str(strip)
        {
            request.headers_mut().insert("x-forwarded-prefix", prefix);
        }
        let path = encode_path(&redirect::rewrite_path(spec, path));
        let path = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let Ok(uri) = path.parse::<Uri>() else {
            return Err(Box::new(short(StatusCode::BAD_REQUEST, "bad path\n")));
        };
        *request.uri_mut() = uri;
    } else if request.uri().authority().is_some() {
        // A client that takes us for its proxy names the whole address; an instance expects a path.
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    }
    let host = match spec.upstream_host.as_deref() {
        Some("dst") => HeaderValue::from_str(&target.address).ok(),
        Some(name) => HeaderValue::from_str(name).ok(),
        None => None,
    };
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}

/// Escapes what a decoded path may hold and a request line may not.
fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%' | b'"' | b'<' | b'>') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    encoded
}

/// A request with two lengths, or with a coding besides `chunked`, means different things to
/// different readers, so nobody gets it. A length beside `chunked` was already taken away by the
/// parser, as the protocol asks.
fn is_ambiguous(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lengths.next(), codings.next()) {
        (None, None) => false,
        (Some(_), None) => lengths.next().is_some(),
        (None, Some(coding)) => {
            codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (Some(_), Some(_)) => true,
    }
}

/// The host in lower case without its port.
fn bare_host(host: Option<&HeaderValue>) -> Cow<'_, str> {
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or("");
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

/// The name that an instance's certificate is checked against: the one it is asked by.
fn server_name<'a>(target: &'a Target, asked_host: &'a str) -> &'a str {
    match target.spec.upstream_host.as_deref() {
        Some(name) if name != "dst" => name,
        None if !asked_host.is_empty() => asked_host,
        _ => target.address.rsplit_once(':').map_or(&*target.address, |(name, _)| name),
    }
}

async fn splice(client: OnUpgrade, instance: OnUpgrade) {
    if let (Ok(client), Ok(instance)) = tokio::join!(client, instance) {
        let mut client = TokioIo::new(client);
        let mut instance = TokioIo::new(instance);
        // Either side's end ends both; a cut connection is not the proxy's error.
        tokio::io::copy_bidirectional(&mut client, &mut instance).await.ok();
    }
}

fn short(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response
}

fn moved(code: u16, location: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(location) else {
        return short(StatusCode::BAD_REQUEST, "bad path\n");
    };
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::FOUND);
    let mut response = short(status, "");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

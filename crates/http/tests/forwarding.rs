//! Two agents on real sockets: what one passes on reaches the other whole.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use cos_http::Forwarder;
use cos_http::Limits;
use cos_http::forward::{HOPS, HOPS_MAX};
use cos_http::limits::Settings;
use cos_http::listener::serve;
use cos_model::link::ServerAddress;
use cos_platform::Tasks;
use cos_platform::tls::Web;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite;

/// Long enough for any machine; nothing here waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

async fn echo(request: Request) -> Response {
    let hops = request.headers().get(HOPS).cloned();
    let line = format!("{} {}", request.method(), request.uri());
    let connection = request.headers().contains_key("x-private");
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let text = format!("{line} {hops:?} private={connection} {}", String::from_utf8_lossy(&body));
    ([("x-answer", "yes"), ("keep-alive", "timeout=5")], text).into_response()
}

async fn shout(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(Message::Text(text))) = socket.recv().await {
            let louder = text.to_uppercase();
            if socket.send(Message::Text(louder.into())).await.is_err() {
                return;
            }
        }
    })
}

async fn start(router: Router, tasks: &Tasks) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    serve(listener, router, Web::default(), &Limits::equal(Settings::default()), tasks);
    address
}

fn backend() -> Router {
    Router::new().route("/shout", any(shout)).fallback(echo)
}

fn front(forwarder: Forwarder, backend: String) -> Router {
    Router::new()
        .fallback(
            |State((forwarder, backend)): State<(Forwarder, String)>, request: Request| async move {
                forwarder.to(&backend, request).await.into_response()
            },
        )
        .with_state((forwarder, backend))
}

fn request(headers: &[(&'static str, &str)], body: &'static str) -> Request {
    let mut request = http::Request::builder().method("PUT").uri("/v1/x?a=%2Fb");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap()
}

async fn text(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn end(tasks: &Tasks) {
    tasks.stop();
    tokio::time::timeout(PATIENCE, tasks.ended()).await.unwrap();
}

#[tokio::test]
async fn a_request_and_its_answer_are_passed_on_whole() {
    let tasks = Tasks::new();
    let address = start(backend(), &tasks).await;
    let forwarder = Forwarder::new(tasks.clone(), None);
    let headers = [("connection", "x-private"), ("x-private", "1")];
    let response = forwarder.to(&address, request(&headers, "hello")).await.unwrap();
    let answered: HeaderMap = response.headers().clone();
    assert!(answered.contains_key("x-answer") && !answered.contains_key("keep-alive"));
    assert_eq!(text(response).await, "PUT /v1/x?a=%2Fb Some(\"1\") private=false hello");
    end(&tasks).await;
}

#[tokio::test]
async fn a_request_goes_round_only_so_often() {
    let forwarder = Forwarder::new(Tasks::new(), None);
    let most = HOPS_MAX.to_string();
    let name = "x-cos-forwarded";
    assert_eq!(HOPS.as_str(), name);
    for hops in [most.as_str(), "many"] {
        let request = request(&[(name, hops)], "");
        let error = forwarder.to("127.0.0.1:1", request).await.unwrap_err();
        assert_eq!(error.status, StatusCode::LOOP_DETECTED);
    }
}

#[tokio::test]
async fn the_first_server_that_can_be_reached_is_asked() {
    let tasks = Tasks::new();
    let address = start(backend(), &tasks).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let server = |http: &str| ServerAddress {
        name: "s".to_owned(),
        rpc: String::new(),
        http: http.to_owned(),
        consul_http: String::new(),
    };
    let forwarder = Forwarder::new(tasks.clone(), None);
    let servers = [server(&gone), server(&address)];
    let response = forwarder.to_a_server(&servers, request(&[], "x")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let error = forwarder.to_a_server(&servers[..1], request(&[], "x")).await.unwrap_err();
    assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(forwarder.to_a_server(&[], request(&[], "x")).await.is_err());
    end(&tasks).await;
}

#[tokio::test]
async fn an_upgraded_connection_is_passed_on() {
    let tasks = Tasks::new();
    let address = start(backend(), &tasks).await;
    let front = start(front(Forwarder::new(tasks.clone(), None), address), &tasks).await;
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{front}/shout")).await.unwrap();
    socket.send(tungstenite::Message::text("hello")).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_text().unwrap().as_str(), "HELLO");
    drop(socket);
    end(&tasks).await;
}

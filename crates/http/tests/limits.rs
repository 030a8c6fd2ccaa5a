//! What clients meet that take too much: real sockets, a real listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use cos_http::Limits;
use cos_http::body::RawBody;
use cos_http::limits::Settings;
use cos_http::listener::serve;
use cos_platform::Tasks;
use cos_platform::tls::Web;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How long anything may take that should be quick.
const PATIENCE: Duration = Duration::from_secs(20);

/// A listener with one route that answers at once, one that waits, and one that takes a body.
struct Served {
    address: SocketAddr,
    limits: Limits,
    wake: Arc<Notify>,
    tasks: Tasks,
}

impl Served {
    async fn start(settings: Settings) -> Self {
        let (tasks, wake) = (Tasks::new(), Arc::new(Notify::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let waiting = Arc::clone(&wake);
        let large = "x".repeat(32 * 1024 * 1024);
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/wait", get(move || async move { waiting.notified().await }))
            .route("/large", get(move || async move { large }))
            .route("/body", post(|body: RawBody| async move { body.0.len().to_string() }));
        let limits = Limits::equal(settings);
        serve(listener, router, Web::default(), &limits, &tasks);
        Self { address, limits, wake, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the listener accepts")
    }

    async fn stop(self) {
        self.tasks.stop();
        in_time(self.tasks.ended()).await;
    }

    /// Waits until so many connections are counted.
    async fn until_connections(&self, count: usize) {
        in_time(async {
            while self.limits.connections() != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Sends a request without a body on a connection.
async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the connection is open");
}

/// Reads an answer's head and what came with it.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let length = in_time(stream.read(&mut bytes)).await.unwrap_or(0);
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// Whether the other side closes a connection.
async fn is_closed(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    // A reset is a close as well.
    drop(in_time(stream.read_to_end(&mut bytes)).await);
}

#[tokio::test]
async fn one_client_has_so_many_connections_and_is_told_when_it_wants_more() {
    let settings = Settings { connections_per_client: 2, ..Settings::default() };
    let served = Served::start(settings).await;
    let mut first = served.connect().await;
    let _second = served.connect().await;
    served.until_connections(2).await;
    let mut third = served.connect().await;
    let refusal = answer(&mut third).await;
    assert!(refusal.starts_with("HTTP/1.1 429 "), "{refusal}");
    assert!(refusal.contains("Retry-After: 1\r\n"), "{refusal}");
    assert!(refusal.contains("too many concurrent connections"), "{refusal}");
    ask(&mut first, "/").await;
    assert!(answer(&mut first).await.ends_with("hello"));
    drop(first);
    served.until_connections(1).await;
    let mut fourth = served.connect().await;
    ask(&mut fourth, "/").await;
    assert!(answer(&mut fourth).await.ends_with("hello"));
    served.stop().await;
}

#[tokio::test]
async fn idle_connections_make_room_for_those_who_ask() {
    let settings =
        Settings { connections_per_client: 0, connections_total: 300, ..Settings::default() };
    let served = Served::start(settings).await;
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(served.connect().await);
    }
    let mut client = served.connect().await;
    ask(&mut client, "/").await;
    assert!(answer(&mut client).await.ends_with("hello"));
    is_closed(&mut idle[0]).await;
    assert!(served.limits.connections() <= 300);
    served.stop().await;
}

#[tokio::test]
async fn a_house_full_of_work_turns_newcomers_away() {
    let settings =
        Settings { connections_per_client: 0, connections_total: 2, ..Settings::default() };
    let served = Served::start(settings).await;
    let mut working = Vec::new();
    for count in 1..=2 {
        let mut stream = served.connect().await;
        // The first answer shows that the connection is served.
        ask(&mut stream, "/").await;
        assert!(answer(&mut stream).await.ends_with("hello"));
        ask(&mut stream, "/wait").await;
        working.push(stream);
        served.until_connections(count).await;
    }
    let refusal = in_time(async {
        // Until both have begun their work, one of them rests and may have to go.
        loop {
            let mut stream = served.connect().await;
            let refusal = answer(&mut stream).await;
            if !refusal.is_empty() {
                return refusal;
            }
        }
    });
    assert!(refusal.await.starts_with("HTTP/1.1 429 "));
    served.wake.notify_waiters();
    served.stop().await;
}

#[tokio::test]
async fn reads_that_wait_are_bounded() {
    let settings = Settings { waits_per_client: 1, ..Settings::default() };
    let served = Served::start(settings).await;
    let mut first = served.connect().await;
    ask(&mut first, "/").await;
    assert!(answer(&mut first).await.ends_with("hello"));
    ask(&mut first, "/wait?index=7").await;
    let mut second = served.connect().await;
    let refusal = in_time(async {
        loop {
            ask(&mut second, "/?index=7").await;
            let answer = answer(&mut second).await;
            if !answer.ends_with("hello") {
                return answer;
            }
        }
    })
    .await;
    assert!(refusal.starts_with("HTTP/1.1 429 "), "{refusal}");
    assert!(refusal.contains("retry-after: 1\r\n"), "{refusal}");
    ask(&mut second, "/").await;
    assert!(answer(&mut second).await.ends_with("hello"), "only reads that wait are counted");
    served.wake.notify_waiters();
    assert!(answer(&mut first).await.starts_with("HTTP/1.1 200 "));
    served.stop().await;
}

#[tokio::test]
async fn slow_clients_lose_their_connections() {
    let short = Duration::from_millis(100);
    let settings = Settings {
        first_head: short,
        body_pause: short,
        write_pause: short,
        ..Settings::default()
    };
    let served = Served::start(settings).await;
    let mut silent = served.connect().await;
    let mut drips = served.connect().await;
    drips.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    is_closed(&mut silent).await;
    is_closed(&mut drips).await;

    let mut stuck = served.connect().await;
    stuck
        .write_all(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        .await
        .unwrap();
    let refusal = answer(&mut stuck).await;
    assert!(refusal.starts_with("HTTP/1.1 408 "), "{refusal}");

    let mut greedy = served.connect().await;
    ask(&mut greedy, "/large").await;
    assert!(answer(&mut greedy).await.starts_with("HTTP/1.1 200 "));
    // It reads no more until its connection is given up; what the kernel holds may still come.
    served.until_connections(0).await;
    is_closed(&mut greedy).await;
    served.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_the_limit() {
    let served = Served::start(Settings::default()).await;
    let mut stream = served.connect().await;
    let head = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let refusal = answer(&mut stream).await;
    assert!(refusal.starts_with("HTTP/1.1 413 "), "{refusal}");
    assert!(refusal.contains("at most 16777216 bytes"), "{refusal}");
    served.stop().await;
}

//! The ingress over loopback: real sockets, instances that say who they are, raw HTTP on the wire.

#![expect(clippy::unwrap_used, reason = "a test says by failing what went wrong")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use cos_ingress::{Config, Ingress};
use cos_model::catalog::{
    Catalog, CatalogChange, CatalogCheck, CatalogNode, Health, ServiceInstance,
};
use cos_platform::{Sockets, SystemClock, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// An ingress in front of a catalog that a test fills.
struct Bench {
    tasks: Tasks,
    catalog: watch::Sender<Arc<Catalog>>,
    ingress: Ingress,
}

impl Bench {
    fn new(lines: &[(&str, u16, &str)]) -> Self {
        let tasks = Tasks::new();
        let (catalog, watching) = watch::channel(Arc::new(build(lines)));
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            proxy_addresses: vec![any],
            ui_addresses: vec![any],
            datacenter: "dc1".to_owned(),
            workers: 2,
            sockets: Sockets::default(),
        };
        let clock: Arc<dyn cos_platform::Clock> = Arc::new(SystemClock::new());
        let ingress = Ingress::start(config, watching, &clock, &tasks).unwrap();
        Self { tasks, catalog, ingress }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.ingress.proxy_addresses()[0]).await.unwrap()
    }

    /// Sends one request on a fresh connection and returns everything that comes back.
    async fn ask(&self, request: &str) -> String {
        let mut socket = self.connect().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn build(lines: &[(&str, u16, &str)]) -> Catalog {
    let mut catalog = Catalog::default();
    let mut changes = vec![CatalogChange::PutNode(CatalogNode {
        name: "n".into(),
        id: String::new(),
        address: "127.0.0.1".to_owned(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        create_index: 0,
        modify_index: 0,
    })];
    for (name, port, tag) in lines {
        let id: Arc<str> = format!("{name}-{port}").into();
        changes.push(CatalogChange::PutService(ServiceInstance {
            node: "n".into(),
            id: Arc::clone(&id),
            name: (*name).into(),
            tags: vec![(*tag).to_owned()],
            address: String::new(),
            port: *port,
            meta: BTreeMap::new(),
            tagged_addresses: BTreeMap::new(),
            weight_passing: 1,
            weight_warning: 1,
            enable_tag_override: false,
            create_index: 0,
            modify_index: 0,
        }));
        changes.push(CatalogChange::PutCheck(CatalogCheck {
            node: "n".into(),
            id: format!("c-{id}").into(),
            name: String::new(),
            status: Health::Passing,
            notes: String::new(),
            output: String::new(),
            service_id: id,
            service_name: "".into(),
            definition: None,
            create_index: 0,
            modify_index: 0,
        }));
    }
    for (index, change) in (1..).zip(&changes) {
        catalog.apply(index, change).unwrap();
    }
    catalog
}

/// An instance that answers every request with its name and the request's head, keep-alive.
async fn echo(name: &'static str, tasks: &Tasks) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inner = tasks.clone();
    tasks.spawn("echo", cos_platform::Fate::Ends, async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            inner.spawn("echo-connection", cos_platform::Fate::Ends, async move {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = socket.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..n]);
                    while let Some(end) = find(&seen, b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&seen[..end]).into_owned();
                        seen.drain(..end + 4);
                        let body = format!("{name}\n{head}\n");
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        socket.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    port
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: Shop:9999\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_request_reaches_an_instance_with_path_and_headers_as_the_tag_says() {
    let tasks = Tasks::new();
    let port = echo("one", &tasks).await;
    let bench = Bench::new(&[("a", port, "urlprefix-/a strip=/a prepend=/x")]);

    let answer = bench.ask(&get("/a/b?c=d")).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("one\nGET /x/b?c=d HTTP/1.1"), "{answer}");
    for header in [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-prefix: /a",
        "x-forwarded-host: Shop:9999",
        "x-forwarded-port: 9999",
        "host: Shop:9999",
    ] {
        assert!(answer.contains(header), "{header} is missing in {answer}");
    }
    tasks.stop();
}

#[tokio::test]
async fn what_has_no_route_is_404_and_what_is_ambiguous_is_400() {
    let tasks = Tasks::new();
    let port = echo("one", &tasks).await;
    let bench = Bench::new(&[("a", port, "urlprefix-/a")]);

    for (request, status) in [
        (get("/b"), "404"),
        (get("/a%2Fb"), "400"),
        (get("/../a"), "400"),
        (
            "POST /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 3\r\n\
             content-length: 4\r\n\r\nabc"
                .to_owned(),
            "400",
        ),
        (
            "POST /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
             transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
            "400",
        ),
        ("GET /a HTTP/1.1\r\nhost: h\r\n bad: folded\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = bench.ask(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}\n{answer}");
    }
    tasks.stop();
}

#[tokio::test]
async fn of_two_framings_only_the_one_that_counts_is_passed_on() {
    let tasks = Tasks::new();
    let port = echo("one", &tasks).await;
    let bench = Bench::new(&[("a", port, "urlprefix-/a")]);

    let answer = bench
        .ask(
            "POST /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 3\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .await;

    let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
    assert!(seen.contains("transfer-encoding: chunked"), "{seen}");
    assert!(!seen.contains("content-length"), "{seen}");
    tasks.stop();
}

#[tokio::test]
async fn a_dead_instance_is_passed_over_until_the_catalog_drops_it() {
    let tasks = Tasks::new();
    let alive = echo("alive", &tasks).await;
    // Bound and closed again: connecting to it is refused.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let tag = "urlprefix-/a";
    let mut bench = Bench::new(&[("a", alive, tag), ("a", dead, tag)]);

    for _ in 0..20 {
        let answer = bench.ask(&get("/a")).await;
        assert!(answer.contains("alive"), "{answer}");
    }
    bench.catalog.send_replace(Arc::new(Catalog::default()));
    let mut ui = bench.ingress.table();
    while ui.routes().next().is_some() {
        tokio::task::yield_now().await;
        ui = bench.ingress.table();
    }
    assert!(bench.ask(&get("/a")).await.starts_with("HTTP/1.1 404"));
    bench.tasks.stop();
    bench.tasks = Tasks::new();
    tasks.stop();
}

#[tokio::test]
async fn one_connection_carries_many_requests_both_ways() {
    let tasks = Tasks::new();
    let port = echo("one", &tasks).await;
    let bench = Bench::new(&[("a", port, "urlprefix-/a")]);
    let mut socket = bench.connect().await;
    let mut seen = Vec::new();
    for number in 0..50 {
        let request = format!("GET /a/{number} HTTP/1.1\r\nhost: h\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let wanted = format!("GET /a/{number} HTTP/1.1");
        let mut buffer = [0; 4096];
        while find(&seen, wanted.as_bytes()).is_none() {
            let n = socket.read(&mut buffer).await.unwrap();
            assert!(n > 0, "connection closed at request {number}");
            seen.extend_from_slice(&buffer[..n]);
        }
    }
    tasks.stop();
}

#[tokio::test]
async fn at_the_end_what_was_asked_is_answered_and_the_connection_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let (go, may_answer) = tokio::sync::oneshot::channel::<()>();
    let instance = async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        asked.send(()).unwrap();
        may_answer.await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
        socket.write_all(answer).await.unwrap();
        socket
    };
    let bench = Bench::new(&[("a", port, "urlprefix-/a")]);
    let (mut busy, mut resting) = (bench.connect().await, bench.connect().await);
    let client = async {
        busy.write_all(b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        was_asked.await.unwrap();
        bench.tasks.stop();
        assert_eq!(resting.read(&mut [0; 16]).await.unwrap(), 0, "one that rests is closed");
        go.send(()).unwrap();
        let mut answer = String::new();
        busy.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (answer, _instance) = tokio::join!(client, instance);
    assert!(answer.contains("connection: close") && answer.ends_with("late"), "{answer}");
}

#[tokio::test]
async fn a_websocket_is_spliced_after_the_handshake() {
    let tasks = Tasks::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn("websocket", cos_platform::Fate::Ends, async move {
        while let Ok((socket, _)) = listener.accept().await {
            shout_back(socket).await;
        }
    });
    // A port that nobody listens on: a handshake that meets it first goes to the other instance.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let bench = Bench::new(&[("a", port, "urlprefix-/ws"), ("b", gone, "urlprefix-/ws")]);
    for _ in 0..16 {
        upgraded_connection_carries_bytes(&bench).await;
    }
    tasks.stop();
}

/// Answers one handshake, and what follows in capital letters.
async fn shout_back(mut socket: TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while find(&seen, b"\r\n\r\n").is_none() {
        let n = socket.read(&mut buffer).await.unwrap();
        seen.extend_from_slice(&buffer[..n]);
    }
    assert!(find(&seen.to_ascii_lowercase(), b"upgrade: websocket").is_some());
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                  upgrade: websocket\r\n\r\nhello";
    socket.write_all(answer.as_bytes()).await.unwrap();
    let n = socket.read(&mut buffer).await.unwrap();
    socket.write_all(&buffer[..n].to_ascii_uppercase()).await.unwrap();
}

async fn upgraded_connection_carries_bytes(bench: &Bench) {
    let mut socket = bench.connect().await;
    let request =
        "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while find(&seen, b"hello").is_none() {
        let n = socket.read(&mut buffer).await.unwrap();
        assert!(n > 0);
        seen.extend_from_slice(&buffer[..n]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 101"));
    socket.write_all(b"frame").await.unwrap();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "FRAME");
}

#[tokio::test]
async fn the_api_lists_routes_in_fabios_shape() {
    let bench = Bench::new(&[
        ("a", 4711, "urlprefix-example.com/p strip=/p"),
        ("b", 4712, "urlprefix-:9 x"),
    ]);
    let ui = bench.ingress.ui_addresses()[0];
    let ask = async |path: &str| {
        let mut socket = TcpStream::connect(ui).await.unwrap();
        socket.write_all(get(path).as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(ask("/health").await.ends_with("\r\n\r\nOK\n"));
    assert!(ask("/").await.contains("location: /routes"));
    let routes = ask("/api/routes").await;
    let json: serde_json::Value =
        serde_json::from_str(routes.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(json[0]["service"], "a");
    assert_eq!(json[0]["src"], "example.com/p");
    assert_eq!(json[0]["dst"], "http://127.0.0.1:4711/");
    assert_eq!(json[0]["opts"], "strip=/p");
    assert_eq!(json[0]["cmd"], "route add");
    assert_eq!(json[0]["weight"].as_f64(), Some(1.0));
    assert!(ask("/routes").await.contains("example.com/p"));
}

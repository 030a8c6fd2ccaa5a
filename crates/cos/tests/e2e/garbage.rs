//! What comes to the ports that no client sends: noise, halves of things, things too large, and the
//! right words at the wrong door.
//!
//! Each gets an answer or an end, and a line in the log; the agent keeps its memory and goes on.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::harness::{Agent, PATIENCE, Place, Site, put, until};
use crate::identity::under_load;

/// From where the garbage comes: not the address of those who write meanwhile, as what one client
/// may take is counted by address.
const VISITOR: Ipv4Addr = Ipv4Addr::new(127, 99, 99, 99);

/// How many connections rest at each port while it is tried whether the agent still serves.
const IDLE: usize = 200;

/// How much memory the agent may have taken in the end. Garbage of 64 MiB came, and 600 connections
/// rest; a debug build grew by 8 MiB.
const GROWTH_KIB_MAX: u64 = 32 * 1024;

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The beginning of a handshake that says 512 bytes more would follow.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// Bytes that mean nothing and differ every time; the first one begins neither HTTP/2 nor TLS.
fn noise(length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(16)).flat_map(|_| cos_platform::entropy::draw().to_be_bytes());
    let mut bytes: Vec<u8> = words.take(length).collect();
    bytes[0] = 0x80;
    bytes
}

async fn visit(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((VISITOR, 0)))?;
    socket.connect(to).await
}

/// Sends something, and returns what is said until the connection is closed from the other side.
async fn say(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = visit(to).await.expect("the port is open");
    let (mut from, mut into) = stream.split();
    let mut said = Vec::new();
    let exchange = async {
        // Who is turned away early need not take everything.
        drop(into.write_all(bytes).await);
        drop(from.read_to_end(&mut said).await);
    };
    let ended = tokio::time::timeout(PATIENCE, exchange).await;
    assert!(ended.is_ok(), "{} bytes hold the connection to {to}", bytes.len());
    said
}

/// Insists on an answer that holds some bytes, and on a line of the log with these words.
async fn check(agent: &Agent, port: u16, sent: &[u8], answer: &[u8], log: &str) {
    let said = say(SocketAddr::from((agent.place.address, port)), sent).await;
    let holds = answer.is_empty() || said.windows(answer.len()).any(|part| part == answer);
    let (start, said) = (&sent[..sent.len().min(40)], said.escape_ascii());
    assert!(holds, "port {port}, {}: `{said}`", start.escape_ascii());
    until(&format!("`{log}` in the log"), PATIENCE, async || {
        let lines = agent.log_lines("turned away peer=127.99.99.99:");
        lines.iter().any(|line| line.contains(log)).then_some(())
    })
    .await;
}

/// A call as the cluster's protocol begins it, whose message says that it has nearly 4 GiB.
fn endless_message() -> Vec<u8> {
    const HEADERS: &[u8] = &[1, 4, 0, 0, 0, 1];
    const DATA: &[u8] = &[0, 0, 0, 0, 0, 1];
    let mut head =
        b"\x83\x86\x04\x11/cos.call/no.such\x01\x01a\x0f\x10\x10application/grpc".to_vec();
    let mut bytes = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    bytes.extend([0, 0, u8::try_from(head.len()).expect("it is short")]);
    bytes.extend(HEADERS);
    bytes.append(&mut head);
    bytes.extend([0, 0, 5]);
    bytes.extend(DATA);
    bytes.extend([0, 0xff, 0xff, 0xff, 0xff]);
    bytes
}

/// What is refused where the cluster speaks in the clear.
async fn in_the_clear(agent: &Agent) {
    let noise = noise(100_000);
    let frame = [PREFACE, b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"].concat();
    let rpc = async |sent: &[u8], answer: &[u8], log: &str| {
        check(agent, Place::RPC, sent, answer, log).await;
    };
    let http = async |sent: &[u8], answer: &[u8], log: &str| {
        check(agent, Place::HTTP, sent, answer, log).await;
    };
    let large = [b"GET /v1/agent/self HTTP/1.1\r\nX: ", &vec![b'x'; 1 << 20][..]].concat();
    let no_request = "it sent bytes that are no request of HTTP";
    tokio::join!(
        rpc(&noise, b"This port speaks", "bytes that are not of this protocol"),
        rpc(HALF_HELLO, b"\x15\x03\x03\x00\x02\x02\x46", "it speaks TLS, and this server does not"),
        // FRAME_SIZE_ERROR, in the words of HTTP/2.
        rpc(&frame, b"\x00\x00\x00\x06", "it broke the protocol"),
        rpc(b"POST / HTTP/1.1\r\n\r\n0123456789", b"", "it broke the protocol"),
        rpc(&PREFACE[..9], b"", "it asked for nothing"),
        http(&noise, b"HTTP/1.1 400", no_request),
        http(HALF_HELLO, b"HTTP/1.1 400", no_request),
        http(&large, b"HTTP/1.1 431", "the head of its request is too large"),
        http(b"GET / HTTP/1.1\r\nHost:", b"", "it sent half a request"),
    );
    // `grpc-status: 11`, out of range, as headers compress it: an answer to the call and not to the
    // connection.
    let said = say(SocketAddr::from((agent.place.address, Place::RPC)), &endless_message()).await;
    assert!(said.windows(3).any(|part| part == b"\x82\x08\x7f"), "{}", said.escape_ascii());
}

/// What is refused where everything is TLS.
async fn over_tls(agent: &Agent) {
    let rpc = async |sent: &[u8], answer: &[u8], log: &str| {
        check(agent, Place::RPC, sent, answer, log).await;
    };
    let http = async |sent: &[u8], answer: &[u8], log: &str| {
        check(agent, Place::HTTP, sent, answer, log).await;
    };
    let noise = noise(100_000);
    let no_hello = [&b"\x16\x03\x01\x40\x00"[..], &noise[..0x4000]].concat();
    let wrong_door = b"Client sent an HTTP request to an HTTPS server";
    tokio::join!(
        rpc(&noise, b"This port speaks", "bytes that are not of this protocol"),
        rpc(PREFACE, b"this cluster speaks TLS", "it speaks in the clear"),
        rpc(b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.0 400", "bytes that are not of this protocol"),
        rpc(&no_hello, b"\x15\x03\x03\x00\x02\x02", "it sent bytes that are no TLS"),
        rpc(HALF_HELLO, b"", "it took too long"),
        http(&noise, wrong_door, "this port is HTTPS"),
        http(b"GET / HTTP/1.1\r\n\r\n", wrong_door, "this port is HTTPS"),
        http(&no_hello, b"\x15\x03\x03\x00\x02\x02", "it sent bytes that are no TLS"),
        http(HALF_HELLO, b"", "it took too long"),
    );
}

/// Packets for gossip, which has no answer for them and a line in the log.
async fn at_gossip(agent: &Agent, why: &str) {
    let to = SocketAddr::from((agent.place.address, Place::SERF));
    let refused = visit(to).await.expect_err("gossip is UDP only");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let socket = UdpSocket::bind((VISITOR, 0)).await.expect("an address of loopback");
    for packet in [&noise(1400)[..], &noise(60_000), b"\xff\xff", b""] {
        socket.send_to(packet, to).await.expect("it is sent");
    }
    for why in [why, "it is larger than any of ours"] {
        until(&format!("`{why}` in the log"), PATIENCE, async || {
            let lines = agent.log_lines("gossip packet refused from=127.99.99.99:");
            lines.iter().any(|line| line.contains(why)).then_some(())
        })
        .await;
    }
}

/// Sends 64 MiB of noise to everything at once.
async fn flood(agent: &Agent) {
    let [http, rpc, serf] = [Place::HTTP, Place::RPC, Place::SERF]
        .map(|port| SocketAddr::from((agent.place.address, port)));
    let socket = UdpSocket::bind((VISITOR, 0)).await.expect("an address of loopback");
    // Drawn once: so much of it takes longer to draw than to send.
    let noise = noise(1 << 20);
    for _ in 0..4 {
        let many = (0..16).map(|number| say(if number % 2 == 0 { http } else { rpc }, &noise));
        join_all(many).await;
        for _ in 0..100 {
            socket.send_to(&noise[..1400], serf).await.expect("it is sent");
        }
    }
}

/// Connections that say nothing.
async fn idle(agent: &Agent, ports: &[u16]) -> Vec<TcpStream> {
    let mut resting = Vec::new();
    for port in ports {
        for _ in 0..IDLE {
            let to = SocketAddr::from((agent.place.address, *port));
            resting.push(visit(to).await.expect("the port is open"));
        }
    }
    resting
}

#[tokio::test]
async fn garbage_at_any_port_is_refused_in_words_and_costs_no_memory() {
    let site = Site::new();
    let role =
        |tls: &str| format!("{tls}server {{\n  enabled = true\n  bootstrap_expect = 1\n}}\n");
    let mut clear = site.agent("clear", |_| role(""));
    let mut secret =
        site.agent("secret", |_| role("cluster {\n  tls = true\n}\ntls {\n  http = true\n}\n"));
    for agent in [&mut clear, &mut secret] {
        agent.start();
        let url = agent.consul("/v1/kv/first");
        until("first write", PATIENCE, async || put(&url, "1").await.then_some(())).await;
    }
    let agents = [&clear, &secret];
    let before = agents.map(Agent::memory_kib);
    let garbage = async {
        tokio::join!(
            in_the_clear(&clear),
            over_tls(&secret),
            at_gossip(&clear, "it cannot be read"),
            at_gossip(&secret, "gossip is encrypted here"),
        );
        tokio::join!(flood(&clear), flood(&secret));
        let ports = [Place::HTTP, Place::RPC, Place::consul()];
        let resting = [idle(&clear, &ports).await, idle(&secret, &ports).await];
        for agent in agents {
            let url = agent.consul("/v1/kv/while-others-rest");
            assert!(put(&url, "1").await);
        }
        let after = agents.map(Agent::memory_kib);
        drop(resting);
        after
    };
    // One group of writers for each: the two are no cluster.
    let (of_clear, of_secret) = ([&clear], [&secret]);
    let rest = Box::pin(under_load(&of_secret, Box::pin(garbage)));
    let after = under_load(&of_clear, rest).await;
    for (agent, (before, after)) in agents.iter().zip(before.into_iter().zip(after)) {
        println!("{}: {before} KiB before, {after} KiB after", agent.place.address);
        assert!(after < before + GROWTH_KIB_MAX, "{before} KiB before, {after} KiB after");
        // Ten lines in ten seconds, however much comes; the first of the next ten says how much.
        until("count of what was not told", PATIENCE, async || {
            say(SocketAddr::from((agent.place.address, Place::RPC)), &[0x80]).await;
            let lines = agent.log_lines("rpc connection turned away");
            lines.iter().any(|line| !line.contains("held_back=0")).then_some(())
        })
        .await;
    }
}

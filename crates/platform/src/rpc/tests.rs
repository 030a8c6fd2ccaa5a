//! Client and server against each other over loopback.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use super::{
    Client, MESSAGE_BYTES_MAX, Peer, RpcError, STREAM_QUEUE_MESSAGES, Security, Service, serve,
};
use crate::{Fate, Tasks};

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers what its methods are named after.
#[derive(Default)]
struct Sample {
    /// Told when a call or stream that hangs is dropped.
    dropped: Arc<Notify>,
}

struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl Service for Sample {
    async fn call(&self, _: &Peer, method: &str, body: Bytes) -> Result<Bytes, RpcError> {
        match method {
            "echo" => Ok(body),
            "length" => Ok(Bytes::from(body.len().to_string())),
            "hang" => {
                let _guard = OnDrop(Arc::clone(&self.dropped));
                std::future::pending().await
            }
            "timeout" => Err(RpcError::Timeout),
            _ => Err(RpcError::Refused(format!("no method `{method}` — {}", "x".repeat(9000)))),
        }
    }

    async fn stream(
        &self,
        _: &Peer,
        method: &str,
        mut inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) -> Result<(), RpcError> {
        match method {
            "echo" => {
                while let Some(message) = inbound.recv().await {
                    outbound.send(message).await.map_err(|_closed| RpcError::Closed)?;
                }
                Ok(())
            }
            "one" => {
                let first = inbound.recv().await.unwrap_or_default();
                outbound.send(first).await.map_err(|_closed| RpcError::Closed)
            }
            "hang" => {
                let _guard = OnDrop(Arc::clone(&self.dropped));
                outbound.send(Bytes::new()).await.map_err(|_closed| RpcError::Closed)?;
                std::future::pending().await
            }
            _ => Err(RpcError::Refused("no such stream".to_owned())),
        }
    }
}

struct Server {
    address: String,
    tasks: Tasks,
    dropped: Arc<Notify>,
}

impl Server {
    async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sample = Sample::default();
        let dropped = Arc::clone(&sample.dropped);
        let tasks = Tasks::new();
        let inner = tasks.clone();
        tasks.spawn("rpc", Fate::Vital, async move {
            serve(listener, Arc::new(sample), Security::Plain, &inner).await;
        });
        Self { address, tasks, dropped }
    }

    async fn stop(&self) {
        self.tasks.stop();
        within(self.tasks.ended()).await;
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("a test step must not hang")
}

/// Calls a method with a body and compares the answer.
async fn check(method: &str, body: impl Into<Bytes>, expected: Result<&[u8], RpcError>) {
    let server = Server::start().await;
    let answer = Client::new().call(&server.address, method, body.into(), PATIENCE).await;
    assert_eq!(answer.as_deref().map_err(Clone::clone), expected, "method {method}");
    server.stop().await;
}

#[tokio::test]
async fn a_call_carries_bytes_both_ways() {
    check("echo", "hello", Ok(b"hello")).await;
    check("echo", "", Ok(b"")).await;
    check("timeout", "", Err(RpcError::Timeout)).await;
}

#[tokio::test]
async fn a_large_body_arrives_and_a_too_large_one_is_refused() {
    let large = MESSAGE_BYTES_MAX / 4;
    check("length", vec![7; large], Ok(large.to_string().as_bytes())).await;

    let server = Server::start().await;
    let body = Bytes::from(vec![7; MESSAGE_BYTES_MAX + 1]);
    let answer = Client::new().call(&server.address, "length", body, PATIENCE).await;
    assert!(matches!(answer, Err(RpcError::Refused(_))), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_carries_its_reason_shortened() {
    let server = Server::start().await;
    let answer = Client::new().call(&server.address, "nonsense", Bytes::new(), PATIENCE).await;
    let Err(RpcError::Refused(reason)) = answer else { panic!("{answer:?}") };
    assert!(reason.starts_with("no method `nonsense` — x"), "{reason}");
    assert!(reason.len() < 4096, "{}", reason.len());
    server.stop().await;
}

#[tokio::test]
async fn an_address_without_listener_is_unreachable() {
    let vacant = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = vacant.local_addr().unwrap().to_string();
    drop(vacant);
    let client = Client::new();
    for address in [address.as_str(), "not an address", ""] {
        let answer = client.call(address, "echo", Bytes::new(), PATIENCE).await;
        assert!(matches!(answer, Err(RpcError::Unreachable(_))), "{address}: {answer:?}");
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_cancels_the_work() {
    let server = Server::start().await;
    let brief = Duration::from_millis(50);
    let answer = Client::new().call(&server.address, "hang", Bytes::new(), brief).await;
    assert_eq!(answer, Err(RpcError::Timeout));
    within(server.dropped.notified()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_call_under_way_is_closed_when_the_server_stops() {
    let server = Server::start().await;
    let client = Client::new();
    let call = client.call(&server.address, "hang", Bytes::new(), PATIENCE);
    let stop = async {
        // The connection is up once another call was answered on it.
        client.call(&server.address, "echo", Bytes::new(), PATIENCE).await.unwrap();
        server.stop().await;
    };
    let (answer, ()) = within(async { tokio::join!(call, stop) }).await;
    assert_eq!(answer, Err(RpcError::Closed));
}

#[tokio::test]
async fn a_client_reconnects_after_the_server_came_back() {
    let server = Server::start().await;
    let client = Client::new();
    client.call(&server.address, "echo", Bytes::new(), PATIENCE).await.unwrap();
    server.stop().await;
    let again = Server::start_at(&server.address).await;
    let answered = within(async {
        // The first attempt may meet the connection that just ended.
        while client.call(&again.address, "echo", Bytes::new(), PATIENCE).await.is_err() {}
    });
    answered.await;
    again.stop().await;
}

#[tokio::test]
async fn a_stream_carries_messages_in_order_both_ways() {
    let server = Server::start().await;
    let (sender, mut receiver) = Client::new().stream(&server.address, "echo").await.unwrap();
    let count = u32::try_from(STREAM_QUEUE_MESSAGES).unwrap() * 8;
    let send = async {
        for number in 0..count {
            sender.send(Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
        }
        drop(sender);
    };
    let receive = async {
        for number in 0..count {
            assert_eq!(receiver.recv().await.as_deref(), Some(&number.to_be_bytes()[..]));
        }
        assert_eq!(receiver.recv().await, None, "the peer ends what the sender ended");
    };
    within(async { tokio::join!(send, receive) }).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_the_server_ends_ends_at_the_client() {
    let server = Server::start().await;
    let client = Client::new();
    let (sender, mut receiver) = client.stream(&server.address, "one").await.unwrap();
    sender.send(Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(within(receiver.recv()).await.as_deref(), Some(&b"1"[..]));
    assert_eq!(within(receiver.recv()).await, None);
    within(sender.closed()).await;

    let (sender, mut receiver) = client.stream(&server.address, "nonsense").await.unwrap();
    assert_eq!(within(receiver.recv()).await, None);
    within(sender.closed()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_the_client_ends_ends_at_the_server() {
    let server = Server::start().await;
    let (sender, mut receiver) = Client::new().stream(&server.address, "hang").await.unwrap();
    assert!(within(receiver.recv()).await.is_some());
    drop(receiver);
    within(sender.closed()).await;
    within(server.dropped.notified()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let server = Server::start().await;
    let (sender, mut receiver) = Client::new().stream(&server.address, "hang").await.unwrap();
    assert!(within(receiver.recv()).await.is_some());
    server.stop().await;
    assert_eq!(within(receiver.recv()).await, None);
    within(sender.closed()).await;
}

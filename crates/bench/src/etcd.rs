//! The peer of the write measurement: etcd's own servers, and its one call that is needed, spoken
//! as its clients speak it.
//!
//! # Deliberately absent
//!
//! - The rest of its protocol. A put has two fields, and the answer's content does not matter.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::BenchError;
use crate::cluster::{free_ports, processor_time};

/// How long the servers may take to answer a first write.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two tries.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Running etcd servers.
#[derive(Debug)]
pub(crate) struct Etcd {
    directory: PathBuf,
    children: Vec<Child>,
    ports: Vec<u16>,
    leader: usize,
}

impl Etcd {
    /// Starts servers; `None` if there is no such program here.
    pub(crate) async fn start(
        program: &str,
        count: usize,
        directory: &Path,
    ) -> Result<Option<Self>, BenchError> {
        let directory = directory.join(format!("cos-bench-etcd-{}", std::process::id()));
        fs::create_dir_all(&directory)
            .map_err(BenchError::io(format!("cannot make {}", directory.display())))?;
        let ports: Vec<[u16; 2]> = (0..count).map(|_| free_ports()).collect::<Result<_, _>>()?;
        let group: Vec<String> = (0..)
            .zip(&ports)
            .map(|(number, [_, peer])| format!("e{number}=http://127.0.0.1:{peer}"))
            .collect();
        let clients = ports.iter().map(|[client, _]| *client).collect();
        let mut etcd = Self { directory, children: Vec::new(), ports: clients, leader: 0 };
        for (number, ports) in ports.iter().enumerate() {
            match etcd.spawn(program, number, *ports, &group.join(",")) {
                Ok(child) => etcd.children.push(child),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(BenchError::io(format!("cannot start {program}"))(error)),
            }
        }
        etcd.find_leader().await?;
        Ok(Some(etcd))
    }

    fn spawn(
        &self,
        program: &str,
        number: usize,
        [client, peer]: [u16; 2],
        group: &str,
    ) -> std::io::Result<Child> {
        let log = File::create(self.directory.join(format!("{number}.log")))?;
        let (client, peer) =
            (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        Command::new(program)
            .args(["--name", &format!("e{number}"), "--logger=zap", "--log-level=error"])
            .arg("--data-dir")
            .arg(self.directory.join(number.to_string()))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", group, "--initial-cluster-state", "new"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    /// Waits until a write succeeds, and finds out who leads: like ours, the peer is measured at
    /// its leader.
    async fn find_leader(&mut self) -> Result<(), BenchError> {
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        loop {
            if let Ok(mut writer) = self.writer().await
                && writer.put("ready", b"").await.is_ok()
            {
                break;
            }
            if tokio::time::Instant::now() > deadline {
                return Err(BenchError::Failed("etcd did not get ready".to_owned()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        for number in 0..self.ports.len() {
            let mut writer = Writer::open(self.ports[number]).await?;
            let status = writer.call("/etcdserverpb.Maintenance/Status", Bytes::new()).await?;
            if leads(&status) {
                self.leader = number;
            }
        }
        Ok(())
    }

    /// A client with a connection of its own.
    pub(crate) async fn writer(&self) -> Result<Writer, BenchError> {
        Writer::open(self.ports[self.leader]).await
    }

    /// User and system time of all servers.
    pub(crate) fn processor_time(&self) -> Result<Duration, BenchError> {
        self.children.iter().map(|child| processor_time(child.id())).sum()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// One client.
pub(crate) struct Writer {
    grpc: Grpc<Channel>,
}

impl Writer {
    async fn open(port: u16) -> Result<Self, BenchError> {
        let failed = |error: tonic::transport::Error| BenchError::Failed(format!("etcd: {error}"));
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).map_err(failed)?;
        Ok(Self { grpc: Grpc::new(endpoint.connect().await.map_err(failed)?) })
    }

    /// Puts a value.
    pub(crate) async fn put(&mut self, key: &str, value: &[u8]) -> Result<(), BenchError> {
        let mut message = Vec::with_capacity(key.len() + value.len() + 8);
        for (field, content) in [(1, key.as_bytes()), (2, value)] {
            write_field(&mut message, field, content);
        }
        self.call("/etcdserverpb.KV/Put", message.into()).await.map(drop)
    }

    async fn call(&mut self, path: &'static str, message: Bytes) -> Result<Bytes, BenchError> {
        let failed = |status: Status| BenchError::Failed(format!("etcd: {path}: {status}"));
        let ready = self.grpc.ready().await;
        ready.map_err(|error| BenchError::Failed(format!("etcd: {error}")))?;
        let path = PathAndQuery::from_static(path);
        let answer = self.grpc.unary(Request::new(message), path, Plain).await.map_err(failed)?;
        Ok(answer.into_inner())
    }
}

/// Writes a field of bytes as protocol buffers do: tag, length, content.
fn write_field(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(field << 3 | 2);
    let mut length = content.len();
    while length > 0x7f {
        message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap_or(0));
    message.put_slice(content);
}

/// Reads from the answer about a server's status whether it leads: the member id in its header is
/// that of the leader.
fn leads(status: &[u8]) -> bool {
    let header = fields(status).into_iter().find(|(field, _, _)| *field == 1);
    let own = header.and_then(|(_, _, header)| fields(header).into_iter().find(|f| f.0 == 2));
    let leader = fields(status).into_iter().find(|(field, _, _)| *field == 4);
    matches!((own, leader), (Some((_, own, _)), Some((_, leader, _))) if own == leader)
}

/// The fields of a message: number, value if it is a number, content if it is bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut found = Vec::new();
    while let Some(tag) = number(&mut message) {
        match (tag & 7, number(&mut message)) {
            (0, Some(value)) => found.push((tag >> 3, value, &[][..])),
            (2, Some(length)) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let Some((content, rest)) = message.split_at_checked(length) else { break };
                found.push((tag >> 3, 0, content));
                message = rest;
            }
            _ => break,
        }
    }
    found
}

/// Reads a number of variable length.
fn number(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_they_are_read() {
        let long = vec![7; 300];
        let mut message = Vec::new();
        write_field(&mut message, 1, b"key");
        write_field(&mut message, 2, &long);
        assert_eq!(fields(&message), [(1, 0, &b"key"[..]), (2, 0, &long)]);
        // Cut anywhere it yields less, and nothing else.
        for end in 0..message.len() {
            assert!(fields(&message[..end]).len() < 2);
        }
    }

    #[test]
    fn a_leader_is_told_by_its_own_id() {
        let status = |own: u8, leader: u8| {
            let mut message = Vec::new();
            write_field(&mut message, 1, &[0x08, 9, 0x10, own]);
            message.extend([0x20, leader]);
            message
        };
        assert!(leads(&status(5, 5)));
        assert!(!leads(&status(5, 6)));
        assert!(!leads(b""));
    }
}

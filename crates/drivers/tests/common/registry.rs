//! A registry of images with one image in it, which asks for a user and a password.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cos_platform::{Fate, Tasks};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The first byte of a TLS conversation.
const TLS_HANDSHAKE: u8 = 22;

const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A running registry.
pub(crate) struct Registry {
    /// `host:port`.
    pub(crate) address: String,
    /// How often the manifest was fetched, so how often somebody pulled.
    pub(crate) pulls: Arc<AtomicU64>,
    _tasks: Tasks,
}

/// What it serves.
struct Content {
    authorization: String,
    manifest: Vec<u8>,
    blobs: Vec<Vec<u8>>,
}

impl Registry {
    /// Serves any name and tag as an image with this file system.
    pub(crate) async fn serve(root: &[u8], user: &str, password: &str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(root).expect("packs");
        let layer = encoder.finish().expect("packs");
        let config = serde_json::json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Labels": { "test": std::process::id().to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [digest(root)] },
        });
        let config = serde_json::to_vec(&config).expect("encodes");
        let part = |kind: &str, bytes: &[u8]| {
            let media = format!("application/vnd.docker.{kind}");
            serde_json::json!({ "mediaType": media, "size": bytes.len(), "digest": digest(bytes) })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": part("container.image.v1+json", &config),
            "layers": [part("image.rootfs.diff.tar.gzip", &layer)],
        });
        let content = Arc::new(Content {
            authorization: format!("basic {}", STANDARD.encode(format!("{user}:{password}"))),
            manifest: serde_json::to_vec(&manifest).expect("encodes"),
            blobs: vec![config, layer],
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (tasks, pulls) = (Tasks::new(), Arc::new(AtomicU64::new(0)));
        let (spawner, counter) = (tasks.clone(), Arc::clone(&pulls));
        tasks.spawn("registry", Fate::Ends, async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (content, counter) = (Arc::clone(&content), Arc::clone(&counter));
                spawner.spawn("request", Fate::Ends, async move {
                    answer(stream, &content, &counter).await;
                });
            }
        });
        Self { address, pulls, _tasks: tasks }
    }
}

async fn answer(mut stream: TcpStream, content: &Content, pulls: &AtomicU64) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        request.push(byte);
        // The engine tries TLS first and takes a closed connection for a no.
        if request[0] == TLS_HANDSHAKE {
            return;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or("").to_owned();
    let authorization = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
    });
    let is_known = authorization.is_some_and(|given| {
        let (kind, word) = given.split_once(' ').unwrap_or(("", ""));
        format!("{} {word}", kind.to_lowercase()) == content.authorization
    });
    let blob = content.blobs.iter().find(|blob| path.ends_with(&digest(blob)));
    let (status, kind, body) = if !is_known {
        ("401 Unauthorized", "application/json", &b"{}"[..])
    } else if path == "/v2/" {
        ("200 OK", "application/json", &b"{}"[..])
    } else if path.contains("/manifests/") {
        if request.starts_with("GET") {
            pulls.fetch_add(1, Ordering::Relaxed);
        }
        ("200 OK", MANIFEST_TYPE, content.manifest.as_slice())
    } else if let Some(blob) = blob {
        ("200 OK", "application/octet-stream", blob.as_slice())
    } else {
        ("404 Not Found", "application/json", &b"{}"[..])
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
         WWW-Authenticate: Basic realm=\"test\"\r\nContent-Type: {kind}\r\n\
         Docker-Content-Digest: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        digest(body),
        body.len()
    );
    let wants_body = !request.starts_with("HEAD");
    drop(stream.write_all(head.as_bytes()).await);
    drop(stream.write_all(if wants_body { body } else { &[] }).await);
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

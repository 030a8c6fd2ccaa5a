//! A cluster that trusts nobody: begun and joined by tokens, its roles checked, its authority
//! replaced under load.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::harness::{Agent, PATIENCE, Place, Site, put, until};
use crate::jobs::sleeper;

/// How long `ca rotate` may take: members look every ten seconds.
const ROTATION_TIME: Duration = Duration::from_mins(1);

/// The blocks of a server that speaks TLS though it is on loopback.
fn server(join: &[Ipv4Addr], more: &str) -> String {
    let join: Vec<String> =
        join.iter().map(|address| format!("\"{address}:{}\"", Place::SERF)).collect();
    format!(
        "cluster {{\n  tls = true\n}}\nserver {{\n  enabled = true\n  {more}\n  server_join {{\n    \
         retry_join = [{}]\n  }}\n}}\n",
        join.join(", ")
    )
}

/// A token of this role, made by a server.
async fn token(server: &Agent, role: &str) -> String {
    let said = until("token", PATIENCE, async || {
        let said = server.cos(&["token", "create", &format!("-role={role}")]).await;
        (said.code == Some(0)).then_some(said.out)
    })
    .await;
    said.trim().to_owned()
}

async fn voters(server: &Agent, count: usize) {
    until("voters", PATIENCE, async || {
        let peers = server.json("/v1/status/peers").await?;
        (peers.as_array()?.len() == count).then_some(())
    })
    .await;
}

fn with_token(token: &str) -> String {
    format!("cluster {{\n  join_token = \"{token}\"\n}}\n")
}

/// Three servers and a client that joined by tokens alone; and the client's used token.
async fn cluster(site: &Site) -> (Vec<Agent>, Agent, String) {
    let mut first = site.agent("server-1", |_| server(&[], "bootstrap_expect = 1"));
    first.start();
    let mut servers = vec![first];
    for number in 2..=3 {
        let token = token(&servers[0], "server").await;
        let address = servers[0].place.address;
        let mut next = site.agent(&format!("server-{number}"), |_| server(&[address], ""));
        next.configure(&with_token(&token));
        next.start();
        servers.push(next);
        voters(&servers[0], number).await;
    }
    let addresses: Vec<Ipv4Addr> = servers.iter().map(|server| server.place.address).collect();
    let token = token(&servers[1], "client").await;
    let mut client = site.agent("client-1", |place| place.client(&addresses));
    client.configure(&with_token(&token));
    client.start();
    until("ready node", PATIENCE, async || {
        let nodes = servers[2].json("/v1/nodes").await?;
        (nodes.get(0)?.get("Status")? == "ready").then_some(())
    })
    .await;
    (servers, client, token)
}

/// Starts an agent that must not join, and returns what it said in the end.
async fn refused(mut agent: Agent) -> String {
    agent.start();
    let status = agent.ended().await;
    assert_ne!(status.code(), Some(0));
    agent.log()
}

/// What `openssl s_client` says to the raft port with a node's certificate; `None` without openssl.
async fn openssl(server: &Agent, certificate: &PathBuf, authority: &PathBuf) -> Option<String> {
    let address = format!("{}:{}", server.place.address, Place::RPC);
    let output = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", &address, "-alpn", "h2", "-CAfile"])
        .arg(authority)
        .arg("-cert")
        .arg(certificate)
        .arg("-key")
        .arg(certificate)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("openssl ends").ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_cluster_is_begun_and_joined_by_tokens_alone_and_lets_nobody_else_in() {
    let site = Site::new();
    let (servers, client, used) = cluster(&site).await;
    let addresses: Vec<Ipv4Addr> = servers.iter().map(|server| server.place.address).collect();

    // It works as any other, requests that agents pass on to each other included.
    let job = site.file("sleeper.hcl", &sleeper("sleeper", 1, &["raw_exec"]));
    servers[1].run_job(&job).await;
    assert!(put(&client.consul("/v1/kv/one"), "1").await);
    let alloc = servers[2].running("sleeper").await.remove(0);
    let id = alloc["ID"].as_str().expect("an id");
    let logs = servers[0].cos(&["alloc", "logs", id]).await;
    assert_eq!(logs.code, Some(0), "{logs:?}");
    let info = client.cos(&["agent-info"]).await.well();
    assert!(info.contains("security = mtls"), "{info}");

    // A token opens once, and only the door that it is for.
    let newcomer = |name: &str, blocks: &str| {
        let agent = site.agent(name, |place| place.client(&addresses));
        agent.configure(blocks);
        agent
    };
    let log = refused(newcomer("twice", &with_token(&used))).await;
    assert!(log.contains("was used already, by `client-1`"), "{log}");
    assert!(log.contains("cos token create -role client"), "{log}");
    let for_server = token(&servers[0], "server").await;
    let log = refused(newcomer("wrong-role", &with_token(&for_server))).await;
    assert!(log.contains("the join token is for a server, and this agent is a client"), "{log}");
    // The same with a token whose text was tampered with, so that the cluster has to say it.
    let forged = for_server.replace("cos-join-server", "cos-join-client");
    let log = refused(newcomer("forged-role", &with_token(&forged))).await;
    assert!(log.contains("this join token is for a server, and it was used by a client"), "{log}");
    let log = refused(newcomer("without", "cluster {\n  tls = true\n}\n")).await;
    assert!(log.contains("no member of the cluster yet"), "{log}");
    let list = servers[2].cos(&["token", "list"]).await.well();
    assert!(list.contains("client-1") && !list.contains("without"), "{list}");

    // A client's certificate at the raft port is let in as what it is, and no further; another
    // cluster's is not let in at all.
    let files = client.data("tls");
    let said = openssl(&servers[0], &files.join("node.pem"), &files.join("ca.pem")).await;
    let Some(said) = said else {
        eprintln!("skipped: there is no openssl here");
        return;
    };
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let mut stranger = site.agent("stranger", |_| server(&[], "bootstrap_expect = 1"));
    stranger.start();
    token(&stranger, "client").await;
    let foreign = stranger.data("tls").join("node.pem");
    openssl(&servers[0], &foreign, &files.join("ca.pem")).await;
    until("refusal in the log", PATIENCE, async || {
        servers[0].log().contains("its certificate was not issued by this cluster").then_some(())
    })
    .await;
    // What a member cannot read of another: keys and tokens are asked for on the spot only.
    let elsewhere = client.json("/v1/cos/tokens").await;
    assert_eq!(elsewhere, None, "a client agent does not know tokens");
}

#[tokio::test]
async fn the_authority_is_replaced_under_load_without_a_failed_write() {
    let site = Site::new();
    let (servers, client, _) = cluster(&site).await;
    let before = std::fs::read_to_string(client.data("tls").join("ca.pem")).expect("roots");
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let failed = Arc::new(AtomicU32::new(0));
    let mut writers = Vec::new();
    for (number, agent) in servers.iter().chain([&client]).enumerate() {
        let url = agent.consul(&format!("/v1/kv/load/{number}"));
        let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
        writers.push(async move {
            while !stop.load(Ordering::Relaxed) {
                let counter = if put(&url, "x").await { &done } else { &failed };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let rotate = async {
        let said = servers[1].cos(&["ca", "rotate"]).await.well();
        assert!(said.contains("the old one is dropped"), "{said}");
        let after = until("new roots on the client", ROTATION_TIME, async || {
            let now = std::fs::read_to_string(client.data("tls").join("ca.pem")).ok()?;
            let count = now.matches("BEGIN CERTIFICATE").count();
            (now != before && count == 1).then_some(now)
        })
        .await;
        // Who starts anew has only new certificates to show and to believe.
        assert!(!after.contains(&before));
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(rotate, futures_util::future::join_all(writers));
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert!(done.load(Ordering::Relaxed) > 100, "{done:?} writes are no load");
    let status = servers[0].cos(&["ca", "status"]).await.well();
    assert!(status.contains("Rotating = false") && !status.contains("Old root"), "{status}");
}

#[tokio::test]
async fn an_old_configuration_with_a_shared_key_forms_a_cluster_with_certificates() {
    let site = Site::new();
    let key = "cg8StVXbQJ0gPvMd9o7yrg==";
    let mut servers: Vec<Agent> =
        (1..=3).map(|n| site.agent(&format!("server-{n}"), |_| String::new())).collect();
    let addresses: Vec<Ipv4Addr> = servers.iter().map(|server| server.place.address).collect();
    let more = format!("bootstrap_expect = 3\n  encrypt = \"{key}\"");
    for agent in &servers {
        agent.configure(&server(&addresses, &more));
    }
    let mut client = site.agent("client-1", |place| place.client(&addresses));
    client.configure(&format!(
        "cluster {{\n  tls = true\n}}\nserver {{\n  encrypt = \"{key}\"\n}}\n"
    ));
    servers.iter_mut().for_each(Agent::start);
    client.start();
    until("ready node", PATIENCE, async || {
        let nodes = servers[0].json("/v1/nodes").await?;
        (nodes.get(0)?.get("Status")? == "ready").then_some(())
    })
    .await;
    voters(&servers[2], 3).await;

    // Its keys are changed on all servers at once.
    let new = servers[0].cos(&["operator", "gossip", "keyring", "generate"]).await.well();
    for step in ["install", "use"] {
        servers[0].cos(&["operator", "gossip", "keyring", step, new.trim()]).await.well();
    }
    servers[1].cos(&["operator", "gossip", "keyring", "remove", key]).await.well();
    let list = servers[2].cos(&["operator", "gossip", "keyring", "list"]).await.well();
    assert!(list.contains(new.trim()) && !list.contains(key), "{list}");
    let said = servers[2].cos(&["server", "members"]).await.well();
    assert_eq!(said.matches("alive").count(), 3, "{said}");
}

#[tokio::test]
async fn https_is_verified_by_the_command_line_which_says_what_helps() {
    let site = Site::new();
    let mut agent = site.agent("secure", |_| server(&[], "bootstrap_expect = 1"));
    agent.configure("tls {\n  http = true\n}\n");
    agent.start();
    let mut plain = site
        .agent("plain", |_| "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n".to_owned());
    plain.start();
    let authority = agent.data("tls").join("ca.pem");
    let folder = site.path().join("authorities");
    std::fs::create_dir(&folder).expect("a fresh directory");
    until("authority", PATIENCE, async || std::fs::copy(&authority, folder.join("ca.pem")).ok())
        .await;
    let secure = format!("-address=https://{}:{}", agent.place.address, Place::HTTP);
    let ca_cert = format!("-ca-cert={}", authority.display());
    let ca_path = format!("-ca-path={}", folder.display());
    until("an answer over HTTPS", PATIENCE, async || {
        let said = agent.cos(&["server", "members", &secure, &ca_cert]).await;
        (said.code == Some(0)).then_some(())
    })
    .await;
    let members = async |flags: &[&str]| {
        let arguments = [&["server", "members"][..], flags].concat();
        let said = agent.cos(&arguments).await;
        if said.code == Some(0) { "well".to_owned() } else { said.err }
    };
    assert_eq!(members(&[&secure, &ca_path]).await, "well");
    assert_eq!(members(&[&secure, "-tls-skip-verify"]).await, "well");
    let name = "-tls-server-name=server.global.nomad";
    assert_eq!(members(&[&secure, &ca_cert, name]).await, "well");
    let refused = members(&[&secure]).await;
    assert!(refused.contains("x509: certificate signed by unknown authority"), "{refused}");
    assert!(refused.contains("-ca-cert or NOMAD_CACERT"), "{refused}");
    let refused = members(&[&secure, &ca_cert, "-tls-server-name=other.example.com"]).await;
    assert!(refused.contains("x509: the certificate is not valid for this name"), "{refused}");

    // Each kind of speech to the other kind of port.
    let clear = format!("-address=http://{}:{}", agent.place.address, Place::HTTP);
    let refused = members(&[&clear]).await;
    assert!(refused.contains("Client sent an HTTP request to an HTTPS server"), "{refused}");
    let wrong = format!("-address=https://{}:{}", plain.place.address, Place::HTTP);
    until("the plain agent", PATIENCE, async || plain.json("/v1/status/leader").await.map(drop))
        .await;
    let refused = members(&[&wrong]).await;
    assert!(refused.contains("server gave HTTP response to HTTPS client"), "{refused}");
}

//! A cluster that trusts nobody: begun and joined by tokens, its roles checked, its authority
//! replaced under load.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::harness::{Agent, PATIENCE, Place, Site, get, put, until};
use crate::jobs::sleeper;

/// How long `ca rotate` may take: members look every ten seconds.
const ROTATION_TIME: Duration = Duration::from_mins(1);

/// How many writes each writer must have got through for there to have been a load.
const WRITES_MIN: u32 = 20;

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

/// Three servers with these blocks, and a client, that joined by tokens alone; and the client's used
/// token.
async fn cluster(site: &Site, blocks: &str) -> (Vec<Agent>, Agent, String) {
    let mut first = site.agent("server-1", |_| server(&[], "bootstrap_expect = 1"));
    first.configure(blocks);
    first.start();
    let mut servers = vec![first];
    for number in 2..=3 {
        let token = token(&servers[0], "server").await;
        let address = servers[0].place.address;
        let mut next = site.agent(&format!("server-{number}"), |_| server(&[address], ""));
        next.configure(&(with_token(&token) + blocks));
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

/// What `openssl s_client` makes of the raft port, with a member's certificate; `None` without
/// openssl. With `-ign_eof` it stays until the server has closed the connection.
async fn openssl(server: &Agent, member: &Path, roots: &Path, more: &[&str]) -> Option<String> {
    let address = format!("{}:{}", server.place.address, Place::RPC);
    let output = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", &address, "-CAfile"])
        .arg(roots)
        .arg("-cert")
        .arg(member)
        .arg("-key")
        .arg(member)
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("openssl ends").ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Insists that the raft port lets nobody in with this certificate who speaks so, with this alert,
/// and that the log says why.
async fn keeps_out(
    server: &Agent,
    (member, roots): (&Path, &Path),
    alpn: &[&str],
    (alert, why): (u32, &str),
) {
    let said = openssl(server, member, roots, &[alpn, &["-ign_eof"]].concat()).await;
    let said = said.expect("openssl was there before");
    assert!(said.contains(&format!("SSL alert number {alert}")), "{alpn:?}: {said}");
    until(&format!("`{why}` in the log"), PATIENCE, async || {
        let lines = server.log_lines("rpc connection turned away peer=127.");
        lines.iter().any(|line| line.contains(why)).then_some(())
    })
    .await;
}

/// Does something while writers write without a pause, each through an agent of its own, and insists
/// that no write failed, nor took longer than a client waits (10 s), and that what was written last
/// is there.
#[expect(clippy::print_stdout, reason = "how much was written is what makes it a load")]
pub(crate) async fn under_load<T>(agents: &[&Agent], work: impl Future<Output = T>) -> T {
    let stop = AtomicBool::new(false);
    let write = async |number: usize, agent: &Agent| {
        let url = agent.consul(&format!("/v1/kv/load/{number}"));
        let (mut done, mut failed, mut longest) = (0_u32, 0_u32, Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            if put(&url, &(done + 1).to_string()).await {
                done += 1;
            } else {
                failed += 1;
            }
            longest = longest.max(began.elapsed());
        }
        (done, failed, longest)
    };
    let writers = join_all(agents.iter().enumerate().map(|(number, agent)| write(number, agent)));
    let work = async {
        let outcome = work.await;
        stop.store(true, Ordering::Relaxed);
        outcome
    };
    let (outcome, written) = tokio::join!(work, writers);
    for (number, (agent, (done, failed, longest))) in agents.iter().zip(written).enumerate() {
        let whose = agent.place.address;
        println!("writer {number} at {whose}: {done} done, {failed} failed, longest {longest:?}");
        assert_eq!(failed, 0, "writes through {whose}");
        assert!(done >= WRITES_MIN, "{done} writes are no load");
        let kept = get(&agents[0].consul(&format!("/v1/kv/load/{number}?raw"))).await;
        assert_eq!(kept, Some(done.to_string()), "the last write through {whose}");
    }
    outcome
}

#[tokio::test]
async fn a_cluster_is_begun_and_joined_by_tokens_alone_and_lets_nobody_else_in() {
    let site = Site::new();
    let (servers, client, used) = cluster(&site, "").await;
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

    // What a member cannot read of another: keys and tokens are asked for on the spot only.
    let elsewhere = client.json("/v1/cos/tokens").await;
    assert_eq!(elsewhere, None, "a client agent does not know tokens");
}

#[tokio::test]
async fn the_raft_port_speaks_with_servers_of_its_own_cluster_only() {
    let site = Site::new();
    let (servers, client, _) = cluster(&site, "").await;
    let raft = &servers[0];
    let (client, roots) = (client.data("tls/node.pem"), client.data("tls/ca.pem"));
    let as_server: &[&str] = &["-alpn", "cos-server/1"];
    let as_agent: &[&str] = &["-alpn", "cos-agent/1"];

    // Who is who they say gets through: another server as a server, the client as an agent.
    for (member, alpn) in [(&servers[1].data("tls/node.pem"), as_server), (&client, as_agent)] {
        let Some(said) = openssl(raft, member, &roots, alpn).await else {
            eprintln!("skipped: there is no openssl here");
            return;
        };
        let named = format!("ALPN protocol: {}", alpn[1]);
        assert!(said.contains(&named) && !said.contains("SSL alert"), "{said}");
    }
    let as_what_it_is_not = "and it asked for the protocol of servers";
    keeps_out(raft, (&client, &roots), as_server, (46, as_what_it_is_not)).await;
    let line = raft.log_lines(as_what_it_is_not).remove(0);
    assert!(line.contains("its certificate is that of client "), "{line}");
    keeps_out(raft, (&client, &roots), &[], (120, "by ALPN it offers none")).await;
    keeps_out(raft, (&client, &roots), &["-alpn", "h2"], (120, "it offers `h2`")).await;

    let mut stranger = site.agent("stranger", |_| server(&[], "bootstrap_expect = 1"));
    stranger.start();
    token(&stranger, "client").await;
    let foreign = stranger.data("tls/node.pem");
    for alpn in [as_server, as_agent] {
        let why = "its certificate was not issued by this cluster";
        keeps_out(raft, (&foreign, &roots), alpn, (48, why)).await;
    }
}

#[tokio::test]
async fn certificates_are_renewed_under_load_and_one_that_was_not_ends() {
    let site = Site::new();
    let short = "cluster {\n  certificate_ttl = \"20s\"\n}\n";
    let (servers, mut client, _) = cluster(&site, short).await;
    let members: Vec<PathBuf> =
        servers.iter().chain([&client]).map(|agent| agent.data("tls/node.pem")).collect();
    let first: Vec<String> =
        members.iter().map(|member| std::fs::read_to_string(member).expect("a member")).collect();
    let renewed = join_all(members.iter().zip(&first).map(|(member, first)| async move {
        // The first certificate has ended when the second one has been replaced.
        let mut seen = first.clone();
        for _ in 0..2 {
            seen = until("renewed certificate", PATIENCE, async || {
                let now = std::fs::read_to_string(member).ok()?;
                (now != seen).then_some(now)
            })
            .await;
        }
    }));
    under_load(&servers.iter().collect::<Vec<_>>(), renewed).await;

    // The client is a member as before, also after a restart, and who kept the first one is not.
    client.kill();
    client.start();
    until("node that is back", PATIENCE, async || {
        let nodes = servers[0].json("/v1/nodes").await?;
        (nodes.get(0)?.get("Status")? == "ready").then_some(())
    })
    .await;
    let roots = client.data("tls/ca.pem");
    if openssl(&servers[0], &members[3], &roots, &["-alpn", "cos-agent/1"]).await.is_none() {
        eprintln!("skipped: there is no openssl here");
        return;
    }
    for (old, alpn) in [(&first[3], "cos-agent/1"), (&first[1], "cos-server/1")] {
        let old = site.file("old.pem", old);
        let why = "its certificate has expired";
        keeps_out(&servers[0], (&old, &roots), &["-alpn", alpn], (45, why)).await;
    }
}

#[tokio::test]
async fn the_authority_is_replaced_under_load_without_a_failed_write() {
    let site = Site::new();
    let (servers, client, _) = cluster(&site, "").await;
    let before = std::fs::read_to_string(client.data("tls").join("ca.pem")).expect("roots");
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
    };
    let agents: Vec<&Agent> = servers.iter().chain([&client]).collect();
    under_load(&agents, rotate).await;
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

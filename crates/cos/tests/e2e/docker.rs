//! Containers of a real engine, from a job file to an answer behind the ingress.
//!
//! The engine is the machine's own if one answers, and else one that the test starts and ends. The
//! image is made from nothing but a sample service, so nothing is fetched.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::SockaddrIn;
use nix::unistd::{Pid, Uid};

use crate::harness::{Agent, PATIENCE, Place, Site, get, get_json, samples, until};
use crate::jobs::id;

const SOCKET: &str = "/var/run/docker.sock";

/// A tag that is not `latest`, so that the engine's own copy is used.
const IMAGE: &str = "cos-e2e/ping-service:1";

/// An engine that answers.
struct Engine {
    /// Its process, if the test started it.
    own: Option<Child>,
}

impl Engine {
    async fn reach(site: &Site) -> Self {
        if UnixStream::connect(SOCKET).is_ok() {
            return Self { own: None };
        }
        let log = std::fs::File::create(site.path().join("dockerd.log")).expect("a log");
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(site.path().join("docker/data"))
            .arg("--exec-root")
            .arg(site.path().join("docker/exec"))
            .arg("--pidfile")
            .arg(site.path().join("dockerd.pid"))
            .args(["--host", &format!("unix://{SOCKET}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log)
            .spawn()
            .expect("docker is installed: this test starts `dockerd` where no engine answers");
        let engine = Self { own: Some(child) };
        until("answer of dockerd", PATIENCE, async || {
            let said = tokio::process::Command::new("docker").arg("version").output().await.ok()?;
            said.status.success().then_some(())
        })
        .await;
        engine
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut child) = self.own.take() {
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("it is a process"));
            // It ends its containers and unmounts their files; it may also have ended by itself.
            kill(pid, Signal::SIGTERM).ok();
            child.wait().ok();
            std::fs::remove_file(SOCKET).ok();
        }
    }
}

/// Makes the image of the sample service.
fn make_image(site: &Site) {
    let context = site.path().join("image");
    std::fs::create_dir(&context).expect("it is new");
    std::fs::copy(samples().join("ping-service"), context.join("service")).expect("a copy");
    let packed = Command::new("tar").arg("-C").arg(&context).arg("-c").arg("service").output();
    let archive = site.path().join("image.tar");
    std::fs::write(&archive, packed.expect("tar runs").stdout).expect("it can be written");
    docker(&["import", "--change", r#"ENTRYPOINT ["/service"]"#, &text(&archive), IMAGE]);
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs the engine's own command and returns what it printed.
#[track_caller]
fn docker(arguments: &[&str]) -> String {
    let said = Command::new("docker").args(arguments).output().expect("docker is installed");
    assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// The address of the container bridge.
fn bridge() -> Ipv4Addr {
    let found = nix::ifaddrs::getifaddrs().expect("interfaces can be listed");
    found
        .filter(|interface| interface.interface_name == "docker0")
        .find_map(|interface| interface.address?.as_sockaddr_in().map(SockaddrIn::ip))
        .expect("the engine makes docker0")
}

fn job(registry: &str) -> String {
    format!(
        r#"
job "contained" {{
  datacenters = ["dc1"]
  update {{
    min_healthy_time = "0s"
  }}
  group "ping" {{
    count = 2
    restart {{
      attempts = 10
      delay    = "100ms"
    }}
    network {{
      port "http" {{
        to = 8080
      }}
    }}
    service {{
      name = "contained"
      port = "http"
      tags = ["urlprefix-/ping"]
      check {{
        type     = "http"
        path     = "/ping"
        interval = "1s"
        timeout  = "2s"
      }}
    }}
    task "ping" {{
      driver = "docker"
      config {{
        image = "{IMAGE}"
        ports = ["http"]
      }}
      env {{
        SERVICE_NAME       = "${{NOMAD_DC}}"
        PROVIDER           = "contained"
        CONSUL_SERVER_ADDR = "{registry}"
      }}
      resources {{
        cpu    = 50
        memory = 32
      }}
    }}
  }}
}}
"#
    )
}

/// The containers of these allocations that run now, each as its id and the time of its start.
async fn containers(agent: &Agent, count: usize) -> Vec<String> {
    let allocs: Vec<String> =
        agent.until_running("contained", count).await.iter().map(id).collect();
    let running = docker(&["ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
    let is_ours = |line: &&str| allocs.iter().any(|alloc| line.contains(alloc.as_str()));
    let mut found: Vec<String> = running.lines().filter(is_ours).map(str::to_owned).collect();
    found.sort();
    found
}

#[tokio::test]
async fn containers_answer_behind_the_ingress_outlive_their_agent_and_are_removed() {
    if !Uid::effective().is_root() {
        println!("skipped: only root may start an engine and its containers");
        return;
    }
    assert!(
        std::env::var_os("COS_SAMPLES").is_some(),
        "COS_SAMPLES must be the directory of statically linked sample services, which go into an \
         image made from nothing; `make test` builds them and sets it"
    );
    let site = Site::new();
    let _engine = Engine::reach(&site).await;
    make_image(&site);
    let mut agent = site.agent("both", |place| {
        let server = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n";
        // Containers reach each other at the address of the bridge, not at the agent's loopback.
        let client = "client {\n  network_interface = \"docker0\"\n}\n";
        format!("{server}{}{client}", place.client(&[place.address]))
    });
    agent.start_alone().await;
    let registry = format!("{}:{}", bridge(), Place::consul());
    until("catalog on the container bridge", PATIENCE, async || {
        get(&format!("http://{registry}/v1/status/leader")).await
    })
    .await;

    let said = agent.run_job(&site.file("contained.hcl", &job(&registry))).await;
    assert!(said.contains("successful"), "{said}");
    // The chain is complete only if containers reach the catalog and each other.
    until("complete chain", PATIENCE, async || {
        let page = get(&agent.ingress("/ping")).await?;
        (page.contains("(PONG)") && page.matches("[dc1,v1]").count() == 11).then_some(())
    })
    .await;
    let before = containers(&agent, 2).await;
    assert_eq!(before.len(), 2, "{before:?}");

    agent.kill();
    agent.start_alone().await;
    assert_eq!(containers(&agent, 2).await, before, "the same containers are taken up again");

    // A killed container is started again by policy.
    let victim = before[0].split(' ').next().expect("it has a name");
    docker(&["kill", victim]);
    until("second life", PATIENCE, async || {
        let after = containers(&agent, 2).await;
        (after.len() == 2 && after != before).then_some(())
    })
    .await;

    agent.cos(&["job", "stop", "-purge", "contained"]).await.well();
    until("removal of the containers", PATIENCE, async || {
        let all = docker(&["ps", "--all", "--format", "{{.Names}}"]);
        let gone =
            before.iter().filter_map(|name| name.split(' ').next()).all(|n| !all.contains(n));
        gone.then_some(())
    })
    .await;
    let entries = get_json(&agent.consul("/v1/health/service/contained")).await;
    assert_eq!(entries.and_then(|entries| Some(entries.as_array()?.len())), Some(0));
    docker(&["rmi", "--force", IMAGE]);
}

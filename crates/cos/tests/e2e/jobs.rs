//! The jobs of these tests, and what their tasks say about themselves.

use serde_json::Value;

use crate::harness::{Agent, PATIENCE, Process, samples, until};

/// A task that tells its process number and stays, in the words of a job file.
fn sleeper_task(name: &str, driver: &str) -> String {
    format!(
        r#"
    task "{name}" {{
      driver = "{driver}"
      config {{
        command = "/bin/sh"
        args    = ["-c", "echo pid $$; exec sleep 100000"]
      }}
      resources {{
        cpu    = 20
        memory = 16
      }}
    }}
"#
    )
}

/// A service whose instances tell their process number and stay.
pub(crate) fn sleeper(job: &str, count: u32, drivers: &[&str]) -> String {
    let tasks: String = drivers.iter().map(|driver| sleeper_task(driver, driver)).collect();
    format!(
        r#"
job "{job}" {{
  datacenters = ["dc1"]
  update {{
    min_healthy_time = "0s"
  }}
  group "main" {{
    count = {count}
    restart {{
      attempts = 10
      delay    = "100ms"
    }}
{tasks}
  }}
}}
"#
    )
}

/// `ping-service`, whose instances find each other through the catalog of `agent`.
pub(crate) fn ping(agent: &Agent, count: u32) -> String {
    let program = samples().join("ping-service");
    format!(
        r#"
job "ping-service" {{
  datacenters = ["dc1"]
  update {{
    min_healthy_time = "0s"
  }}
  group "ping" {{
    count = {count}
    network {{
      port "http" {{}}
    }}
    service {{
      name = "ping-service"
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
      driver = "raw_exec"
      config {{
        command = "{program}"
        args    = ["-p", "${{NOMAD_PORT_http}}"]
      }}
      env {{
        SERVICE_NAME       = "${{NOMAD_DC}}"
        PROVIDER           = "ping-service"
        CONSUL_SERVER_ADDR = "{registry}"
      }}
      resources {{
        cpu    = 20
        memory = 20
      }}
    }}
  }}
}}
"#,
        program = program.display(),
        registry = agent.consul("").trim_start_matches("http://"),
    )
}

/// The id of an allocation.
pub(crate) fn id(alloc: &Value) -> String {
    alloc["ID"].as_str().expect("allocations have an ID").to_owned()
}

/// Waits until a task of [`sleeper`] was started `runs` times, and returns the latest process.
pub(crate) async fn process(agent: &Agent, alloc: &str, task: &str, runs: usize) -> Process {
    until(&format!("run {runs} of {task} in {alloc}"), PATIENCE, async || {
        let said = agent.cos(&["alloc", "logs", "-task", task, alloc]).await;
        let pids: Vec<&str> =
            said.out.lines().filter_map(|line| line.strip_prefix("pid ")).collect();
        if pids.len() == runs { Process::find(pids.last()?.parse().ok()?) } else { None }
    })
    .await
}

/// The processes of all running instances of [`sleeper`], in order.
pub(crate) async fn processes(agent: &Agent, job: &str) -> Vec<Process> {
    let mut found = Vec::new();
    for alloc in agent.running(job).await {
        found.push(process(agent, &id(&alloc), "raw_exec", 1).await);
    }
    found.sort();
    found
}

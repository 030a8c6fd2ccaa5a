//! `job init`: an example to begin with.

use crate::command::{Context, Failure, Running};

/// Where the example goes unless an argument says otherwise.
const PATH_DEFAULT: &str = "example.nomad.hcl";

pub(super) fn run(context: Context) -> Running {
    Box::pin(async move {
        let path = match context.flags.arguments.as_slice() {
            [] => PATH_DEFAULT,
            [path] => path,
            _ => {
                return Err(Failure::Usage(
                    "This command takes at most one argument: <path>".to_owned(),
                ));
            }
        };
        let text = if context.flags.on("short") { without_comments() } else { EXAMPLE.to_owned() };
        if std::path::Path::new(path).exists() {
            return Err(Failure::new(format!("Job file '{path}' already exists")));
        }
        std::fs::write(path, text)
            .map_err(|error| Failure::new(format!("Failed to write '{path}': {error}")))?;
        println!("Example job file written to {path}");
        println!("Run it:  {} job run {path}", context.program.name());
        Ok(0)
    })
}

fn without_comments() -> String {
    let kept = EXAMPLE.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut text = kept.collect::<Vec<_>>().join("\n");
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    format!("{}\n", text.trim())
}

/// Runs on any Linux machine whose agent allows `raw_exec`, as `agent -dev` does.
const EXAMPLE: &str = r#"# A job: what should run, how many times, and how it is kept alive.
job "example" {
  # Where it may run; globs are fine.
  datacenters = ["*"]

  # Tasks of a group run together on one node.
  group "web" {
    count = 1

    # How a new version replaces an old one.
    update {
      max_parallel     = 1
      min_healthy_time = "2s"
      healthy_deadline = "1m"
      auto_revert      = true
    }

    # A free port of the node; the task finds it in NOMAD_PORT_http.
    network {
      port "http" {}
    }

    # The name under which others find it, and how its health is checked. The tag makes the
    # ingress answer at /example.
    service {
      name = "example"
      port = "http"
      tags = ["urlprefix-/example strip=/example"]

      check {
        type     = "tcp"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "server" {
      # Runs a program as it is. Use driver = "docker" with config { image = "…" } for containers.
      driver = "raw_exec"

      config {
        command = "python3"
        args    = ["-m", "http.server", "${NOMAD_PORT_http}", "--bind", "${NOMAD_IP_http}"]
      }

      resources {
        cpu    = 100 # MHz
        memory = 64  # MiB
      }
    }
  }
}
"#;

# ping-service as an isolated task: the binary is fetched as an artifact and runs in its own root.
# Needs an agent that runs as root.

variable "artifact" {
  type        = string
  description = "Where the binary is fetched from, such as http://127.0.0.1:8000/ping-service."
}

job "ping-exec" {
  datacenters = ["*"]

  group "ping" {
    network {
      port "http" {}
    }

    service {
      name = "ping-exec"
      port = "http"
      tags = ["urlprefix-/ping-exec strip=/ping-exec prepend=/ping"]

      check {
        type     = "tcp"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "ping" {
      driver = "exec"

      artifact {
        source = var.artifact
      }

      config {
        command = "ping-service"
        args    = ["-p", "${NOMAD_PORT_http}"]
      }

      env {
        SERVICE_NAME = "${NOMAD_DC}"
      }

      resources {
        cpu    = 50
        memory = 20
      }
    }
  }
}

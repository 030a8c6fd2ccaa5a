# ping-service: four instances that call each other through the catalog and answer behind the
# ingress at /ping. Runs the sample binary directly; no container engine is needed.

variable "bin_dir" {
  type        = string
  description = "The directory with the sample binaries."
}

job "ping-service" {
  datacenters = ["public-services", "private-services", "content-connector", "backoffice"]
  type        = "service"

  update {
    max_parallel     = 1
    min_healthy_time = "1s"
    healthy_deadline = "1m"
  }

  group "ping" {
    count = 4

    restart {
      attempts = 10
      interval = "5m"
      delay    = "1s"
      mode     = "delay"
    }

    network {
      port "http" {}
    }

    service {
      name = "ping-service"
      port = "http"
      tags = ["urlprefix-/ping"]

      check {
        name     = "ping answers"
        type     = "http"
        path     = "/ping"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "ping" {
      driver = "raw_exec"

      config {
        command = "${var.bin_dir}/ping-service"
        args    = ["-p", "${NOMAD_PORT_http}"]
      }

      env {
        SERVICE_NAME       = "${NOMAD_DC}"
        PROVIDER           = "ping-service"
        # The agent of the instance's own node: no server's death takes it away.
        CONSUL_SERVER_ADDR = "${attr.unique.network.ip-address}:8500"
      }

      resources {
        cpu    = 50
        memory = 20
      }
    }
  }
}

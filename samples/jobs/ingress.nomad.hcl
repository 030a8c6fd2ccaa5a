# The ingress as a system job: one on every node of these datacenters, also on nodes that join
# later. Use it where the agents' own ingress is switched off (ports { ingress = -1 }).

variable "cos" {
  type        = string
  description = "Path of the cos binary."
}

job "ingress" {
  datacenters = ["public-services", "private-services", "content-connector", "backoffice"]
  type        = "system"
  priority    = 80

  update {
    stagger      = "5s"
    max_parallel = 1
  }

  group "ingress" {
    network {
      port "lb" {
        static = 9999
      }
      port "ui" {
        static = 9998
      }
    }

    service {
      name = "ingress"
      port = "ui"
      tags = ["ui"]

      check {
        type     = "http"
        path     = "/health"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "ingress" {
      driver = "raw_exec"

      config {
        command = var.cos
        args = [
          "ingress",
          "-proxy-addr", "${NOMAD_ADDR_lb}",
          "-ui-addr", "${NOMAD_ADDR_ui}",
          "-registry", "${attr.unique.network.ip-address}:8500",
        ]
      }

      resources {
        cpu    = 100
        memory = 32
      }
    }
  }
}

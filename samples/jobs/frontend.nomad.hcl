# frontend: one half of the pair of sample services that find each other through the catalog.

variable "bin_dir" {
  type        = string
  description = "The directory with the sample binaries."
}

variable "registry" {
  type        = string
  description = "Where the frontend asks for the backend."
  default     = "127.0.0.1:8500"
}

job "frontend-job" {
  datacenters = ["*"]

  group "frontend" {
    count = 2

    network {
      port "http" {}
    }

    service {
      name = "frontend"
      port = "http"
      tags = ["traefik.enable=true", "traefik.frontend.rule=Host:frontend.example.org", "urlprefix-frontend.example.org/"]

      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "3s"
      }
    }

    task "frontend" {
      driver = "raw_exec"

      config {
        command = "${var.bin_dir}/frontend"
      }

      env {
        PORT             = "${NOMAD_PORT_http}"
        NODE             = "${node.unique.name}"
        GIT_SHORT_COMMIT = "0123abcd"
        BRANCH           = "main"
        CONSUL_ADDR      = var.registry
      }

      resources {
        cpu    = 50
        memory = 20
      }
    }
  }
}

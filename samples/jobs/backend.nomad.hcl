# backend: one half of the pair of sample services that find each other through the catalog.

variable "bin_dir" {
  type        = string
  description = "The directory with the sample binaries."
}

variable "registry" {
  type        = string
  description = "Where the frontend asks for the backend."
  default     = "127.0.0.1:8500"
}

job "backend-job" {
  datacenters = ["*"]

  group "backend" {
    count = 2

    network {
      port "http" {}
    }

    service {
      name = "backend"
      port = "http"
      tags = ["traefik.enable=true", "traefik.frontend.rule=Host:backend.example.org", "urlprefix-backend.example.org/"]

      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "3s"
      }
    }

    task "backend" {
      driver = "raw_exec"

      config {
        command = "${var.bin_dir}/backend"
      }

      env {
        PORT             = "${NOMAD_PORT_http}"
        NODE             = "${node.unique.name}"
        GIT_SHORT_COMMIT = "0123abcd"
        BRANCH           = "main"
      }

      resources {
        cpu    = 50
        memory = 20
      }
    }
  }
}

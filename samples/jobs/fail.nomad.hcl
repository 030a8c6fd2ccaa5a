# fail-service as a plain process: healthy and unhealthy by plan. Change the three times to see
# what health checks, restarts, deployments and the ingress make of it.

variable "bin_dir" {
  type        = string
  description = "The directory with the sample binaries."
}

variable "healthy_in" {
  type        = number
  description = "Seconds until healthy; 0 is at once, -1 never."
  default     = 0
}

variable "healthy_for" {
  type        = number
  description = "Seconds until unhealthy again; -1 never."
  default     = -1
}

job "fail-service" {
  datacenters = ["*"]

  group "fail-service" {
    count = 1

    update {
      max_parallel      = 1
      min_healthy_time  = "2s"
      healthy_deadline  = "30s"
      progress_deadline = "1m"
      auto_revert       = true
    }

    network {
      port "http" {}
    }

    task "fail-service" {
      driver = "raw_exec"

      config {
        command = "${var.bin_dir}/fail-service"
        args    = ["-p", "${NOMAD_PORT_http}"]
      }

      env {
        HEALTHY_IN    = var.healthy_in
        HEALTHY_FOR   = var.healthy_for
        UNHEALTHY_FOR = -1
      }

      service {
        name = "${TASK}"
        port = "http"
        tags = ["urlprefix-/fail-service strip=/fail-service"]

        check {
          type     = "http"
          path     = "/health"
          interval = "2s"
          timeout  = "1s"
        }
      }

      resources {
        cpu    = 50
        memory = 20
      }
    }
  }
}

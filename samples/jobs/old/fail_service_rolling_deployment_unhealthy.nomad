# fail-service: Never healthy: the deployment fails and the last stable version comes back.

job "fail-service" {
  datacenters = ["dc1", "public-services"]
  type = "service"

  group "fail-service" {
    count = 3

    update {
      max_parallel     = 1
      health_check     = "checks"
      min_healthy_time = "10s"
      healthy_deadline = "5m"
      progress_deadline = "10m"
      auto_revert      = true
      canary           = 0
    }

    task "fail-service" {
      driver = "docker"
      config {
        image = "cos-samples/fail_service:0.1.0"
        port_map = {
          http = 8080
        }
      }

      service {
        name = "${TASK}"
        port = "http"
        tags = ["urlprefix-/fail-service strip=/fail-service"]
        check {
          name     = "fail-service health"
          port     = "http"
          type     = "http"
          path     = "/health"
          method   = "GET"
          interval = "5s"
          timeout  = "2s"
        }
      }

      env {
        HEALTHY_IN    = -1,
        HEALTHY_FOR   = 0,
        UNHEALTHY_FOR = -1,
      }

      resources {
        cpu    = 100 # MHz
        memory = 64  # MiB
        network {
          mbits = 1
          port "http" {}
        }
      }
    }
  }
}

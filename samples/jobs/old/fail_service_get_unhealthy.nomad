# fail-service: As before, with two replacements at most.

job "fail-service" {
  datacenters = ["dc1", "public-services"]
  type = "service"

  group "fail-service" {
    count = 1

    restart {
      interval = "10m"
      attempts = 2
      delay    = "15s"
      mode     = "fail"
    }

    reschedule {
      attempts       = 2
      interval       = "20m"
      delay          = "30s"
      delay_function = "constant"
      unlimited      = false
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
          check_restart {
            limit = 3
            grace = "10s"
            ignore_warnings = false
          }
        }
      }

      env {
        HEALTHY_IN    = 0,
        HEALTHY_FOR   = 30,
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

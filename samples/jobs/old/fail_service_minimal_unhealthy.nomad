# fail-service: Unhealthy after 30 s. Nothing restarts it; the ingress drops the route and it stays so.

job "fail-service" {
  datacenters = ["dc1", "public-services"]
  type = "service"

  group "fail-service" {
    count = 1

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

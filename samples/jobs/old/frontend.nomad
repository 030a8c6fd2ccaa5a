# frontend in a container, in the old form.

job "frontend-job" {
  datacenters = ["public-services", "dc1"]
  type = "service"

  group "frontend" {
    count = 2

    task "frontend" {
      driver = "docker"

      config {
        image = "cos-samples/frontend:0.1.0"
        port_map {
          http = 8080
        }
      }

      service {
        name = "frontend"
        port = "http"
        tags = ["traefik.enable=true", "traefik.frontend.rule=Host:frontend.example.org"]
        check {
          type = "http"
          path = "/"
          interval = "10s"
          timeout = "3s"
        }
      }

      env {
        NODE = "${node.unique.name}",
        CONSUL_ADDR = "172.17.0.1:8500",
      }

      resources {
        cpu = "50"
        memory = "20"
        network {
          mbits = 100
          port "http" {}
        }
      }
    }
  }
}

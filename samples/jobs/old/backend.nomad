# backend in a container, in the old form.

job "backend-job" {
  datacenters = ["public-services", "dc1"]
  type = "service"

  group "backend" {
    count = 2

    task "backend" {
      driver = "docker"

      config {
        image = "cos-samples/backend:0.1.0"
        port_map {
          http = 8080
        }
      }

      service {
        name = "backend"
        port = "http"
        tags = ["traefik.enable=true", "traefik.frontend.rule=Host:backend.example.org"]
        check {
          type = "http"
          path = "/"
          interval = "10s"
          timeout = "3s"
        }
      }

      env {
        NODE = "${node.unique.name}",
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

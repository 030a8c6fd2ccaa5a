# ping-service in containers. They reach the catalog at the container bridge's address, as images
# built long ago expect. Build the image first: see docs/samples.md.

job "ping_service" {
  datacenters = ["public-services", "private-services", "content-connector", "backoffice", "dc1"]
  type        = "service"

  group "ping_service_group" {
    count = 4

    restart {
      attempts = 10
      interval = "5m"
      delay    = "5s"
      mode     = "delay"
    }

    ephemeral_disk {
      migrate = false
      size    = "50"
      sticky  = false
    }

    network {
      port "ping_service_port" {
        to = 8080
      }
    }

    task "ping_service_task" {
      driver = "docker"

      config {
        image = "cos-samples/ping_service:0.1.0"
        ports = ["ping_service_port"]
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }

      service {
        name = "ping-service"
        port = "ping_service_port"
        tags = ["urlprefix-/ping"]

        check {
          name     = "ping-service answers"
          port     = "ping_service_port"
          type     = "http"
          method   = "GET"
          path     = "/ping"
          interval = "10s"
          timeout  = "2s"
        }
      }

      env {
        SERVICE_NAME       = "${NOMAD_DC}"
        PROVIDER           = "ping-service"
        CONSUL_SERVER_ADDR = "172.17.0.1:8500"
      }

      resources {
        cpu    = 100
        memory = 20
      }
    }
  }
}

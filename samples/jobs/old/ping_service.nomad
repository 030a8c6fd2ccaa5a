# ping-service as files looked before HCL2: commas after attributes, a block given twice, quoted
# numbers, the network inside resources and ports mapped by the driver.

job "ping_service" {
  datacenters = ["public-services", "private-services", "content-connector", "backoffice"]
  type = "service"

  update {
    stagger = "10s"
    max_parallel = 1
  }

  group "ping_service_group" {
    count = 4

    restart {
      attempts = 10
      interval = "5m"
      delay = "25s"
      mode = "delay"
    }

    ephemeral_disk {
      size = "50"
    }

    task "ping_service_task" {
      driver = "docker"
      config {
        image = "cos-samples/ping_service:0.1.0"
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }

      config {
        port_map = {
          http = 8080
        }
      }

      resources {
        cpu    = 100
        memory = "20"
        network {
          mbits = 1
          port "http" {}
        }
      }

      service {
        name = "ping-service"
        tags = ["urlprefix-/ping"]
        port = "http"
        check {
          name     = "ping-service answers"
          port     = "http"
          type     = "http"
          method   = "GET"
          path     = "/ping"
          interval = "10s"
          timeout  = "2s"
        }
      }

      env {
        SERVICE_NAME       = "${NOMAD_DC}",
        PROVIDER           = "ping-service",
        CONSUL_SERVER_ADDR = "172.17.0.1:8500",
      }
    }
  }
}

"""The sample fail-service as a job of plain processes, with short timers."""

from cluster import SAMPLES


def job(name, count=1, update="", group="", check="", healthy_in=0, healthy_for=-1, note=""):
    """A job file; `note` makes a new version that behaves alike."""
    return f"""
job "{name}" {{
  datacenters = ["dc1"]
  group "g" {{
    count = {count}
    {group}
    update {{
      max_parallel      = 1
      min_healthy_time  = "500ms"
      healthy_deadline  = "5s"
      progress_deadline = "9s"
      {update}
    }}
    network {{
      port "http" {{}}
    }}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "{SAMPLES}/fail-service"
        args    = ["-p", "${{NOMAD_PORT_http}}"]
      }}
      env {{
        HEALTHY_IN    = {healthy_in}
        HEALTHY_FOR   = {healthy_for}
        UNHEALTHY_FOR = -1
        NOTE          = "{note}"
      }}
      service {{
        name = "{name}"
        port = "http"
        tags = ["urlprefix-/{name} strip=/{name}"]
        check {{
          type     = "http"
          path     = "/health"
          interval = "1s"
          timeout  = "1s"
          {check}
        }}
      }}
      resources {{
        cpu    = 20
        memory = 16
      }}
    }}
  }}
}}
"""

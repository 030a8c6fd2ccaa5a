"""The sample fail-service as a job of plain processes, with short timers."""

from cluster import SAMPLES


def job(name, count=1, update="", group="", check="", healthy_in=0, healthy_for=-1, note="", impatient=False):
    """A job file; `note` makes a new version that behaves alike.

    Deadlines leave a busy machine time; what is meant to miss them says that it is impatient.
    """
    healthy, progress = ("5s", "9s") if impatient else ("40s", "60s")
    return f"""
job "{name}" {{
  datacenters = ["dc1"]
  group "g" {{
    count = {count}
    {group}
    update {{
      max_parallel      = 1
      min_healthy_time  = "500ms"
      healthy_deadline  = "{healthy}"
      progress_deadline = "{progress}"
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

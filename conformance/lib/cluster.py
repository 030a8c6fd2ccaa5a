"""What all tests share: the cluster's addresses, the command line, HTTP, and waiting for a level."""

import json
import os
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.request
import uuid

NET = os.environ["COS_NET"]
ROOT = pathlib.Path(os.environ["COS_ROOT"])
SAMPLES = os.environ["COS_SAMPLES"]
WORK = pathlib.Path(os.environ["COS_WORK"])
SERVERS = [f"{NET}.{n}" for n in (1, 2, 3)]
CLIENTS = [f"{NET}.{n}" for n in (11, 12, 13)]


def unique(word):
    """A name that no other test uses: all tests share the cluster."""
    return f"{word}-{uuid.uuid4().hex[:6]}"


def wait_for(what, level, seconds=30):
    """Asks `level` until it answers something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = level()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


class Output:
    """What a command left behind."""

    def __init__(self, completed):
        self.code = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr
        self.all = self.out + self.err

    def rows(self):
        """A table's rows without its head, split at two or more spaces."""
        return [re.split(r"\s{2,}", line.strip()) for line in self.out.splitlines()[1:] if line.strip()]

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def run(*words, env=None, seconds=60, stdin=None):
    """Runs a command to its end."""
    completed = subprocess.run(
        [str(word) for word in words],
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=seconds,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        check=False,
    )
    return Output(completed)


def nomad(*words, **options):
    return run("nomad", *words, **options)


def consul(*words, **options):
    return run("consul", *words, **options)


def must(output, code=0):
    """The output of a command that had to end with this code."""
    if output.code != code:
        raise AssertionError(f"expected exit code {code}:\n{output!r}")
    return output


class Response:
    """An HTTP answer."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self):
        return self.body.decode(errors="replace")

    def json(self):
        return json.loads(self.body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def http(url, method="GET", body=None, headers=None, seconds=20):
    """One request; any status is an answer."""
    if body is not None and not isinstance(body, bytes):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with _opener.open(request, timeout=seconds) as answer:
            return Response(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Response(error.code, error.headers, error.read())


def api(path, server=0, **options):
    """A request of Nomad's API to a server."""
    return http(f"http://{SERVERS[server]}:4646{path}", **options)


def registry(path, server=0, **options):
    """A request of Consul's API to a server."""
    return http(f"http://{SERVERS[server]}:8500{path}", **options)


def job_file(text):
    """Writes a job file and returns its path."""
    path = WORK / f"{uuid.uuid4().hex[:8]}.nomad"
    path.write_text(text)
    return path


def submit(text, *flags, code=0):
    """Submits a job without following it."""
    return must(nomad("job", "run", "-detach", *flags, job_file(text)), code)


def purge(job):
    """Stops a job and removes it."""
    return nomad("job", "stop", "-purge", "-detach", job)


def allocations(job):
    return api(f"/v1/job/{job}/allocations?all=true").json()


def running(job, count):
    """The running allocations of a job, once there are exactly so many."""
    found = [a for a in allocations(job) if a["ClientStatus"] == "running" and a["DesiredStatus"] == "run"]
    return found if len(found) == count else None


def sleeper(name, count=1, datacenter="dc1", kind="service", script="echo out; echo err >&2; exec sleep 600"):
    """A job of shells that wait."""
    update = 'update {\n      min_healthy_time = "0s"\n    }' if kind == "service" else ""
    return f"""
job "{name}" {{
  datacenters = ["{datacenter}"]
  type        = "{kind}"
  group "g" {{
    count = {count}
    {update}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sh"
        args    = ["-c", "{script}"]
      }}
      resources {{
        cpu    = 20
        memory = 16
      }}
    }}
  }}
}}
"""

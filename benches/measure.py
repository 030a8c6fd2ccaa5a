"""Measures what docs/benchmarks.md lists. Started by benches/run.

Each figure is a function that returns rows (what, cos, goal, peer). An agent is started for each
group of figures in a directory of its own and ended with everything it started.
"""

import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

COS, SAMPLES = sys.argv[1], sys.argv[2]
HZ = os.sysconf("SC_CLK_TCK")
ROUNDS = 6


class Agents:
    """Agents on loopback with ports of their own, ended on exit."""

    def __init__(self, count):
        self.dir = tempfile.mkdtemp(prefix="cos-bench-")
        self.processes = []
        self.base = 15000
        serfs = [f"127.0.0.1:{self.base + 100 * n + 2}" for n in range(count)]
        for number in range(count):
            self.start(number, count, serfs)
        self.http = f"http://127.0.0.1:{self.base}"
        self.consul = f"http://127.0.0.1:{self.base + 3}"
        self.dns = self.base + 4
        self.ingress = self.base + 5
        self.wait(lambda: get(f"{self.http}/v1/nodes") and
                  all(n["Status"] == "ready" for n in get(f"{self.http}/v1/nodes")))

    def start(self, number, count, serfs):
        port = self.base + 100 * number
        names = ["http", "rpc", "serf", "consul_http", "dns", "ingress", "ingress_ui"]
        config = {
            "name": f"bench-{number}",
            "data_dir": f"{self.dir}/{number}",
            "bind_addr": "127.0.0.1",
            "log_level": "warn",
            "ports": {name: port + at for at, name in enumerate(names)},
            "server": {"enabled": True, "bootstrap_expect": count,
                       "server_join": {"retry_join": serfs}},
            "client": {"enabled": number == 0, "servers": [f"127.0.0.1:{port + 1}"]},
            "plugin": {"raw_exec": {"config": {"enabled": True}}},
        }
        path = f"{self.dir}/{number}.json"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        log = open(f"{self.dir}/{number}.log", "w", encoding="utf-8")
        process = subprocess.Popen([COS, "agent", "-config", path], stdout=log, stderr=log)
        self.processes.append(process)

    def wait(self, test, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if test():
                    return
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.05)
        for number in range(len(self.processes)):
            sys.stderr.write(open(f"{self.dir}/{number}.log", encoding="utf-8").read()[-2000:])
        raise SystemExit("the agents did not get ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            for job in get(f"{self.http}/v1/jobs"):
                call("DELETE", f"{self.http}/v1/job/{job['ID']}?purge=true")
            self.wait(lambda: not ours(self.dir, "shim"), 10)
        except (SystemExit, OSError, urllib.error.URLError):
            pass
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(15)
        for pid in ours(self.dir, ""):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)


def ours(directory, word):
    """Pids of processes that carry the directory, and the word, on their command line."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            line = open(f"/proc/{name}/cmdline", "rb").read().decode(errors="replace")
        except OSError:
            continue
        if directory in line and word in line:
            found.append(int(name))
    return found


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        text = response.read()
    return json.loads(text) if text else None


def get(url):
    return call("GET", url)


def job(name, tag=None, count=1):
    service = []
    networks = []
    args = ["3600"]
    command = "/bin/sleep"
    if tag:
        command = f"{SAMPLES}/ping-service"
        args = ["-p", "${NOMAD_PORT_http}"]
        networks = [{"DynamicPorts": [{"Label": "http"}]}]
        service = [{"Name": name, "PortLabel": "http", "Tags": [tag], "Provider": "consul",
                    "Checks": [{"Type": "tcp", "Interval": 10**9, "Timeout": 10**9}]}]
    return {"Job": {"ID": name, "Name": name, "Type": "service", "Datacenters": ["*"],
                    "TaskGroups": [{"Name": "g", "Count": count, "Networks": networks,
                                    "Services": service, "Tasks": [{
                                        "Name": "t", "Driver": "raw_exec",
                                        "Config": {"command": command, "args": args},
                                        "Resources": {"CPU": 10, "MemoryMB": 10}}]}]}}


def rss(pid):
    for line in open(f"/proc/{pid}/status", encoding="utf-8"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0


def cpu(pid):
    fields = open(f"/proc/{pid}/stat", encoding="utf-8").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HZ


def private(pid):
    """Private memory in MiB."""
    total = 0
    for line in open(f"/proc/{pid}/smaps_rollup", encoding="utf-8"):
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1])
    return total / 1024


def size():
    own = os.path.getsize(COS) / 1e6
    peer = shutil.which("dockerd")
    peer = f"dockerd {os.path.getsize(peer) / 1e6:.0f} MB" if peer else "dockerd missing"
    return [("binary, stripped", f"{own:.1f} MB", "≤ 25 MB", peer)]


def idle():
    with Agents(1) as agents:
        time.sleep(20)
        own = rss(agents.processes[0].pid)
    peers = []
    for name in ("dockerd", "containerd"):
        pids = subprocess.run(["pidof", name], capture_output=True, text=True, check=False).stdout
        if pids:
            peers.append(f"{name} {rss(pids.split()[0]):.0f} MB")
    return [("idle RSS, one agent, all listeners, after 20 s", f"{own:.1f} MB", "≤ 40 MB",
             ", ".join(peers) or "no engine running")]


def submit(servers):
    times = []
    shim = 0
    with Agents(servers) as agents:
        for number in range(40):
            name = f"b{number}"
            began = time.perf_counter()
            call("PUT", f"{agents.http}/v1/jobs", job(name))
            index = 0
            while True:
                url = f"{agents.http}/v1/job/{name}/allocations?stale=true&index={index}&wait=5s"
                with urllib.request.urlopen(url, timeout=10) as response:
                    index = int(response.headers["X-Nomad-Index"])
                    allocs = json.load(response)
                if any(a["ClientStatus"] == "running" for a in allocs):
                    break
            times.append((time.perf_counter() - began) * 1000)
            if number == 5:
                shims = ours(agents.dir, "shim")
                shim = max(private(pid) for pid in shims) if shims else 0
            call("DELETE", f"{agents.http}/v1/job/{name}?purge=true")
    times = sorted(times[5:])
    p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
    goal = "p50 ≤ 25 ms" if servers == 1 else "p50 ≤ 40 ms"
    rows = [(f"submit → raw_exec process running, {servers} server(s)",
             f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", goal, docker_start())]
    if servers == 1:
        rows.append(("private memory of a task's shim", f"{shim:.2f} MB", "≤ 2 MB",
                     containerd_shim()))
    return rows


def engine():
    return shutil.which("docker") and subprocess.run(
        ["docker", "info"], capture_output=True, check=False).returncode == 0


def bench_image():
    context = tempfile.mkdtemp(prefix="cos-bench-image-")
    shutil.copy(f"{SAMPLES}/ping-service", f"{context}/ping-service")
    with open(f"{context}/Dockerfile", "w", encoding="utf-8") as file:
        file.write('FROM scratch\nCOPY ping-service /p\nENTRYPOINT ["/p"]\n')
    subprocess.run(["docker", "build", "-q", "-t", "cos-bench:1", context],
                   capture_output=True, check=True)
    shutil.rmtree(context)


def docker_start():
    if not engine():
        return "docker missing"
    bench_image()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        made = subprocess.run(["docker", "run", "-d", "--network", "host", "cos-bench:1", "-p",
                               "18999"], capture_output=True, text=True, check=True)
        times.append((time.perf_counter() - began) * 1000)
        subprocess.run(["docker", "rm", "-f", made.stdout.strip()], capture_output=True, check=True)
    return f"docker run -d p50 {statistics.median(times):.0f} ms"


def containerd_shim():
    if not engine():
        return "docker missing"
    bench_image()
    made = subprocess.run(["docker", "run", "-d", "--network", "host", "cos-bench:1", "-p",
                           "18999"], capture_output=True, text=True, check=True).stdout.strip()
    try:
        shims = ours(made, "containerd-shim")
        return f"containerd-shim {private(shims[0]):.1f} MB" if shims else "containerd-shim not found"
    finally:
        subprocess.run(["docker", "rm", "-f", made], capture_output=True, check=True)


def dns_has(port, name):
    """Whether a service has an address, asked by hand: nothing here depends on a resolver."""
    question = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0\0\1\0\1"
    packet = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.sendto(packet, ("127.0.0.1", port))
        answer = sock.recv(2048)
    return struct.unpack(">H", answer[6:8])[0] > 0


def visible():
    """From the answer to a registration until DNS and ingress know it."""
    dns, routed = [], []
    with Agents(1) as agents:
        for number in range(20):
            body = {"Name": f"s{number}", "Address": "127.0.0.1", "Port": 9,
                    "Tags": [f"urlprefix-/s{number}"],
                    "Check": {"TTL": "60s", "Status": "passing"}}
            began = time.perf_counter()
            call("PUT", f"{agents.consul}/v1/agent/service/register", body)
            while not dns_has(agents.dns, f"s{number}.service.consul"):
                pass
            dns.append((time.perf_counter() - began) * 1000)
            while status(f"http://127.0.0.1:{agents.ingress}/s{number}") == 404:
                pass
            routed.append((time.perf_counter() - began) * 1000)
    peer = haproxy_reload()
    return [("service change → DNS, from the request on", f"p50 {statistics.median(dns):.1f} ms, "
             f"max {max(dns):.1f} ms", "≤ 100 ms", "–"),
            ("service change → ingress, from the request on",
             f"p50 {statistics.median(routed):.1f} ms, max {max(routed):.1f} ms", "≤ 100 ms", peer)]


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def haproxy_config(backend, port, threads=2):
    return f"""
global
  nbthread {threads}
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend f
  bind 127.0.0.1:{port}
  option forwardfor
  default_backend b
backend b
  server s 127.0.0.1:{backend}
"""


def haproxy_reload():
    if not shutil.which("haproxy"):
        return "haproxy missing"
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/h.cfg"
        with open(path, "w", encoding="utf-8") as file:
            file.write(haproxy_config(9, 15900))
        began = time.perf_counter()
        process = subprocess.Popen(["haproxy", "-f", path], stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", 15900), 1).close()
                break
            except OSError:
                pass
        took = (time.perf_counter() - began) * 1000
        process.terminate()
        process.wait(10)
    return f"haproxy start with a new file {took:.0f} ms"


def load(port, seconds):
    made = subprocess.run(["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency",
                           f"http://127.0.0.1:{port}/ping?hop=10"], capture_output=True, text=True,
                          check=True).stdout
    requests = next(int(l.split()[0]) for l in made.splitlines() if "requests in" in l)
    errors = "Non-2xx" in made
    p99 = next(l.split()[1] for l in made.splitlines() if l.strip().startswith("99%"))
    if errors:
        raise SystemExit(f"load on {port} met errors:\n{made}")
    return requests, p99


def ingress():
    if not (shutil.which("haproxy") and shutil.which("wrk")):
        return [("ingress CPU per request", "not measured", "≤ 1.3 × HAProxy",
                 "haproxy or wrk missing")]
    rows = []
    with Agents(1) as agents:
        backend = subprocess.Popen([f"{SAMPLES}/ping-service", "-p", "15950"])
        ingress_process = subprocess.Popen(
            [COS, "ingress", "-proxy-addr", "127.0.0.1:15951", "-ui-addr", "127.0.0.1:15952",
             "-registry", agents.consul.removeprefix("http://")],
            stderr=open(f"{agents.dir}/ingress.log", "w", encoding="utf-8"))
        path = f"{agents.dir}/h.cfg"
        with open(path, "w", encoding="utf-8") as file:
            file.write(haproxy_config(15950, 15953))
        peer = subprocess.Popen(["haproxy", "-f", path], stderr=subprocess.DEVNULL)
        try:
            call("PUT", f"{agents.consul}/v1/agent/service/register", {
                "Name": "ping", "Address": "127.0.0.1", "Port": 15950, "Tags": ["urlprefix-/ping"],
                "Check": {"TTL": "10m", "Status": "passing"}})
            agents.wait(lambda: status("http://127.0.0.1:15951/ping?hop=10") == 200)
            own, other, ratios = [], [], []
            for _ in range(ROUNDS):
                mine = per_request(ingress_process.pid, 15951)
                theirs = per_request(peer.pid, 15953)
                own.append(mine)
                other.append(theirs)
                ratios.append(mine[0] / theirs[0])
            rows.append((
                "ingress CPU per request, HTTP/1.1 keep-alive, 64 connections",
                f"{statistics.median(o[0] for o in own):.1f} µs, "
                f"{statistics.median(o[1] for o in own):.0f} requests/s; median ratio "
                f"{statistics.median(ratios):.2f} (rounds: {', '.join(f'{r:.2f}' for r in ratios)})",
                "≤ 1.3 × HAProxy",
                f"HAProxy {statistics.median(o[0] for o in other):.1f} µs, "
                f"{statistics.median(o[1] for o in other):.0f} requests/s"))
        finally:
            for process in (backend, ingress_process, peer):
                process.terminate()
                process.wait(10)
    return rows


def per_request(pid, port, seconds=4):
    load(port, 1)
    before = cpu(pid)
    requests, _ = load(port, seconds)
    return ((cpu(pid) - before) * 1e6 / requests, requests / seconds)


def main():
    print(f"Machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, kernel {os.uname().release}\n")
    print("| figure | cos | goal | peer, same run |\n|---|---|---|---|")
    groups = [size, idle, lambda: submit(1), lambda: submit(3), visible, ingress]
    for group in groups:
        for row in group():
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()

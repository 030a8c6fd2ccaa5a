"""Breaks the cluster of `make run` on purpose while asking for /ping every 50 ms, and counts.

    python3 deploy/local/faults.py COS

Kills the leading server, then a ping process, then a whole client with its tasks, and finally every
server at once. Prints for each what came back and how many requests failed in between. Starts again
what it killed, so the cluster is whole at the end. Ends with 1 if something did not come back.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

COS = sys.argv[1] if len(sys.argv) > 1 else "target/release/cos"
ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = pathlib.Path(os.environ.get("COS_RUN_DIR", ROOT / ".run"))
SERVERS = {f"server-{n}": f"127.0.0.{n}" for n in (1, 2, 3)}


class Asker(threading.Thread):
    """Asks every 50 ms and notes when the ingress gave no answer, or a chain of pings broke.

    An instance of ping-service calls the next one directly, at an address from the catalog. So a
    chain breaks at an instance that is dead and not yet known to be; its answer has no PONG.
    """

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.asked, self.on = address, 0, True
        self.failed, self.broken = [], []

    def run(self):
        while self.on:
            began = time.monotonic()
            self.asked += 1
            try:
                with urllib.request.urlopen(f"http://{self.address}:9999/ping", timeout=3) as answer:
                    if b"PONG" not in answer.read():
                        self.broken.append(began)
            except (OSError, urllib.error.URLError):
                self.failed.append(began)
            time.sleep(max(0.0, 0.05 - (time.monotonic() - began)))

    def window(self):
        """What happened since the last call: how often, and from the first to the last in seconds."""
        failed, self.failed = self.failed, []
        broken, self.broken = self.broken, []
        asked, self.asked = self.asked, 0

        def told(times):
            return f"{len(times)} within {times[-1] - times[0]:.1f} s" if times else "0"

        return f"of {asked} requests {told(failed)} failed, {told(broken)} met a dead next hop"


def get(address, path):
    with urllib.request.urlopen(f"http://{address}:4646{path}", timeout=3) as answer:
        return json.load(answer)


def wait(what, seconds, test):
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            if test():
                return time.monotonic() - began
        except (OSError, urllib.error.URLError, KeyError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"FAILED: {what} did not happen within {seconds} s")


def pid_of(agent):
    return int((RUN / agent / "agent.pid").read_text())


def start(agent):
    log = open(RUN / agent / "agent.log", "a", encoding="utf-8")
    made = subprocess.Popen([COS, "agent", "-config", str(RUN / agent / "agent.hcl")], stdout=log,
                            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    (RUN / agent / "agent.pid").write_text(str(made.pid))


def pids_with(*words):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(int(entry.name))
    return found


def children(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def running(address="127.0.0.1"):
    allocs = get(address, "/v1/job/ping-service/allocations?stale=true")
    return {a["ID"]: a for a in allocs if a["ClientStatus"] == "running"}


def ping_pids():
    return sorted(child for shim in pids_with("shim run", str(RUN)) for child in children(shim))


def kill_leader(asker):
    rpc = get("127.0.0.1", "/v1/status/leader").split(":")[0]
    leader = next(name for name, address in SERVERS.items() if address == rpc)
    other = next(address for name, address in SERVERS.items() if name != leader)
    os.kill(pid_of(leader), signal.SIGKILL)
    body = b"written without the old leader"

    def writes():
        request = urllib.request.Request(f"http://{other}:8500/v1/kv/faults/leader", data=body,
                                         method="PUT")
        with urllib.request.urlopen(request, timeout=12) as answer:
            return answer.read() == b"true"

    took = wait("a new leader that takes writes", 20, writes)
    print(f"leader {leader} killed: writes again after {took:.1f} s; {asker.window()}")
    start(leader)
    address = SERVERS[leader]
    wait("the old leader back in the cluster", 20,
         lambda: get(address, "/v1/status/leader") not in ("", None))


def kill_ping(asker):
    victim = next(pid for pid in ping_pids() if b"ping-service" in
                  pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
    before, allocs, restarted = ping_pids(), set(running()), restarts()
    asker.window()
    os.kill(victim, signal.SIGKILL)
    took = wait("the restart of the ping process", 30, lambda: restarts() == restarted + 1 and
                set(running()) == allocs and len(set(ping_pids()) - set(before)) == 1)
    wait("four healthy instances", 30, lambda: healthy() == 4)
    print(f"ping process killed: restarted by policy after {took:.1f} s; {asker.window()}")


def restarts():
    """How often ping tasks were restarted in place so far."""
    return sum(get("127.0.0.1", f"/v1/allocation/{a}")["TaskStates"]["ping"]["Restarts"]
               for a in running())


def healthy():
    with urllib.request.urlopen(
            "http://127.0.0.1:8500/v1/health/service/ping-service?passing=1", timeout=3) as answer:
        return len(json.load(answer))


def kill_client(asker):
    # The requests go through the ingress of public-services, so that client is spared.
    name = next(a["NodeName"].removeprefix("client-") for a in running().values()
                if a["NodeName"] != "client-public-services")
    before = {i for i, a in running().items() if a["NodeName"] == f"client-{name}"}
    asker.window()
    victims = pids_with(str(RUN / name))
    victims += [child for pid in victims for child in children(pid)]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    took = wait("the lost instance running elsewhere", 30, lambda: len(running()) == 4 and
                not before & set(running()))
    wait("four healthy instances", 30, lambda: healthy() == 4)
    print(f"client {name} killed with its tasks: work runs elsewhere after {took:.1f} s; "
          f"{asker.window()}")
    start(name)
    wait("the client ready again", 30, lambda: all(
        n["Status"] == "ready" for n in get("127.0.0.1", "/v1/nodes")))
    # One ping for each of four instances and one ingress on each of four clients.
    wait("all tasks running again", 60, lambda: len(ping_pids()) == 8)


def kill_servers(asker):
    pids, allocs = ping_pids(), set(running())
    for name in SERVERS:
        os.kill(pid_of(name), signal.SIGKILL)
    for name in SERVERS:
        start(name)
    wait("a leader after all servers were killed", 30,
         lambda: get("127.0.0.1", "/v1/status/leader") not in ("", None))

    def value():
        with urllib.request.urlopen("http://127.0.0.1:8500/v1/kv/faults/leader?raw", timeout=5) as a:
            return a.read()

    wait("the key that was written", 20, lambda: value() == b"written without the old leader")
    wait("all allocations running", 30, lambda: set(running()) == allocs)
    if ping_pids() != pids:
        raise SystemExit(f"FAILED: tasks changed their pids: {pids} became {ping_pids()}")
    print(f"all servers killed at once: jobs, allocations and keys are there, {len(pids)} tasks "
          f"kept their pids; {asker.window()}")


def main():
    if not RUN.is_dir():
        sys.exit("error: no cluster runs here; type: make run")
    asker = Asker("127.0.0.11")
    asker.start()
    for fault in (kill_leader, kill_ping, kill_client, kill_servers):
        fault(asker)
    asker.on = False
    print("everything came back")


if __name__ == "__main__":
    main()

"""The registry's HTTP API as fabio, Traefik, Prometheus and the sample services ask it."""

import socket
import threading
import time
import unittest
from base64 import b64decode

from cluster import CLIENTS, SAMPLES, SERVERS, http, purge, registry, submit, unique, wait_for
from fail_service import job


class Fabio(unittest.TestCase):
    """Both generations of fabio: what they ask at their start, and how they register themselves."""

    def setUp(self):
        self.id = unique("fabio-host-9998")
        self.addCleanup(registry, f"/v1/agent/service/deregister/{self.id}", method="PUT")

    def registered(self, checks):
        body = {"ID": self.id, "Name": "fabio", "Port": 9998, "Address": CLIENTS[0], "Tags": None} | checks
        self.assertEqual(registry("/v1/agent/service/register", method="PUT", body=body).status, 200)
        return wait_for(
            "it is passing",
            lambda: [
                e
                for e in registry("/v1/health/service/fabio?passing=1").json()
                if e["Service"]["ID"] == self.id
            ],
        )

    def test_it_reads_its_datacenter_and_an_absent_configuration(self):
        self.assertEqual(registry("/v1/agent/self").json()["Config"]["Datacenter"], "global")
        for key in ("fabio/config", "fabio/noroute.html"):
            answer = registry(f"/v1/kv/{key}?consistent=&recurse=")
            self.assertEqual(answer.status, 404)
            self.assertGreater(int(answer.headers["X-Consul-Index"]), 0)

    def test_the_older_one_registers_with_one_check_in_brackets(self):
        url = f"http://[{CLIENTS[0]}]:9998/health"
        check = {"HTTP": url, "Interval": "1s", "Timeout": "3s", "DeregisterCriticalServiceAfter": "90m"}
        self.registered({"Check": check})
        self.assertIn(self.id, registry("/v1/agent/services").json())

    def test_the_newer_one_registers_with_two_checks_and_keeps_one_alive(self):
        url = f"http://[{CLIENTS[0]}]:9998/health"
        checks = [
            {"CheckID": f"{self.id}-ttl", "TTL": "15s", "DeregisterCriticalServiceAfter": "1m"},
            {"HTTP": url, "Interval": "1s", "Timeout": "3s", "DeregisterCriticalServiceAfter": "1m"},
        ]
        done = threading.Event()
        self.addCleanup(done.set)

        def renew():
            while not done.wait(0.3):
                registry(f"/v1/agent/check/update/{self.id}-ttl", method="PUT", body={"Status": "passing", "Output": ""})

        threading.Thread(target=renew, daemon=True).start()
        found = self.registered({"Checks": checks})
        kinds = {c["Type"] for c in found[0]["Checks"] if c["CheckID"] != "serfHealth"}
        self.assertEqual(kinds, {"ttl", "http"})

    def test_it_joins_checks_and_services_by_node_and_id(self):
        name = unique("backend")
        self.addCleanup(purge, name)
        submit(job(name))
        wait_for("passing", lambda: registry(f"/v1/health/service/{name}?passing=1").json())
        checks = registry("/v1/health/state/any?consistent=").json()
        service = registry(f"/v1/catalog/service/{name}?consistent=").json()[0]
        for field in ("Node", "ServiceID", "ServiceName", "ServiceTags", "ServiceAddress", "ServicePort", "Address"):
            self.assertIn(field, service)
        own = [c for c in checks if (c["Node"], c["ServiceID"]) == (service["Node"], service["ServiceID"])]
        self.assertEqual([c["Status"] for c in own], ["passing"])
        alive = [c for c in checks if c["Node"] == service["Node"] and c["CheckID"] == "serfHealth"]
        self.assertEqual([c["Status"] for c in alive], ["passing"])


class Watching(unittest.TestCase):
    def blocked(self, path, change, server=1):
        """Asks for what comes after now, makes the change, and returns the answer."""
        index = int(registry(path, server).headers["X-Consul-Index"])
        joint = "&" if "?" in path else "?"
        answers = []

        def ask():
            answers.append(registry(f"{path}{joint}index={index}&wait=60s", server, seconds=70))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        change()
        thread.join(10)
        self.assertTrue(answers, f"the change did not wake {path}")
        self.assertGreater(int(answers[0].headers["X-Consul-Index"]), index)
        return answers[0]

    def test_every_list_wakes_when_a_service_comes(self):
        for path in ("/v1/catalog/services", "/v1/health/state/any", "/v1/health/service/{}", "/v1/catalog/service/{}"):
            with self.subTest(path):
                name = unique("comes")
                self.addCleanup(registry, f"/v1/agent/service/deregister/{name}", method="PUT")
                body = {"Name": name, "Port": 80, "Check": {"TTL": "60s", "Status": "passing"}}
                answer = self.blocked(
                    path.format(name), lambda: registry("/v1/agent/service/register", method="PUT", body=body)
                )
                self.assertEqual(answer.status, 200)

    def test_a_key_wakes_its_reader_and_another_does_not(self):
        key = unique("key")
        self.addCleanup(registry, f"/v1/kv/{key}", method="DELETE")
        registry(f"/v1/kv/{key}", method="PUT", body=b"1")
        wait_for("replicated", lambda: registry(f"/v1/kv/{key}?raw", 1).body == b"1")
        answer = self.blocked(f"/v1/kv/{key}", lambda: registry(f"/v1/kv/{key}", method="PUT", body=b"2"))
        self.assertEqual(b64decode(answer.json()[0]["Value"]), b"2")
        index = answer.headers["X-Consul-Index"]
        begun = time.monotonic()
        registry(f"/v1/kv/{key}-other", method="PUT", body=b"3")
        self.addCleanup(registry, f"/v1/kv/{key}-other", method="DELETE")
        same = registry(f"/v1/kv/{key}?index={index}&wait=1s", 1)
        self.assertGreaterEqual(time.monotonic() - begun, 0.9, "another key's change woke it")
        self.assertEqual(b64decode(same.json()[0]["Value"]), b"2")


class Reading(unittest.TestCase):
    def test_prometheus_and_traefik_find_nomad_with_its_tags(self):
        services = registry("/v1/catalog/services").json()
        self.assertEqual(sorted(services["nomad"]), ["http", "rpc", "serf"])
        self.assertEqual(services["nomad-client"], ["http"])
        counts = {name: len(registry(f"/v1/health/service/{name}").json()) for name in ("nomad", "nomad-client", "consul")}
        self.assertEqual(counts, {"nomad": 9, "nomad-client": 3, "consul": 3})
        tagged = registry("/v1/health/service/nomad?tag=http").json()
        self.assertEqual(sorted(e["Service"]["Address"] for e in tagged), SERVERS)
        self.assertEqual({e["Service"]["Port"] for e in tagged}, {4646})

    def test_every_agent_answers_the_same(self):
        path = "/v1/catalog/nodes"
        names = [sorted(n["Node"] for n in http(f"http://{a}:8500{path}").json()) for a in (*SERVERS, *CLIENTS)]
        self.assertEqual(names, [names[0]] * 6)
        self.assertEqual(registry("/v1/catalog/datacenters").json(), ["global"])
        self.assertIn(registry("/v1/status/leader").json().split(":")[0], SERVERS)

    def test_a_service_registers_on_the_agent_that_it_asks(self):
        name = unique("own")
        body = {"Name": name, "Port": 80, "Address": "10.1.1.1", "Tags": ["traefik.enable=true"]}
        agent = f"http://{CLIENTS[1]}:8500"
        self.assertEqual(http(f"{agent}/v1/agent/service/register", method="PUT", body=body).status, 200)
        found = wait_for("it is known", lambda: registry(f"/v1/health/service/{name}").json())
        self.assertEqual(found[0]["Node"]["Node"], "client-2")
        self.assertEqual(http(f"{agent}/v1/agent/service/deregister/{name}", method="PUT").status, 200)
        wait_for("it is gone", lambda: not registry(f"/v1/health/service/{name}").json())

    def test_a_ttl_that_is_not_renewed_turns_critical(self):
        name = unique("forgotten")
        self.addCleanup(registry, f"/v1/agent/service/deregister/{name}", method="PUT")
        body = {"Name": name, "Check": {"CheckID": name, "TTL": "1s"}}
        registry("/v1/agent/service/register", method="PUT", body=body)
        registry(f"/v1/agent/check/pass/{name}", method="PUT")

        def status():
            return [c["Status"] for c in registry(f"/v1/health/checks/{name}").json()]

        wait_for("passing", lambda: status() == ["passing"], 5)
        wait_for("critical", lambda: status() == ["critical"])

    def test_a_check_of_a_port_where_nobody_listens_is_critical(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        name = unique("nobody")
        self.addCleanup(registry, f"/v1/agent/service/deregister/{name}", method="PUT")
        body = {"Name": name, "Check": {"TCP": f"127.0.0.1:{port}", "Interval": "1s", "Status": "passing"}}
        registry("/v1/agent/service/register", method="PUT", body=body)
        wait_for(
            "critical with a reason",
            lambda: [c for c in registry(f"/v1/health/checks/{name}").json() if c["Status"] == "critical" and c["Output"]],
        )

    def test_wrong_bodies_are_refused(self):
        for body in (b"{", b'{"Name": {}}', b"{}", b'{"Name": "x", "Check": {"TTL": "soon"}}'):
            answer = registry("/v1/agent/service/register", method="PUT", body=body)
            self.assertEqual(answer.status, 400, (body, answer.text))
        self.assertEqual(registry("/v1/agent/check/pass/unknown", method="PUT").status, 404)


class Samples(unittest.TestCase):
    def test_frontend_shows_the_backend_that_the_registry_names(self):
        name = unique("pair")
        self.addCleanup(purge, name)
        submit(
            f"""
job "{name}" {{
  datacenters = ["dc1"]
  group "backend" {{
    network {{
      port "http" {{}}
    }}
    service {{
      name = "backend"
      port = "http"
      check {{
        type     = "http"
        path     = "/"
        interval = "1s"
        timeout  = "1s"
      }}
    }}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "{SAMPLES}/backend"
      }}
      env {{
        PORT     = "${{NOMAD_PORT_http}}"
        VARIABLE = "from-{name}"
      }}
    }}
  }}
  group "frontend" {{
    network {{
      port "http" {{}}
    }}
    service {{
      name = "{name}"
      port = "http"
      tags = ["urlprefix-{name}.example.org/"]
      check {{
        type     = "tcp"
        interval = "1s"
        timeout  = "1s"
      }}
    }}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "{SAMPLES}/frontend"
      }}
      env {{
        PORT        = "${{NOMAD_PORT_http}}"
        CONSUL_ADDR = "{SERVERS[0]}:8500"
      }}
    }}
  }}
}}
"""
        )

        def page():
            answer = http(f"http://{CLIENTS[0]}:9999/", headers={"Host": f"{name}.example.org"})
            return answer.text if answer.status == 200 and f"from-{name}" in answer.text else None

        self.assertNotIn("DOWN", wait_for("the page", page))


if __name__ == "__main__":
    unittest.main()

"""dig asks for services and nodes, over UDP and TCP, on servers and on clients."""

import re
import shutil
import unittest

from cluster import CLIENTS, NET, SERVERS, must, purge, registry, run, running, sleeper, submit, unique, wait_for


def ask(name, kind, *flags, agent=None):
    """Statuses and records of an answer: lists of (name, type, data)."""
    words = ["dig", f"@{agent or SERVERS[0]}", "-p", "8600", "+tries=1", "+time=3", *flags, name, kind]
    out = must(run(*words)).out
    status = re.search(r"status: (\w+)", out)[1]
    sections = {}
    for title, body in re.findall(r";; (ANSWER|AUTHORITY|ADDITIONAL) SECTION:\n(.*?)\n\n", out + "\n\n", re.DOTALL):
        records = [line.split(None, 4) for line in body.splitlines()]
        sections[title] = [(r[0], r[3], r[4]) for r in records]
    return status, sections


class Dns(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert shutil.which("dig"), "dig is missing: apt-get install bind9-dnsutils"
        cls.name = unique("dns")
        text = sleeper(cls.name, count=2).replace(
            'task "t"',
            f"""network {{
      port "http" {{}}
    }}
    service {{
      name = "{cls.name}"
      port = "http"
      tags = ["blue"]
    }}
    task "t\"""",
        )
        submit(text)
        wait_for("two instances", lambda: running(cls.name, 2))
        wait_for("both in the catalog", lambda: len(registry(f"/v1/catalog/service/{cls.name}").json()) == 2)
        cls.entries = registry(f"/v1/catalog/service/{cls.name}").json()

    @classmethod
    def tearDownClass(cls):
        purge(cls.name)

    def everywhere(self):
        """Every agent, over UDP and over TCP."""
        for agent in (*SERVERS, *CLIENTS):
            for flags in ([], ["+tcp"]):
                with self.subTest(agent=agent, flags=flags):
                    wait_for("two records", lambda: len(ask(f"{self.name}.service.consul", "A", agent=agent)[1].get("ANSWER", [])) == 2)
                    yield agent, flags

    def test_addresses_of_a_service(self):
        wanted = sorted(e["ServiceAddress"] for e in self.entries)
        for agent, flags in self.everywhere():
            status, found = ask(f"{self.name}.service.consul", "A", *flags, agent=agent)
            self.assertEqual(status, "NOERROR")
            self.assertEqual(sorted(data for _, _, data in found["ANSWER"]), wanted)

    def test_ports_of_a_service_with_the_addresses_of_their_targets(self):
        wanted = sorted(e["ServicePort"] for e in self.entries)
        for agent, flags in self.everywhere():
            status, found = ask(f"{self.name}.service.consul", "SRV", *flags, agent=agent)
            self.assertEqual(status, "NOERROR")
            self.assertEqual(sorted(int(data.split()[2]) for _, _, data in found["ANSWER"]), wanted)
            targets = {data.split()[3] for _, _, data in found["ANSWER"]}
            extra = {name for name, kind, _ in found["ADDITIONAL"] if kind == "A"}
            self.assertTrue(targets <= extra, (targets, extra))

    def test_tags_and_the_srv_form_of_names_select(self):
        self.assertEqual(len(ask(f"blue.{self.name}.service.consul", "A")[1]["ANSWER"]), 2)
        self.assertEqual(ask(f"red.{self.name}.service.consul", "A")[0], "NXDOMAIN")
        self.assertEqual(len(ask(f"_{self.name}._blue.service.consul", "SRV")[1]["ANSWER"]), 2)
        self.assertEqual(len(ask(f"{self.name}.service.global.consul", "A")[1]["ANSWER"]), 2)
        self.assertEqual(ask(f"{self.name.upper()}.service.CONSUL", "A")[0], "NOERROR")

    def test_nodes_have_addresses(self):
        for name, address in {"client-1": f"{NET}.11", "server-2": f"{NET}.2"}.items():
            for flags in ([], ["+tcp"]):
                status, found = ask(f"{name}.node.consul", "A", *flags)
                self.assertEqual((status, found["ANSWER"][0][2]), ("NOERROR", address))
        self.assertEqual(ask("nobody.node.consul", "A")[0], "NXDOMAIN")

    def test_the_cluster_itself_is_found(self):
        self.assertEqual(len(ask("consul.service.consul", "A")[1]["ANSWER"]), 3)
        self.assertEqual(len(ask("nomad-client.service.consul", "A")[1]["ANSWER"]), 3)
        self.assertEqual(len(ask("http.nomad.service.consul", "SRV")[1]["ANSWER"]), 3)

    def test_an_unknown_service_does_not_exist_and_comes_with_the_authority(self):
        status, found = ask("no-such-service.service.consul", "A")
        self.assertEqual(status, "NXDOMAIN")
        self.assertEqual(found["AUTHORITY"][0][1], "SOA")

    def test_a_known_name_without_records_of_the_type_is_no_error(self):
        status, found = ask(f"{self.name}.service.consul", "AAAA")
        self.assertEqual((status, found.get("ANSWER", [])), ("NOERROR", []))

    def test_names_of_others_are_refused(self):
        self.assertEqual(ask("example.org", "A")[0], "REFUSED")

    def test_a_service_that_fails_leaves_and_comes_back(self):
        name = unique("ttl")
        check = {"CheckID": name, "TTL": "60s", "Status": "passing"}
        body = {"Name": name, "Port": 80, "Address": "10.9.8.7", "Check": check}
        self.assertEqual(registry("/v1/agent/service/register", method="PUT", body=body).status, 200)
        self.addCleanup(registry, f"/v1/agent/service/deregister/{name}", method="PUT")

        def status():
            return ask(f"{name}.service.consul", "A", agent=SERVERS[1])[0]

        wait_for("it is there", lambda: status() == "NOERROR")
        registry(f"/v1/agent/check/fail/{name}", method="PUT")
        wait_for("it has left", lambda: status() == "NXDOMAIN")
        registry(f"/v1/agent/check/pass/{name}", method="PUT")
        wait_for("it is back", lambda: status() == "NOERROR")


if __name__ == "__main__":
    unittest.main()

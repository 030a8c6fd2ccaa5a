"""python-consul2 from PyPI registers, watches and reads services, and uses every kind of key."""

import os
import threading
import time
import unittest

# The library would prefer this over the address that it is given.
os.environ.pop("CONSUL_HTTP_ADDR", None)

import consul
from cluster import SERVERS, unique, wait_for


def client(server=0):
    return consul.Consul(host=SERVERS[server], port=8500)


class Services(unittest.TestCase):
    def setUp(self):
        self.consul = client()
        self.name = unique("ttl")
        self.assertTrue(
            self.consul.agent.service.register(
                self.name,
                service_id=f"{self.name}-1",
                address="10.1.2.3",
                port=8080,
                tags=["a", "urlprefix-/x"],
                check=consul.Check.ttl("60s"),
            )
        )
        self.addCleanup(self.consul.agent.service.deregister, f"{self.name}-1")

    def health(self, **options):
        return self.consul.health.service(self.name, **options)[1]

    def test_a_ttl_check_decides_who_is_passing(self):
        found = wait_for("the service", self.health)
        self.assertEqual(found[0]["Service"]["Address"], "10.1.2.3")
        self.assertEqual(found[0]["Service"]["Port"], 8080)
        self.assertEqual(found[0]["Service"]["Tags"], ["a", "urlprefix-/x"])
        self.assertEqual(self.health(passing=True), [], "a ttl check begins as critical")
        check = f"service:{self.name}-1"
        self.assertTrue(self.consul.agent.check.ttl_pass(check))
        wait_for("passing", lambda: len(self.health(passing=True)) == 1)
        self.assertTrue(self.consul.agent.check.ttl_warn(check, notes="slow"))
        wait_for("warning", lambda: self.statuses(check) == ["warning"])
        self.assertTrue(self.consul.agent.check.ttl_fail(check))
        wait_for("no longer passing", lambda: self.health(passing=True) == [])

    def test_what_was_reported_is_read_at_once(self):
        check = f"service:{self.name}-1"
        for number in range(10):
            passes = number % 2 == 0
            report = self.consul.agent.check.ttl_pass if passes else self.consul.agent.check.ttl_fail
            self.assertTrue(report(check))
            self.assertEqual(len(self.health(passing=True)), int(passes), f"report {number}")

    def statuses(self, check):
        return [c["Status"] for i in self.health() for c in i["Checks"] if c["CheckID"] == check]

    def test_a_blocking_query_wakes_when_the_service_changes(self):
        wait_for("the service", self.health)
        # A read through another server, which has to learn of the change by replication.
        other = client(1)
        wait_for("the service there", lambda: other.health.service(self.name)[1])
        index, before = other.health.service(self.name)
        self.assertEqual(len(before), 1)
        answers = []

        def block():
            answers.append(other.health.service(self.name, index=index, wait="50s"))

        blocked = threading.Thread(target=block, daemon=True)
        begun = time.monotonic()
        blocked.start()
        blocked.join(1)
        self.assertTrue(blocked.is_alive(), "nothing changed, and yet it answered")
        self.consul.agent.check.ttl_pass(f"service:{self.name}-1")
        blocked.join(5)
        self.assertFalse(blocked.is_alive(), "the change did not wake the query")
        self.assertLess(time.monotonic() - begun, 6)
        woken, now = answers[0]
        self.assertGreater(int(woken), int(index))
        self.assertIn("passing", [c["Status"] for c in now[0]["Checks"] if c["CheckID"] != "serfHealth"])

    def test_a_blocking_query_ends_at_its_wait(self):
        wait_for("the service", self.health)
        index, _ = self.consul.health.service(self.name)
        begun = time.monotonic()
        self.consul.health.service(self.name, index=index, wait="1s")
        self.assertTrue(0.9 <= time.monotonic() - begun < 5)

    def test_catalog_and_agent_name_the_service_and_forget_it(self):
        wait_for("the catalog", lambda: self.name in self.consul.catalog.services()[1])
        self.assertEqual(sorted(self.consul.catalog.services()[1][self.name]), ["a", "urlprefix-/x"])
        entry = self.consul.catalog.service(self.name)[1][0]
        self.assertEqual((entry["ServiceAddress"], entry["ServicePort"]), ("10.1.2.3", 8080))
        self.assertIn(f"{self.name}-1", self.consul.agent.services())
        self.assertNotIn(f"{self.name}-1", client(1).agent.services(), "another agent's service")
        self.assertTrue(self.consul.agent.service.deregister(f"{self.name}-1"))
        wait_for("gone", lambda: self.name not in self.consul.catalog.services()[1])
        wait_for("gone everywhere", lambda: not client(2).catalog.service(self.name)[1])

    def test_nodes_carry_the_check_of_their_agent(self):
        names = {n["Node"] for n in self.consul.catalog.nodes()[1]}
        self.assertEqual(names, {"server-1", "server-2", "server-3", "client-1", "client-2", "spare-1"})
        for name in names:
            checks = {c["CheckID"]: c["Status"] for c in self.consul.health.node(name)[1]}
            self.assertEqual(checks["serfHealth"], "passing")

    def test_the_group_of_servers_is_told(self):
        self.assertRegex(self.consul.status.leader(), r"^127\.")
        self.assertEqual(len(self.consul.status.peers()), 3)


class Keys(unittest.TestCase):
    def setUp(self):
        self.kv = client().kv
        self.root = unique("keys")
        self.addCleanup(self.kv.delete, self.root, recurse=True)

    def test_a_key_is_put_and_read_through_every_server(self):
        value = bytes(range(256))
        self.assertTrue(self.kv.put(f"{self.root}/a", value, flags=42))
        for server in range(3):
            read = wait_for("the key", lambda: client(server).kv.get(f"{self.root}/a")[1])
            self.assertEqual((read["Value"], read["Flags"]), (value, 42))

    def test_an_absent_key_is_none(self):
        self.assertIsNone(self.kv.get(f"{self.root}/absent")[1])

    def test_cas_writes_only_over_what_was_read(self):
        key = f"{self.root}/cas"
        self.assertTrue(self.kv.put(key, "first", cas=0))
        self.assertFalse(self.kv.put(key, "again", cas=0), "0 means: only if absent")
        index = self.kv.get(key)[1]["ModifyIndex"]
        self.assertTrue(self.kv.put(key, "second", cas=index))
        self.assertFalse(self.kv.put(key, "third", cas=index))
        self.assertEqual(self.kv.get(key)[1]["Value"], b"second")
        self.assertFalse(self.kv.delete(key, cas=index))
        self.assertTrue(self.kv.delete(key, cas=self.kv.get(key)[1]["ModifyIndex"]))
        self.assertIsNone(self.kv.get(key)[1])

    def test_recurse_keys_and_delete_take_a_prefix(self):
        for key in ("a", "b/1", "b/2"):
            self.kv.put(f"{self.root}/{key}", key)
        found = self.kv.get(f"{self.root}/", recurse=True)[1]
        self.assertEqual([k["Key"] for k in found], [f"{self.root}/{k}" for k in ("a", "b/1", "b/2")])
        names = self.kv.get(f"{self.root}/", keys=True, separator="/")[1]
        self.assertEqual(names, [f"{self.root}/a", f"{self.root}/b/"])
        self.assertTrue(self.kv.delete(f"{self.root}/b/", recurse=True))
        self.assertEqual([k["Key"] for k in self.kv.get(f"{self.root}/", recurse=True)[1]], [f"{self.root}/a"])

    def test_a_blocked_read_of_a_key_wakes_when_it_is_written(self):
        key = f"{self.root}/watched"
        self.kv.put(key, "old")
        index, _ = self.kv.get(key)
        answers = []
        blocked = threading.Thread(
            target=lambda: answers.append(client(2).kv.get(key, index=index, wait="50s")), daemon=True
        )
        blocked.start()
        blocked.join(0.5)
        self.assertTrue(blocked.is_alive())
        self.kv.put(key, "new")
        blocked.join(5)
        self.assertEqual(answers and answers[0][1]["Value"], b"new")


if __name__ == "__main__":
    unittest.main()

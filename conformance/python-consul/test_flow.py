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


class Locks(unittest.TestCase):
    def setUp(self):
        self.first, self.second = client(0), client(1)
        self.key = unique("lock")
        self.addCleanup(self.first.kv.delete, self.key)

    def session(self, consul, **options):
        session = consul.session.create(**options)
        self.addCleanup(consul.session.destroy, session)
        return session

    def holder(self, server=2):
        read = client(server).kv.get(self.key)[1]
        return read.get("Session"), read["LockIndex"]

    def test_one_session_holds_a_key_through_whatever_server(self):
        one, two = self.session(self.first, name="one"), self.session(self.second, name="two")
        self.assertTrue(self.first.kv.put(self.key, "1", acquire=one))
        self.assertFalse(self.second.kv.put(self.key, "2", acquire=two))
        self.assertEqual(self.holder(), (one, 1))
        self.assertTrue(self.first.kv.put(self.key, "1", acquire=one), "the holder may again")
        self.assertEqual(self.holder(), (one, 1))
        self.assertFalse(self.second.kv.put(self.key, "2", release=two))
        self.assertTrue(self.first.kv.put(self.key, "1", release=one))
        self.assertTrue(self.second.kv.put(self.key, "2", acquire=two))
        self.assertEqual(self.holder(), (two, 2))

    def test_a_session_tells_what_it_was_made_with(self):
        options = {"name": "told", "behavior": "delete", "ttl": 20, "lock_delay": 3}
        session = self.session(self.first, **options)
        info = self.second.session.info(session)[1]
        self.assertEqual((info["Name"], info["Behavior"], info["TTL"]), ("told", "delete", "20s"))
        self.assertEqual((info["Node"], info["LockDelay"]), ("server-1", 3_000_000_000))
        self.assertEqual(info["NodeChecks"], ["serfHealth"])
        self.assertIn(session, [s["ID"] for s in self.second.session.node("server-1")[1]])
        self.assertIn(session, [s["ID"] for s in self.second.session.list()[1]])
        self.assertEqual(self.second.session.renew(session)["ID"], session)
        self.assertTrue(self.second.session.destroy(session))
        self.assertIsNone(self.first.session.info(session)[1])
        with self.assertRaises(consul.NotFound):
            self.first.session.renew(session)

    def test_a_lock_ends_with_its_session_and_wakes_who_waits(self):
        session = self.session(self.first, lock_delay=0)
        self.assertTrue(self.first.kv.put(self.key, "1", acquire=session))
        index, _ = self.second.kv.get(self.key)
        answers = []
        blocked = threading.Thread(
            target=lambda: answers.append(self.second.kv.get(self.key, index=index, wait="50s")),
            daemon=True,
        )
        blocked.start()
        blocked.join(0.5)
        self.assertTrue(blocked.is_alive())
        self.first.session.destroy(session)
        blocked.join(5)
        self.assertTrue(answers, "the end of the session did not wake the query")
        self.assertNotIn("Session", answers[0][1])

    def test_a_key_rests_after_its_session_ended_for_as_long_as_the_session_said(self):
        one, two = self.session(self.first, lock_delay=2), self.session(self.second)
        self.assertTrue(self.first.kv.put(self.key, "1", acquire=one))
        self.first.session.destroy(one)
        begun = time.monotonic()
        self.assertFalse(self.second.kv.put(self.key, "2", acquire=two))
        wait_for("the end of the delay", lambda: self.second.kv.put(self.key, "2", acquire=two))
        self.assertGreater(time.monotonic() - begun, 1.5)

    def test_a_session_ends_with_its_check(self):
        name = unique("checked")
        self.first.agent.check.register(name, consul.Check.ttl("60s"))
        self.addCleanup(self.first.agent.check.deregister, name)
        self.first.agent.check.ttl_pass(name)
        session = self.session(self.first, checks=["serfHealth", name], behavior="delete")
        self.assertTrue(self.first.kv.put(self.key, "1", acquire=session))
        self.first.agent.check.ttl_fail(name)
        wait_for("the end of the session", lambda: self.second.session.info(session)[1] is None)
        self.assertIsNone(self.second.kv.get(self.key)[1], "its keys are deleted with it")

    def test_a_session_that_is_not_renewed_ends_between_one_and_two_ttls(self):
        session = self.session(self.first, ttl=10, lock_delay=0)
        kept = self.session(self.first, ttl=10, lock_delay=0)
        begun = time.monotonic()
        while time.monotonic() - begun < 25 and self.first.session.info(session)[1]:
            self.first.session.renew(kept)
            time.sleep(1)
        self.assertTrue(10 <= time.monotonic() - begun < 23)
        self.assertIsNotNone(self.second.session.info(kept)[1], "one that is renewed lives on")


if __name__ == "__main__":
    unittest.main()

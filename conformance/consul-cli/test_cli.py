"""The program linked as consul: members, catalog, keys, watch, export and import."""

import json
import subprocess
import unittest

from cluster import SERVERS, consul, must, registry, run, unique, wait_for


class Members(unittest.TestCase):
    def test_six_agents_are_alive(self):
        rows = must(consul("members")).rows()
        self.assertEqual(len(rows), 6)
        self.assertEqual({row[2] for row in rows}, {"alive"})
        self.assertEqual(sorted(row[3] for row in rows), ["client"] * 3 + ["server"] * 3)

    def test_the_address_is_taken_from_a_flag(self):
        for address in (f"http://{SERVERS[2]}:8500", f"{SERVERS[2]}:8500"):
            self.assertEqual(len(must(consul("members", f"-http-addr={address}")).rows()), 6)
        answer = consul("members", "-http-addr=127.0.0.1:1")
        self.assertEqual(answer.code, 1)
        self.assertIn("127.0.0.1:1", answer.err)

    def test_the_peers_of_the_consensus_group_are_listed(self):
        rows = must(consul("operator", "raft", "list-peers")).rows()
        self.assertEqual(sorted(row[3] for row in rows), ["follower", "follower", "leader"])


class Catalog(unittest.TestCase):
    def test_nodes_services_and_datacenters_are_listed(self):
        self.assertEqual(len(must(consul("catalog", "nodes")).rows()), 6)
        services = must(consul("catalog", "services")).out.split()
        for name in ("consul", "nomad", "nomad-client"):
            self.assertIn(name, services)
        self.assertEqual(must(consul("catalog", "datacenters")).out.split(), ["global"])
        self.assertEqual(len(must(consul("catalog", "nodes", "-service=nomad-client")).rows()), 3)


class Keys(unittest.TestCase):
    def setUp(self):
        self.root = unique("cli")
        self.addCleanup(consul, "kv", "delete", "-recurse", self.root)

    def test_a_key_is_put_read_and_deleted(self):
        key = f"{self.root}/a"
        self.assertIn("Success!", must(consul("kv", "put", key, "value")).out)
        self.assertEqual(must(consul("kv", "get", key)).out, "value\n")
        self.assertIn("ModifyIndex", must(consul("kv", "get", "-detailed", key)).out)
        must(consul("kv", "put", key, "-", stdin="typed"))
        self.assertEqual(must(consul("kv", "get", key)).out, "typed\n")
        must(consul("kv", "delete", key))
        absent = consul("kv", "get", key)
        self.assertEqual(absent.code, 1)
        self.assertIn(f"No key exists at: {key}", absent.err)

    def test_recurse_and_keys_list_what_begins_so(self):
        for key in ("a", "b/c"):
            must(consul("kv", "put", f"{self.root}/{key}", key))
        listed = must(consul("kv", "get", "-recurse", f"{self.root}/")).out
        self.assertEqual(listed.split(), [f"{self.root}/a:a", f"{self.root}/b/c:b/c"])
        names = must(consul("kv", "get", "-keys", f"{self.root}/")).out.split()
        self.assertEqual(names, [f"{self.root}/a", f"{self.root}/b/"])

    def test_cas_refuses_what_changed_meanwhile(self):
        key = f"{self.root}/cas"
        must(consul("kv", "put", "-cas", "-modify-index=0", key, "1"))
        refused = consul("kv", "put", "-cas", "-modify-index=0", key, "2")
        self.assertEqual(refused.code, 1)
        self.assertIn("CAS failed", refused.err)

    def test_export_is_what_import_takes(self):
        must(consul("kv", "put", f"{self.root}/from/x", "é\n"))
        exported = must(consul("kv", "export", f"{self.root}/from/")).out
        self.assertEqual(json.loads(exported)[0]["key"], f"{self.root}/from/x")
        must(consul("kv", "delete", "-recurse", f"{self.root}/from/"))
        must(consul("kv", "import", "-", stdin=exported))
        self.assertEqual(must(consul("kv", "get", f"{self.root}/from/x")).out, "é\n\n")

    def test_watch_prints_a_key_again_when_it_changes(self):
        key = f"{self.root}/watched"
        must(consul("kv", "put", key, "one"))
        process = subprocess.Popen(
            ["consul", "watch", "-type=key", f"-key={key}", "cat"], stdout=subprocess.PIPE, text=True
        )
        killer = subprocess.Popen(["sh", "-c", f"sleep 15; kill {process.pid}"])
        try:
            first = json.loads(process.stdout.readline())
            must(consul("kv", "put", key, "two"))
            second = json.loads(process.stdout.readline())
        finally:
            for child in (killer, process):
                child.kill()
                child.wait()
            process.stdout.close()
        self.assertEqual((first["Key"], second["Key"]), (key, key))
        self.assertEqual((first["Value"], second["Value"]), ("b25l", "dHdv"))


class Watch(unittest.TestCase):
    def test_without_a_handler_it_prints_once_and_ends(self):
        name = unique("seen")
        registry("/v1/agent/service/register", method="PUT", body={"Name": name, "Port": 1})
        self.addCleanup(registry, f"/v1/agent/service/deregister/{name}", method="PUT")
        wait_for("the service", lambda: registry(f"/v1/catalog/service/{name}").json())
        found = must(consul("watch", "-type=service", f"-service={name}", seconds=20)).json()
        self.assertEqual(found[0]["Service"]["Service"], name)
        self.assertIn(name, must(consul("watch", "-type=services")).json())
        self.assertEqual(len(must(consul("watch", "-type=nodes")).json()), 6)

    def test_a_kind_that_does_not_exist_is_named(self):
        answer = run("consul", "watch", "-type=frogs")
        self.assertEqual(answer.code, 1)
        self.assertIn("frogs", answer.err)


if __name__ == "__main__":
    unittest.main()

"""Nomad's HTTP API as scripts, dashboards and Prometheus ask it, through every agent."""

import json
import threading
import time
import unittest

from cluster import CLIENTS, SERVERS, allocations, api, http, purge, running, sleeper, submit, unique, wait_for


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.name = unique("http")
        submit(sleeper(cls.name))
        cls.allocation = wait_for("it runs", lambda: running(cls.name, 1))[0]["ID"]
        cls.node = api(f"/v1/allocation/{cls.allocation}").json()["NodeID"]

    @classmethod
    def tearDownClass(cls):
        purge(cls.name)

    def test_all_agents_name_the_same_leader(self):
        leaders = {http(f"http://{a}:4646/v1/status/leader").text for a in (*SERVERS, *CLIENTS)}
        self.assertEqual(len(leaders), 1)
        self.assertIn(json.loads(leaders.pop()), [f"{s}:4647" for s in SERVERS])
        self.assertEqual(api("/v1/status/peers").json(), [f"{s}:4647" for s in SERVERS])

    def test_lists_take_a_prefix_and_stale_reads(self):
        for path in (f"/v1/jobs?prefix={self.name}&stale=true", f"/v1/jobs?prefix={self.name}&stale"):
            for server in range(3):
                answer = api(path, server)
                self.assertEqual([j["ID"] for j in answer.json()], [self.name])
                self.assertGreater(int(answer.headers["X-Nomad-Index"]), 0)
                self.assertEqual(answer.headers["X-Nomad-KnownLeader"], "true")
        self.assertEqual(api("/v1/jobs?prefix=no-such-prefix").json(), [])
        found = api(f"/v1/allocations?prefix={self.allocation[:8]}").json()
        self.assertEqual([a["ID"] for a in found], [self.allocation])

    def test_a_job_gives_its_allocations_deployments_versions_and_summary(self):
        for path, check in {
            "allocations?all=true": lambda v: v[0]["ID"] == self.allocation,
            "deployments": lambda v: v[0]["JobID"] == self.name,
            "deployment": lambda v: v["JobID"] == self.name,
            "evaluations": lambda v: v[0]["JobID"] == self.name,
            "versions": lambda v: v["Versions"][0]["Version"] == 0,
            "summary": lambda v: v["Summary"]["g"]["Running"] == 1,
        }.items():
            with self.subTest(path):
                self.assertTrue(check(api(f"/v1/job/{self.name}/{path}").json()))

    def test_an_allocation_has_all_that_scripts_read(self):
        whole = api(f"/v1/allocation/{self.allocation}").json()
        for field in ("AllocatedResources", "Job", "Metrics", "DeploymentID", "NodeName", "EvalID"):
            self.assertTrue(whole[field], field)
        self.assertEqual(whole["AllocatedResources"]["Tasks"]["t"]["Memory"]["MemoryMB"], 16)
        types = [e["Type"] for e in whole["TaskStates"]["t"]["Events"]]
        self.assertEqual((types[0], types[-1]), ("Received", "Started"))

    def test_logs_are_read_through_every_agent(self):
        for agent in (*SERVERS, *CLIENTS):
            for kind in ("stdout", "stderr"):
                path = f"/v1/client/fs/logs/{self.allocation}?task=t&type={kind}&plain=true"
                answer = http(f"http://{agent}:4646{path}")
                self.assertEqual((answer.status, answer.text), (200, {"stdout": "out\n", "stderr": "err\n"}[kind]))

    def test_files_of_an_allocation_are_listed(self):
        names = [f["Name"] for f in api(f"/v1/client/fs/ls/{self.allocation}?path=/", 1).json()]
        self.assertIn("alloc", names)
        self.assertIn("t", names)
        inside = api(f"/v1/client/fs/cat/{self.allocation}?path=alloc/logs/t.stdout.0", 2)
        self.assertEqual(inside.text, "out\n")
        for path in ("../../../etc/passwd", "/../../../../etc/passwd"):
            self.assertNotEqual(api(f"/v1/client/fs/cat/{self.allocation}?path={path}").status, 200)

    def test_usage_of_a_node_and_an_allocation_is_told(self):
        self.assertGreater(api(f"/v1/client/stats?node_id={self.node}").json()["Memory"]["Total"], 0)
        self.assertIn("t", api(f"/v1/client/allocation/{self.allocation}/stats").json()["Tasks"])

    def test_an_allocation_is_restarted_over_the_api(self):
        name = unique("restart")
        self.addCleanup(purge, name)
        submit(sleeper(name))
        allocation = wait_for("it runs", lambda: running(name, 1))[0]["ID"]
        path = f"/v1/client/allocation/{allocation}/restart"
        self.assertEqual(api(path, 1, method="PUT", body={"TaskName": "t"}).status, 200)
        wait_for("restarted", lambda: allocations(name)[0]["TaskStates"]["t"]["Restarts"] == 1)

    def test_prometheus_reads_the_names_that_dashboards_use(self):
        wanted = {
            SERVERS[0]: ("nomad_uptime", "nomad_runtime_alloc_bytes", "nomad_runtime_total_gc_pause_ns"),
            CLIENTS[0]: (
                "nomad_client_allocated_memory",
                "nomad_client_host_memory_available",
                "nomad_client_allocations_running",
                "nomad_client_allocations_blocked",
                "nomad_client_consul_check_registrations",
            ),
        }
        for agent, names in wanted.items():
            answer = http(f"http://{agent}:4646/v1/metrics?format=prometheus")
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.headers["Content-Type"].startswith("text/plain"))
            seen = {line.split("{")[0].split(" ")[0] for line in answer.text.splitlines() if not line.startswith("#")}
            for name in names:
                self.assertIn(name, seen, agent)
            for line in answer.text.splitlines():
                if line and not line.startswith("#"):
                    float(line.rsplit(" ", 1)[1])
        self.assertIn("Gauges", api("/v1/metrics").json())

    def test_the_page_of_jobs_answers(self):
        for agent in (SERVERS[1], CLIENTS[0]):
            page = http(f"http://{agent}:4646/ui/jobs")
            self.assertEqual(page.status, 200)
            self.assertTrue(page.headers["Content-Type"].startswith("text/html"))
            self.assertIn(self.name, page.text)
        self.assertIn(http(f"http://{SERVERS[0]}:4646/").status, (301, 302, 307, 308))

    def test_a_blocking_query_wakes_when_a_job_changes(self):
        name = unique("watched")
        self.addCleanup(purge, name)
        submit(sleeper(name))
        wait_for("it runs", lambda: running(name, 1))
        index = api(f"/v1/job/{name}", 1).headers["X-Nomad-Index"]
        woken = []

        def wait():
            begun = time.monotonic()
            answer = api(f"/v1/job/{name}?index={index}&wait=30s", 1, seconds=40)
            woken.append((time.monotonic() - begun, answer))

        blocked = threading.Thread(target=wait, daemon=True)
        blocked.start()
        submit(sleeper(name, count=2))
        blocked.join(10)
        self.assertTrue(woken, "the change did not wake the query")
        self.assertGreater(int(woken[0][1].headers["X-Nomad-Index"]), int(index))

    def test_what_is_not_there_is_not_found(self):
        for path in ("/v1/job/none", "/v1/allocation/00000000-0000-0000-0000-000000000000", "/v1/nothing"):
            self.assertEqual(api(path).status, 404, path)

    def test_wrong_bodies_are_refused_with_a_reason(self):
        for body in (b"{", b"[]", b'{"Job": 1}', b'{"Job": {"ID": "x", "TaskGroups": 7}}', b"\xff\xfe", b"[" * 100_000):
            answer = api("/v1/jobs", method="PUT", body=body)
            self.assertTrue(400 <= answer.status < 500, (body[:20], answer.status, answer.text[:200]))
            self.assertTrue(answer.text.strip())
        self.assertEqual(api("/v1/job/x").status, 404)

    def test_a_job_file_is_parsed_by_the_server(self):
        body = {"JobHCL": sleeper("parsed"), "Canonicalize": True}
        parsed = api("/v1/jobs/parse", method="POST", body=body).json()
        self.assertEqual((parsed["ID"], parsed["TaskGroups"][0]["Tasks"][0]["Driver"]), ("parsed", "raw_exec"))
        broken = api("/v1/jobs/parse", method="POST", body={"JobHCL": 'job "a" { count = 9998s }'})
        self.assertEqual(broken.status, 400)
        self.assertIn("1,", broken.text)


if __name__ == "__main__":
    unittest.main()

"""python-nomad from PyPI reads every list of the cluster and takes a job through its life."""

import unittest

import nomad
from cluster import SAMPLES, SERVERS, unique, wait_for


def job(name):
    """A job as the library's users write it: Nomad's JSON."""
    return {
        "Job": {
            "ID": name,
            "Name": name,
            "Type": "service",
            "Datacenters": ["dc1"],
            "TaskGroups": [
                {
                    "Name": "g",
                    "Count": 1,
                    "Networks": [{"DynamicPorts": [{"Label": "http"}]}],
                    "Services": [{"Name": name, "PortLabel": "http"}],
                    "Tasks": [
                        {
                            "Name": "t",
                            "Driver": "raw_exec",
                            "Config": {"command": f"{SAMPLES}/backend"},
                            "Env": {"PORT": "${NOMAD_PORT_http}"},
                            "Resources": {"CPU": 20, "MemoryMB": 16},
                        }
                    ],
                }
            ],
        }
    }


class Flow(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = nomad.Nomad(host=SERVERS[1], port=4646, timeout=20)
        cls.name = unique("python-nomad")
        cls.registered = cls.client.job.register_job(cls.name, job(cls.name))
        wait_for("the job runs", lambda: cls.statuses().count("running") == 1)

    @classmethod
    def tearDownClass(cls):
        cls.client.job.deregister_job(cls.name, purge=True)

    @classmethod
    def statuses(cls):
        allocations = cls.client.job.get_allocations(cls.name)
        return [a["ClientStatus"] for a in allocations if a["DesiredStatus"] == "run"]

    def test_registering_gives_an_evaluation_that_completes(self):
        evaluation = self.registered["EvalID"]
        wait_for(
            "the evaluation completes",
            lambda: self.client.evaluation.get_evaluation(evaluation)["Status"] == "complete",
        )
        self.assertEqual(self.client.evaluation.get_evaluation(evaluation)["JobID"], self.name)

    def test_jobs_are_listed_and_found_by_id(self):
        listed = [j["ID"] for j in self.client.jobs.get_jobs(prefix=self.name)]
        self.assertEqual(listed, [self.name])
        self.assertIn(self.name, self.client.jobs)
        self.assertEqual(self.client.job[self.name]["TaskGroups"][0]["Tasks"][0]["Driver"], "raw_exec")
        self.assertNotIn("no-such-job", self.client.jobs)
        with self.assertRaises(nomad.api.exceptions.URLNotFoundNomadException):
            self.client.job.get_job("no-such-job")

    def test_nodes_are_listed_with_their_drivers(self):
        nodes = self.client.nodes.get_nodes()
        self.assertEqual(sorted(n["Name"] for n in nodes), ["client-1", "client-2", "spare-1"])
        for listed in nodes:
            node = self.client.node.get_node(listed["ID"])
            self.assertTrue(node["Drivers"]["raw_exec"]["Healthy"])
            self.assertIn("Healthy", node["Drivers"]["docker"])
            self.assertEqual(node["Attributes"]["unique.hostname"], node["Attributes"]["unique.hostname"].strip())

    def test_allocations_are_listed_and_read_one_by_one(self):
        mine = [a for a in self.client.allocations.get_allocations() if a["JobID"] == self.name]
        self.assertTrue(mine)
        allocation = self.client.allocation.get_allocation(mine[0]["ID"])
        self.assertEqual(allocation["AllocatedResources"]["Tasks"]["t"]["Cpu"]["CpuShares"], 20)
        port = allocation["AllocatedResources"]["Shared"]["Ports"][0]
        self.assertEqual(port["Label"], "http")
        self.assertTrue(14000 <= port["Value"] < 17000)

    def test_evaluations_are_listed_with_their_allocations(self):
        mine = [e for e in self.client.evaluations.get_evaluations() if e["JobID"] == self.name]
        self.assertIn("job-register", [e["TriggeredBy"] for e in mine])
        placed = self.client.evaluation.get_allocations(self.registered["EvalID"])
        self.assertEqual([a["JobID"] for a in placed], [self.name])

    def test_deployments_are_listed_and_become_successful(self):
        def mine():
            return [d for d in self.client.deployments.get_deployments() if d["JobID"] == self.name]

        wait_for("a successful deployment", lambda: mine() and mine()[-1]["Status"] == "successful", 40)
        deployment = self.client.deployment.get_deployment(mine()[-1]["ID"])
        self.assertEqual(deployment["TaskGroups"]["g"]["HealthyAllocs"], 1)
        self.assertEqual(self.client.job.get_deployment(self.name)["JobID"], self.name)

    def test_status_agent_and_regions_answer(self):
        self.assertRegex(self.client.status.leader.get_leader(), r"^127\.[\d.]+:4647$")
        self.assertEqual(len(self.client.status.peers.get_peers()), 3)
        self.assertEqual(len(self.client.agent.get_members()["Members"]), 3)
        self.assertEqual(self.client.regions.get_regions(), ["global"])
        self.assertEqual(self.client.agent.get_agent()["config"]["Server"]["Enabled"], True)

    def test_a_plan_names_what_would_change_and_changes_nothing(self):
        before = self.client.job.get_job(self.name)["JobModifyIndex"]
        larger = job(self.name)
        larger["Job"]["TaskGroups"][0]["Count"] = 2
        plan = self.client.job.plan_job(self.name, larger, diff=True)
        self.assertEqual(plan["Diff"]["Type"], "Edited")
        self.assertEqual(plan["Annotations"]["DesiredTGUpdates"]["g"]["Place"], 1)
        self.assertEqual(self.client.job.get_job(self.name)["JobModifyIndex"], before)

    def test_a_job_without_tasks_is_refused(self):
        broken = job("broken")
        broken["Job"]["TaskGroups"][0]["Tasks"] = []
        with self.assertRaises(nomad.api.exceptions.BaseNomadException):
            self.client.job.register_job("broken", broken)
        self.assertNotIn("broken", self.client.jobs)


class Life(unittest.TestCase):
    def test_a_job_is_registered_scaled_and_stopped(self):
        client = nomad.Nomad(host=SERVERS[2], port=4646, timeout=20)
        name = unique("python-life")

        def running():
            return [a for a in client.job.get_allocations(name) if a["ClientStatus"] == "running"]

        client.job.register_job(name, job(name))
        wait_for("one instance", lambda: len(running()) == 1)

        larger = job(name)
        larger["Job"]["TaskGroups"][0]["Count"] = 3
        client.job.register_job(name, larger)
        wait_for("three instances", lambda: len(running()) == 3)
        self.assertEqual(client.job.get_summary(name)["Summary"]["g"]["Running"], 3)

        client.job.deregister_job(name)
        wait_for("none", lambda: not running())
        wait_for("a dead job", lambda: client.job.get_job(name)["Status"] == "dead")
        self.assertTrue(client.job.get_job(name)["Stop"])

        client.job.deregister_job(name, purge=True)
        wait_for("no such job", lambda: name not in client.jobs)


if __name__ == "__main__":
    unittest.main()

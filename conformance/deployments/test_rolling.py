"""A new version replaces the old one step by step, or is taken back."""

import unittest

from cluster import allocations, api, job_file, must, nomad, purge, running, submit, unique, wait_for
from fail_service import job


def deployments(name):
    """Newest first."""
    return api(f"/v1/job/{name}/deployments").json()


def events(allocation):
    """What happened to the tasks of a listed allocation."""
    states = (allocation["TaskStates"] or {}).values()
    return [event["DisplayMessage"] for state in states for event in state["Events"]]


def latest(name, version):
    found = [d for d in deployments(name) if d["JobVersion"] == version]
    return found[0] if found else None


def ended(name, version, status, seconds=40):
    def level():
        found = latest(name, version)
        if found and found["Status"] != status and found["Status"] in ("failed", "successful"):
            told = [(a["ClientStatus"], a["DeploymentStatus"], events(a)) for a in allocations(name)]
            raise AssertionError(f"version {version} is {found['Status']}: {found['StatusDescription']}: {told}")
        return found if found and found["Status"] == status else None

    return wait_for(f"version {version} is {status}", level, seconds)


class Rolling(unittest.TestCase):
    def first(self, **options):
        name = unique("rolling")
        self.addCleanup(purge, name)
        submit(job(name, count=3, **options))
        ended(name, 0, "successful")
        wait_for("the version is stable", lambda: api(f"/v1/job/{name}").json()["Stable"])
        return name

    def test_a_healthy_version_replaces_one_instance_after_another(self):
        name = self.first()
        old = {a["ID"] for a in running(name, 3)}
        submit(job(name, count=3, note="second"))
        fewest = 3

        def done():
            nonlocal fewest
            alive = [a for a in allocations(name) if a["ClientStatus"] == "running"]
            fewest = min(fewest, len(alive))
            return latest(name, 1) and latest(name, 1)["Status"] == "successful"

        wait_for("the second version is deployed", done, 40)
        self.assertGreaterEqual(fewest, 2, "more than max_parallel were gone at once")
        new = running(name, 3)
        self.assertEqual({a["JobVersion"] for a in new}, {1})
        self.assertFalse(old & {a["ID"] for a in new})
        self.assertEqual(latest(name, 1)["StatusDescription"], "Deployment completed successfully")
        self.assertTrue(api(f"/v1/job/{name}").json()["Stable"])
        healths = [api(f"/v1/allocation/{a['ID']}").json()["DeploymentStatus"]["Healthy"] for a in new]
        self.assertEqual(healths, [True] * 3)

    def test_a_version_that_never_becomes_healthy_is_rolled_back(self):
        again = """
    reschedule {
      delay          = "5s"
      delay_function = "constant"
      unlimited      = true
    }"""
        name = self.first(update="auto_revert = true", group=again)
        submit(job(name, count=3, update="auto_revert = true", group=again, healthy_in=-1, impatient=True))
        failed = ended(name, 1, "failed")
        self.assertEqual(
            failed["StatusDescription"], "Failed due to progress deadline - rolling back to job version 0"
        )
        ended(name, 2, "successful")
        current = api(f"/v1/job/{name}").json()
        self.assertEqual((current["Version"], current["Stable"]), (2, True))
        self.assertEqual(current["TaskGroups"][0]["Tasks"][0]["Env"]["HEALTHY_IN"], "0")
        wait_for("three of the old kind", lambda: self.kinds(name) == {0, 2} or self.kinds(name) == {2})
        self.assertIn("progress deadline", must(nomad("deployment", "status", failed["ID"])).out)
        self.assertNotEqual(nomad("deployment", "promote", "-detach", failed["ID"]).code, 0)

    def kinds(self, name):
        return {a["JobVersion"] for a in running(name, 3) or []}

    def test_run_says_by_its_exit_code_that_a_deployment_failed(self):
        name = unique("never")
        self.addCleanup(purge, name)
        answer = nomad("job", "run", job_file(job(name, healthy_in=-1, impatient=True)))
        self.assertEqual(answer.code, 1, answer)
        self.assertIn("Failed due to progress deadline", answer.out)


if __name__ == "__main__":
    unittest.main()

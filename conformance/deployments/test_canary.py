"""Canaries run beside the old version until somebody promotes or fails them."""

import unittest

from cluster import api, must, nomad, purge, running, submit, unique, wait_for
from fail_service import job


class Canaries(unittest.TestCase):
    def begun(self, canaries, **options):
        """A job whose second version waits for its promotion; its name and deployment."""
        name = unique("canary")
        self.addCleanup(purge, name)
        update = f"canary = {canaries}"
        submit(job(name, count=3, update=update))
        wait_for("the first version", lambda: self.deployment(name)["Status"] == "successful", 40)
        submit(job(name, count=3, update=update, note="second", **options))
        wait_for("the second version", lambda: self.deployment(name)["JobVersion"] == 1)
        return name

    def deployment(self, name):
        return api(f"/v1/job/{name}/deployment").json() or {"Status": None, "JobVersion": None}

    def versions(self, name, count):
        return sorted(a["JobVersion"] for a in running(name, count) or [])

    def waiting(self, name):
        wanted = "Deployment is running but requires manual promotion"
        wait_for("requires promotion", lambda: self.deployment(name)["StatusDescription"] == wanted)

    def healthy(self, name, count):
        wait_for("healthy", lambda: self.deployment(name)["TaskGroups"]["g"]["HealthyAllocs"] == count)

    def finished(self, name):
        wait_for("successful", lambda: self.deployment(name)["Status"] == "successful", 40)
        wait_for("only the new version", lambda: self.versions(name, 3) == [1, 1, 1])

    def test_one_canary_of_three_waits_and_is_promoted(self):
        name = self.begun(1)
        self.waiting(name)
        wait_for("three old and one new", lambda: self.versions(name, 4) == [0, 0, 0, 1])
        self.healthy(name, 1)
        group = self.deployment(name)["TaskGroups"]["g"]
        self.assertEqual((group["DesiredCanaries"], len(group["PlacedCanaries"]), group["Promoted"]), (1, 1, False))
        shown = must(nomad("deployment", "status", self.deployment(name)["ID"])).out
        self.assertIn("requires manual promotion", shown)
        self.assertIn("Canaries", shown)
        self.assertEqual(self.versions(name, 4), [0, 0, 0, 1], "nobody promoted yet")
        must(nomad("job", "promote", "-detach", name))
        self.finished(name)

    def test_blue_and_green_run_side_by_side_until_the_promotion(self):
        name = self.begun(3)
        wait_for("six", lambda: self.versions(name, 6) == [0, 0, 0, 1, 1, 1])
        self.healthy(name, 3)
        must(nomad("deployment", "promote", "-detach", self.deployment(name)["ID"][:8]))
        self.finished(name)

    def test_canaries_that_are_not_healthy_cannot_be_promoted(self):
        name = self.begun(1, healthy_in=-1, impatient=True)
        wait_for("the canary runs", lambda: self.versions(name, 4) == [0, 0, 0, 1])
        answer = nomad("job", "promote", "-detach", name)
        self.assertEqual(answer.code, 1)
        self.assertIn("healthy", answer.err)
        wait_for("failed", lambda: self.deployment(name)["Status"] == "failed", 40)
        wait_for("the old ones remain", lambda: self.versions(name, 3) == [0, 0, 0])

    def test_a_deployment_that_is_failed_by_hand_loses_its_canaries(self):
        name = self.begun(1)
        self.waiting(name)
        deployment = self.deployment(name)["ID"]
        must(nomad("deployment", "fail", "-detach", deployment))
        self.assertEqual(api(f"/v1/deployment/{deployment}").json()["Status"], "failed")
        wait_for("the old ones remain", lambda: self.versions(name, 3) == [0, 0, 0])
        self.assertNotEqual(nomad("deployment", "promote", "-detach", deployment).code, 0)


if __name__ == "__main__":
    unittest.main()

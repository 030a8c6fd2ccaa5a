"""What fails is restarted, then replaced, then given up, as its job says."""

import unittest

from cluster import allocations, api, must, nomad, purge, sleeper, submit, unique, wait_for
from fail_service import job


def events(allocation):
    return [e["Type"] for e in api(f"/v1/allocation/{allocation}").json()["TaskStates"]["t"]["Events"]]


class Failures(unittest.TestCase):
    def test_a_failing_check_restarts_the_task_until_the_policy_gives_up(self):
        name = unique("check-restart")
        self.addCleanup(purge, name)
        submit(
            job(
                name,
                healthy_for=2,
                check='check_restart {\n limit = 2\n grace = "1s"\n }',
                group="""
    restart {
      attempts = 2
      interval = "10m"
      delay    = "1s"
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }""",
            )
        )
        allocation = wait_for("placed", lambda: allocations(name))[0]["ID"]
        wait_for("failed", lambda: api(f"/v1/allocation/{allocation}").json()["ClientStatus"] == "failed", 60)
        state = api(f"/v1/allocation/{allocation}").json()["TaskStates"]["t"]
        self.assertEqual((state["Restarts"], state["State"], state["Failed"]), (2, "dead", True))
        seen = events(allocation)
        self.assertIn("Restart Signaled", seen)
        self.assertIn("Not Restarting", seen)
        self.assertEqual(len(allocations(name)), 1, "nothing replaces it")

    def test_limited_rescheduling_stops_after_its_attempts(self):
        name = unique("reschedule")
        self.addCleanup(purge, name)
        policy = """count = 1
    restart {
      attempts = 0
      interval = "10m"
      delay    = "1s"
      mode     = "fail"
    }
    reschedule {
      attempts       = 2
      interval       = "20m"
      delay          = "5s"
      delay_function = "constant"
      unlimited      = false
    }"""
        submit(sleeper(name, script="exit 3").replace("count = 1", policy))

        def given_up():
            found = sorted(allocations(name), key=lambda a: a["CreateIndex"])
            return found if len(found) == 3 and found[-1]["ClientStatus"] == "failed" else None

        listed = wait_for("three attempts", given_up, 40)
        first, second, third = (api(f"/v1/allocation/{a['ID']}").json() for a in listed)
        self.assertEqual(second["PreviousAllocation"], first["ID"])
        self.assertEqual(third["PreviousAllocation"], second["ID"])
        self.assertEqual(first["NextAllocation"], second["ID"])
        self.assertEqual(len(third["RescheduleTracker"]["Events"]), 2)
        self.assertTrue(first["FollowupEvalID"])
        shown = must(nomad("alloc", "status", third["ID"])).out
        self.assertRegex(shown, r"Reschedule Attempts\s+= 2/2")
        self.assertIn("Exit Code: 3", shown)
        followed = [e for e in api(f"/v1/job/{name}/evaluations").json() if e["TriggeredBy"] == "alloc-failure"]
        self.assertTrue(followed)

    def test_a_killed_process_is_started_again(self):
        name = unique("killed")
        self.addCleanup(purge, name)
        text = sleeper(name, script="echo begun; sleep 1; kill -9 $$").replace(
            "count = 1", 'count = 1\n    restart {\n      attempts = 1\n      delay = "1s"\n      mode = "fail"\n    }\n    reschedule {\n      attempts = 0\n      unlimited = false\n    }'
        )
        submit(text)
        allocation = wait_for("placed", lambda: allocations(name))[0]["ID"]
        wait_for("failed", lambda: api(f"/v1/allocation/{allocation}").json()["ClientStatus"] == "failed")
        state = api(f"/v1/allocation/{allocation}").json()["TaskStates"]["t"]
        self.assertEqual(state["Restarts"], 1)
        self.assertEqual(events(allocation).count("Started"), 2)
        self.assertIn("Restarting", events(allocation))
        self.assertEqual(must(nomad("logs", allocation)).out, "begun\nbegun\n")


if __name__ == "__main__":
    unittest.main()

"""The life of a job by the command line: plan, run, status, logs, exec, restart, stop."""

import re
import subprocess
import unittest

from cluster import (
    SAMPLES,
    allocations,
    api,
    job_file,
    must,
    nomad,
    purge,
    running,
    sleeper,
    submit,
    unique,
    wait_for,
)


class Life(unittest.TestCase):
    def test_plan_tells_by_its_exit_code_what_would_happen(self):
        name = unique("planned")
        file = job_file(sleeper(name))
        self.addCleanup(purge, name)
        new = must(nomad("job", "plan", file), 1)
        self.assertIn(f'+ Job: "{name}"', new.out)
        index = re.search(r"Job Modify Index: (\d+)", new.out)[1]
        self.assertEqual(index, "0")
        self.assertEqual(api(f"/v1/job/{name}").status, 404, "a plan must not submit")
        must(nomad("job", "run", "-detach", "-check-index", index, file))
        wait_for("it runs", lambda: running(name, 1))
        must(nomad("plan", file), 0)
        grown = job_file(sleeper(name, count=2))
        changed = must(nomad("plan", grown), 1)
        self.assertRegex(changed.out, r'\+/- Task Group: "g"')
        self.assertIn("Count", changed.out)
        stale = nomad("job", "run", "-detach", "-check-index", "0", grown)
        self.assertEqual(stale.code, 1)
        self.assertIn("index", stale.err.lower())

    def test_run_follows_the_deployment_to_its_end(self):
        name = unique("followed")
        self.addCleanup(purge, name)
        answer = must(nomad("run", job_file(sleeper(name, count=2))))
        self.assertRegex(answer.out, r'Evaluation "\w+" finished with status "complete"')
        self.assertRegex(answer.out, r'Deployment "\w+" successful')
        self.assertIn("Deployment completed successfully", answer.out)

    def test_run_detached_prints_the_evaluation(self):
        name = unique("detached")
        self.addCleanup(purge, name)
        answer = submit(sleeper(name))
        self.assertIn("Job registration successful", answer.out)
        evaluation = re.search(r"Evaluation ID: ([0-9a-f-]{36})", answer.out)[1]
        wait_for("complete", lambda: "complete" in must(nomad("eval", "status", evaluation)).out)

    def test_a_job_that_fits_nowhere_says_why(self):
        name = unique("huge")
        self.addCleanup(purge, name)
        file = job_file(sleeper(name).replace("memory = 16", "memory = 100000000"))
        plan = must(nomad("plan", file), 1)
        self.assertIn("exhausted", plan.out.lower())
        must(nomad("job", "run", "-detach", file))
        status = wait_for("placement failure", lambda: self.failure(name))
        self.assertIn('Dimension "memory" exhausted', status)

    def failure(self, name):
        out = nomad("job", "status", name).out
        return out if "Placement Failure" in out else None

    def test_restart_of_an_allocation_starts_its_task_again(self):
        name = unique("restarted")
        self.addCleanup(purge, name)
        submit(sleeper(name))
        allocation = wait_for("it runs", lambda: running(name, 1))[0]["ID"]
        must(nomad("alloc", "restart", allocation))
        wait_for("Restart Signaled", lambda: "Restart Signaled" in must(nomad("alloc", "status", allocation)).out)
        wait_for("restarted", lambda: api(f"/v1/allocation/{allocation}").json()["TaskStates"]["t"]["Restarts"] == 1)
        wait_for("it runs again", lambda: running(name, 1))

    def test_a_stopped_allocation_is_replaced(self):
        name = unique("replaced")
        self.addCleanup(purge, name)
        submit(sleeper(name))
        first = wait_for("it runs", lambda: running(name, 1))[0]["ID"]
        must(nomad("alloc", "stop", "-detach", first))
        wait_for("another", lambda: [a for a in running(name, 1) or [] if a["ID"] != first])

    def test_a_job_is_scaled_reverted_and_its_versions_listed(self):
        name = unique("scaled")
        self.addCleanup(purge, name)
        submit(sleeper(name))
        wait_for("deployed", lambda: (api(f"/v1/job/{name}/deployment").json() or {}).get("Status") == "successful")
        must(nomad("job", "scale", "-detach", name, "g", "3"))
        wait_for("three", lambda: running(name, 3))
        history = must(nomad("job", "history", name)).out
        self.assertIn("Version", history)
        must(nomad("job", "revert", "-detach", name, "0"))
        wait_for("one again", lambda: running(name, 1))
        self.assertEqual(api(f"/v1/job/{name}").json()["Version"], 2)

    def test_stop_keeps_the_job_and_purge_forgets_it(self):
        name = unique("stopped")
        submit(sleeper(name))
        wait_for("it runs", lambda: running(name, 1))
        must(nomad("job", "stop", "-detach", name))
        wait_for("dead", lambda: api(f"/v1/job/{name}").json()["Status"] == "dead")
        wait_for("ended", lambda: [a["ClientStatus"] for a in allocations(name)] == ["complete"])
        must(nomad("job", "stop", "-purge", "-detach", name))
        wait_for("forgotten", lambda: api(f"/v1/job/{name}").status == 404)
        answer = nomad("stop", "-detach", name)
        self.assertEqual(answer.code, 1)
        self.assertIn(name, answer.err)

    def test_stop_followed_waits_for_the_evaluation(self):
        name = unique("followed-stop")
        submit(sleeper(name))
        wait_for("it runs", lambda: running(name, 1))
        self.assertIn("finished with status", must(nomad("stop", "-purge", name)).out)

    def test_a_batch_job_ends_complete(self):
        name = unique("batch")
        self.addCleanup(purge, name)
        submit(sleeper(name, kind="batch", script="echo done; exit 0"))
        wait_for("complete", lambda: [a["ClientStatus"] for a in allocations(name)] == ["complete"])
        self.assertEqual(must(nomad("logs", allocations(name)[0]["ID"])).out, "done\n")
        wait_for("dead", lambda: api(f"/v1/job/{name}").json()["Status"] == "dead")

    def test_a_system_job_runs_on_every_node_of_its_datacenters(self):
        name = unique("system")
        self.addCleanup(purge, name)
        submit(sleeper(name, kind="system", datacenter="*"))
        found = wait_for("three", lambda: running(name, 3))
        self.assertEqual(sorted(a["NodeName"] for a in found), ["client-1", "client-2", "spare-1"])


class Looking(unittest.TestCase):
    """Reads of one running job."""

    @classmethod
    def setUpClass(cls):
        cls.name = unique("looked-at")
        submit(sleeper(cls.name))
        cls.allocation = wait_for("it runs", lambda: running(cls.name, 1))[0]["ID"]

    @classmethod
    def tearDownClass(cls):
        purge(cls.name)

    def test_jobs_are_listed_and_shown(self):
        for command in (["job", "status"], ["status"]):
            self.assertIn(self.name, must(nomad(*command)).out)
            shown = must(nomad(*command, self.name)).out
            for word in ("Summary", "Latest Deployment", "Allocations", self.allocation[:8]):
                self.assertIn(word, shown)
        rows = [row[0] for row in must(nomad("job", "status")).rows()]
        self.assertIn(self.name, rows)
        self.assertEqual(must(nomad("job", "status", "-t", "{{range .}}{{.ID}}\n{{end}}")).out.count(self.name), 1)
        self.assertEqual(must(nomad("job", "inspect", self.name)).json()["Job"]["ID"], self.name)
        self.assertEqual(must(nomad("inspect", self.name)).json()["Job"]["ID"], self.name)

    def test_an_allocation_is_shown_by_its_short_id(self):
        for command in (["status"], ["alloc", "status"], ["alloc-status"]):
            shown = must(nomad(*command, self.allocation[:8])).out
            for word in (self.allocation[:8], 'Task "t" is "running"', "Started", "Task Events"):
                self.assertIn(word, shown)
        self.assertEqual(must(nomad("alloc", "status", "-json", self.allocation)).json()["ID"], self.allocation)
        self.assertEqual(must(nomad("alloc", "status", "-t", "{{.ClientStatus}}", self.allocation)).out.strip(), "running")
        answer = nomad("alloc", "status", "ffffffff")
        self.assertEqual(answer.code, 1)

    def test_both_outputs_are_read(self):
        for command in (["logs"], ["alloc", "logs"]):
            self.assertEqual(must(nomad(*command, self.allocation)).out, "out\n")
            self.assertEqual(must(nomad(*command, "-stderr", self.allocation[:8], "t")).out, "err\n")
        self.assertEqual(must(nomad("alloc", "logs", "-job", self.name)).out, "out\n")
        self.assertEqual(must(nomad("alloc", "logs", "-tail", "-n", "1", self.allocation)).out, "out\n")

    def test_logs_go_on_when_followed(self):
        name = unique("ticking")
        self.addCleanup(purge, name)
        submit(sleeper(name, script="i=0; while true; do i=$((i+1)); echo line $i; sleep 0.3; done"))
        allocation = wait_for("it runs", lambda: running(name, 1))[0]["ID"]
        process = subprocess.Popen(["nomad", "logs", "-f", allocation], stdout=subprocess.PIPE, text=True)
        killer = subprocess.Popen(["sh", "-c", f"sleep 20; kill {process.pid}"])
        try:
            lines = [process.stdout.readline() for _ in range(8)]
        finally:
            for child in (killer, process):
                child.kill()
                child.wait()
            process.stdout.close()
        self.assertEqual(lines, [f"line {n}\n" for n in range(1, 9)])

    def test_a_command_runs_in_the_task(self):
        answer = must(nomad("alloc", "exec", self.allocation, "/bin/sh", "-c", "echo $NOMAD_TASK_NAME $NOMAD_DC; echo e >&2"))
        self.assertEqual((answer.out, answer.err), ("t dc1\n", "e\n"))
        self.assertEqual(must(nomad("alloc", "exec", "-task", "t", self.allocation, "cat"), 0).out, "")
        echoed = nomad("exec", "-i=true", "-t=false", self.allocation, "cat", stdin="typed\n")
        self.assertEqual(must(echoed).out, "typed\n")
        must(nomad("alloc", "exec", self.allocation, "/bin/sh", "-c", "exit 7"), 7)

    def test_deployments_are_listed_and_shown(self):
        wait_for("successful", lambda: "successful" in self.mine())
        deployment = self.mine().split()[0]
        shown = must(nomad("deployment", "status", deployment)).out
        for word in (self.name, "Deployment completed successfully", "Deployed"):
            self.assertIn(word, shown)
        self.assertTrue(must(nomad("deployment", "list", "-json")).json())
        self.assertIn(deployment, must(nomad("job", "deployments", self.name)).out)
        self.assertIn(deployment, must(nomad("status", deployment)).out)

    def mine(self):
        return "".join(l for l in must(nomad("deployment", "list")).out.splitlines() if self.name in l)


class Environment(unittest.TestCase):
    def test_a_task_knows_where_it_runs(self):
        name = unique("environment")
        self.addCleanup(purge, name)
        submit(
            f"""
job "{name}" {{
  datacenters = ["dc1"]
  type        = "batch"
  group "g" {{
    network {{
      port "http" {{}}
    }}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sh"
        args    = ["-c", "echo $A; echo $NOMAD_JOB_NAME $NOMAD_GROUP_NAME $NOMAD_ALLOC_INDEX; cat local/rendered", "${{node.datacenter}}"]
      }}
      env {{
        A = "${{node.unique.name}}/${{NOMAD_DC}}/${{attr.kernel.name}}"
      }}
      template {{
        data        = "{{{{ env \\"NOMAD_TASK_NAME\\" }}}} has a file"
        destination = "local/rendered"
      }}
      resources {{
        cpu    = 20
        memory = 16
      }}
    }}
  }}
}}
"""
        )
        found = wait_for("complete", lambda: [a for a in allocations(name) if a["ClientStatus"] == "complete"])[0]
        lines = must(nomad("logs", found["ID"])).out.splitlines()
        self.assertEqual(lines[0], f"{found['NodeName']}/dc1/linux")
        self.assertEqual(lines[1], f"{name} g 0")
        self.assertEqual(lines[2], "t has a file")


if __name__ == "__main__":
    unittest.main()

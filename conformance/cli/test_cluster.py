"""Commands that ask about the cluster: members, nodes, consensus, log lines, drain."""

import subprocess
import unittest

from cluster import CLIENTS, NET, SERVERS, api, must, nomad, purge, running, sleeper, submit, unique, wait_for


class Members(unittest.TestCase):
    def test_three_servers_are_alive_and_one_leads(self):
        for server in SERVERS:
            for command in (["server", "members"], ["server-members"]):
                rows = must(nomad(*command, f"-address=http://{server}:4646")).rows()
                self.assertEqual([row[3] for row in rows], ["alive"] * 3)
                self.assertEqual(sorted(row[4] for row in rows), ["false", "false", "true"])

    def test_members_are_told_as_json_and_by_template(self):
        members = must(nomad("server", "members", "-json")).json()
        self.assertEqual(sorted(m["Name"] for m in members), [f"server-{n}.global" for n in (1, 2, 3)])
        names = must(nomad("server", "members", "-t", "{{range .}}{{.Name}} {{end}}")).out.split()
        self.assertEqual(sorted(names), [f"server-{n}.global" for n in (1, 2, 3)])

    def test_the_peers_of_the_consensus_group_are_listed(self):
        rows = must(nomad("operator", "raft", "list-peers")).rows()
        self.assertEqual(len(rows), 3)
        self.assertEqual(sorted(row[3] for row in rows), ["follower", "follower", "leader"])
        self.assertEqual(sorted(row[2] for row in rows), [f"{s}:4647" for s in SERVERS])

    def test_joining_a_known_server_succeeds(self):
        must(nomad("server", "join", f"{NET}.2:4648"))
        must(nomad("server-join", f"{NET}.2:4648"))

    def test_region_and_namespace_are_accepted(self):
        must(nomad("job", "status", "-region", "global", "-namespace", "default"))

    def test_the_agent_tells_figures(self):
        self.assertIn("raft", must(nomad("agent-info")).out)


class Nodes(unittest.TestCase):
    def test_three_nodes_are_ready_through_servers_and_clients(self):
        for address in (SERVERS[0], SERVERS[2], CLIENTS[0]):
            for command in (["node", "status"], ["node-status"]):
                rows = must(nomad(*command, f"-address=http://{address}:4646")).rows()
                self.assertEqual(sorted(row[3] for row in rows), ["client-1", "client-2", "spare-1"])
                self.assertEqual([row[7] for row in rows], ["ready"] * 3)

    def test_a_node_is_shown_by_the_beginning_of_its_id(self):
        node = must(nomad("node", "status", "-json")).json()[0]
        shown = must(nomad("node", "status", node["ID"][:8])).out
        for word in (node["Name"], "raw_exec", "Allocated Resources"):
            self.assertIn(word, shown)
        whole = must(nomad("node", "status", "-json", node["ID"])).json()
        self.assertIn("Healthy", whole["Drivers"]["docker"])

    def test_an_unknown_node_is_refused(self):
        answer = nomad("node", "status", "ffffffff")
        self.assertEqual(answer.code, 1)
        self.assertIn("ffffffff", answer.err)

    def test_a_drained_node_loses_its_work_and_gets_it_back(self):
        node = next(n for n in must(nomad("node", "status", "-json")).json() if n["Name"] == "spare-1")["ID"]
        name = unique("drained")
        submit(sleeper(name, datacenter="spare"))
        self.addCleanup(purge, name)
        self.addCleanup(nomad, "node", "drain", "-disable", "-yes", node)
        first = wait_for("it runs", lambda: running(name, 1))[0]["ID"]

        must(nomad("node", "drain", "-enable", "-deadline", "5s", "-detach", "-yes", node))
        wait_for("ineligible", lambda: api(f"/v1/node/{node}").json()["SchedulingEligibility"] == "ineligible")
        wait_for("stopped", lambda: api(f"/v1/allocation/{first}").json()["ClientStatus"] == "complete")
        self.assertEqual(api(f"/v1/job/{name}").json()["Status"], "pending")
        wait_for("the drain ends", lambda: not api(f"/v1/node/{node}").json()["Drain"])

        must(nomad("node-drain", "-disable", "-yes", node))
        must(nomad("node", "eligibility", "-enable", node))
        second = wait_for("it runs again", lambda: running(name, 1))[0]["ID"]
        self.assertNotEqual(first, second)

    def test_drain_wants_to_know_which_way(self):
        answer = nomad("node", "drain", "ffffffff")
        self.assertEqual(answer.code, 1)
        self.assertIn("-enable", answer.err)


class Monitor(unittest.TestCase):
    def lines(self, *words):
        """The first line that `monitor` prints while a job is submitted."""
        process = subprocess.Popen(
            ["nomad", "monitor", "-log-level", "debug", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        name = unique("watched")
        submit(sleeper(name))
        killer = subprocess.Popen(["sh", "-c", f"sleep 15; kill {process.pid}"])
        try:
            return process.stdout.readline()
        finally:
            killer.kill()
            killer.wait()
            process.kill()
            process.stdout.close()
            process.wait()
            purge(name)

    def test_lines_of_a_server_and_of_a_client_appear(self):
        self.assertRegex(self.lines("-server-id", "leader"), r"\[(DEBUG|INFO|WARN|ERROR)\]")
        node = next(n for n in api("/v1/nodes").json() if n["Name"] == "client-1")["ID"]
        self.assertRegex(self.lines("-node-id", node), r"\[(DEBUG|INFO|WARN|ERROR)\]")


if __name__ == "__main__":
    unittest.main()

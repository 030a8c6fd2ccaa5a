"""The ingress follows the catalog: prefixes are stripped, and only who is healthy is asked."""

import unittest

from cluster import CLIENTS, http, purge, registry, running, submit, unique, wait_for
from fail_service import job

PROXY = f"http://{CLIENTS[0]}:9999"


class Ingress(unittest.TestCase):
    def test_health_of_an_instance_decides_whether_its_route_answers(self):
        name = unique("route")
        self.addCleanup(purge, name)
        submit(job(name))
        url = f"{PROXY}/{name}/health"
        wait_for("the route answers", lambda: http(url).status == 200)
        self.assertEqual(http(url).json(), {"message": "Ok", "ok": True})
        for client in CLIENTS:
            wait_for("every proxy answers", lambda: http(f"http://{client}:9999/{name}/health").status == 200)
        routes = http(f"http://{CLIENTS[0]}:9998/api/routes").json()
        mine = [r for r in routes if r["service"] == name]
        self.assertEqual([(r["path"], r["weight"]) for r in mine], [(f"/{name}", 1.0)])

        entry = registry(f"/v1/catalog/service/{name}").json()[0]
        direct = f"http://{entry['ServiceAddress']}:{entry['ServicePort']}"
        self.assertEqual(http(f"{direct}/setunhealthy", method="PUT").status, 200)
        wait_for("the route is gone", lambda: http(url).status == 404)
        passing = f"/v1/health/service/{name}?passing=1"
        self.assertEqual(registry(passing).json(), [])
        self.assertEqual(len(registry(f"/v1/health/service/{name}").json()), 1)
        http(f"{direct}/sethealthy", method="PUT")
        wait_for("the route is back", lambda: http(url).status == 200)

    def test_the_proxys_own_pages(self):
        ui = f"http://{CLIENTS[1]}:9998"
        self.assertEqual(http(f"{ui}/health").text.strip(), "OK")
        self.assertEqual(http(f"{ui}/routes").status, 200)
        moved = http(f"{ui}/")
        self.assertEqual((moved.status, moved.headers["Location"]), (303, "/routes"))
        self.assertEqual(http(f"{PROXY}/nothing-here").status, 404)

    def test_no_request_fails_while_a_version_replaces_another(self):
        name = unique("smooth")
        self.addCleanup(purge, name)
        submit(job(name, count=2))
        url = f"{PROXY}/{name}/health"
        wait_for("two instances", lambda: len(registry(f"/v1/health/service/{name}?passing=1").json()) == 2)
        wait_for("the route answers", lambda: http(url).status == 200)
        submit(job(name, count=2, note="second"))
        statuses = []

        def replaced():
            statuses.append(http(url).status)
            return {a["JobVersion"] for a in running(name, 2) or []} == {1}

        wait_for("the second version runs", replaced, 40)
        self.assertEqual(set(statuses), {200}, statuses)


if __name__ == "__main__":
    unittest.main()

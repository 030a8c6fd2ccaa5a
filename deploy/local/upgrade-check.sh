#!/usr/bin/env bash
# Upgrades a whole cluster while wrk asks every ingress, and counts failed requests and restarted
# tasks. Both must be none.
#
#   upgrade-check.sh OLD NEW SAMPLES
#
# OLD and NEW are two builds of cos, best with different versions:
#
#   COS_VERSION_OVERRIDE=0.2.0 cargo build --release --package cos
#
# Needs wrk, curl and python3, and that no other cluster runs on this machine. Ends with 1 if a
# request failed or a task was restarted.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
old=$(realpath "${1:?path of the older cos}")
new=$(realpath "${2:?path of the newer cos}")
samples=$(realpath "${3:?directory of the samples}")
work=$(mktemp -d -t cos-upgrade-XXXXXX)
export COS_RUN_DIR=$work/run
addresses=(127.0.0.11 127.0.0.12 127.0.0.13 127.0.0.14)

finish() {
  for pid in "${loads[@]}"; do kill "$pid" 2>/dev/null || true; done
  "$here/cluster.sh" down "$new" >/dev/null 2>&1 || true
  rm -rf "$work"
}
loads=()
trap finish EXIT

# Which tasks run, as which process, and how often each was started anew.
tasks() {
  python3 - <<'PY'
import json, urllib.request
get = lambda path: json.load(urllib.request.urlopen("http://127.0.0.2:4646" + path, timeout=10))
for alloc in sorted(get("/v1/allocations"), key=lambda alloc: alloc["ID"]):
    if alloc["ClientStatus"] == "running":
        for name, task in sorted(alloc["TaskStates"].items()):
            print(alloc["ID"], name, task["State"], "restarts", task["Restarts"], task["StartedAt"])
PY
}

"$here/cluster.sh" up "$old" "$samples"
tasks >"$work/before"
echo "before: $("$old" version | head -1), $(wc -l <"$work/before") tasks"

# More than the upgrade can take; it is ended when the upgrade is over.
for address in "${addresses[@]}"; do
  cat >"$work/done.lua" <<'LUA'
done = function(summary)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, e.connect, e.read, e.write,
    e.timeout, e.status))
end
LUA
  wrk -t1 -c8 -d600s --timeout 10s -s "$work/done.lua" "http://$address:9999/ping" \
    >"$work/wrk.$address" 2>&1 &
  loads+=($!)
done
sleep 2

"$here/cluster.sh" upgrade "$new"

sleep 2
# wrk tells what it counted when it is interrupted.
for pid in "${loads[@]}"; do kill -INT "$pid"; done
for pid in "${loads[@]}"; do wait "$pid" || true; done
loads=()

tasks >"$work/after"
failed=0
for address in "${addresses[@]}"; do
  read -r _ requests connect read write timeout status < <(grep RESULT "$work/wrk.$address")
  echo "ingress $address: $requests requests, failed: connect $connect, read $read, write $write," \
       "timeout $timeout, status $status"
  [ "$requests" -gt 0 ] && [ $((connect + read + write + timeout + status)) -eq 0 ] || failed=1
done
if diff "$work/before" "$work/after"; then
  echo "tasks: none was restarted"
else
  echo "tasks: see the difference above"
  failed=1
fi
"$new" server members -detailed 2>/dev/null | grep -o 'cos=[^,]*' | sort | uniq -c || true
exit $failed

#!/usr/bin/env bash
# A cluster of seven agents on one machine, as ordinary processes below .run/: three servers in
# datacenter `leader` and a client in each of four others, every agent on a loopback address of its
# own so that each has the standard ports.
#
#   cluster.sh up COS SAMPLES   starts what does not run, deploys ingress and ping-service, waits
#   cluster.sh upgrade COS      has every agent and ingress go on as this program, one after another,
#                               without a task or a request noticing
#   cluster.sh down COS         stops everything that `up` started and leaves nothing behind
#
# Every agent runs a program file of its own, .run/NAME/cos, so that one can be replaced alone.
#
# Needs bash, coreutils and the two built paths. Asks nobody for root and does not use it.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
run=${COS_RUN_DIR:-$root/.run}
here=$(dirname "$0")
source "$here/wait.sh"

servers=(server-1:127.0.0.1 server-2:127.0.0.2 server-3:127.0.0.3)
clients=(public-services:127.0.0.11 private-services:127.0.0.12
         content-connector:127.0.0.13 backoffice:127.0.0.14)
export NOMAD_ADDR=http://127.0.0.1:4646
unset NOMAD_TOKEN NOMAD_REGION NOMAD_NAMESPACE CONSUL_HTTP_ADDR || true

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

alive() { # NAME -> whether its agent runs
  local pid
  pid=$(cat "$run/$1/agent.pid" 2>/dev/null) || return 1
  # The name on the command line tells our agent from a process that got the same pid later.
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$run/$1/agent.hcl"
}

write_server() { # NAME ADDRESS
  cat >"$run/$1/agent.hcl" <<EOF
name       = "$1"
datacenter = "leader"
data_dir   = "$run/$1/data"
bind_addr  = "$2"

server {
  enabled          = true
  bootstrap_expect = 3
  server_join {
    retry_join = ["127.0.0.1:4648", "127.0.0.2:4648", "127.0.0.3:4648"]
  }
}
EOF
}

write_client() { # NAME ADDRESS NUMBER
  local first=$((20000 + 3000 * $3))
  cat >"$run/$1/agent.hcl" <<EOF
name       = "client-$1"
datacenter = "$1"
data_dir   = "$run/$1/data"
bind_addr  = "$2"

# The ingress runs as a system job here; see samples/jobs/ingress.nomad.hcl.
ports {
  ingress    = -1
  ingress_ui = -1
}

client {
  enabled = true
  servers = ["127.0.0.1:4647", "127.0.0.2:4647", "127.0.0.3:4647"]

  # The samples listen on all addresses, and all clients share this machine: each has a range of
  # its own.
  min_dynamic_port = $first
  max_dynamic_port = $((first + 2999))
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}
EOF
}

start() { # NAME
  alive "$1" && return 0
  : >"$run/$1/agent.log"
  install_program "$cos" "$run/$1/cos"
  setsid "$run/$1/cos" agent -config "$run/$1/agent.hcl" >>"$run/$1/agent.log" 2>&1 </dev/null &
  echo $! >"$run/$1/agent.pid"
}

# A program that runs cannot be written to, so the new file takes the old one's name.
install_program() { # FROM TO
  [ ! "$1" -ef "$2" ] || return 0
  ln -f "$1" "$2.new" 2>/dev/null || cp "$1" "$2.new"
  mv -f "$2.new" "$2"
}

check_ports() { # says which port of which address is taken by somebody else
  local entry name address port
  for entry in "${servers[@]}" "${clients[@]}"; do
    name=${entry%%:*} address=${entry#*:}
    alive "$name" && continue
    for port in 4646 4647 8500 8600; do
      if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then
        fail "port $port of $address is taken by another program; stop it, or this cluster's agent" \
             "$name cannot start"
      fi
    done
  done
}

check_disk() { # a cluster that runs out of disk fails in confusing ways; say it before
  local free
  mkdir -p "$run" || fail "cannot write to $run"
  free=$(df -Pm "$run" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge 500 ] || fail "the disk of $run has $free MiB left; at least 500 are needed"
}

up() {
  cos=$(realpath "$1") samples=$(realpath "$2")
  if curl -fs -m 2 http://127.0.0.1:9999/ping >/dev/null 2>&1 && all_alive; then
    say "The cluster runs already; nothing was touched."
    tell
    return 0
  fi
  check_disk
  check_ports
  local entry name number=0 is_new=yes
  [ ! -d "$run/server-1/data" ] || is_new=no
  say "Starting 3 servers and 4 clients below $run"
  for entry in "${servers[@]}"; do
    name=${entry%%:*}
    mkdir -p "$run/$name/data"
    write_server "$name" "${entry#*:}"
    start "$name"
  done
  for entry in "${clients[@]}"; do
    name=${entry%%:*}
    mkdir -p "$run/$name/data"
    write_client "$name" "${entry#*:}" "$number"
    number=$((number + 1))
    start "$name"
  done
  wait_for "a leader" 30 leader_known
  [ $is_new = no ] || lead_elsewhere
  wait_for "4 ready nodes" 30 nodes_ready
  mkdir -p "$run/ingress"
  [ -e "$run/ingress/cos" ] || install_program "$cos" "$run/ingress/cos"
  "$cos" job run -detach -var "cos=$run/ingress/cos" "$root/samples/jobs/ingress.nomad.hcl" >/dev/null
  wait_for "ingress on every client" 60 ingress_up
  "$cos" job run -var "bin_dir=$samples" "$root/samples/jobs/ping.nomad.hcl"
  wait_for "ping-service behind the ingress" 60 ping_answers
  tell
}

# Servers first, the leader last, then clients, then the ingresses: an older client understands a
# newer server. Each step waits until what was replaced does its work again.
upgrade() {
  local new entry name leader last
  new=$(realpath "$1") cos=$new
  all_alive || fail "not all agents run; 'make run' starts them"
  leader=$(leader) || fail "no leader: an upgrade needs a cluster that is whole"
  for entry in "${servers[@]}"; do
    if [ "$leader" = "\"${entry#*:}:4647\"" ]; then last=$entry; continue; fi
    replace "${entry%%:*}" "${entry#*:}" "$new"
  done
  entry=${last:?the leader is not one of the servers of this cluster}
  replace "${entry%%:*}" "${entry#*:}" "$new"
  for entry in "${clients[@]}"; do
    replace "${entry%%:*}" "${entry#*:}" "$new"
    wait_for "4 ready nodes" 30 nodes_ready
  done
  install_program "$new" "$run/ingress/cos"
  local pid
  for pid in $(ingress_pids); do kill -USR2 "$pid"; done
  wait_for "newer ingresses" 30 ingresses_replaced
  wait_for "ping-service behind the ingress" 30 ping_answers
  say "Every agent is $("$new" version | head -1)."
}

replace() { # NAME ADDRESS PROGRAM
  local pid
  pid=$(cat "$run/$1/agent.pid")
  install_program "$3" "$run/$1/cos"
  kill -USR2 "$pid"
  wait_for "$1 as a newer program" 30 is_replaced "$pid" "$run/$1/cos"
  # A read that is not stale is answered by one who has caught up with a leader.
  wait_for "answers of $1" 30 curl -fs -m 2 -o /dev/null "http://$2:4646/v1/jobs"
}

is_replaced() { [ "/proc/$1/exe" -ef "$2" ]; } # PID PROGRAM
ingress_pids() { pgrep -f "^$run/ingress/cos ingress " || true; }
ingresses_replaced() {
  local pid
  for pid in $(ingress_pids); do is_replaced "$pid" "$run/ingress/cos" || return 1; done
  ingress_up
}

# People type 127.0.0.1, which is server-1. While another server leads, the leader can be killed and
# all of those addresses go on answering.
lead_elsewhere() {
  local try pid
  for try in 1 2 3; do
    [ "$(leader)" = '"127.0.0.1:4647"' ] || return 0
    pid=$(cat "$run/server-1/agent.pid")
    kill -TERM "$pid" # which hands over
    wait_for "another leader" 20 gone "$pid"
    start server-1
    wait_for "server-1 again" 30 leader_known
  done
}

all_alive() {
  local entry
  for entry in "${servers[@]}" "${clients[@]}"; do alive "${entry%%:*}" || return 1; done
}

leader() { curl -fs -m 2 "$NOMAD_ADDR/v1/status/leader"; }
leader_known() { local known; known=$(leader) && [ "$known" != '""' ]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
nodes_ready() { [ "$("$cos" node status -t '{{range .}}{{.Status}}{{"\n"}}{{end}}' 2>/dev/null |
  grep -c '^ready$')" -ge 4 ]; }
ingress_up() {
  local entry
  for entry in "${clients[@]}"; do
    curl -fs -m 2 "http://${entry#*:}:9998/health" >/dev/null || return 1
  done
}
ping_answers() { curl -fs -m 3 http://127.0.0.1:9999/ping | grep -q 'PONG'; }

tell() {
  cat <<EOF

  API and page      http://127.0.0.1:4646  (page: http://127.0.0.1:4646/ui/jobs)
  Catalog and keys  http://127.0.0.1:8500
  DNS               127.0.0.1, port 8600
  Ingress           http://127.0.0.1:9999/ping
  Routes            http://127.0.0.1:9998/routes

Try:
  curl -s http://127.0.0.1:9999/ping
  $cos job status ping-service
  $cos node status

Logs are in $run/*/agent.log. 'make stop' ends everything.
EOF
}

# Every process that carries this cluster's directory on its command line: agents and task shims.
ours() {
  local file
  for file in /proc/[0-9]*/cmdline; do
    if tr '\0' '\n' 2>/dev/null <"$file" | grep -qF -- "$run/"; then
      local pid=${file#/proc/}
      pid=${pid%/cmdline}
      [ "$pid" = $$ ] || [ "$pid" = "$PPID" ] || echo "$pid"
    fi
  done
}

down() {
  local cos=$1 entry name pid tasks
  if [ ! -d "$run" ]; then
    say "Nothing runs."
    return 0
  fi
  # Jobs first, so that tasks end in order; a cluster without a leader cannot, and is cut short.
  if [ -x "$cos" ] && curl -fs -m 2 "$NOMAD_ADDR/v1/jobs?stale=true" >/dev/null 2>&1; then
    for name in $("$cos" job status -t '{{range .}}{{.ID}}{{"\n"}}{{end}}' 2>/dev/null || true); do
      timeout 20 "$cos" job stop -purge -detach "$name" >/dev/null 2>&1 || true
    done
    wait_quietly 15 no_tasks || true
  fi
  tasks=$(ours)
  for entry in "${clients[@]}" "${servers[@]}"; do
    name=${entry%%:*}
    if alive "$name"; then kill -TERM "$(cat "$run/$name/agent.pid")" 2>/dev/null || true; fi
  done
  wait_quietly 10 no_agents || true
  for pid in $tasks $(ours); do kill -TERM "$pid" 2>/dev/null || true; done
  wait_quietly 10 nothing_left || true
  for pid in $(ours); do kill -KILL "$pid" 2>/dev/null || true; done
  remove_cgroups
  rm -rf "$run"
  say "Stopped."
}

no_tasks() { ! pgrep_ours ' shim ' >/dev/null; }
no_agents() { ! pgrep_ours ' agent ' >/dev/null; }
nothing_left() { [ -z "$(ours)" ]; }
pgrep_ours() { # WORD -> pids of ours with this word on the command line
  local pid found=1
  for pid in $(ours); do
    if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$1"; then
      echo "$pid"
      found=0
    fi
  done
  return $found
}

# Agents remove the control group of each task that ends; a killed agent left empty ones. A group
# that somebody uses cannot be removed, so trying all of ours is safe.
remove_cgroups() {
  local dir
  while IFS= read -r dir; do rmdir "$dir" 2>/dev/null || true; done < <(
    find /sys/fs/cgroup -mindepth 1 -depth -type d \( -path '*/cos/*' -o -name cos \
      -o -path '*/cos.slice/*' -o -name cos.slice \) 2>/dev/null || true)
}

case "${1:-}" in
  up) up "${2:?path of cos}" "${3:?directory of the samples}" ;;
  upgrade) upgrade "${2:?path of the newer cos}" ;;
  down) down "${2:?path of cos}" ;;
  *) fail "usage: cluster.sh up COS SAMPLES | upgrade COS | down COS" ;;
esac

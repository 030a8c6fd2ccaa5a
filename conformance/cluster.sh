# One cluster of ordinary processes for all tests: three servers, two clients in datacenter dc1 and
# one in datacenter spare. Sourced. Every agent has a loopback address of its own, so that each has
# the standard ports and runs beside any other cluster of this machine.
#
# Expects: $work (an existing directory), $cos (the binary), $net (a loopback prefix such as 127.9.1).

servers=(server-1 server-2 server-3)
clients=(client-1 client-2 spare-1)
declare -A address=(
  [server-1]=$net.1 [server-2]=$net.2 [server-3]=$net.3
  [client-1]=$net.11 [client-2]=$net.12 [spare-1]=$net.13
)

write_server() { # NAME
  cat <<END
name       = "$1"
datacenter = "dc1"
data_dir   = "$work/$1"
bind_addr  = "${address[$1]}"

ports {
  ingress    = -1
  ingress_ui = -1
}

server {
  enabled          = true
  bootstrap_expect = 3
  server_join {
    retry_join     = ["$net.1:4648", "$net.2:4648", "$net.3:4648"]
    retry_interval = "1s"
  }
}
END
}

write_client() { # NAME NUMBER
  # The samples listen on all addresses of this machine, so each client has ports of its own, and
  # none that `make run` uses.
  local first=$((14000 + 1000 * $2)) datacenter=dc1
  case $1 in spare-*) datacenter=spare ;; esac
  cat <<END
name       = "$1"
datacenter = "$datacenter"
data_dir   = "$work/$1"
bind_addr  = "${address[$1]}"

client {
  enabled          = true
  servers          = ["$net.1:4647", "$net.2:4647", "$net.3:4647"]
  min_dynamic_port = $first
  max_dynamic_port = $((first + 999))
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}
END
}

start_agent() { # NAME
  # Out of our process group, so that a terminal's ctrl-c reaches the trap and not the agents.
  setsid "$cos" agent -config "$work/$1.hcl" >"$work/$1.log" 2>&1 </dev/null &
  echo $! >"$work/$1.pid"
}

cluster_up() {
  local name number=0
  for name in "${servers[@]}"; do
    write_server "$name" >"$work/$name.hcl"
    start_agent "$name"
  done
  for name in "${clients[@]}"; do
    write_client "$name" "$number" >"$work/$name.hcl"
    number=$((number + 1))
    start_agent "$name"
  done
  until_true 60 "three ready nodes" nodes_ready
}

nodes_ready() {
  [ "$(NOMAD_ADDR=http://$net.1:4646 "$cos" node status 2>/dev/null | grep -cw ready)" = 3 ]
}

until_true() { # SECONDS WHAT TEST...
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "error: no $what in time; the end of the agents' logs:" >&2
      tail -n 15 "$work"/*.log >&2
      return 1
    fi
    sleep 0.2
  done
}

# Every process that carries this cluster's directory on its command line: agents and task shims.
ours() {
  local file pid
  for file in /proc/[0-9]*/cmdline; do
    pid=${file#/proc/}
    pid=${pid%/cmdline}
    # A process may end while it is looked at.
    if [ "$pid" != $$ ] && { tr '\0' '\n' <"$file" | grep -qF -- "$work/"; } 2>/dev/null; then
      echo "$pid"
    fi
  done
}

none_left() { [ -z "$(ours)" ]; }

cluster_down() {
  local name pid deadline
  for name in "${clients[@]}" "${servers[@]}"; do
    pid=$(cat "$work/$name.pid" 2>/dev/null) && kill -TERM "$pid" 2>/dev/null
  done
  # Tasks outlive their agents by design; each ends with its shim.
  for signal in TERM KILL; do
    deadline=$((SECONDS + 8))
    until none_left || [ "$SECONDS" -ge "$deadline" ]; do
      for pid in $(ours); do kill -"$signal" "$pid" 2>/dev/null; done
      sleep 0.2
    done
  done
  none_left
}

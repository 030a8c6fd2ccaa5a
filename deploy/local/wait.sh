# Waiting for something to become true, with and without a word about it. Sourced.

wait_for() { # WHAT SECONDS TEST...
  local what=$1 seconds=$2 deadline
  shift 2
  deadline=$((SECONDS + seconds))
  printf 'Waiting for %s ' "$what"
  until "$@" 2>/dev/null; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      printf '\n'
      fail "no $what within $seconds s; the agents' logs are in ${run:-.run}/*/agent.log"
    fi
    printf '.'
    sleep 0.3
  done
  printf ' ok\n'
}

wait_quietly() { # SECONDS TEST...
  local deadline=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

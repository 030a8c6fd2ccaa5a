#!/usr/bin/env bash
# Builds the images of the four sample services from static binaries.
#
#   build.sh DIR    where DIR holds ping-service, fail-service, frontend and backend
#
# Needs docker and a running engine; nothing is fetched, because the images begin from nothing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?directory of the sample binaries, such as target/x86_64-unknown-linux-gnu/release}
version=0.1.0

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
for name in ping-service fail-service frontend backend; do
  [ -x "$dir/$name" ] || { echo "error: there is no program $dir/$name" >&2; exit 1; }
  # The engine gets one small directory and not the whole output of the build.
  cp "$dir/$name" "$context/"
  image=cos-samples/${name//-/_}:$version
  said=$(docker build --quiet --build-arg "BIN=$name" --tag "$image" --file "$here/Dockerfile" \
    "$context" 2>&1) || { printf 'error: cannot build %s\n%s\n' "$image" "$said" >&2; exit 1; }
  rm "$context/$name"
  echo "$image"
done

#!/usr/bin/env bash
# What an idle node costs, and how long a decision takes: CPU and memory at intervals of 1 s and
# 30 s, the binary's size, and the time from a sample to its decision. No part of the tests.
#
#   tests/bench/idle.sh [SECONDS]      how long each interval is measured (default 120)
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-120}
hale=${HALE_BIN:-target/release/hale}
[ -x "$hale" ] || { echo "there is no $hale; run: cargo build --release" >&2; exit 1; }
hale=$(realpath "$hale")

dir=$(mktemp -d)
pids=()
clean_up() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap clean_up EXIT

wait_for() { # seconds, command…
  local until=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || { echo "waited in vain for: $*" >&2; cat "$dir"/*.log >&2; exit 1; }
    sleep 0.05
  done
}

ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
resident() { awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }
peak() { awk '/^VmHWM/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }

measure() { # interval
  local data=$dir/$1 hz before after
  "$hale" node --interval "$1" --listen 127.0.0.1:0 --data-dir "$data" 2>"$dir/$1.log" &
  local pid=$!
  pids+=("$pid")
  wait_for 20 "$hale" status --data-dir "$data" --json
  hz=$(getconf CLK_TCK)
  # What starting costs is not what idling costs.
  sleep 10
  before=$(ticks "$pid")
  sleep "$seconds"
  after=$(ticks "$pid")
  local series
  series=$("$hale" status --data-dir "$data" --json | jq .series)
  awk -v i="$1" -v t="$((after - before))" -v hz="$hz" -v s="$seconds" -v rss="$(resident "$pid")" \
    -v peak="$(peak "$pid")" -v n="$series" \
    'BEGIN { printf "| %-8s | %8.2f %% | %8s MB | %8s MB | %6s |\n", i, 100 * t / hz / s, rss, peak, n }'
  kill "$pid"; wait "$pid" 2>/dev/null || true
}

printf 'binary: %.1f MB (%s)\n\n' "$(stat -c %s "$hale" | awk '{ print $1 / 1e6 }')" "$hale"
echo '| interval | CPU        | resident    | peak        | series |'
echo '| -------- | ---------- | ----------- | ----------- | ------ |'
measure 1s
measure 30s

# From a service's breaking to the round of the sensors that saw it, and from that round to the
# decision, as it arrives at somebody who follows the events.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python3 -m http.server --bind 127.0.0.1 --directory "$dir" "$port" >/dev/null 2>&1 &
web=$!
pids+=("$web")
cat > "$dir/hale.toml" <<TOML
[telemetry]
interval = "1s"
[[telemetry.health]]
service = "shop"
http = "http://127.0.0.1:$port/"
TOML
data=$dir/decide
"$hale" node --config "$dir/hale.toml" --listen 127.0.0.1:0 --data-dir "$data" 2>"$dir/decide.log" &
pids+=("$!")
wait_for 20 "$hale" status --data-dir "$data" --json
curl -sN -H "Authorization: Bearer $(jq -r .token "$data/api.json")" \
  "http://$(jq -r .addr "$data/api.json")/v1/events?follow=true" > >(
    while read -r line; do
      [ -z "$line" ] || jq -c --arg seen "$(date +%s.%3N)" '. + {seen: ($seen | tonumber)}' <<<"$line"
    done > "$dir/events"
  ) &
pids+=("$!")
sleep 15
broken=$(date +%s.%3N)
kill "$web"
wait_for 20 grep -q '"confident".*"shop"' "$dir/events"
printf '\n'
jq -rs --arg broken "$broken" '
  def seconds: capture("^(?<s>.*)\\.(?<ms>[0-9]+)Z$") | (.s + "Z" | fromdate) + (.ms | tonumber) / 1000;
  map(select(.service == "shop"))
  | first(.[] | select(.stage == "detected")) as $d
  | first(.[] | select(.stage == "confident")) as $c
  | "from the breaking to the round that saw it: \((($d.at | seconds) - ($broken | tonumber)) * 1000 | round) ms (interval 1 s, two failures)",
    "from that round to the decision:            \(($c.seen - ($d.at | seconds)) * 1000 | round) ms"
' "$dir/events"

#!/usr/bin/env bash
# Starts stand-in nodes and a caller (SIPp) around a proxy, and judges the calls. See --help and README.md.
set -euo pipefail

readonly SELF=${0##*/}
SCENARIOS=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly SCENARIOS

# Bounds: a mistyped figure must not become a flood.
readonly CALLS_MAX=200000 RATE_MAX=5000 NODES_MAX=64 TIMEOUT_MAX_S=7200

sipp=${SIPP:-sipp}
proxy=127.0.0.1:5060
caller=caller
bind=127.0.0.1
nodes_count=2
node_port=5060
node_scenario=node
node_specs=()
rate=10
calls=100
hold_ms=1000
node_ms=0
service=100
answer_wait_ms=32000
timeout_s=0
before_ms=500
after_ms=1000
media_port=30000
seed=1
json=false
keep=
own_target=false
settings=()

usage() {
    cat <<EOF
Usage: $SELF [options]

Starts stand-in nodes and one caller with SIPp, waits for the caller, stops the nodes and prints what happened.
Exit status: 0 all calls succeeded; 1 a call failed or is missing; 2 bad usage; 3 SIPp could not be run.

The caller:
  --proxy HOST[:PORT]     where the calls go (default 127.0.0.1:5060)
  --caller SCENARIO       a caller*.xml here, or a path (default caller); "none": nodes only, until --timeout-s or Ctrl-C
  --bind ADDR[:PORT]      the caller's own address (default 127.0.0.1, any free port)
  --calls N               how many calls (default 100, at most $CALLS_MAX)
  --rate N                calls per second (default 10, at most $RATE_MAX)
  --hold-ms N             the caller's -d: hold time, or ringing time before a CANCEL (default 1000)
  --service USER          user part of the Request-URI (default 100)
  --answer-wait-ms N      longest wait for an answer to any one request (default 32000)
  --set NAME=VALUE        a variable of the scenario, e.g. --set expect=503 (may be repeated)

The nodes:
  --nodes N               nodes at 127.0.1.1 ... 127.0.1.N (default 2; 0: none)
  --node-port PORT        their port (default 5060)
  --node-scenario NAME    a node*.xml here, or a path (default node)
  --node ADDR:PORT[=NAME] one node, at this address (may be repeated; then --nodes does not count)
  --node-ms N             the nodes' -d: ringing time, or talk time of node-bye (default 0)

The run:
  --before-ms N           wait between the nodes' start and the first call (default 500)
  --after-ms N            wait between the last call's end and the nodes' stop (default 1000)
  --timeout-s N           end the run after this time (default: computed from the calls; at most $TIMEOUT_MAX_S)
  --media-port PORT       first RTP port; nothing is sent there (default 30000)
  --seed N                GSL_RNG_SEED (default 1; the caller gets N, node i gets N+i)
  --keep DIR              keep logs, statistics and SIPp's errors in DIR (new or empty)
  --json                  print one JSON object instead of the table
  --i-own-this-target     allow addresses outside 127.0.0.0/8
  -h, --help              this text

SIPp itself is "sipp", or what the variable SIPP names.

Examples:
  # 1,000 calls at 100/s through a proxy on 127.0.0.1 to four nodes
  $SELF --nodes 4 --calls 1000 --rate 100 --hold-ms 2000
  # one of two nodes is silent: every call must still succeed
  $SELF --node 127.0.1.1:5060 --node 127.0.1.2:5060=node-silent --calls 20
  # all nodes refuse: the caller must get a 500
  $SELF --nodes 2 --node-scenario node-503 --caller caller-expect-refusal --set expect=500
  # without a proxy, straight to one node
  $SELF --node 127.0.1.1:5060 --proxy 127.0.1.1:5060 --calls 10 --json
EOF
}

die() {
    printf '%s: %s\n' "$SELF" "$2" >&2
    exit "$1"
}

need_number() { # name value least most
    [[ $2 =~ ^[0-9]{1,9}$ ]] || die 2 "$1: \"$2\" is not a number"
    ((10#$2 >= $3 && 10#$2 <= $4)) || die 2 "$1: $2 is not within $3 and $4"
}

# Only literal addresses count: a name could resolve to anything.
is_loopback() {
    local part
    [[ $1 == localhost ]] && return 0
    [[ $1 =~ ^127\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$ ]] || return 1
    for part in "${BASH_REMATCH[@]:1}"; do
        ((10#$part <= 255)) || return 1
    done
}

check_address() { # option host
    [[ $2 =~ ^[A-Za-z0-9.-]+$ ]] || die 2 "$1: \"$2\" is not an IPv4 address or a name"
    $own_target || is_loopback "$2" ||
        die 2 "$1: $2 is outside 127.0.0.0/8; --i-own-this-target if it is yours to call"
}

scenario_path() { # option name
    if [[ -f $SCENARIOS/$2.xml ]]; then
        printf '%s\n' "$SCENARIOS/$2.xml"
    elif [[ -f $2 ]]; then
        realpath -- "$2"
    else
        die 2 "$1: no scenario \"$2\""
    fi
}

while (($#)); do
    case $1 in
    -h | --help) usage; exit 0 ;;
    --json) json=true; shift; continue ;;
    --i-own-this-target) own_target=true; shift; continue ;;
    --*) (($# >= 2)) || die 2 "$1: unknown, or its value is missing; see --help" ;;
    *) die 2 "$1: unexpected argument; see --help" ;;
    esac
    case $1 in
    --proxy) proxy=$2 ;;
    --caller) caller=$2 ;;
    --bind) bind=$2 ;;
    --calls) calls=$2 ;;
    --rate) rate=$2 ;;
    --hold-ms) hold_ms=$2 ;;
    --service) service=$2 ;;
    --answer-wait-ms) answer_wait_ms=$2 ;;
    --set)
        [[ $2 =~ ^[a-z_]+=[A-Za-z0-9._-]+$ ]] || die 2 "--set: \"$2\" is not NAME=VALUE"
        settings+=(-set "${2%%=*}" "${2#*=}")
        ;;
    --nodes) nodes_count=$2 ;;
    --node-port) node_port=$2 ;;
    --node-scenario) node_scenario=$2 ;;
    --node) node_specs+=("$2") ;;
    --node-ms) node_ms=$2 ;;
    --before-ms) before_ms=$2 ;;
    --after-ms) after_ms=$2 ;;
    --timeout-s) timeout_s=$2 ;;
    --media-port) media_port=$2 ;;
    --seed) seed=$2 ;;
    --keep) keep=$2 ;;
    *) die 2 "$1: unknown option; see --help" ;;
    esac
    shift 2
done

need_number --calls "$calls" 1 "$CALLS_MAX"
need_number --rate "$rate" 1 "$RATE_MAX"
need_number --hold-ms "$hold_ms" 0 3600000
need_number --node-ms "$node_ms" 0 3600000
need_number --answer-wait-ms "$answer_wait_ms" 100 600000
need_number --nodes "$nodes_count" 0 "$NODES_MAX"
need_number --node-port "$node_port" 1 65535
need_number --before-ms "$before_ms" 0 60000
need_number --after-ms "$after_ms" 0 600000
need_number --timeout-s "$timeout_s" 0 "$TIMEOUT_MAX_S"
need_number --media-port "$media_port" 1024 60000
need_number --seed "$seed" 0 999999999

[[ $service =~ ^[A-Za-z0-9*#+._-]+$ ]] || die 2 "--service: \"$service\" is not a user part"
[[ $proxy == *:* ]] || proxy+=:5060
check_address --proxy "${proxy%:*}"
need_number --proxy "${proxy##*:}" 1 65535
bind_host=${bind%:*}
bind_port=
if [[ $bind == *:* ]]; then
    bind_port=${bind##*:}
    need_number --bind "$bind_port" 1 65535
fi
check_address --bind "$bind_host"

if ((${#node_specs[@]} == 0)); then
    for ((i = 1; i <= 10#$nodes_count; i++)); do
        node_specs+=("127.0.1.$i:$node_port")
    done
fi
((${#node_specs[@]} <= NODES_MAX)) || die 2 "--node: at most $NODES_MAX"
node_addresses=()
node_files=()
for spec in "${node_specs[@]+"${node_specs[@]}"}"; do
    address=${spec%%=*}
    name=$node_scenario
    [[ $spec == *=* ]] && name=${spec#*=}
    [[ $address == *:* ]] || address+=:$node_port
    check_address --node "${address%:*}"
    need_number --node "${address##*:}" 1 65535
    file=$(scenario_path --node "$name") || exit
    node_addresses+=("$address")
    node_files+=("$file")
done
caller_file=
if [[ $caller != none ]]; then
    caller_file=$(scenario_path --caller "$caller") || exit
fi
if ((10#$timeout_s == 0)); then
    # Ramp, three holds (re-INVITE has two), and time for a call that is never answered.
    timeout_s=$((10#$calls / 10#$rate + 3 * 10#$hold_ms / 1000 + 10#$node_ms / 1000 + 2 * 10#$answer_wait_ms / 1000 + 10))
    ((timeout_s <= TIMEOUT_MAX_S)) || timeout_s=$TIMEOUT_MAX_S
fi

command -v "$sipp" >/dev/null || die 3 "$sipp: not found (Debian: sip-tester)"
if [[ -n $keep ]]; then
    mkdir -p -- "$keep"
    [[ -z $(ls -A -- "$keep") ]] || die 2 "--keep: $keep is not empty"
    work=$(cd -- "$keep" && pwd)
else
    work=$(mktemp -d "${TMPDIR:-/tmp}/sipp-run.XXXXXX")
fi

node_pids=()
caller_pid=

alive() { kill -0 "$1" 2>/dev/null; }

# Ends what this script started, and nothing else: a soft exit, then a firmer one.
stop_nodes() {
    local pid tries
    for pid in "${node_pids[@]+"${node_pids[@]}"}"; do
        kill -USR1 "$pid" 2>/dev/null || true
    done
    for pid in "${node_pids[@]+"${node_pids[@]}"}"; do
        for ((tries = 0; tries < 25; tries++)); do
            alive "$pid" || break
            sleep 0.2
        done
        if alive "$pid"; then
            kill -TERM "$pid" 2>/dev/null || true
            sleep 0.2
            kill -KILL "$pid" 2>/dev/null || true
        fi
        wait "$pid" 2>/dev/null || true
    done
    node_pids=()
}

# shellcheck disable=SC2317 # called by the trap
clean_up() {
    local status=$?
    trap - EXIT INT TERM
    if [[ -n $caller_pid ]] && alive "$caller_pid"; then
        kill -TERM "$caller_pid" 2>/dev/null || true
    fi
    stop_nodes
    [[ -n $keep ]] || rm -rf -- "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts SIPp in the folder for its files; sets started_pid.
start_sipp() { # name seed host port media-port arguments...
    local name=$1 own_seed=$2 host=$3 port=$4 media=$5
    shift 5
    (
        cd -- "$work"
        GSL_RNG_SEED=$own_seed exec "$sipp" "$@" -i "$host" ${port:+-p "$port"} -mi "$host" -mp "$media" -ci 127.0.0.1 \
            -default_behaviors all,-abortunexp -aa -nostdin -fd 1 \
            -trace_stat -stf "$name.csv" -trace_logs -log_file "$name.log" \
            -trace_err -error_file "$name.errors"
    ) >"$work/$name.screen" 2>"$work/$name.stderr" </dev/null &
    started_pid=$!
}

for i in "${!node_addresses[@]}"; do
    address=${node_addresses[i]}
    start_sipp "node$((i + 1))" "$((10#$seed + i + 1))" "${address%:*}" "${address##*:}" "$((10#$media_port + 4 * (i + 1)))" \
        -sf "${node_files[i]}" -d "$node_ms"
    node_pids+=("$started_pid")
done
sleep "$((10#$before_ms / 1000)).$(printf '%03d' $((10#$before_ms % 1000)))"
for i in "${!node_pids[@]}"; do
    alive "${node_pids[i]}" || {
        tail -n 3 "$work/node$((i + 1)).errors" "$work/node$((i + 1)).stderr" >&2 2>/dev/null || true
        die 3 "node ${node_addresses[i]} did not start"
    }
done

caller_status=0
if [[ -n $caller_file ]]; then
    start_sipp caller "$seed" "$bind_host" "$bind_port" "$media_port" "$proxy" -sf "$caller_file" -s "$service" \
        -m "$calls" -r "$rate" -l "$calls" -d "$hold_ms" -recv_timeout "$answer_wait_ms" \
        -timeout "${timeout_s}s" -timeout_error -trace_rtt -rtt_freq 1 "${settings[@]+"${settings[@]}"}"
    caller_pid=$started_pid
    # SIPp's own -timeout ends it; this is for a SIPp that does not heed it.
    deadline=$((SECONDS + timeout_s + 10))
    while alive "$caller_pid" && ((SECONDS < deadline)); do
        sleep 0.1
    done
    alive "$caller_pid" && kill -KILL "$caller_pid" 2>/dev/null
    wait "$caller_pid" || caller_status=$?
    caller_pid=
else
    deadline=$((SECONDS + timeout_s))
    while ((SECONDS < deadline)); do
        sleep 0.2
    done
fi
sleep "$((10#$after_ms / 1000)).$(printf '%03d' $((10#$after_ms % 1000)))"
stop_nodes

# The last row of a -trace_stat file, as NAME=VALUE lines: (C) is cumulative, so the last row has the totals.
declare -A stat
read_stat() { # file
    local key value
    stat=()
    [[ -s $1 ]] || return 0
    while IFS='=' read -r key value; do
        stat[$key]=$value
    done < <(awk -F';' '
        NR == 1 { for (i = 1; i <= NF; i++) name[i] = $i; next }
        { last = $0 }
        END {
            n = split(last, field, ";")
            for (i = 1; i <= n; i++) if (name[i] ~ /^[A-Za-z0-9_]+(\(C\))?$/) print name[i] "=" field[i]
        }' "$1")
}
count() { printf '%s' "${stat[$1]:-0}"; }

# SIPp writes durations as HH:MM:SS:microseconds (3.6) or HH:MM:SS.
to_ms() {
    awk -F: -v t="${1:-}" 'BEGIN { n = split(t, p, ":"); if (n < 3) print 0; else printf "%d\n", (p[1] * 3600 + p[2] * 60 + p[3]) * 1000 + p[4] / 1000 }'
}

percentiles() { # sorted numbers on stdin -> "p50 p95 p99 max"
    awk '{ v[NR] = $1 } END {
        if (NR == 0) { print "null null null null"; exit }
        print at(50), at(95), at(99), v[NR] }
        function at(p,   i) { i = int((NR * p + 99) / 100); return v[i < 1 ? 1 : i] }'
}

read_stat "$work/caller.csv"
created=$(count TotalCallCreated)
succeeded=$(count 'SuccessfulCall(C)')
failed=$(count 'FailedCall(C)')
retransmissions=$(count 'Retransmissions(C)')
duration_ms=$(to_ms "${stat['ElapsedTime(C)']:-}")
answer_mean_ms=$(to_ms "${stat['ResponseTime1(C)']:-}")
reasons=()
for key in "${!stat[@]}"; do
    case $key in
    'FailedCall(C)') ;;
    Failed*'(C)') [[ ${stat[$key]} == 0 ]] || reasons+=("${key%(C)}=${stat[$key]}") ;;
    esac
done
read -r p50 p95 p99 slowest < <(
    find "$work" -maxdepth 1 -name '*_rtt.csv' -exec awk -F';' 'FNR > 1 { print $2 + 0 }' {} + | sort -n | percentiles)

ok=true
if [[ -n $caller_file ]]; then
    ((caller_status == 0 && failed == 0 && succeeded == 10#$calls)) || ok=false
fi

# Facts about each node: from its log who got which call, from its statistics what went wrong.
node_rows=()
for i in "${!node_addresses[@]}"; do
    log=$work/node$((i + 1)).log
    read_stat "$work/node$((i + 1)).csv"
    read -r invites distinct leased < <(
        [[ -f $log ]] || log=/dev/null
        awk '$1 == "event=invite" {
                n++
                for (i = 2; i <= NF; i++) {
                    if (index($i, "call_id=") == 1 && !seen[$i]++) d++
                    if (index($i, "lease=") == 1 && length($i) > 6) l++
                }
            }
            END { print n + 0, d + 0, l + 0 }' "$log")
    scenario=${node_files[i]##*/}
    node_rows+=("${node_addresses[i]} ${scenario%.xml} $invites $distinct $leased $(count 'FailedCall(C)') $(count 'Retransmissions(C)')")
done
# One Call-ID may be seen by several nodes: that is failover.
call_ids=$(find "$work" -maxdepth 1 -name 'node*.log' -exec cat {} + | awk '$1 == "event=invite" { for (i = 2; i <= NF; i++) if (index($i, "call_id=") == 1) print $i }' | sort | uniq -c | awk '{ n++; if ($1 > 1) m++ } END { print n + 0, m + 0 }')
read -r seen_calls seen_twice <<<"$call_ids"

if $json; then
    caller_name=null
    [[ -z $caller_file ]] || { caller_name=${caller_file##*/}; caller_name="\"${caller_name%.xml}\""; }
    printf '{"ok":%s,"proxy":"%s","caller":%s,"calls":%d,"rate":%d,"hold_ms":%d,' \
        "$ok" "$proxy" "$caller_name" "$((10#$calls))" "$((10#$rate))" "$((10#$hold_ms))"
    printf '"created":%d,"succeeded":%d,"failed":%d,"retransmissions":%d,"duration_ms":%d,"sipp_status":%d,' \
        "$created" "$succeeded" "$failed" "$retransmissions" "$duration_ms" "$caller_status"
    printf '"final_response_ms":{"mean":%d,"p50":%s,"p95":%s,"p99":%s,"max":%s},"failures":{' \
        "$answer_mean_ms" "$p50" "$p95" "$p99" "$slowest"
    comma=
    for reason in "${reasons[@]+"${reasons[@]}"}"; do
        printf '%s"%s":%d' "$comma" "${reason%=*}" "${reason#*=}"
        comma=,
    done
    printf '},"calls_seen":%d,"calls_seen_more_than_once":%d,"nodes":[' "$seen_calls" "$seen_twice"
    comma=
    for row in "${node_rows[@]+"${node_rows[@]}"}"; do
        read -r address scenario invites distinct leased node_failed node_retransmissions <<<"$row"
        printf '%s{"address":"%s","scenario":"%s","invites":%d,"calls":%d,"with_lease":%d,"failed":%d,"retransmissions":%d}' \
            "$comma" "$address" "$scenario" "$invites" "$distinct" "$leased" "$node_failed" "$node_retransmissions"
        comma=,
    done
    printf ']}\n'
else
    if [[ -n $caller_file ]]; then
        printf '%-22s %s\n' caller "$(basename "$caller_file" .xml) -> $proxy, $calls calls at $rate/s, hold $hold_ms ms"
        printf '%-22s %s of %s (failed %s, retransmissions %s)\n' succeeded "$succeeded" "$calls" "$failed" "$retransmissions"
        printf '%-22s p50 %s  p95 %s  p99 %s  max %s\n' 'final response, ms' "$p50" "$p95" "$p99" "$slowest"
        ((${#reasons[@]} == 0)) || printf '%-22s %s\n' 'why failed' "${reasons[*]}"
    fi
    if ((${#node_rows[@]})); then
        printf '%-22s %s (by more than one INVITE: %s)\n' 'calls that nodes saw' "$seen_calls" "$seen_twice"
        printf '\n%-22s %-20s %8s %8s %8s %8s\n' node scenario invites calls leases failed
        for row in "${node_rows[@]}"; do
            read -r address scenario invites distinct leased node_failed _ <<<"$row"
            printf '%-22s %-20s %8s %8s %8s %8s\n' "$address" "$scenario" "$invites" "$distinct" "$leased" "$node_failed"
        done
    fi
    [[ -z $keep ]] || printf '\nfiles: %s\n' "$work"
    $ok || printf '\nFAILED (SIPp ended with %s)\n' "$caller_status"
fi
if ! $ok && [[ -z $(find "$work" -maxdepth 1 -name caller.csv) ]]; then
    head -n 5 "$work/caller.errors" "$work/caller.stderr" >&2 2>/dev/null || true
    exit 3
fi
$ok

#!/usr/bin/env bash
# tools/dist.sh PROCESSES TOOL.py [arguments]: what dist_train.sh and dist_test.sh share.
set -euo pipefail
# expect NAME VALUE LEAST MOST: end with one line unless the value is a whole number in that range
expect() {
    if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        echo "error: $1=$2: expected a whole number from $3 to $4" >&2
        exit 2
    fi
}
processes=$1 tool=$2
shift 2
nodes=${NNODES:-1}
case $processes in
    auto | cpu | gpu) ;; # torchrun counts them
    *) expect GPUS "$processes" 1 1024 ;;
esac
most=${nodes##*:} # torchrun also takes LEAST:MOST
expect NNODES "${nodes%%:*}" 1 100000
expect NNODES "$most" 1 100000
expect PORT "${PORT:-0}" 0 65535
expect MAX_RESTARTS "${MAX_RESTARTS:-0}" 0 1000000
if [ -n "${NODE_RANK:-}" ]; then expect NODE_RANK "$NODE_RANK" 0 $((most - 1)); fi
if [ "$most" -gt 1 ] && [ -z "${MASTER_ADDR:-}" ]; then
    echo "NNODES=$nodes needs MASTER_ADDR: the name or address of one of the machines, the same on all" >&2
    exit 2
fi
if [ "$nodes" = 1 ] && [ -z "${PORT:-}" ]; then
    rendezvous=(--standalone) # a free port
else
    rendezvous=(--nnodes="$nodes" --rdzv-backend=c10d --rdzv-endpoint="${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}"
        --rdzv-id="${RDZV_ID:-coma_mm}")
    # The machine at MASTER_ADDR finds out by itself that it is the one; NODE_RANK=0 says so where it cannot.
    if [ -n "${NODE_RANK:-}" ]; then rendezvous+=(--rdzv-conf="is_host=$([ "$NODE_RANK" = 0 ] && echo 1 || echo 0)"); fi
fi
exec "${PYTHON:-python}" "$(dirname "$0")/torchrun.py" "${rendezvous[@]}" --max-restarts="${MAX_RESTARTS:-0}" \
    --nproc-per-node="$processes" "$(dirname "$0")/$tool" "$@" --launcher pytorch

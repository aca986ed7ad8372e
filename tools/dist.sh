#!/usr/bin/env bash
# tools/dist.sh PROCESSES TOOL.py [arguments]: what dist_train.sh and dist_test.sh share.
set -euo pipefail
processes=$1 tool=$2
shift 2
nodes=${NNODES:-1}
if [ "$nodes" -gt 1 ] && [ -z "${MASTER_ADDR:-}" ]; then
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

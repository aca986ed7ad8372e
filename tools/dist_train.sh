#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# One process per GPU (or per CPU share, without GPUs). On several machines start it on each, with
#   NNODES       their number
#   MASTER_ADDR  the name or address of one of them
#   PORT         a port that is free there (default 29500; on one machine alone: any free one)
#   NODE_RANK    0 on the machine at MASTER_ADDR, 1, 2, ... on the others; needed only where that machine does not
#                recognise its own address
#   RDZV_ID      a name for the run, should several use the same MASTER_ADDR and PORT (default coma_mm)
# When a process dies, torchrun starts all of them again, at most MAX_RESTARTS (default 3) times, and they resume.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [arguments of train.py]" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
export MAX_RESTARTS=${MAX_RESTARTS:-3}
exec "$(dirname "$0")/dist.sh" "$gpus" train.py "$config" "$@"

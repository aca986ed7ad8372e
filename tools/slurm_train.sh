#!/usr/bin/env bash
# tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of train.py]
# GPUS processes in all (default 8), GPUS_PER_NODE of them on a machine (default 8), each with CPUS_PER_TASK cores
# (default 5). The processes meet at PORT on the first machine (default: drawn from 20000 to 29999, so that jobs that
# share a machine do not collide). More options for srun go into SRUN_ARGS.
# WARN_SECONDS (default 300) before its time limit the run is told to stop, saves, and is queued again to resume: as a
# batch job, if this script runs in one, or else by another srun. (To a batch job's srun Slurm sends no warning; there the
# limit is --max-time, from SLURM_JOB_END_TIME. If your Slurm does not set that, sbatch needs --signal=USR1@300.)
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [PORT=...] [SRUN_ARGS=...] $0 PARTITION JOB_NAME CONFIG" \
        "[arguments of train.py]" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
if [ "$per_node" -gt "$gpus" ]; then per_node=$gpus; fi
if [ $((gpus % per_node)) -ne 0 ]; then
    echo "GPUS=$gpus is not a multiple of GPUS_PER_NODE=$per_node; every machine takes as many processes" >&2
    exit 2
fi
export MASTER_PORT=${PORT:-$((20000 + RANDOM % 10000))}
# MASTER_ADDR is for mmengine to find out; one left over from the shell would win.
unset MASTER_ADDR
# The run notes its exit code (coma_mm.commands): srun's own is 137 or 143 if it killed processes that were leaving, too.
COMA_MM_EXIT_CODE=$(mktemp "$PWD/.slurm_train.XXXXXX") # in a folder that all machines see
export COMA_MM_EXIT_CODE
again=() limit=() code=0 interrupted=''
trap 'interrupted=1' INT # Ctrl-C reaches srun, too, and the run saves
if [ -n "${SLURM_JOB_END_TIME:-}" ]; then
    left=$((SLURM_JOB_END_TIME - $(date +%s) - ${WARN_SECONDS:-300}))
    limit=(--max-time=$((left > 0 ? left : 0)))
fi
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then again=(--resume); fi
# shellcheck disable=SC2086  # SRUN_ARGS is several words
srun -p "$partition" --job-name="$job_name" --nodes=$((gpus / per_node)) --gres="gpu:$per_node" \
    --ntasks="$gpus" --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
    --signal="USR1@${WARN_SECONDS:-300}" ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$config" --launcher slurm "${limit[@]}" "$@" "${again[@]}" || code=$?
noted=$(head -n 1 "$COMA_MM_EXIT_CODE")
rm "$COMA_MM_EXIT_CODE"
code=${noted:-$code}
if [ "$code" = 75 ] && [ -z "$interrupted" ]; then # the run was stopped, and saved
    if [ -n "${SLURM_JOB_ID:-}" ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
    SLURM_RESTART_COUNT=$((${SLURM_RESTART_COUNT:-0} + 1)) exec "$0" "$partition" "$job_name" "$config" "$@"
fi
exit "$code"

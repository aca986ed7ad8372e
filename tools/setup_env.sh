#!/usr/bin/env bash
# Installs coma_mm with its test tools into a virtual environment, which it creates if need be.
# Usage: tools/setup_env.sh VENV [PYTHON]
# The variables CONSTRAINTS and EXTRAS name other versions than those of constraints.txt, and other extras than EXTRAS below.
# Starting it again after an interruption goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
python=${2:-}
constraints=${CONSTRAINTS:-constraints.txt}
needed_gb=8

fail() {
    echo "coma_mm: $*" >&2
    exit 2
}

if [ -z "$python" ]; then
    for candidate in python3.13 python3.12 python3.11 python3; do
        # Run it: version managers leave commands behind that find no Python.
        if "$candidate" -c '' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || fail 'no Python found; install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3'
"$python" -c '' 2>/dev/null || fail "cannot run $python; name a Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3"
# The two lines below also run on Python 2 and early Python 3, so that those can be named.
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
    fail "$python is Python $version; coma_mm needs 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv module; on Debian and Ubuntu: apt install python$version-venv"

# Of two at once in one checkout, as by make in two terminals, the second waits. The lock on the folder is open again when
# this process has ended, however it ended. Python takes it, as not every system has the command flock.
exec 9<.
waited=
"$python" -c '
import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("coma_mm: another installation is running in this folder; waiting for it", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
    raise SystemExit(1)
except OSError:  # a file system without locks
    pass
' || waited=1
# What the other one has installed may be in use by now: it is not installed once more.
if [ "$waited" ] && [ "$venv/.installed" -nt setup.py ] && [ "$venv/.installed" -nt "$constraints" ]; then
    exit
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    free_gb=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
    [ "$free_gb" -ge "$needed_gb" ] ||
        fail "$free_gb GB of disk space are free in $PWD; the installation needs $needed_gb"
    echo "coma_mm: creating $venv with Python $version; PyTorch is large, so this takes some minutes"
    "$python" -m venv --clear "$venv"
fi

# pip unpacks gigabytes in its temporary folder, and /tmp is often small.
TMPDIR=$(cd "$venv" && pwd)/tmp
export TMPDIR PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir -p "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT
pip() {
    "$venv/bin/python" -m pip "$@" || fail 'pip failed, its message is above; once it is mended, run make again'
}
# Without torch in the build environment (pip's default) mmcv compiles none of its operators, which would take long.
unset PIP_NO_BUILD_ISOLATION
pip install -c "$constraints" -e ".[${EXTRAS:-test,test-all,docs,predict,export,signing,tensorboard,dicom,heic}]"
# Both OpenCV builds are required by others and own the same files: the last one wins, and only this one needs no display.
pip install -q -c "$constraints" --force-reinstall --no-deps opencv-python-headless
touch "$venv/.installed"

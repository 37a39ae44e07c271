#!/bin/sh
# Builds the CPU backend and its native test with sanitizers and runs it, for every instruction set
# of this machine:
#   sh tests/sanitize.sh [build directory]
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$here/build/sanitize}
for kind in address,undefined thread; do
    at=$build/${kind%%,*}
    cmake -S "$here" -B "$at" -DDGR_TESTS=ON -DDGR_CUDA=OFF -DDGR_SANITIZE="$kind" \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo > /dev/null
    cmake --build "$at" --parallel > /dev/null
    for level in x86-64-v4 x86-64-v3 x86-64-v2; do
        echo "$kind, at most $level:"
        DGR_CPU=$level TSAN_OPTIONS=halt_on_error=1 "$at/dgr_native_test"
    done
done

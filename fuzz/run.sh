#!/usr/bin/env bash
# Fuzzes each target for so many seconds (60): fuzz/run.sh [SECONDS].
# libFuzzer's coverage is asked for directly, so that cargo-fuzz need not be installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Cdebug-assertions -Ccodegen-units=1"
cargo build --release --quiet --target "$host"
target=${CARGO_TARGET_DIR:-target}/$host/release
for name in parse round_trip parameters; do
    mkdir -p "corpus/$name" artifacts
    echo "fuzzing $name for $seconds s"
    "$target/$name" -max_total_time="$seconds" -verbosity=0 -dict=ids.dict \
        -artifact_prefix="artifacts/$name-" "corpus/$name" 2>"artifacts/$name.log" \
        || { cat "artifacts/$name.log" >&2; exit 1; }
done

#!/usr/bin/env bash
# Fuzzes each target for so many seconds (60): fuzz/run.sh [SECONDS]; or with the same inputs each time, for `make test`:
# fuzz/run.sh repeatable.
# libFuzzer's coverage is asked for directly, so that cargo-fuzz need not be installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
duration=${1:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_WRAPPER=$PWD/instrument RUSTFLAGS="--cfg fuzzing"
cargo build --release --quiet --target "$host"
target=${CARGO_TARGET_DIR:-target}/$host/release
for name in parse round_trip parameters stored_json cursor url http_response resp_reply; do
    dictionary=$name.dict
    [[ -e $dictionary ]] || dictionary=ids.dict
    mkdir -p "corpus/$name" artifacts
    if [[ $duration = repeatable ]]; then
        # The corpus differs from machine to machine.
        inputs=(-seed=1 -runs=100000)
    else
        inputs=(-max_total_time="$duration" "corpus/$name")
    fi
    echo "fuzzing $name"
    "$target/$name" "${inputs[@]}" -verbosity=0 -dict="$dictionary" \
        -artifact_prefix="artifacts/$name-" 2>"artifacts/$name.log" \
        || { cat "artifacts/$name.log" >&2; exit 1; }
done

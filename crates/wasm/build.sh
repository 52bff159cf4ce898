#!/usr/bin/env bash
# Builds the core as WebAssembly into the file $1: by default clients/js/wasm/bipedalnet.wasm, which is
# committed. Needs Debian's compiler (packages rustc-web, cargo-web, rust-web-src, lld-19), which builds
# the standard library without texts of panics, and wasm-opt (package binaryen). With the compiler of
# rustup and `rustup target add wasm32-unknown-unknown`, the file works the same, but is larger.
set -euo pipefail
cd "$(dirname "$0")/../.."
output=${1:-clients/js/wasm/bipedalnet.wasm}
target=wasm32-unknown-unknown
build=(cargo build --profile wasm --target "$target" -p bipedalnet-wasm)
flags=(-C target-feature=+simd128 -C link-arg=-zstack-size=262144)
# Less inlining and unrolling: 10 KB less after compression, and no slower.
for option in inline-threshold=40 unroll-threshold=60 unroll-allow-partial=false unroll-runtime=false; do
    flags+=(-C "llvm-args=-$option")
done
if [[ -x /usr/bin/cargo && -d /usr/lib/rustlib/src/rust/library ]]; then
    export PATH=/usr/bin:/bin RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-19
    flags+=(-Z unstable-options -C panic=immediate-abort -Z location-detail=none)
    build+=(-Z build-std=std,panic_abort -Z build-std-features=optimize_for_size)
fi
RUSTFLAGS="${flags[*]}" "${build[@]}"
built=${CARGO_TARGET_DIR:-target}/$target/wasm/bipedalnet_wasm.wasm
mkdir -p "$(dirname "$output")"
features=(--enable-simd --enable-bulk-memory --enable-sign-ext --enable-nontrapping-float-to-int --enable-mutable-globals)
wasm-opt -O3 -Oz --converge "${features[@]}" --low-memory-unused --zero-filled-memory \
    --strip-debug --strip-producers --strip-target-features "$built" -o "$output"

#!/usr/bin/env bash
# Writes each image's lock: the versions of requirements.lock with their hashes, without what no step in that image loads.
# Usage: images/lock.sh     from the repository's root, with uv on the path
set -euo pipefail
# The versions alone: a constraint with hashes would refuse what the overrides take in its place.
versions() { sed -n '/^imageio-ffmpeg==/d; s/^\([a-z0-9][^ ]*==[^\\]*\)\\*$/\1/p' requirements.lock; }
lock() {
  local output=$1; shift
  uv pip compile -q --no-emit-index-url --no-header --no-annotate --generate-hashes --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --constraints <(versions) --overrides images/overrides.txt \
    -o "$output" "$@" pyproject.toml
}
omit() { printf -- '--no-emit-package %s ' "$@"; }
# kfp's client; its executor, which is all that a step runs, needs none of them.
client=$(omit kubernetes requests-oauthlib oauthlib websocket-client)
# What MLflow has for flavours and pages of its own.
flavours=$(omit contourpy cycler fonttools joblib kiwisolver matplotlib narwhals pillow pyparsing scikit-learn scipy skops threadpoolctl)
headers=$(omit libclang)

lock images/media/requirements.lock --extra media $client
lock images/registration/requirements.lock --extra registration $client $flavours
lock images/tracking/requirements.lock --extra tracking $client $flavours
if [ -d images/serving ]; then lock images/serving/requirements.lock --extra serving $client; fi
for variant in cpu gpu; do
  lock "images/training/$variant.lock" --extra media --extra training --extra pipelines --extra "$variant" $headers
done

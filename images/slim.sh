#!/bin/sh
# Removes from site-packages what no step ever loads: test suites, headers, Arrow's library for services and, where
# strip is installed, Arrow's symbols.
# Usage: slim.sh SITE_PACKAGES [MORE...]     MORE are further paths to remove
set -eu
cd "$1"
shift
rm -rf "$@"
for package in matplotlib numpy pandas pyarrow scipy sklearn; do
  [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
rm -rf pyarrow/include pyarrow/src tensorflow/include
rm -f pyarrow/*flight* pyarrow/libarrow_python*.so pyarrow/*.so.*.*.*
if [ -d pyarrow ] && command -v strip >/dev/null; then
  strip --strip-unneeded pyarrow/*.so*
fi

#!/bin/sh
# Removes from site-packages what no step ever loads: test suites, headers, and libraries of Arrow for other services.
# Usage: slim.sh SITE_PACKAGES
set -eu
cd "$1"
for package in matplotlib numpy pandas pyarrow scipy sklearn skops; do
  [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
rm -rf pyarrow/include pyarrow/src tensorflow/include
rm -f pyarrow/*flight* pyarrow/*substrait*

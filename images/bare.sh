#!/bin/sh
# Removes from the base what only building images needs: pip, Perl, the package manager, documents, locales.
set -eu
rm -rf /build /root/.cache /tmp/* /var/cache/* /var/lib/apt/lists/* /var/lib/dpkg/info /var/log/* \
  /usr/share/doc /usr/share/info /usr/share/locale /usr/share/man /usr/share/perl5 /usr/share/python-wheels \
  /usr/bin/perl* /usr/lib/x86_64-linux-gnu/perl-base /usr/lib/x86_64-linux-gnu/gconv \
  /usr/lib/python3/dist-packages/pip* /usr/lib/python3/dist-packages/setuptools* /usr/lib/python3/dist-packages/wheel* \
  /usr/local/lib/python3.11/site-packages/pip* /usr/local/lib/python3.11/site-packages/setuptools* \
  /usr/lib/python3.11/ensurepip /usr/local/lib/python3.11/ensurepip \
  /usr/lib/python3.11/test /usr/lib/python3.11/pydoc_data /usr/local/lib/python3.11/test /usr/local/lib/python3.11/pydoc_data \
  /usr/lib/apt /usr/bin/apt* /usr/bin/gpgv /usr/lib/x86_64-linux-gnu/libapt* \
  /usr/lib/python3.11/lib2to3 /usr/local/lib/python3.11/idlelib

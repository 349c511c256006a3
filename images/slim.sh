#!/bin/sh
# Removes from site-packages what no step ever loads: test suites, headers, Arrow's libraries for services, OpenVINO's
# plugins and readers beside those of a processor and its own format, symbols; and makes shared libraries empty that
# wheels are linked with and of which no step calls anything.
# Usage: slim.sh SITE_PACKAGES [MORE...]     MORE are further paths to remove, or patterns
set -eu
cd "$1"
shift
for path; do rm -rf $path; done
find . -type f '(' -name '*.pyi' -o -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' -o -name '*.a' ')' -delete
for package in matplotlib numpy pandas pyarrow scipy sklearn; do
  [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
[ -d scipy ] || rm -rf numpy/f2py  # scipy takes every name of numpy, this one too
rm -rf numpy/_core/include pyarrow/include pyarrow/src tensorflow/include openvino/include openvino/cmake c2pa/libs/*.rlib c2pa/libs/*.d
rm -f pyarrow/*flight* pyarrow/_azurefs.* pyarrow/_gcsfs.* pyarrow/_hdfs.* pyarrow/_orc.* pyarrow/_s3fs.* pyarrow/_substrait.* \
  pyarrow/libarrow_python*.so pyarrow/*.so.*.*.*
for part in intel_gpu_plugin intel_npu_plugin auto_plugin auto_batch_plugin hetero_plugin c onnx_frontend paddle_frontend \
    pytorch_frontend gguf_frontend tensorflow_lite_frontend jax_frontend; do
  rm -f openvino/libs/libopenvino_"$part".so*
done
rm -f openvino/libs/cache.json  # the plugin's for graphics cards

command -v strip >/dev/null || exit 0
# Not the libraries beside a wheel's package: those that auditwheel has put there do not survive it.
for package in PIL av cryptography openvino pyarrow xxhash yaml; do
  [ ! -d "$package" ] || find "$package" -name '*.so*' -type f -exec strip --strip-unneeded {} +
done

# Puts in a library's place another of its name, in which the functions that others may call do nothing but ANSWER, an
# instruction of the processor: encoders of wheels that only decode here, and OpenCV's LAPACK, which it calls for
# matrices of a hundred rows and more.
# Usage: hollow ANSWER LIBRARY...
hollow() {
  answer=$1
  shift
  for library in "$@"; do
    [ -f "$library" ] || continue
    name=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
    nm -D --defined-only "$library" | sed 's/@.*//' | awk '{print $3}' | sort -u >/tmp/defined
    find . -name '*.so*' -type f ! -path "./$library" | while read -r other; do
      ! readelf -d "$other" 2>/dev/null | grep -qF "[$name]" || nm -D --undefined-only "$other"
    done | sed 's/@.*//' | awk '{print $2}' | sort -u | comm -12 - /tmp/defined \
      | awk -v answer="$answer" '{print ".globl " $1 "\n.type " $1 ", @function\n" $1 ": " answer}' >/tmp/hollow.s
    as -o /tmp/hollow.o /tmp/hollow.s
    ld -shared -z noexecstack -soname "$name" -o "$library" /tmp/hollow.o
    rm /tmp/defined /tmp/hollow.*
  done
}
hollow 'xor %eax, %eax; ret' av.libs/libx265* av.libs/libSvtAv1Enc* pillow.libs/libXau* pillow_heif.libs/libx265* \
  opencv_python_headless.libs/libaom* pyarrow/libarrow_substrait*
hollow ud2 opencv_python_headless.libs/libopenblas*
rm -f opencv_python_headless.libs/libgfortran* opencv_python_headless.libs/libquadmath*

# One FFmpeg for OpenCV and PyAV, where theirs have the same interface: the same major versions.
majors() { find "$1" -name 'libav[cfu]*' -o -name 'libsw*' | sed -n 's/.*\/lib\([a-z]*\)-.*\.so\.\([0-9]*\)\..*/\1 \2/p' | grep -v filter | sort; }
if [ -d av.libs ] && [ -d opencv_python_headless.libs ] && [ "$(majors av.libs)" = "$(majors opencv_python_headless.libs)" ]; then
  cd opencv_python_headless.libs
  for own in libavcodec-* libavformat-* libavutil-* libswresample-* libswscale-*; do
    ln -sf ../av.libs/"${own%%-*}"-*.so.* "$own"
  done
  rm -f libcrypto-* libdrm-* libssl-* libvpx-*
  ln -s $(cd ../av.libs && find . -type f ! -name 'libav*' ! -name 'libsw*' -printf '../av.libs/%P ') .
  for other in ../av.libs/libav* ../av.libs/libsw*; do ln -s "$other" .; done
fi

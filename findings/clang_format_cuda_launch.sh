#!/usr/bin/env bash
# clang-format 23.1.5 (PyPI, run on 2026-11-28, Python 3.11) can put spaces into the closing brackets of a CUDA launch,
# and nvcc refuses what comes out ("expected an expression").
#
# It happens where the launch stands in a branch of #if and has a template argument of its own before its brackets close:
# there `>>>` is read as the end of nested templates, as C++03 wrote it. The same line outside of #if stays as it is, and
# with `Standard: c++17` in the style both do. Seen:
#   in #else          kernel<<<width<int>(n), 32> > >(x);
#   outside           kernel<<<width<int>(n), 32>>>(x);
#   in #else, c++17   kernel<<<width<int>(n), 32>>>(x);
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env
env/bin/pip install --quiet clang-format==23.1.5

line='kernel<<<width<int>(n), 32>>>(x);'
branch=$(printf '#ifdef HOST\n#else\n%s\n#endif\n' "$line")
tidy() { env/bin/clang-format --style="$1" --assume-filename=launch.cu | grep kernel; }
found=$(
  echo "in #else          $(tidy '{BasedOnStyle: Google}' <<<"$branch")"
  echo "outside           $(tidy '{BasedOnStyle: Google}' <<<"$line")"
  echo "in #else, c++17   $(tidy '{BasedOnStyle: Google, Standard: c++17}' <<<"$branch")"
)
echo "$found"
[ "$found" = 'in #else          kernel<<<width<int>(n), 32> > >(x);
outside           kernel<<<width<int>(n), 32>>>(x);
in #else, c++17   kernel<<<width<int>(n), 32>>>(x);' ] || { echo "another behaviour than on 2026-11-28"; exit 1; }

#!/usr/bin/env bash
# plyfile 1.1.5 (PyPI, run on 2026-11-28, Python 3.11) reads no PLY whose comments hold a byte
# beyond ASCII, though PLY's comments are free text and exporters put names and paths there. It
# raises UnicodeDecodeError, which is a ValueError but no PlyParseError, so `except PlyParseError`
# lets it through.
#
# Output seen:
#   ascii  1 row
#   utf-8  UnicodeDecodeError, a PlyParseError: False
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env && env/bin/pip --quiet install plyfile==1.1.5 numpy==2.4.6
env/bin/python - <<'PY' | tee seen
import io
from plyfile import PlyData, PlyParseError

for name, comment in (("ascii", "made in Zurich"), ("utf-8", "made in Zürich")):
    head = f"ply\nformat binary_little_endian 1.0\ncomment {comment}\nelement vertex 1\nproperty float x\nend_header\n"
    try:
        rows = PlyData.read(io.BytesIO(head.encode() + bytes(4)))["vertex"].count
        print(f"{name}  {rows} row")
    except (ValueError, PlyParseError) as error:
        print(f"{name}  {type(error).__name__}, a PlyParseError: {isinstance(error, PlyParseError)}")
PY
diff seen - <<'EOF'
ascii  1 row
utf-8  UnicodeDecodeError, a PlyParseError: False
EOF

#!/usr/bin/env bash
# A model whose repository holds two precisions is fetched in one of them (allow_patterns) and used
# offline later. Whether huggingface_hub then finds it depends on the release and on the wording:
# snapshot_download(local_files_only=True)
#   0.36.0 and 1.0.0  gives the folder, whatever patterns it is asked with
#   2.4.0             gives it for the patterns of the download; with others, or with none, it
#                     raises IncompleteSnapshotError, as the listing of the whole repository, which
#                     it keeps beside the cache (trees/COMMIT.json), has more files. Without that
#                     listing (a cache that an older release filled, or a copy of snapshots/ alone)
#                     it gives the folder again.
# So code that fills a cache with one set of patterns and reads it with another works online and in
# older releases, and fails offline in this one, with all the files that it needs in the cache.
# (PyPI, run on 2026-11-28, Python 3.11; the repository is on a server of this script's own)
#
# Output seen:
#   0.36.0  same patterns: folder  other precision: folder  no patterns: folder  without trees: folder
#   1.0.0  same patterns: folder  other precision: folder  no patterns: folder  without trees: folder
#   2.4.0  same patterns: folder  other precision: IncompleteSnapshotError  no patterns: IncompleteSnapshotError  without trees: folder
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > ask.py <<'PY'
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import urllib.parse

NAME, COMMIT = "someone/model", "0123456789abcdef0123456789abcdef01234567"
FILES = {"model_index.json": b"{}", "unet/config.json": b"{}", "unet/model.safetensors": b"32 bits",
         "unet/model.fp16.safetensors": b"16 bits"}


class Hub(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if "/tree/" in path:
            data = json.dumps([{"type": "file", "path": name, "size": len(content),
                                "oid": hashlib.sha1(content).hexdigest()}
                               for name, content in FILES.items()]).encode()
        elif path.startswith("/api/"):
            data = json.dumps({"id": NAME, "sha": COMMIT,
                               "siblings": [{"rfilename": name} for name in FILES]}).encode()
        else:
            data = FILES[path.split("/resolve/")[1].split("/", 1)[1]]
        self.send_response(200)
        for key, value in {"Content-Length": len(data), "X-Repo-Commit": COMMIT,
                           "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET


def ask(patterns, **words):
    from huggingface_hub import snapshot_download
    try:
        snapshot_download(NAME, allow_patterns=patterns, **words)
    except OSError as error:
        return type(error).__name__
    return "folder"


HALF, FULL = ["*.json", "*.fp16.safetensors"], ["*.json", "*.safetensors"]
if len(sys.argv) > 1:
    print(ask(json.loads(sys.argv[1]), local_files_only=True))
    sys.exit()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
home = pathlib.Path("home").absolute()
shutil.rmtree(home, ignore_errors=True)
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}", "HF_HOME": str(home),
               "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
assert ask(HALF) == "folder"


def offline(patterns):  # in a process of its own, as later
    run = [sys.executable, "ask.py", json.dumps(patterns)]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()


said = [f"same patterns: {offline(HALF)}", f"other precision: {offline(FULL)}",
        f"no patterns: {offline(None)}"]
shutil.rmtree(home / "hub/models--someone--model/trees", ignore_errors=True)
print("  ".join([os.environ["RELEASE"], *said, f"without trees: {offline(None)}"]))
PY
for release in 0.36.0 1.0.0 2.4.0; do
  "${PYTHON:-python3}" -m venv "$release"
  "$release/bin/pip" install -q "huggingface_hub==$release"
  RELEASE=$release "$release/bin/python" ask.py
done | tee seen
diff seen - <<'EOF'
0.36.0  same patterns: folder  other precision: folder  no patterns: folder  without trees: folder
1.0.0  same patterns: folder  other precision: folder  no patterns: folder  without trees: folder
2.4.0  same patterns: folder  other precision: IncompleteSnapshotError  no patterns: IncompleteSnapshotError  without trees: folder
EOF

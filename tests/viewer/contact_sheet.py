"""Pictures for docs/formats.md: a run's files in the viewers of others, and its mesh beside it, in
Chromium.

    python tests/viewer/contact_sheet.py out/a-red-mushroom --viewers run.webp --mesh mesh.webp
    GS_SSD_PICTURES=shots make test-viewers test   # keeps the screenshots of the test object
    python tests/viewer/contact_sheet.py shots --axes viewers.webp

It exports every file as a user would, with `gs-ssd export`. Needs `make readers`, Chromium, and for
the mesh the extra.
"""

import argparse
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import CHROMIUM, FLAGS, wait_for
from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright
from test_third_party import (
    BABYLON,
    EYE,
    PLAYCANVAS,
    SPARK,
    THREE,
    THREE_MAP,
    static_site,
    supersplat_settings,
)

from gs_ssd.cli import main as gs_ssd

NODE = Path(__file__).parents[1] / "node" / "node_modules"
LABEL = 26

MESH = """<!doctype html><body style="margin:0;background:#000">%s<script type="module">
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
const renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
renderer.setSize(512, 512); document.body.append(renderer.domElement);
const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(40, 1, 0.1, 100);
camera.position.set(...%s); camera.lookAt(0, 0, 0);
scene.add((await new GLTFLoader().loadAsync("/%s")).scene);
if (%s) scene.traverse((node) => {
  if (node.isMesh) node.material = new THREE.MeshNormalMaterial({ flatShading: true });
});
else scene.add(new THREE.AmbientLight(0xffffff, Math.PI));
let frames = 0;
renderer.setAnimationLoop(() => { renderer.render(scene, camera);
  if (++frames === 3) window.__ready = true; });
</script>"""


def shots_of_viewers(
    folder: Path, run: str, page: Callable[..., Image.Image]
) -> dict[str, Image.Image]:
    """The run in every viewer that can be had here, by its name and the kind of file."""
    files = {}
    for name in ("a.ply", "a.spz", "a.splat", "a.glb", "a.sog", "a.compressed.ply", "a.html"):
        gs_ssd(
            ["export", run, "-o", str(folder / name), "--spz-version", "3"]
        )  # the newest that Spark reads
        files[name.removeprefix("a.")] = name
    gs_ssd(["export", run, "-o", str(folder / "b.html"), "--viewer", "supersplat"])
    (folder / "settings.json").write_text(json.dumps(supersplat_settings()))
    left = [-EYE[0], EYE[1], EYE[2]]
    behind = [EYE[0], EYE[1], -EYE[2]]
    viewer = "/nm/@playcanvas/supersplat-viewer/public/index.html"
    supersplat = f"{viewer}?webgl&noui&noanim&settings=/settings.json&content=/"
    first = "window.firstFrame = () => setTimeout(() => { window.__ready = true }, 1500)"
    shots = {"our page": page(folder / "a.html", own=True)}
    for kind in ("spz", "ply", "splat"):
        turn = [0, 0, 0, 1] if kind == "spz" else [1, 0, 0, 0]
        shots[f"Spark .{kind}"] = page(SPARK % (THREE_MAP, EYE, files[kind], turn))
    shots["three .glb"] = page(THREE % (THREE_MAP, EYE, files["glb"]))
    for kind in ("glb", "ply", "sog", "compressed.ply"):
        shots[f"PlayCanvas .{kind}"] = page(PLAYCANVAS % (EYE, files[kind], files[kind]))
    for kind, right_handed, eye in (
        ("glb", False, left),
        ("glb", True, EYE),
        ("ply", False, behind),
    ):
        label = f"Babylon .{kind}, {'right' if right_handed else 'left'}-handed"
        shots[label] = page(BABYLON % (json.dumps(right_handed), eye, files[kind]))
    for kind in ("ply", "sog", "compressed.ply"):
        shots[f"SuperSplat's viewer .{kind}"] = page(supersplat + files[kind], init=first)
    shots["splat-transform's page"] = page("/b.html?webgl&noui&noanim", init=first)
    return shots


def shots_of_mesh(
    folder: Path, run: str, page: Callable[..., Image.Image]
) -> dict[str, Image.Image]:
    """The splat, and its mesh with vertex colours, with a texture, and by its normals."""
    for name, options in (("m.glb", []), ("t.glb", ["--texture", "--triangles", "8000"])):
        gs_ssd(["export", run, "-o", str(folder / name), "--mesh", *options])
    gs_ssd(["export", run, "-o", str(folder / "a.html")])
    return {
        "splat": page(folder / "a.html", own=True),
        "mesh, vertex colours": page(MESH % (THREE_MAP, EYE, "m.glb", "false")),
        "mesh, 8 000 triangles, texture": page(MESH % (THREE_MAP, EYE, "t.glb", "false")),
        "the same by its normals": page(MESH % (THREE_MAP, EYE, "t.glb", "true")),
    }


#: Names of tests, whose screenshots GS_SSD_PICTURES keeps, for the sheet of the test object.
AXES = {
    "our page": "test_front_is_upright_and_unmirrored",
    "SuperSplat's viewer .ply": "test_supersplat_viewer[a.ply]",
    "PlayCanvas .glb": "test_playcanvas[a.glb]",
    "Spark .spz 3": "test_spark[a.spz-turn0]",
    "three .spz 4": "test_three[a.spz]",
    "PlayCanvas .sog": "test_playcanvas[a.sog]",
    "Babylon .glb, right-handed": "test_babylon[True-a.glb]",
    "SuperSplat's viewer .sog": "test_supersplat_viewer[a.sog]",
    "PlayCanvas .compressed.ply": "test_playcanvas[a.compressed.ply]",
}


def sheet(shots: dict[str, Image.Image], size: int, columns: int) -> Image.Image:
    """All of them in a grid, each under its name."""
    rows = -(-len(shots) // columns)
    image = Image.new("RGB", (columns * size, rows * (size + LABEL)), "white")
    draw = ImageDraw.Draw(image)
    for i, (name, shot) in enumerate(shots.items()):
        x, y = i % columns * size, i // columns * (size + LABEL)
        draw.text((x + 6, y + 5), name, fill="black", font_size=13)
        image.paste(shot.resize((size, size), Image.Resampling.LANCZOS), (x, y + LABEL))
    return image


def main() -> None:
    """Export, look, paste."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--viewers", type=Path)
    parser.add_argument("--mesh", type=Path)
    parser.add_argument("--axes", type=Path, help="of kept screenshots: `run` is their folder")
    args = parser.parse_args()
    if args.axes:
        shots = {name: Image.open(Path(args.run) / f"{test}.png") for name, test in AXES.items()}
        sheet(shots, 320, 3).save(args.axes, quality=85)
        return
    os.environ.setdefault(
        "GS_SSD_SPLAT_TRANSFORM", str(NODE / "@playcanvas/splat-transform/bin/cli.mjs")
    )
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        (folder / "nm").symlink_to(NODE)
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with static_site(folder) as address:

            def look(source: str | Path, *, init: str = "", own: bool = False) -> Image.Image:
                """A page, given as a file, an address or its very text, as it looks once it is
                ready."""
                if isinstance(source, str) and not source.startswith("/"):
                    (folder / "t.html").write_text(source)
                    source = "/t.html"
                url = source.as_uri() if isinstance(source, Path) else address + source
                page = browser.new_page(viewport={"width": 512, "height": 512})
                if init:
                    page.add_init_script(init)
                page.goto(url)
                wait_for(page, "window.__ready || window.__failed", 120)
                if own:
                    like_the_others(page)
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                assert np.asarray(shot).std() > 5, f"nothing to be seen: {source}"
                page.close()
                return shot

            if args.viewers:
                sheet(shots_of_viewers(folder, args.run, look), 224, 6).save(
                    args.viewers, quality=85
                )
            if args.mesh:
                sheet(shots_of_mesh(folder, args.run, look), 288, 4).save(args.mesh, quality=88)
        browser.close()


def like_the_others(page: Page) -> None:
    """Our own page from where the others look."""
    camera = {"azimuth": 0.35, "polar": 1.3, "distance": 4, "target": [0, 0, 0], "fovY": 0.698}
    page.evaluate(f"gsViewer.set({json.dumps({**camera, 'backgroundColor': [0, 0, 0]})})")
    page.add_style_tag(content="header, nav { visibility: hidden }")


if __name__ == "__main__":
    main()

"""Our files in viewers that we did not write, in a real browser: upright, unmirrored, harmonics
turned.

`make readers` installs the viewers (tests/node/package.json pins them); without them these tests
skip.
"""

import contextlib
import dataclasses
import functools
import http.server
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import write_splats
from gs_ssd.export.spz import fractional_bits

pytestmark = [pytest.mark.browser, pytest.mark.readers, pytest.mark.slow]

AZIMUTH, POLAR, DISTANCE = 0.35, 1.3, 4.0
EYE = [
    -math.sin(AZIMUTH) * math.sin(POLAR) * DISTANCE,
    math.cos(POLAR) * DISTANCE,
    math.cos(AZIMUTH) * math.sin(POLAR) * DISTANCE,
]

THREE_MAP = """<script type="importmap">{"imports": {
"three": "/nm/three/build/three.module.js", "three/webgpu": "/nm/three/build/three.webgpu.js",
"three/tsl": "/nm/three/build/three.tsl.js", "three/addons/": "/nm/three/examples/jsm/",
"@sparkjsdev/spark": "/nm/@sparkjsdev/spark/dist/spark.module.js"}}</script>"""

SPARK = """<!doctype html><body style="margin:0;background:#000">%s<script type="module">
import * as THREE from "three";
import { SparkRenderer, SplatMesh } from "@sparkjsdev/spark";
const renderer = new THREE.WebGLRenderer({ antialias: false, preserveDrawingBuffer: true });
renderer.setSize(512, 512); document.body.append(renderer.domElement);
const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(40, 1, 0.1, 100);
camera.position.set(...%s); camera.lookAt(0, 0, 0);
scene.add(new SparkRenderer({ renderer }));
const mesh = new SplatMesh({ url: "/%s" });
mesh.quaternion.set(...%s);
scene.add(mesh); await mesh.initialized;
const start = performance.now();  // it sorts in a worker, and says nothing when it has
renderer.setAnimationLoop(() => {
  renderer.render(scene, camera);
  if (performance.now() > start + 3000) window.__ready = true;
});
</script>"""

THREE = """<!doctype html><body style="margin:0;background:#000">%s<script type="module">
import * as THREE from "three/webgpu";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import { SPZLoader } from "three/addons/loaders/SPZLoader.js";
import { GaussianSplat } from "three/addons/objects/GaussianSplat.js";
import { GLTFGaussianSplatLoaderExtension }
  from "three/addons/loaders/GLTFGaussianSplatLoaderExtension.js";
const renderer = new THREE.WebGPURenderer({ forceWebGL: true });
renderer.setSize(512, 512); document.body.append(renderer.domElement); await renderer.init();
const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(40, 1, 0.1, 100);
camera.position.set(...%s); camera.lookAt(0, 0, 0);
const loader = new GLTFLoader();
loader.register((parser) => new GLTFGaussianSplatLoaderExtension(parser));
const name = "/%s";
if (name.endsWith(".glb")) scene.add((await loader.loadAsync(name)).scene);
else scene.add(new GaussianSplat(await new SPZLoader().loadAsync(name)));
let frames = 0;
renderer.setAnimationLoop(() => { renderer.render(scene, camera);
  if (++frames === 20) window.__ready = true; });
</script>"""

PLAYCANVAS = """<!doctype html><body style="margin:0;background:#000">
<canvas id="c" width="512" height="512"></canvas>
<script type="module">
import * as pc from "/nm/playcanvas/build/playcanvas.mjs";
const app = new pc.Application(document.getElementById("c"),
  { graphicsDeviceOptions: { antialias: false } });
app.start();
const camera = new pc.Entity();
camera.addComponent("camera", { clearColor: new pc.Color(0, 0, 0), fov: 40,
  toneMapping: pc.TONEMAP_NONE });
camera.setPosition(...%s); camera.lookAt(0, 0, 0); app.root.addChild(camera);
const kind = "%s".endsWith(".glb") ? "container" : "gsplat";
const asset = new pc.Asset("a", kind, { url: "/%s" });
asset.ready(() => {
  let entity;
  if (kind === "container") entity = asset.resource.instantiateRenderEntity();
  else { entity = new pc.Entity(); entity.addComponent("gsplat", { asset });
    entity.setEulerAngles(180, 0, 0); }
  app.root.addChild(entity);
  let frames = 0;
  app.on("frameend", () => { if (++frames === 30) window.__ready = true; });
});
asset.on("error", (message) => { window.__failed = message; });
app.assets.add(asset); app.assets.load(asset);
</script>"""

BABYLON = """<!doctype html><body style="margin:0;background:#000">
<canvas id="c" width="512" height="512"></canvas>
<script src="/nm/babylonjs/babylon.js"></script>
<script src="/nm/babylonjs-loaders/babylonjs.loaders.min.js"></script>
<script type="module">
const engine = new BABYLON.Engine(document.getElementById("c"), false),
  scene = new BABYLON.Scene(engine);
scene.useRightHandedSystem = %s;
scene.clearColor = new BABYLON.Color4(0, 0, 0, 1);
const camera = new BABYLON.FreeCamera("c", new BABYLON.Vector3(...%s), scene);
camera.setTarget(BABYLON.Vector3.Zero());
camera.fov = Math.PI * 40 / 180;
await BABYLON.ImportMeshAsync("/%s", scene);
const start = performance.now();
engine.runRenderLoop(() => { scene.render();
  if (performance.now() > start + 3000) window.__ready = true; });
</script>"""


@pytest.fixture(scope="module")
def modules(node_package) -> Path:
    return node_package("three").parent


@pytest.fixture
def site(tmp_path, modules) -> Iterator[tuple[Path, str]]:
    """A folder, and its address; Node packages lie under /nm."""
    (tmp_path / "nm").symlink_to(modules)
    with static_site(tmp_path) as address:
        yield tmp_path, address


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def static_site(folder: Path) -> Iterator[str]:
    """The files in a folder, and what its links lead to, over HTTP; gives the address."""
    _Files.extensions_map[".mjs"] = "text/javascript"
    handler = functools.partial(_Files, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def hue(image: np.ndarray, name: str) -> np.ndarray:
    """Centroid of a colour by its ratios: viewers differ in brightness."""
    r, g, b = np.moveaxis(image.astype(float), -1, 0)
    strong = image.max(axis=-1) > 70
    mask = (
        strong
        & {
            "red": (r > 2 * g) & (r > 2 * b),
            "green": (g > 2 * r) & (g > 2 * b),
            "blue": (b > 2 * r) & (b > 1.7 * g),
            "yellow": (r > 1.8 * b) & (g > 1.6 * b) & (abs(r - g) < 0.35 * r),
            "cyan": (g > 1.6 * r) & (b > 1.6 * r) & (abs(b - g) < 0.4 * b),
        }[name]
    )
    assert mask.sum() > 20, f"nothing {name} in the picture"
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def assert_upright(image: np.ndarray, *, harmonics: bool = True) -> None:
    red, green, blue, yellow = (hue(image, name) for name in ("red", "green", "blue", "yellow"))
    assert red[0] > 300
    assert abs(red[1] - 256) < 60
    assert green[1] < 180
    assert abs(green[0] - 256) < 25
    assert blue[0] > 256
    assert blue[1] > 262
    assert yellow[0] < 200  # the letter stands at the upper left
    assert yellow[1] < 220
    if harmonics:
        cyan = hue(image, "cyan")
        assert cyan[0] < 220
        assert cyan[1] > 290


@pytest.mark.parametrize(
    ("name", "turn"), [("a.spz", (0, 0, 0, 1)), ("a.ply", (1, 0, 0, 0)), ("a.splat", (1, 0, 0, 0))]
)
def test_spark(site, open_page, picture, name, turn):
    folder, url = site
    write_splats(folder / name, axes_object(), spz_version=3)  # Spark 2.2 does not read version 4
    (folder / "t.html").write_text(SPARK % (THREE_MAP, EYE, name, list(turn)))
    assert_upright(picture(open_page(f"{url}/t.html")), harmonics=name != "a.splat")


@pytest.mark.parametrize(("page", "version"), [("spark", 3), ("three", 4)])
def test_small_objects_in_spz_lie_where_their_fractional_bits_say(
    site, open_page, picture, page, version
):
    folder, url = site
    size = 0.01
    full = axes_object()
    small = dataclasses.replace(
        full, means=full.means * size, log_scales=full.log_scales + np.log(size)
    )
    assert fractional_bits(small) > 12
    write_splats(folder / "a.spz", small, spz_version=version)
    turn = [0, 0, 0, 1]
    text = (
        SPARK % (THREE_MAP, EYE, "a.spz", turn)
        if page == "spark"
        else THREE % (THREE_MAP, EYE, "a.spz")
    )
    (folder / "t.html").write_text(
        text.replace("new THREE.Scene(),", f"larger(new THREE.Scene(), {1 / size}),").replace(
            "const renderer",
            "const larger = (scene, size) => (scene.scale.setScalar(size), scene);\nconst renderer",
        )
    )
    assert_upright(picture(open_page(f"{url}/t.html")))


@pytest.mark.parametrize("name", ["a.glb", "a.spz"])
def test_three(site, open_page, picture, name):
    folder, url = site
    write_splats(folder / name, axes_object())
    (folder / "t.html").write_text(THREE % (THREE_MAP, EYE, name))
    assert_upright(picture(open_page(f"{url}/t.html")))


@pytest.mark.parametrize("name", ["a.glb", "a.ply", "a.sog", "a.compressed.ply"])
def test_playcanvas(site, open_page, picture, name):
    folder, url = site
    write_splats(folder / name, axes_object())
    (folder / "t.html").write_text(PLAYCANVAS % (EYE, name, name))
    assert_upright(picture(open_page(f"{url}/t.html")))


@pytest.mark.parametrize(
    ("right_handed", "name"), [(False, "a.glb"), (True, "a.glb"), (False, "a.ply")]
)
def test_babylon(site, open_page, picture, right_handed, name):
    folder, url = site
    write_splats(folder / name, axes_object())
    # Left-handed, it shows glTF as (-x, y, z) and a PLY, whose y it flips, as (x, y, -z) of ours.
    eye = (
        EYE
        if right_handed
        else [-EYE[0], EYE[1], EYE[2]]
        if name == "a.glb"
        else [EYE[0], EYE[1], -EYE[2]]
    )
    (folder / "t.html").write_text(BABYLON % (json.dumps(right_handed), eye, name))
    assert_upright(picture(open_page(f"{url}/t.html")))


def supersplat_settings() -> dict:
    """A fixed camera, and colours as they are."""
    pose = {
        "position": [-EYE[0], EYE[1], -EYE[2]],
        "target": [0, 0, 0],
        "fov": 40,
    }  # it turns INRIA half about z
    return {
        "version": 2,
        "tonemapping": "none",
        "highPrecisionRendering": False,
        "background": {"color": [0, 0, 0]},
        "postEffectSettings": {
            "sharpness": {"enabled": False, "amount": 0},
            "bloom": {"enabled": False, "intensity": 0, "blurLevel": 2},
            "grading": {
                "enabled": False,
                "brightness": 1,
                "contrast": 1,
                "saturation": 1,
                "tint": [1, 1, 1],
            },
            "vignette": {"enabled": False, "intensity": 0, "inner": 1, "outer": 1, "curvature": 1},
            "fringing": {"enabled": False, "intensity": 0},
        },
        "animTracks": [],
        "cameras": [{"initial": pose}],
        "annotations": [],
        "startMode": "default",
    }


@pytest.mark.parametrize("name", ["a.ply", "a.sog", "a.compressed.ply"])
def test_supersplat_viewer(site, open_page, picture, name):
    folder, url = site
    write_splats(folder / name, axes_object())
    (folder / "settings.json").write_text(json.dumps(supersplat_settings()))
    page = f"{url}/nm/@playcanvas/supersplat-viewer/public/index.html"
    address = f"{page}?webgl&noui&noanim&settings=/settings.json"
    init = "window.firstFrame = () => setTimeout(() => { window.__ready = true }, 1500)"
    assert_upright(picture(open_page(f"{address}&content=/{name}", init=init)))

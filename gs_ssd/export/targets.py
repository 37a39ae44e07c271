"""The right file for the place it goes to, and the one line that says how to get it in there."""

import dataclasses

from gs_ssd.maths.conventions import Frame


@dataclasses.dataclass(frozen=True)
class Target:
    """`suffix` and `frame` choose the file; `pad_sh3` writes all 62 columns, for importers that
    insist on them.

    `spz_version`: the newest that is read there.
    """

    suffix: str
    frame: Frame
    hint: str
    pad_sh3: bool = False
    spz_version: int = 4


TARGETS: dict[str, Target] = {
    "supersplat": Target(
        ".ply", "inria", "drop {file} onto https://superspl.at/editor; it stands upright"
    ),
    "three": Target(
        ".spz",
        "gltf",
        'with Spark: scene.add(new SparkRenderer({{ renderer }}), new SplatMesh({{ url: "{file}"'
        " }})), upright as is; three 0.187 and later read --for gltf with their own GLTFLoader",
        spz_version=3,  # Spark 2.2 takes version 4 for broken gzip
    ),
    "babylon": Target(
        ".glb",
        "gltf",
        'await BABYLON.ImportMeshAsync("{file}", scene); upright in either handedness',
    ),
    "playcanvas": Target(".glb", "gltf", "upload {file} as a container asset; no rotation needed"),
    "unity": Target(
        ".ply",
        "inria",
        "UnityGaussianSplatting: Tools > Gaussian Splats > Create GaussianSplatAsset from {file}; "
        "on its object set rotation X 180 and scale Z -1",
        pad_sh3=True,
    ),
    "unreal": Target(
        ".ply",
        "inria",
        "drag {file} into the content browser (UEFN's importer, XV3DGS or Luma); check which way"
        " is up",
        pad_sh3=True,
    ),
    "godot": Target(
        ".ply",
        "inria",
        "with the add-on gdgs copy {file} into the project; it turns it upright",
        pad_sh3=True,
    ),
    "blender": Target(
        ".ply",
        "blender",
        "3DGS Render (KIRI): Import PLY {file}; it is z up already, leave 'Rotate for Blender Axes'"
        " alone",
        pad_sh3=True,
    ),
    "web": Target(".html", "gltf", "one page: open {file}, or put it on any web server"),
    "gltf": Target(
        ".glb",
        "gltf",
        "{file} is glTF with KHR_gaussian_splatting; others show it as coloured points",
    ),
    "usd": Target(".usda", "gltf", "usdview {file} (OpenUSD 26.03 or later), Omniverse, Houdini"),
}

"""An avatar's mesh for engines: clean for Khronos's validator; three, Babylon and Blender move it
as we do."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from gs_ssd.body import clips, mannequin, surface
from gs_ssd.body.skinning import skin_points
from gs_ssd.errors import UserError
from gs_ssd.export.avatar_file import bind
from gs_ssd.export.frames import frame_rotation
from gs_ssd.export.rigged_mesh import dressed, write_rigged
from gs_ssd.export.splats import from_gaussians
from gs_ssd.scene import initialize
from gs_ssd.scene.initialize import InitializeConfig

VALIDATE = """
const fs = require("fs"), validator = require("gltf-validator");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then((r) => console.log(JSON.stringify(r)));
"""
PLAY = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const [, three, file, clip, seconds] = process.argv;
const THREE = await import(pathToFileURL(`${three}/build/three.module.js`));
const { GLTFLoader } = await import(
  pathToFileURL(`${three}/examples/jsm/loaders/GLTFLoader.js`));
globalThis.self = globalThis;
const bytes = readFileSync(file);
const data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
const gltf = await new GLTFLoader().parseAsync(data, "");
const mixer = new THREE.AnimationMixer(gltf.scene);
mixer.clipAction(THREE.AnimationClip.findByName(gltf.animations, clip)).play();
mixer.setTime(Number(seconds));
gltf.scene.updateMatrixWorld(true);
let mesh;
gltf.scene.traverse((node) => { if (node.isSkinnedMesh) mesh = node; });
const out = [], point = new THREE.Vector3();
for (let i = 0; i < mesh.geometry.attributes.position.count; i++) {
  mesh.getVertexPosition(i, point);
  out.push([point.x, point.y, point.z]);
}
console.log(JSON.stringify({ out, joints: mesh.skeleton.bones.map((bone) => bone.name) }));
"""

BABYLON = """
const fs = require("fs"), [, file, clip, seconds] = process.argv;
globalThis.XMLHttpRequest = class {};
console.log = () => {};  // its greeting
globalThis.BABYLON = require("babylonjs");
require("babylonjs-loaders");
(async () => {
  const scene = new BABYLON.Scene(new BABYLON.NullEngine());
  scene.useRightHandedSystem = true;
  const data = "data:;base64," + fs.readFileSync(file).toString("base64");
  const read = await BABYLON.SceneLoader.ImportMeshAsync("", "", data, scene, null, ".glb");
  read.animationGroups.forEach((group) => group.stop());
  const group = read.animationGroups.find((one) => one.name === clip);
  group.start(false);
  group.goToFrame(Number(seconds) * 60);  // the loader counts sixty frames a second
  const mesh = read.meshes.find((one) => one.skeleton);
  mesh.skeleton.prepare(true);
  const world = mesh.computeWorldMatrix(true), at = mesh.getPositionData(true, false);
  const out = [];
  for (let i = 0; i < at.length; i += 3) {
    const p = BABYLON.Vector3.TransformCoordinates(BABYLON.Vector3.FromArray(at, i), world);
    out.push([p.x, p.y, p.z]);
  }
  const found = JSON.stringify({ out, joints: mesh.skeleton.bones.map((bone) => bone.name) });
  process.stdout.write(found, () => process.exit(0));
})().catch((error) => { console.error(error); process.exit(1); });
"""
BLENDER = """
import json, sys
import bpy
file, clip, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.import_scene.gltf(filepath=file, merge_vertices=False)
(rig,) = [o for o in bpy.data.objects if o.type == "ARMATURE"]
(mesh,) = [o for o in bpy.data.objects if any(m.type == "ARMATURE" for m in o.modifiers)]
for track in rig.animation_data.nla_tracks:
    track.mute = True
rig.animation_data.action = bpy.data.actions[clip]
frame = seconds * bpy.context.scene.render.fps
bpy.context.scene.frame_set(int(frame), subframe=frame % 1)
posed = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
out = [list(posed.matrix_world @ vertex.co) for vertex in posed.to_mesh().vertices]
joints = [bone.name for bone in rig.data.bones]
print("FOUND" + json.dumps({"out": out, "joints": joints}))
"""
MOMENTS = pytest.mark.parametrize(("clip", "frame"), [("walk", 6), ("wave", 11)])


@pytest.fixture(scope="module")
def body():
    return mannequin.create(rings=4, sides=8)


@pytest.fixture(scope="module")
def avatar(body):
    skin = surface.sample(body, 5000, torch.Generator().manual_seed(0))
    colors = torch.where(skin.points[:, 2:] > 0.1, torch.tensor([0.8, 0.1, 0.1]),
                         torch.tensor([0.1, 0.1, 0.8]))  # fmt: skip
    config = InitializeConfig(scale=0.01, opacity=0.9, keep_colors=True)
    outside = skin.points + 0.02 * skin.normals
    splat = initialize.from_points(outside, colors, config)
    return bind(from_gaussians(splat), skin.weights, body)


@pytest.fixture(scope="module")
def file(avatar, tmp_path_factory):
    path = tmp_path_factory.mktemp("rigged") / "person.glb"
    motions = [clips.sample(name, 24.0, avatar.skeleton) for name in ("walk", "wave")]
    assert write_rigged(path, avatar, motions) == len(avatar.mesh.faces)
    return path


def under_node(script, package, *arguments, module=False):
    environment = {**os.environ, "NODE_PATH": str(package.parent)}
    kind = ["--input-type=module"] if module else []
    command = ["node", *kind, "-e", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_mesh_moves_out_to_the_splats_and_takes_their_colours(avatar, body):
    worn = dressed(avatar)
    outer = surface.winding(body, body.vertices + 0.002 * torch.from_numpy(worn.normals).float())
    moved = ((worn.vertices - avatar.mesh.vertices) * worn.normals).sum(1)[(outer < 0.5).numpy()]
    assert 0.012 < np.median(moved) < 0.024  # the splats lie .02 outside
    chest = worn.vertices[:, 2] > 0.2
    assert (worn.colors[chest, 0] > worn.colors[chest, 2] + 0.4).mean() > 0.97
    feet = worn.vertices[:, 2] < -0.2
    assert (worn.colors[feet, 2] > worn.colors[feet, 0] + 0.4).mean() > 0.97


@pytest.mark.readers
def test_khronos_validator_finds_nothing(file, node_package):
    report = under_node(VALIDATE, node_package("gltf-validator"), file)
    assert report["issues"]["messages"] == []
    assert report["info"]["animationCount"] == 2
    assert report["info"]["hasSkins"]


def skinned(avatar, clip, frame):
    """Our vertices at a frame of a clip, in glTF's axes."""
    pose = clips.sample(clip, 24.0, avatar.skeleton).poses[frame]
    mesh, count = avatar.mesh, len(avatar.skeleton.joint_names)
    dense = torch.zeros(len(mesh.vertices), count)
    dense.scatter_add_(1, torch.from_numpy(mesh.joints).long(), torch.from_numpy(mesh.weights))
    vertices = torch.from_numpy(dressed(avatar).vertices).float()
    moved = skin_points(vertices, dense, avatar.skeleton.transforms(pose)).numpy()
    return moved @ frame_rotation("world", "gltf").T


@pytest.mark.readers
@MOMENTS
def test_three_moves_the_vertices_where_our_skinning_does(avatar, file, node_package, clip, frame):
    three = node_package("three")
    seen = under_node(PLAY, three, three, file, clip, frame / 24, module=True)
    assert tuple(seen["joints"]) == avatar.skeleton.joint_names
    np.testing.assert_allclose(np.array(seen["out"]), skinned(avatar, clip, frame), atol=2e-4)


@pytest.mark.readers
@MOMENTS
def test_babylon_moves_the_vertices_where_our_skinning_does(
    avatar, file, node_package, clip, frame
):
    loaders = node_package("babylonjs-loaders")
    seen = under_node(BABYLON, loaders, file, clip, frame / 24)
    assert tuple(seen["joints"]) == avatar.skeleton.joint_names
    np.testing.assert_allclose(np.array(seen["out"]), skinned(avatar, clip, frame), atol=2e-4)


@pytest.mark.slow
@MOMENTS
def test_blender_moves_the_vertices_where_our_skinning_does(avatar, file, clip, frame):
    """Blender as a module (`bpy`, 350 MB, NumPy 1) in an environment of its own."""
    python = os.environ.get("GS_SSD_BPY_PYTHON", sys.executable)
    command = [python, "-c", BLENDER, str(file), clip, str(frame / 24)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named 'bpy'" in done.stderr:
        pytest.skip("bpy is not installed; name a Python that has it in GS_SSD_BPY_PYTHON")
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.partition("FOUND")[2])
    assert sorted(seen["joints"]) == sorted(avatar.skeleton.joint_names)
    wanted = skinned(avatar, clip, frame)[:, [0, 2, 1]] * np.array([1.0, -1.0, 1.0])  # its z is up
    np.testing.assert_allclose(np.array(seen["out"]), wanted, atol=2e-4)


def test_another_suffix_is_refused(avatar, tmp_path):
    with pytest.raises(UserError, match=r"written as \.glb"):
        write_rigged(tmp_path / "a.obj", avatar, [])
    assert not list(tmp_path.iterdir())

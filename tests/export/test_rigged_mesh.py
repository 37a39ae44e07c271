"""An avatar's mesh for engines: clean for Khronos's validator, and three moves it as we do."""

import json
import os
import subprocess

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


@pytest.mark.readers
@pytest.mark.parametrize(("clip", "frame"), [("walk", 6), ("wave", 11)])
def test_three_moves_the_vertices_where_our_skinning_does(avatar, file, node_package, clip, frame):
    three = node_package("three")
    seen = under_node(PLAY, three, three, file, clip, frame / 24, module=True)
    assert tuple(seen["joints"]) == avatar.skeleton.joint_names
    pose = clips.sample(clip, 24.0, avatar.skeleton).poses[frame]
    mesh, count = avatar.mesh, len(avatar.skeleton.joint_names)
    dense = torch.zeros(len(mesh.vertices), count)
    dense.scatter_add_(1, torch.from_numpy(mesh.joints).long(), torch.from_numpy(mesh.weights))
    vertices = torch.from_numpy(dressed(avatar).vertices).float()
    moved = skin_points(vertices, dense, avatar.skeleton.transforms(pose)).numpy()
    wanted = moved @ frame_rotation("world", "gltf").T
    np.testing.assert_allclose(np.array(seen["out"]), wanted, atol=2e-4)


def test_another_suffix_is_refused(avatar, tmp_path):
    with pytest.raises(UserError, match=r"written as \.glb"):
        write_rigged(tmp_path / "a.obj", avatar, [])
    assert not list(tmp_path.iterdir())

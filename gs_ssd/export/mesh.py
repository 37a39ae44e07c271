"""A surface of a splat, for engines without splats: TSDF fusion of rendered depth.

Needs the extra `mesh`.

A preview, not a model: soft, thin and translucent parts come out lumpy or not at all, and what no
camera sees is open. Good for collision shapes, thumbnails, a stand-in in an editor.
"""

import contextlib
import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.export.clean import framing
from gs_ssd.export.dotsplat import to_bytes
from gs_ssd.export.frames import frame_rotation
from gs_ssd.export.glb import srgb_to_linear
from gs_ssd.export.splats import Splats, to_gaussians
from gs_ssd.export.texture import View, bake, unwrap
from gs_ssd.files import atomic_path
from gs_ssd.render.median_depth import median_depth
from gs_ssd.render.renderer import render
from gs_ssd.scene.camera import Cameras, at_angles
from gs_ssd.scene.gaussians import Gaussians

SUFFIXES = (".glb", ".obj", ".ply")


@dataclasses.dataclass(frozen=True)
class MeshOptions:
    """`voxels`: along the object's framing ball; `triangles`: simplify to so many (20 000 if there
    is a texture)."""

    voxels: int = 192
    triangles: int | None = None
    texture: int = 0  #: texels along a side, a power of two; 0: vertex colours
    views_per_ring: int = 12
    polar_deg: tuple[float, ...] = (30.0, 60.0, 90.0, 120.0, 150.0)
    size: int = 400  #: pixels of a picture's side
    least_alpha: float = 0.6  #: a ray that stops less of the light than this hits no surface
    truncation: float = (
        0.18  #: of the framing ball's radius: depths of soft splats differ by so much between views
    )
    least_share: float = 0.02  #: parts with less of the area than this are dropped


def write_mesh(
    path: str | os.PathLike[str], splats: Splats, options: MeshOptions | None = None
) -> int:
    """Write a mesh, y up, in the splats' own units; returns how many triangles it has.

    Raises:
        UserError: another suffix, a missing library, or no surface to be found.
    """
    path, options = Path(path), options or MeshOptions()
    suffix = _suffix(path)
    if options.texture and suffix == ".ply":
        raise UserError(f"{path}: PLY holds no texture; write .glb or .obj, or leave --texture out")
    if not 16 <= options.voxels <= 1024:
        raise UserError(f"--voxels {options.voxels}: choose 16 to 1024")
    if options.texture and options.texture not in (256, 512, 1024, 2048, 4096):
        raise UserError(f"--texture {options.texture}: choose 256, 512, 1024, 2048 or 4096")
    if options.texture and options.triangles is None:
        options = dataclasses.replace(options, triangles=20_000)
    o3d, trimesh = _libraries()
    splats = splats.to_frame("world")
    center, radius = framing(splats)
    unit = dataclasses.replace(
        splats,
        means=(splats.means - center) / radius,
        log_scales=splats.log_scales - math.log(radius),
    )
    mesh, views = _fuse(o3d, to_gaussians(unit), options)
    mesh = _tidy(mesh, options)
    if len(mesh.triangles) == 0:
        raise UserError(
            f"cannot write {path}: no surface found; the splat is too faint or too small for a mesh"
        )
    mesh.compute_vertex_normals()
    surface = (
        _textured(trimesh, mesh, views, options)
        if options.texture
        else _colored(
            trimesh,
            np.asarray(mesh.vertices),
            np.asarray(mesh.triangles),
            np.asarray(mesh.vertex_normals),
            np.asarray(mesh.vertex_colors),
            suffix,
        )
    )
    normals = surface.vertex_normals
    surface.vertices, surface.vertex_normals = surface.vertices * radius + center, normals
    _save(trimesh, _upright(surface), path)
    return len(surface.faces)


def write_colored(
    path: str | os.PathLike[str],
    vertices: Float[np.ndarray, "n 3"],
    faces: Int[np.ndarray, "m 3"],
    normals: Float[np.ndarray, "n 3"],
    colors: Float[np.ndarray, "n 3"],
) -> int:
    """Write somebody's triangles (world axes, colours display-referred in 0..1), y up; returns how
    many there are.

    Raises:
        UserError: another suffix, or trimesh is missing.
    """
    path = Path(path)
    suffix = _suffix(path)
    try:
        import trimesh
    except ImportError as error:
        raise UserError(f"a mesh needs trimesh: pip install 'gs-ssd[mesh]' ({error})") from error
    surface = _colored(trimesh, vertices, faces, normals, colors, suffix)
    _save(trimesh, _upright(surface), path)
    return len(faces)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: a mesh is written as {', '.join(SUFFIXES)}")
    return suffix


def _upright(surface: Any) -> Any:
    """The same in glTF's axes."""
    turn, normals = frame_rotation("world", "gltf"), surface.vertex_normals
    surface.vertices = surface.vertices @ turn.T
    surface.vertex_normals = normals @ turn.T
    return surface


def _colored(
    trimesh: Any,
    vertices: Float[np.ndarray, "n 3"],
    faces: Int[np.ndarray, "m 3"],
    normals: Float[np.ndarray, "n 3"],
    colors: Float[np.ndarray, "n 3"],
    suffix: str,
) -> Any:
    if suffix == ".glb":  # glTF wants linear light, the others take colours as they are
        colors = srgb_to_linear(colors)
    return trimesh.Trimesh(
        vertices,
        faces,
        vertex_normals=normals,
        vertex_colors=to_bytes(colors * 255),
        process=False,
    )


def _textured(trimesh: Any, mesh: Any, views: list[View], options: MeshOptions) -> Any:
    vertices, normals, faces = (
        np.asarray(part) for part in (mesh.vertices, mesh.vertex_normals, mesh.triangles)
    )
    origin, faces, uv = unwrap(vertices, faces, options.texture)
    vertices, normals = vertices[origin], normals[origin]
    texture = bake(
        vertices, normals, faces, uv, views, size=options.texture, slack=8.0 / options.voxels
    )
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(texture), metallicFactor=0.0, roughnessFactor=1.0
    )
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return trimesh.Trimesh(vertices, faces, vertex_normals=normals, visual=visual, process=False)


def _save(trimesh: Any, surface: Any, path: Path) -> None:
    """One file; an OBJ with a texture has its .mtl and .png beside it, under its own name."""
    suffix = path.suffix.lower()
    if suffix != ".obj" or surface.visual.kind != "texture":
        options = {"tree_postprocessor": _matte} if suffix == ".glb" else {}
        with atomic_path(path) as temporary:
            surface.export(str(temporary), file_type=suffix[1:], **options)
        return
    text, beside = trimesh.exchange.obj.export_obj(
        surface, return_texture=True, mtl_name="material.mtl"
    )
    (picture,) = (name for name in beside if name != "material.mtl")
    names = {"material.mtl": f"{path.stem}.mtl", picture: path.stem + Path(picture).suffix}
    material = beside["material.mtl"].decode()
    for old, new in names.items():
        text, material = text.replace(old, new), material.replace(old, new)
    files = {
        path.name: text.encode(),
        names["material.mtl"]: material.encode(),
        names[picture]: beside[picture],
    }
    with contextlib.ExitStack() as together:  # all are complete before the first bears its name
        for name, data in files.items():
            together.enter_context(atomic_path(path.with_name(name))).write_bytes(data)


def _matte(tree: dict[str, Any]) -> None:
    """glTF's default material is metal, black where it reflects nothing: vertex colours get one
    that is not."""
    if "materials" not in tree:
        tree["materials"] = [
            {"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}
        ]
        for primitive in (part for mesh in tree["meshes"] for part in mesh["primitives"]):
            primitive["material"] = 0


def _libraries() -> tuple[Any, Any]:
    try:
        import open3d
        import trimesh
    except ImportError as error:
        raise UserError(
            f"a mesh needs open3d and trimesh: pip install 'gs-ssd[mesh]' ({error})"
        ) from error
    except OSError as error:
        raise UserError(
            f"open3d does not start ({error}); it wants libusb: apt install libusb-1.0-0"
        ) from error
    return open3d, trimesh


def _fuse(o3d: Any, gaussians: Gaussians, options: MeshOptions) -> tuple[Any, list[View]]:
    """A triangle mesh (open3d, legacy) of Gaussians that fill the unit ball; for a texture, also
    the views."""
    voxel = 2.0 / options.voxels
    core, device = o3d.core, o3d.core.Device("CPU:0")
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (core.float32, core.float32, core.float32),
        ((1), (1), (3)),
        voxel,
        16,
        4000,
        device,
    )
    reach = max(
        6.0, options.truncation / voxel
    )  # in voxels; less leaves holes where views disagree
    cameras = _cameras(options)
    focal = 0.5 * options.size / float(cameras.tan_half_fov[0, 1])
    middle = 0.5 * options.size - 0.5
    intrinsic = core.Tensor(np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]]))
    seen, views = False, []
    for view in range(len(cameras)):
        rgb, depth = _look(gaussians, cameras[view : view + 1], options.least_alpha)
        if not depth.any():  # open3d takes an empty picture for a mistake
            continue
        w2c = cameras.w2c[view].double().numpy()
        if options.texture:
            views.append(View(rgb, depth, w2c, float(cameras.tan_half_fov[view, 1])))
        extrinsic = core.Tensor(w2c)
        depth_image, color_image = o3d.t.geometry.Image(depth[..., None]), o3d.t.geometry.Image(rgb)
        blocks = grid.compute_unique_block_coordinates(
            depth_image, intrinsic, extrinsic, 1.0, 100.0, reach
        )
        grid.integrate(
            blocks, depth_image, color_image, intrinsic, intrinsic, extrinsic, 1.0, 100.0, reach
        )
        seen = True
    mesh = (
        grid.extract_triangle_mesh(weight_threshold=1.0).to_legacy()
        if seen
        else o3d.geometry.TriangleMesh()
    )
    return mesh, views


def _cameras(options: MeshOptions) -> Cameras:
    fov = math.radians(36.0)
    turn = [2 * math.pi * view / options.views_per_ring for view in range(options.views_per_ring)]
    return at_angles(
        turn * len(options.polar_deg),
        [math.radians(polar) for polar in options.polar_deg for _ in turn],
        radius=1.1 / math.sin(fov / 2),
        fov_y_rad=fov,
        size=options.size,
    )


def _look(
    gaussians: Gaussians, camera: Cameras, least_alpha: float
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Colour, and the median's z-depth where there is a surface (0 elsewhere)."""
    with torch.no_grad():
        output = render(gaussians, camera, torch.zeros(1, 3))
    depth, _ = median_depth(gaussians, camera)
    alpha = output.alpha[0]
    color = (output.rgb[0] / alpha.clamp_min(1e-6)).clamp(0, 1).permute(1, 2, 0).contiguous()
    return color.numpy(), torch.where(alpha[0] >= least_alpha, depth, 0.0).numpy()


def _tidy(mesh: Any, options: MeshOptions) -> Any:
    """Drop crumbs, smooth the voxels' steps, simplify."""
    if len(mesh.triangles) == 0:
        return mesh
    labels, _, areas = (np.asarray(part) for part in mesh.cluster_connected_triangles())
    mesh.remove_triangles_by_mask(areas[labels] < options.least_share * areas.sum())
    mesh.remove_unreferenced_vertices()
    mesh = mesh.filter_smooth_taubin(number_of_iterations=5)
    if options.triangles is not None and len(mesh.triangles) > options.triangles:
        mesh = mesh.simplify_quadric_decimation(max(int(options.triangles), 4))
    return mesh

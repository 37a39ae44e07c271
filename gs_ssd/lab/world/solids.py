"""Where a ray meets each unit solid, in closed form (the torus by sphere tracing), and the normal
there.

Rays are in the solid's own frame: origins `o [B,3,1]`, directions `d [B,3,R]` of any length, so
that the ray parameter is the same as in the world. Hits lie in front of the origin; a miss is
infinity.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Half-spaces n.p <= h that bound each convex solid within [-1,1]^3.
HalfSpace = tuple[tuple[int, int, int], int]
_HALF_SPACES: dict[str, list[HalfSpace]] = {
    "box": [
        ((1, 0, 0), 1),
        ((-1, 0, 0), 1),
        ((0, 1, 0), 1),
        ((0, -1, 0), 1),
        ((0, 0, 1), 1),
        ((0, 0, -1), 1),
    ],
    "gable": [((0, 0, -1), 1), ((0, 1, 0), 1), ((0, -1, 0), 1), ((2, 0, 1), 1), ((-2, 0, 1), 1)],
    "sail": [((0, 0, -1), 1), ((-1, 0, 0), 1), ((0, 1, 0), 1), ((0, -1, 0), 1), ((1, 0, 1), 0)],
    "pyramid": [((0, 0, -1), 1), ((2, 0, 1), 1), ((-2, 0, 1), 1), ((0, 2, 1), 1), ((0, -2, 1), 1)],
}


def hit_distance(form: str, o: Tensor, d: Tensor, params: Tensor) -> Tensor:
    """Ray parameter of the nearest hit, `[B,R]`; infinity where the ray misses.

    `params [B,3]`: see `sculptor.Part`."""
    if form in _HALF_SPACES:
        return _hit_convex(_HALF_SPACES[form], o, d)
    return _HITS[form](o, d, params)


def normal_at(form: str, p: Tensor, params: Tensor) -> Tensor:
    """Outward normal, any length, at surface points `p [M,3]` with their solids' `params [M,3]`."""
    if form in _HALF_SPACES:
        normals = p.new_tensor([n for n, _ in _HALF_SPACES[form]])
        heights = p.new_tensor([h for _, h in _HALF_SPACES[form]])
        return normals[(p @ normals.T - heights).argmax(1)]
    return _NORMALS[form](p, params)


def contains(
    form: str, p: Tensor, params: Sequence[float], wall: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """Whether points `p [N,3]` of the solid's own frame lie inside it, `[N]`.

    `wall`: thickness across and along a hollow frustum, in its own units; what lies within is
    outside.
    """
    if form in _HALF_SPACES:
        normals = p.new_tensor([n for n, _ in _HALF_SPACES[form]])
        heights = p.new_tensor([h for _, h in _HALF_SPACES[form]])
        return (p @ normals.T <= heights).all(1)
    if form == "ellipsoid":
        return p.square().sum(1) <= 1
    if form == "torus":
        return _torus_distance(p, p.new_tensor(params[0])) <= 0
    low, high, hollow = params
    radius, across = (low + high) / 2 + (high - low) / 2 * p[:, 2], torch.hypot(p[:, 0], p[:, 1])
    inside = (p[:, 2].abs() <= 1) & (across <= radius)
    return inside & ~((across < radius - wall[0]) & (p[:, 2] > wall[1] - 1)) if hollow else inside


def _hit_convex(half_spaces: list[HalfSpace], o: Tensor, d: Tensor) -> Tensor:
    enter, leave = torch.zeros_like(d[:, 0]), torch.full_like(d[:, 0], torch.inf)
    outside = torch.zeros_like(d[:, 0], dtype=torch.bool)
    for normal, height in half_spaces:
        speed, gap = _dot(normal, d), height - _dot(normal, o)
        t = gap / torch.where(speed == 0, torch.finfo(d.dtype).tiny, speed)
        enter = torch.where(speed < 0, torch.maximum(enter, t), enter)
        leave = torch.where(speed > 0, torch.minimum(leave, t), leave)
        outside |= (speed == 0) & (gap < 0)
    return torch.where((enter < leave) & (enter > 0) & ~outside, enter, torch.inf)


def _dot(normal: tuple[int, int, int], v: Tensor) -> Tensor:
    return sum((n * v[:, i] for i, n in enumerate(normal) if n), start=torch.zeros_like(v[:, 0]))


def _hit_ellipsoid(o: Tensor, d: Tensor, _: Tensor) -> Tensor:
    near, _ = _through_ball(o, d, 1.0)
    return torch.where(near > 0, near, torch.inf)


def _through_ball(o: Tensor, d: Tensor, radius: Tensor | float) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave a ball; NaN where they miss.

    From the point of closest approach, because the textbook discriminant loses all its digits for a
    flat ellipsoid seen from afar."""
    speed = (d * d).sum(1)
    middle = -(o * d).sum(1) / speed
    half = ((radius**2 - (o + middle.unsqueeze(1) * d).square().sum(1)) / speed).sqrt()
    return middle - half, middle + half


def _hit_frustum(o: Tensor, d: Tensor, params: Tensor) -> Tensor:
    """Side: x^2 + y^2 = (r + s z)^2 with |z| <= 1; discs at both ends, the upper one missing where
    params[2] = 1."""
    low, high, hollow = params.unsqueeze(-1).unbind(1)
    r, s = (low + high) / 2, (high - low) / 2
    (ox, oy, oz), (dx, dy, dz) = o.unbind(1), d.unbind(1)
    ro, rd = r + s * oz, s * dz
    roots = _roots(
        dx * dx + dy * dy - rd * rd, ox * dx + oy * dy - ro * rd, ox * ox + oy * oy - ro * ro
    )
    best = torch.full_like(dx, torch.inf)
    for t in roots:
        z = oz + t * dz
        best = torch.where(
            (z.abs() <= 1) & (r + s * z >= 0) & (t > 0), torch.minimum(best, t), best
        )
    flat = torch.where(dz == 0, torch.finfo(d.dtype).tiny, dz)
    for end, radius, open_end in ((-1.0, low, torch.zeros_like(hollow)), (1.0, high, hollow)):
        t = (end - oz) / flat
        inside = (ox + t * dx) ** 2 + (oy + t * dy) ** 2 <= radius**2
        best = torch.where(inside & (t > 0) & (open_end == 0), torch.minimum(best, t), best)
    return best


def _roots(a: Tensor, half_b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Both solutions of a t^2 + 2 half_b t + c = 0, the smaller first; NaN where there is none."""
    a = torch.where(a.abs() < 1e-12, 1e-12, a)
    root = (half_b * half_b - a * c).sqrt()
    first, second = (-half_b - root) / a, (-half_b + root) / a
    return torch.minimum(first, second), torch.maximum(first, second)


def _hit_torus(o: Tensor, d: Tensor, params: Tensor, steps: int = 48) -> Tensor:
    """Ring of major radius 1 about z, minor radius params[0]: sphere tracing, only for rays that
    meet its ball."""
    out = torch.full_like(d[:, 0], torch.inf)
    minor = params[:, :1].expand_as(out)
    near, far = _through_ball(o, d, 1 + minor)
    rays = far > 0
    p0, v = o.expand_as(d).movedim(1, -1)[rays], d.movedim(1, -1)[rays]
    t, minor, end, speed = near[rays].clamp(min=0), minor[rays], far[rays], v.norm(dim=-1)
    for _ in range(steps):
        t = t + _torus_distance(p0 + t[:, None] * v, minor) / speed
    hit = (_torus_distance(p0 + t[:, None] * v, minor) < 4e-3) & (t < end)
    out[rays] = torch.where(hit, t, torch.inf)
    return out


def _torus_distance(p: Tensor, minor: Tensor) -> Tensor:
    return torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - 1, p[:, 2]) - minor


def _normal_frustum(p: Tensor, params: Tensor) -> Tensor:
    r, s = (params[:, 0] + params[:, 1]) / 2, (params[:, 1] - params[:, 0]) / 2
    z = p[:, 2]
    side = torch.stack([p[:, 0], p[:, 1], -s * (r + s * z)], 1)
    off_side = (torch.hypot(p[:, 0], p[:, 1]) - (r + s * z)).abs()
    cap = torch.stack([torch.zeros_like(z), torch.zeros_like(z), z.sign()], 1)
    return torch.where((off_side < (1 - z.abs()).abs())[:, None], side, cap)


def _normal_torus(p: Tensor, _: Tensor) -> Tensor:
    ring = torch.hypot(p[:, 0], p[:, 1]).clamp(min=1e-6)
    return torch.stack([p[:, 0] * (1 - 1 / ring), p[:, 1] * (1 - 1 / ring), p[:, 2]], 1)


_HITS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ellipsoid": _hit_ellipsoid,
    "frustum": _hit_frustum,
    "torus": _hit_torus,
}
_NORMALS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ellipsoid": lambda p, _: p,
    "frustum": _normal_frustum,
    "torus": _normal_torus,
}

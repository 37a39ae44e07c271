"""Numbers about pictures of an asset: crisp, clean, saturated, sharp, two-faced.

Pure functions, no model.

Alpha is the accumulated opacity, [V, H, W] in 0..1; colours are [V, 3, H, W] in 0..1. Every
function averages over views as its text says; a view that holds nothing has nothing to average and
is left out (all empty gives nan).
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

VISIBLE = 0.1
"""Alpha above which a pixel shows something; 1 - VISIBLE is the alpha above which it is solid."""

MAX_POINTS = 4000
"""Contour points at which edges are measured, all views together; more are thinned out evenly."""


def haze_share(alpha: Float[Tensor, "v h w"]) -> float:
    """Share of the visible pixels (alpha > 0.1, all views together) that are not solid (alpha <
    0.9).

    A solid object shows it in the pixels of its outline only, so a fair reading divides by that of
    the true shape.
    """
    visible = alpha > VISIBLE
    return _ratio((visible & (alpha < 1 - VISIBLE)).sum(), visible.sum())


def edge_width(alpha: Float[Tensor, "v h w"], reach: int = 40, step: float = 0.25) -> float:
    """Median 10-90 % width of the outline, in pixels, over all points of the contours alpha = 0.5.

    From each contour point the profile is followed along the normal, inwards to the first alpha >
    0.9 and outwards to the first alpha < 0.1, at most `reach` pixels each way; a side that never
    gets there counts as `reach`. Reading between pixels widens the narrowest edges by some 0.2
    pixels, those of the true shape as well.
    """
    points, normals, views = _contour(alpha)
    if not len(points):
        return float("nan")
    stride = -(-len(points) // MAX_POINTS)
    points, normals, views = points[::stride], normals[::stride], views[::stride]
    offsets = torch.arange(0, reach + step, step, dtype=alpha.dtype, device=alpha.device)
    outwards = 1 - _profile(alpha, points, -normals, views, offsets)
    inwards = _profile(alpha, points, normals, views, offsets)
    return float((_rise(outwards, step, reach) + _rise(inwards, step, reach)).median())


def outside_main_component(alpha: Float[Tensor, "v h w"]) -> float:
    """Share of all alpha that lies outside each view's heaviest 8-connected component of visible
    pixels.

    Floaters count, and so does fog too thin to be visible.
    """
    labels = connected_components(alpha > VISIBLE)
    kept = alpha.new_zeros((), dtype=torch.float64)
    for label, picture in zip(labels, alpha.double(), strict=True):
        mass = torch.zeros(int(label.max()) + 1, dtype=torch.float64).scatter_add_(
            0, label.flatten(), picture.flatten()
        )
        kept += mass[1:].max() if len(mass) > 1 else 0
    return 1 - _ratio(kept, alpha.double().sum())


def connected_components(mask: Bool[Tensor, "v h w"]) -> Int[Tensor, "v h w"]:
    """8-connected components per view: 0 outside the mask, else a positive label that is shared by
    one component."""
    labels = [ndimage.label(view, structure=np.ones((3, 3)))[0] for view in mask.cpu().numpy()]
    return torch.from_numpy(np.stack(labels)).long().to(mask.device)


def silhouette_iou(
    alpha: Float[Tensor, "v h w"], truth: Float[Tensor, "v h w"]
) -> Float[Tensor, " v"]:
    """Intersection over union of the silhouettes alpha > 0.5, view by view; nan where both are
    empty."""
    a, b = alpha > 0.5, truth > 0.5
    return (a & b).sum(dim=(1, 2)) / (a | b).sum(dim=(1, 2))


def saturation(rgb_on_black: Float[Tensor, "v 3 h w"], alpha: Float[Tensor, "v h w"]) -> float:
    """Mean HSV saturation (max - min) / max of the object's own colour, weighted by alpha, pixels
    alpha > 0.1.

    `rgb_on_black` is the picture on a black background, i.e. premultiplied: saturation is free of
    that factor.
    """
    high, low = rgb_on_black.amax(dim=1), rgb_on_black.amin(dim=1)
    weight = alpha * (alpha > VISIBLE)
    return _ratio((weight * (high - low) / high.clamp_min(1e-6)).sum(), weight.sum())


def high_frequency_energy(rgb: Float[Tensor, "v 3 h w"], cycles: float = 16) -> float:
    """Energy of the luminance above `cycles` per picture side, per pixel, mean over the views.

    Compare it with that of the true object on the same background: below 1 is blur, above 1 noise
    or hard speckles.
    """
    luminance = (rgb * rgb.new_tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(dim=1)
    height, width = luminance.shape[-2:]
    spectrum = torch.fft.fft2(luminance).abs().square() / (height * width) ** 2
    rows, columns = (torch.fft.fftfreq(n, 1 / n, device=rgb.device) for n in (height, width))
    return float(
        (spectrum * (torch.hypot(rows[:, None], columns[None, :]) > cycles)).sum(dim=(1, 2)).mean()
    )


def nearest_views(
    rgb: Float[Tensor, "v 3 h w"], truth: Float[Tensor, "v a 3 h w"]
) -> tuple[Int[Tensor, " v"], Float[Tensor, "v a"]]:
    """Which of A true views each picture resembles most (least mean squared difference), and the
    differences [V, A].

    `truth[v]` holds the true object at the elevation of view v from A azimuths; both on one
    background.
    """
    difference = (rgb[:, None] - truth).square().mean(dim=(2, 3, 4))
    return difference.argmin(dim=1), difference


def leaning(
    rgb: Float[Tensor, "v 3 h w"], here: Float[Tensor, "v 3 h w"], there: Float[Tensor, "v 3 h w"]
) -> Float[Tensor, " v"]:
    """How far each picture lies on the way from `here` (0) to `there` (1): its projection on the
    line through both.

    What neither explains (blur, a wrong shade) is at right angles to the line as a rule, and does
    not count.
    """
    way = there - here
    return ((rgb - here) * way).sum(dim=(1, 2, 3)) / way.square().sum(dim=(1, 2, 3))


def front_count(azimuths_deg: Sequence[float], tolerance_deg: float = 45) -> int:
    """How many views were taken for a front (|azimuth| < tolerance).

    More than the cameras have is a second face."""
    return sum(abs((azimuth + 180) % 360 - 180) < tolerance_deg for azimuth in azimuths_deg)


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _contour(
    alpha: Float[Tensor, "v h w"],
) -> tuple[Float[Tensor, "p 2"], Float[Tensor, "p 2"], Int[Tensor, " p"]]:
    """Points (x, y) where alpha crosses 0.5 between neighbouring pixels, unit normals towards more
    alpha, views."""
    smooth = F.avg_pool2d(F.pad(alpha[:, None], (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    d_y, d_x = torch.gradient(smooth[:, 0], dim=(1, 2))
    points, views = [], []
    for axis in (1, 2):
        low, high = (
            alpha.narrow(axis, 0, alpha.shape[axis] - 1),
            alpha.narrow(axis, 1, alpha.shape[axis] - 1),
        )
        v, y, x = ((low > 0.5) != (high > 0.5)).nonzero(as_tuple=True)
        part = (0.5 - low[v, y, x]) / (high[v, y, x] - low[v, y, x])
        points.append(torch.stack([x + part * (axis == 2), y + part * (axis == 1)], dim=1))
        views.append(v)
    xy, view = torch.cat(points).to(alpha), torch.cat(views)
    gradient = torch.stack([_sample(field, xy, view) for field in (d_x, d_y)], dim=1)
    length = gradient.norm(dim=1, keepdim=True)
    sure = length[:, 0] > 1e-6
    return xy[sure], (gradient / length.clamp_min(1e-6))[sure], view[sure]


def _profile(
    alpha: Float[Tensor, "v h w"],
    points: Float[Tensor, "p 2"],
    direction: Float[Tensor, "p 2"],
    views: Int[Tensor, " p"],
    offsets: Float[Tensor, " s"],
) -> Float[Tensor, "p s"]:
    xy = points[:, None] + offsets[:, None] * direction[:, None]
    return _sample(alpha, xy.reshape(-1, 2), views.repeat_interleave(len(offsets))).reshape(
        len(points), -1
    )


def _sample(
    field: Float[Tensor, "v h w"], xy: Float[Tensor, "n 2"], views: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Bilinear reading at pixel coordinates (x, y); the border is continued."""
    height, width = field.shape[1:]
    x, y = xy[:, 0].clamp(0, width - 1), xy[:, 1].clamp(0, height - 1)
    x0, y0 = x.floor().clamp_max(width - 2).long(), y.floor().clamp_max(height - 2).long()
    u, v = x - x0, y - y0
    flat, base = field.reshape(-1), views * (height * width) + y0 * width + x0
    top = flat[base] * (1 - u) + flat[base + 1] * u
    return top * (1 - v) + (flat[base + width] * (1 - u) + flat[base + width + 1] * u) * v


def _rise(profile: Float[Tensor, "p s"], step: float, reach: int) -> Float[Tensor, " p"]:
    """Where each profile (0.5 at its start) first exceeds 1 - VISIBLE; `reach` if it never does."""
    over = profile > 1 - VISIBLE
    index = over.to(torch.uint8).argmax(dim=1, keepdim=True).clamp_min(1)
    high, low = profile.gather(1, index), profile.gather(1, index - 1)
    part = ((1 - VISIBLE - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    distance = ((index - 1 + part) * step)[:, 0]
    return torch.where(over.any(dim=1), distance, torch.full_like(distance, reach))

"""A second representation, as small as one can be: upright pictures that always face the camera."""

import torch
from torch.nn.functional import grid_sample

from gs_ssd.assets.base import Asset
from gs_ssd.render.output import RenderOutput


class Billboards(Asset):
    """Three textured squares (RGBA) of half-width 0.5 around the origin, blended from far to
    near."""

    kind, files, device = "billboards", ("billboards.pt",), torch.device("cpu")
    centres = 0.3 * torch.tensor([[0.0, 1.0, 0.0], [0.8, -0.5, 0.0], [-0.8, -0.5, 0.0]])

    def initialize(self, generator):
        self._train(torch.randn(3, 4, 8, 8, generator=generator) * 0.1)

    def _train(self, textures):
        self.textures = textures.clone().requires_grad_()
        self.optimizers = (torch.optim.Adam([self.textures], lr=0.05),)

    optimizers = ()

    def render(self, cameras, background, generator=None):
        size = (
            (cameras.height, cameras.width) if generator is None else (32, 32)
        )  # a size of its own in training
        rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
        rays = torch.stack([columns, rows], dim=-1) * cameras.tan_half_fov[:, None, None]
        rgb = background[:, :, None, None].expand(-1, -1, *size)
        alpha = depth = torch.zeros(len(cameras), 1, *size)
        seen = self.centres @ cameras.w2c[:, :3, :3].transpose(1, 2) + cameras.w2c[:, None, :3, 3]
        for chosen in seen[..., 2].argsort(dim=1, descending=True).T:
            x_y_z = seen[torch.arange(len(cameras)), chosen][:, None, None]
            where = (rays * x_y_z[..., 2:] - x_y_z[..., :2]) / 0.5
            sampled = grid_sample(self.textures[chosen], where, align_corners=False).sigmoid()
            cover = sampled[:, 3:] * (where.abs().amax(dim=-1) < 1)[:, None]
            rgb, alpha = torch.lerp(rgb, sampled[:, :3], cover), alpha + (1 - alpha) * cover
            depth = torch.lerp(depth, x_y_z[..., 2][:, None].expand_as(depth), cover)
        return RenderOutput(rgb, alpha, depth)

    def state_dict(self):
        return {"textures": self.textures.detach(), "adam": self.optimizers[0].state_dict()}

    def load_state_dict(self, state):
        self._train(state["textures"])
        self.optimizers[0].load_state_dict(state["adam"])

    def counts(self):
        return {"num_billboards": len(self.textures)}

    def export(self, folder, *, title):
        torch.save(self.textures.detach(), folder / "billboards.pt")
        return [folder / "billboards.pt"]

// What the forward and the backward pass over a tile share. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "splat.cuh"

namespace dgr {

/// One thread's pixel. A block is a 16x16 tile of one view; each warp takes a patch of 8x4 pixels
/// of it.
struct Pixel {
    int view, x, y, warp, tile_x, tile_y;
    bool inside;
    int64_t offset, plane;  // of [V,H,W]: this pixel, and H * W

    __device__ Pixel(const dgr_problem& p, int columns, int per_view) {
        const int tile = static_cast<int>(blockIdx.x) % per_view, lane = lane_of_thread();
        view = static_cast<int>(blockIdx.x) / per_view;
        warp = static_cast<int>(threadIdx.x) / kWarp;
        tile_x = tile % columns * kTile;
        tile_y = tile / columns * kTile;
        x = tile_x + warp % 2 * kPatchWidth + lane % kPatchWidth;
        y = tile_y + warp / 2 * kPatchHeight + lane / kPatchWidth;
        inside = x < p.width && y < p.height;
        plane = static_cast<int64_t>(p.height) * p.width;
        offset = view * plane + static_cast<int64_t>(y) * p.width + x;
    }
};

/// A block's current 256 splats.
struct Batch {
    Splat splats[kBlock];
    uint32_t instances[kBlock];
    uint8_t patches[kBlock];  // bit w: the splat may reach the patch of warp w
};

__device__ __forceinline__ void load_into(Batch& batch, int slot, const Splat* splats,
                                          uint32_t instance, const Pixel& pixel) {
    const Splat splat = load_splat(splats, instance);
    batch.splats[slot] = splat;
    batch.instances[slot] = instance;
    batch.patches[slot] = static_cast<uint8_t>(touched_patches(
        reach_of(splat), static_cast<float>(pixel.tile_x), static_cast<float>(pixel.tile_y)));
}

/// Bit l: splat `first + l` of the batch may reach this warp's patch. All lanes take part.
__device__ __forceinline__ unsigned candidates(const Batch& batch, int first, int count, int warp) {
    const int slot = first + lane_of_thread();
    return __ballot_sync(kAllLanes, slot < count && (batch.patches[slot] >> warp & 1) != 0);
}

/// Alpha before the clamp at a pixel.
__device__ __forceinline__ float raw_alpha(const Splat& s, float dx, float dy) {
    return exp2_fast(log2_alpha(dx, dy, s.scale_u, s.slope_x, s.scale_v, s.log2_opacity));
}

}  // namespace dgr

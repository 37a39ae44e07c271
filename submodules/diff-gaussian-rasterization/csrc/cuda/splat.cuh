// What tile kernels know of a splat, and which pixels it can reach.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "platform.cuh"

namespace dgr {

constexpr int kTile = 16;
constexpr int kPatchWidth = 8, kPatchHeight = 4;  // the pixels of one warp
constexpr float kMaxAlpha = 0.99f;
constexpr float kMinAlpha = 1.0f / 255.0f;
constexpr float kMinTransmittance = 1e-4f;
constexpr float kLog2e = 1.4426950408889634f;
constexpr float kMinLog2Alpha = -7.994353436858858f;  // log2(1 / 255)
// A rectangle is skipped when log2(alpha) stays below the threshold by more than this: room for
// rounding, so that only the pixel itself decides. It costs 0.1 % of area.
constexpr float kLog2Slack = 0.01f;

/// One (view, Gaussian). At the offset (dx, dy) from its centre log2(alpha before the clamp) is
///     log2_opacity - u^2 - v^2,    u = scale_u (dx - slope_x dy),    v = scale_v dy,
/// the Cholesky factor of the conic. The conic written out, xx dx^2 + xy dx dy + yy dy^2, loses the
/// digits of a needle: there three large terms add up to a small one.
struct alignas(16) Splat {
    float x, y;  // pixels
    float scale_u, slope_x, scale_v;
    float log2_opacity;
    float depth;  // view-space z
    float red, green, blue;
    float slope_y;  // alpha's peak is at dy = slope_y dx on a vertical line, at dx = slope_x dy on
                    // a horizontal one
    float unused;   // 48 bytes: three 16-byte loads
};
static_assert(sizeof(Splat) == 48, "three 16-byte loads");

__device__ __forceinline__ Splat load_splat(const Splat* splats, uint32_t i) {
    const float4* from = reinterpret_cast<const float4*>(splats + i);
    const float4 words[3] = {from[0], from[1], from[2]};
    Splat splat;
    memcpy(&splat, words, sizeof splat);
    return splat;
}

__device__ __forceinline__ void store_splat(Splat* splats, int64_t i, const Splat& splat) {
    float4 words[3];
    memcpy(words, &splat, sizeof splat);
    float4* to = reinterpret_cast<float4*>(splats + i);
    for (int k = 0; k < 3; ++k) to[k] = words[k];
}

/// Tiles [x0, x1) x [y0, y1).
struct TileRect {
    uint16_t x0, y0, x1, y1;
};

/// log2(alpha) before the clamp. Fixed rounding, here and in what builds on it: two kernels count
/// and then write the same tiles, and the backward pass must agree with the forward pass on who is
/// above 1/255, so the compiler may not fuse these operations differently twice.
__device__ __forceinline__ float log2_alpha(float dx, float dy, float scale_u, float slope_x,
                                            float scale_v, float log2_opacity) {
    const float u = __fmul_rn(scale_u, __fmaf_rn(-slope_x, dy, dx)), v = __fmul_rn(scale_v, dy);
    return __fmaf_rn(-u, u, __fmaf_rn(-v, v, log2_opacity));
}

/// The part of a splat that decides where it reaches.
struct Reach {
    float x, y, scale_u, slope_x, scale_v, log2_opacity, slope_y;

    /// Whether alpha can reach 1/255 at a pixel of [x0, x1] x [y0, y1] (pixel centres, both ends
    /// included). The largest alpha over a rectangle is at the centre if that is inside, else on an
    /// edge that faces the centre.
    __device__ __forceinline__ bool touches(float x0, float y0, float x1, float y1) const {
        const float left = __fsub_rn(x0, x), right = __fsub_rn(x1, x);
        const float top = __fsub_rn(y0, y), bottom = __fsub_rn(y1, y);
        const float dx = clampf(0.0f, left, right), dy = clampf(0.0f, top, bottom);
        const float vertical_dy = clampf(__fmul_rn(slope_y, dx), top, bottom);
        const float horizontal_dx = clampf(__fmul_rn(slope_x, dy), left, right);
        const float along_vertical =
            log2_alpha(dx, vertical_dy, scale_u, slope_x, scale_v, log2_opacity);
        const float along_horizontal =
            log2_alpha(horizontal_dx, dy, scale_u, slope_x, scale_v, log2_opacity);
        return fmaxf(along_vertical, along_horizontal) >= kMinLog2Alpha - kLog2Slack;
    }

    __device__ __forceinline__ bool touches_tile(int tile_x, int tile_y) const {
        const float x0 = static_cast<float>(tile_x * kTile),
                    y0 = static_cast<float>(tile_y * kTile);
        return touches(x0, y0, x0 + (kTile - 1), y0 + (kTile - 1));
    }
};

__device__ __forceinline__ Reach reach_of(const Splat& s) {
    return {s.x, s.y, s.scale_u, s.slope_x, s.scale_v, s.log2_opacity, s.slope_y};
}

/// One lane's splat while a warp goes through the tiles of its 32 splats.
struct TileJob {
    Reach reach;
    TileRect rect;
    uint32_t tag, out;  // what the visitor needs of the splat's owner
};

/// Calls visit(job, tile_x, tile_y, k) for the k-th touched tile of each lane's job; returns the
/// lane's number of tiles. Few tiles: the lane goes through them alone. Many: the warp does, 32
/// tiles at a time. All lanes take part.
template <typename Visit>
__device__ uint32_t for_each_tile(const TileJob& mine, Visit visit) {
    constexpr int kAlone = 16;
    const int width = mine.rect.x1 - mine.rect.x0, tiles = width * (mine.rect.y1 - mine.rect.y0);
    uint32_t count = 0;
    if (tiles <= kAlone) {
        for (int i = 0; i < tiles; ++i) {
            const int tile_x = mine.rect.x0 + i % width, tile_y = mine.rect.y0 + i / width;
            if (mine.reach.touches_tile(tile_x, tile_y)) visit(mine, tile_x, tile_y, count++);
        }
    }
    const int lane = lane_of_thread();
    for (unsigned large = __ballot_sync(kAllLanes, tiles > kAlone); large != 0;
         large &= large - 1) {
        const int owner = __ffs(large) - 1;
        const TileJob job = from_lane(mine, owner);
        const int job_width = job.rect.x1 - job.rect.x0,
                  job_tiles = job_width * (job.rect.y1 - job.rect.y0);
        uint32_t found = 0;
        for (int first = 0; first < job_tiles; first += kWarp) {
            const int i = first + lane, tile_x = job.rect.x0 + i % job_width,
                      tile_y = job.rect.y0 + i / job_width;
            const bool touched = i < job_tiles && job.reach.touches_tile(tile_x, tile_y);
            const unsigned mask = __ballot_sync(kAllLanes, touched);
            if (touched) visit(job, tile_x, tile_y, found + __popc(mask & ((1u << lane) - 1u)));
            found += __popc(mask);
        }
        if (lane == owner) count = found;
    }
    return count;
}

/// Bit w: the splat may reach the 8x4 pixels of warp w of the tile whose first pixel is (x0, y0).
__device__ __forceinline__ uint32_t touched_patches(const Reach& reach, float x0, float y0) {
    uint32_t mask = 0;
#pragma unroll
    for (int w = 0; w < kBlock / kWarp; ++w) {
        const float x = x0 + (w % 2) * kPatchWidth, y = y0 + (w / 2) * kPatchHeight;
        mask |= static_cast<uint32_t>(
                    reach.touches(x, y, x + (kPatchWidth - 1), y + (kPatchHeight - 1)))
                << w;
    }
    return mask;
}

}  // namespace dgr

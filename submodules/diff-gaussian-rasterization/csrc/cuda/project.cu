// Every Gaussian into every view: its splat, its tiles, its depth.
// SPDX-License-Identifier: Apache-2.0
#include "color.cuh"
#include "projection.cuh"
#include "stages.h"

namespace dgr {
namespace {

__device__ bool all_finite(const float* values, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
        if (!(values[k] - values[k] == 0.0f)) return false;
    }
    return true;
}

/// INT32_MAX, or the first DGR_NONFINITE_* in the order of the header.
__device__ int first_nonfinite(const dgr_problem& p, int64_t n) {
    const float* arrays[] = {p.means, p.quats, p.scales, p.cov3d, p.opacities, p.colors, p.sh};
    const int widths[] = {3, 4, 3, 6, 1, 3, 3 * p.sh_bases};
    for (int k = 0; k < 7; ++k) {
        if (arrays[k] != nullptr && !all_finite(arrays[k] + widths[k] * n, widths[k]))
            return DGR_NONFINITE_MEANS + k;
    }
    return INT32_MAX;
}
static_assert(DGR_NONFINITE_SH == DGR_NONFINITE_MEANS + 6, "seven arrays in a row");

/// The tiles of the box of half size r around the centre, as the originals count them.
__device__ TileRect circle_tiles(const Footprint& f, float r, int columns, int rows) {
    const float last_x = static_cast<float>(columns), last_y = static_cast<float>(rows);
    return {
        static_cast<uint16_t>(clampf(truncf((f.pixel_x - r) / kTile), 0.0f, last_x)),
        static_cast<uint16_t>(clampf(truncf((f.pixel_y - r) / kTile), 0.0f, last_y)),
        static_cast<uint16_t>(clampf(truncf((f.pixel_x + r + (kTile - 1)) / kTile), 0.0f, last_x)),
        static_cast<uint16_t>(clampf(truncf((f.pixel_y + r + (kTile - 1)) / kTile), 0.0f, last_y))};
}

/// First and last pixel of [center - extent, center + extent] within [0, size); first > last where
/// there is none.
struct PixelSpan {
    float first, last;
    __device__ PixelSpan(float center, float extent, float size)
        : first(fmaxf(ceilf(center - extent), 0.0f)),
          last(fminf(floorf(center + extent), size - 1.0f)) {}
    __device__ bool empty() const { return !(first <= last); }
};

/// The tiles of the bounding box of the level set alpha = 1/255, a little enlarged against rounding
/// (the tiles in it are tested one by one later). `seen`: whether the box itself, not enlarged,
/// holds a pixel centre.
__device__ TileRect level_set_tiles(const Camera& c, const Footprint& f, float opacity,
                                    bool& seen) {
    const float reach = 2.0f * logf(fmaxf(opacity, 1e-30f) * 255.0f);
    seen = reach >= 0.0f && !PixelSpan(f.pixel_x, sqrtf(reach * f.xx), c.width).empty() &&
           !PixelSpan(f.pixel_y, sqrtf(reach * f.yy), c.height).empty();
    const float enlarged = fmaxf(reach, 0.0f) + 2.0f * kLog2Slack / kLog2e;
    const PixelSpan x(f.pixel_x, sqrtf(enlarged * f.xx), c.width),
        y(f.pixel_y, sqrtf(enlarged * f.yy), c.height);
    if (!seen || x.empty() || y.empty()) return {0, 0, 0, 0};
    return {static_cast<uint16_t>(static_cast<int>(x.first) / kTile),
            static_cast<uint16_t>(static_cast<int>(y.first) / kTile),
            static_cast<uint16_t>(static_cast<int>(x.last) / kTile + 1),
            static_cast<uint16_t>(static_cast<int>(y.last) / kTile + 1)};
}

/// Projects instance i; leaves `radius` 0 and `rect` empty where it is not seen.
__device__ void project_instance(const dgr_problem& p, int64_t i, int columns, int rows,
                                 Splat& splat, TileRect& rect, float& radius) {
    const int v = static_cast<int>(i / p.gaussians);
    const int64_t n = i % p.gaussians;
    const Camera camera = load_camera(p, v);
    const Vec3 mean = load3(p.means + 3 * n), t = to_view(camera, mean);
    if (!(t.z > kNear)) return;
    const Footprint f = footprint(camera, mean, t, load_shape(p, n));
    if (!f.drawable()) return;
    const float middle = 0.5f * (f.xx + f.yy);
    const float r = ceilf(3.0f * sqrtf(middle + sqrtf(fmaxf(0.1f, middle * middle - f.det))));
    const float opacity = p.opacities[n] * compensation(f, p.flags);
    bool seen;
    if (p.flags & DGR_TILES16) {
        rect = circle_tiles(f, r, columns, rows);
        seen = rect.x1 > rect.x0 && rect.y1 > rect.y0;
    } else {
        rect = level_set_tiles(camera, f, opacity, seen);
    }
    if (!seen || opacity < 0.5f * kMinAlpha) rect = {0, 0, 0, 0};  // too faint for any pixel
    if (!seen) return;
    radius = fminf(r, 1e9f);
    const Vec3 color = seen_color(p, v, n, mean);
    splat.x = f.pixel_x;
    splat.y = f.pixel_y;
    splat.scale_u = sqrtf(0.5f * kLog2e * (f.yy / f.det));
    splat.slope_x = f.xy / f.yy;
    splat.scale_v = sqrtf(0.5f * kLog2e / f.yy);
    splat.slope_y = f.xy / f.xx;
    splat.log2_opacity = log2f(fmaxf(opacity, 1e-30f));
    splat.depth = t.z;
    splat.red = color.x;
    splat.green = color.y;
    splat.blue = color.z;
}

__global__ void __launch_bounds__(kBlock)
    project_kernel(dgr_problem p, Geometry g, int32_t* radii, int columns, int rows) {
    const int64_t i = global_thread();
    const bool valid = i < static_cast<int64_t>(p.views) * p.gaussians;
    Splat splat{};
    TileRect rect{};
    float radius = 0.0f;
    if (valid) project_instance(p, i, columns, rows, splat, rect, radius);

    // From here on whole warps: the tiles of large splats are counted together.
    const TileJob job{reach_of(splat), rect, 0, 0};
    uint32_t count = for_each_tile(job, [](const TileJob&, int, int, uint32_t) {});
    if (valid) {
        if (count > 0) store_splat(g.splats, i, splat);
        g.rects[i] = rect;
        g.counts[i] = count;
        g.depths[i] = count > 0 ? __float_as_uint(splat.depth)
                                : 0xffffffffu;  // t.z > 0: its bits are in its order
        g.numbers[i] = static_cast<uint32_t>(i);
        radii[i] = static_cast<int32_t>(radius);
        if (i < p.gaussians) {
            const int problem = first_nonfinite(p, i);
            if (problem != INT32_MAX) atomicMin(&g.totals->status, problem);
        }
    }
    for (int distance = kWarp / 2; distance > 0; distance /= 2)
        count += __shfl_xor_sync(kAllLanes, count, distance);
    if (lane_of_thread() == 0 && count > 0)
        atomicAdd(&g.totals->pairs, static_cast<unsigned long long>(count));
}

/// One block: the totals' beginning, and the cameras' numbers.
__global__ void __launch_bounds__(kBlock) begin_kernel(dgr_problem p, Totals* totals) {
    if (threadIdx.x == 0) *totals = {0, INT32_MAX, 0};
    __syncthreads();
    const float* arrays[] = {p.view, p.tan_half_fov, p.proj, p.positions, p.background};
    const int widths[] = {16, 2, 16, 3, 3};
    const int statuses[] = {DGR_NONFINITE_VIEW, DGR_NONFINITE_TAN_HALF_FOV, DGR_NONFINITE_PROJ,
                            DGR_NONFINITE_POSITIONS, DGR_NONFINITE_BACKGROUND};
    for (int a = 0; a < 5; ++a) {
        const int64_t count = arrays[a] == nullptr ? 0 : static_cast<int64_t>(widths[a]) * p.views;
        for (int64_t k = threadIdx.x; k < count; k += kBlock) {
            const float x = arrays[a][k];
            if (!(x - x == 0.0f)) {
                atomicMin(&totals->status, statuses[a]);
            } else if (arrays[a] == p.tan_half_fov && !(x > 0.0f)) {
                atomicMin(&totals->status, static_cast<int>(DGR_NONPOSITIVE_TAN_HALF_FOV));
            }
        }
    }
}

__global__ void mark_visible_kernel(const float* means, int32_t n, const float* view,
                                    uint8_t* visible) {
    const int64_t i = global_thread();
    if (i < n) visible[i] = dot(load3(view + 8), load3(means + 3 * i)) + view[11] > kNear;
}

}  // namespace

void launch_projection(const dgr_problem& p, const Geometry& g, int32_t* radii,
                       cudaStream_t stream) {
    const Tiling tiling(p);
    launch(begin_kernel, 1, kBlock, stream, p, g.totals);
    launch(project_kernel, blocks_for(instances(p)), kBlock, stream, p, g, radii, tiling.columns,
           tiling.rows);
}

void launch_mark_visible(const float* means, int32_t n, const float* view, uint8_t* visible,
                         cudaStream_t stream) {
    launch(mark_visible_kernel, blocks_for(n), kBlock, stream, means, n, view, visible);
}

}  // namespace dgr

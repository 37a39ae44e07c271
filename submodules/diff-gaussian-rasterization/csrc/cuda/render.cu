// Front to back over each tile's list: one thread per pixel. SPDX-License-Identifier: Apache-2.0
#include "stages.h"
#include "tile.cuh"

namespace dgr {
namespace {

__global__ void __launch_bounds__(kBlock)
    render_kernel(dgr_problem p, const Splat* splats, Binning b, dgr_images images, int columns,
                  int per_view) {
    DGR_SHARED(Batch, batch);
    const Pixel pixel(p, columns, per_view);
    const float x = static_cast<float>(pixel.x), y = static_cast<float>(pixel.y);
    const uint2 range = b.ranges[blockIdx.x];
    float transmittance = 1.0f, red = 0.0f, green = 0.0f, blue = 0.0f, depth = 0.0f;
    uint32_t last = 0;
    bool done = !pixel.inside;

    for (uint32_t begin = range.x; begin < range.y; begin += kBlock) {
        // Also keeps the batch from being overwritten while another warp still reads it.
        if (__syncthreads_count(done) == kBlock) break;
        const int count = min(kBlock, static_cast<int>(range.y - begin)),
                  slot = static_cast<int>(threadIdx.x);
        if (slot < count) load_into(batch, slot, splats, b.sorted_instances[begin + slot], pixel);
        __syncthreads();
        for (int first = 0; first < count; first += kWarp) {
            if (__all_sync(kAllLanes, done)) break;
            for (unsigned mask = candidates(batch, first, count, pixel.warp); mask != 0;
                 mask &= mask - 1) {
                const int j = first + __ffs(mask) - 1;
                const Splat s = load_splat(batch.splats, j);
                const float alpha = fminf(kMaxAlpha, raw_alpha(s, x - s.x, y - s.y));
                if (done || alpha < kMinAlpha) continue;
                const float after = transmittance * (1.0f - alpha);
                if (after < kMinTransmittance) {
                    done = true;
                    continue;
                }
                const float weight = alpha * transmittance;
                red += weight * s.red;
                green += weight * s.green;
                blue += weight * s.blue;
                depth += weight * s.depth;
                transmittance = after;
                last = begin - range.x + static_cast<uint32_t>(j) + 1;
            }
        }
    }
    if (!pixel.inside) return;
    const float* background = p.background + 3 * pixel.view;
    float* rgb = images.rgb + 2 * pixel.view * pixel.plane + pixel.offset;  // [V,3,H,W]
    rgb[0] = red + transmittance * background[0];
    rgb[pixel.plane] = green + transmittance * background[1];
    rgb[2 * pixel.plane] = blue + transmittance * background[2];
    images.depth[pixel.offset] = depth;
    images.transmittance[pixel.offset] = transmittance;
    if (images.alpha != nullptr) images.alpha[pixel.offset] = 1.0f - transmittance;
    b.last[pixel.offset] = last;
}

}  // namespace

void launch_render(const dgr_problem& p, const Geometry& g, const Binning& b,
                   const dgr_images& images, cudaStream_t stream) {
    const Tiling tiling(p);
    launch(render_kernel, tiling.all, kBlock, stream, p, g.splats, b, images, tiling.columns,
           tiling.per_view);
}

}  // namespace dgr

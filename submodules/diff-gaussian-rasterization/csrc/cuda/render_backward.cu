// Back to front over each tile's list. SPDX-License-Identifier: Apache-2.0
//
// Per pair of pixel and splat ten sums leave a pixel; a warp adds up its 32 pixels with 12 shuffles
// (each halves the number of values that a lane is responsible for), which leaves the ten totals in
// ten lanes, and those add them to the instance's row in global memory with one coalesced atomic
// instruction.
#include "stages.h"
#include "tile.cuh"

namespace dgr {
namespace {

// A row: with g = dL/d(raw alpha) * raw alpha and w = -1/2 d log2(raw alpha) / d offset, the sums
// over pixels of g, g w_x, g w_y, g w_x^2, g w_x w_y, g w_y^2, weight * dL/drgb (3), weight *
// dL/ddepth. These are the gradients by position and covariance up to a factor. The moments of the
// offset itself would do as well, but for a needle the conic then cancels all but a thousandth of
// them, and of float32's digits with it.
constexpr int kSums = 10;

/// Adds `values` over the warp; lane l returns the total number `RowSlot(l).slot`.
template <int kCount, int kBit>
__device__ __forceinline__ float spread_sums(const float (&values)[kCount], int lane) {
    constexpr int kHalf = (kCount + 1) / 2;
    const bool upper = (lane & kBit) != 0;
    float kept[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
        const float high = kHalf + i < kCount ? values[kHalf + i < kCount ? kHalf + i : 0] : 0.0f;
        kept[i] =
            (upper ? high : values[i]) + __shfl_xor_sync(kAllLanes, upper ? values[i] : high, kBit);
    }
    if constexpr (kBit > 1) {
        return spread_sums<kHalf, kBit / 2>(kept, lane);
    } else {
        static_assert(kHalf == 1, "a warp can spread at most 32 sums");
        return kept[0];
    }
}

/// Which total a lane ends up with: the same halving as above, on numbers instead of values.
struct RowSlot {
    int slot = 0;
    bool used;

    __device__ explicit RowSlot(int lane) {
        int length = kSums, padded = kSums;
        for (int bit = kWarp / 2; bit > 0; bit /= 2) {
            const int half = (padded + 1) / 2;
            if (lane & bit) {
                slot += half;
                length -= half;
            } else {
                length = min(length, half);
            }
            padded = half;
        }
        used = length > 0;
    }
};

/// What a pixel carries while it walks back to front.
struct Walk {
    float transmittance;  // in front of the splats behind
    float behind;         // sum over those of weight * value, with the background and dL/dT
    float red, green, blue, depth;  // incoming gradients

    __device__ Walk(const dgr_problem& p, const Pixel& pixel, const float* final_transmittance,
                    const dgr_image_grads& g) {
        transmittance = 1.0f;
        behind = red = green = blue = depth = 0.0f;
        if (!pixel.inside) return;
        if (g.rgb != nullptr) {
            const float* rgb = g.rgb + 2 * pixel.view * pixel.plane + pixel.offset;
            red = rgb[0];
            green = rgb[pixel.plane];
            blue = rgb[2 * pixel.plane];
        }
        if (g.depth != nullptr) depth = g.depth[pixel.offset];
        transmittance = final_transmittance[pixel.offset];
        const float* background = p.background + 3 * pixel.view;
        float by_transmittance = background[0] * red + background[1] * green + background[2] * blue;
        if (g.alpha != nullptr) by_transmittance -= g.alpha[pixel.offset];
        if (g.transmittance != nullptr) by_transmittance += g.transmittance[pixel.offset];
        behind = transmittance * by_transmittance;
    }

    /// One contributing splat; writes the pixel's share of its row.
    __device__ __forceinline__ void step(const Splat& s, float dx, float dy, float raw,
                                         bool pass_clamped, float (&row)[kSums]) {
        const float alpha = fminf(kMaxAlpha, raw), inverse = reciprocal(1.0f - alpha);
        transmittance *= inverse;
        const float weight = alpha * transmittance;
        const float value = s.red * red + s.green * green + s.blue * blue + s.depth * depth;
        const float by_alpha = transmittance * value - behind * inverse;
        behind += weight * value;
        const float g = raw > kMaxAlpha && !pass_clamped ? 0.0f : by_alpha * raw;
        const float along_x = s.scale_u * (s.scale_u * (dx - s.slope_x * dy));
        const float along_y = s.scale_v * (s.scale_v * dy) - s.slope_x * along_x;
        row[0] = g;
        row[1] = g * along_x;
        row[2] = g * along_y;
        row[3] = row[1] * along_x;
        row[4] = row[1] * along_y;
        row[5] = row[2] * along_y;
        row[6] = weight * red;
        row[7] = weight * green;
        row[8] = weight * blue;
        row[9] = weight * depth;
    }
};

struct Shared {
    Batch batch;
    uint32_t deepest[kBlock / kWarp];
};

__device__ __forceinline__ uint32_t warp_max(uint32_t value) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
        value = max(value, __shfl_xor_sync(kAllLanes, value, distance));
    }
    return value;
}

__global__ void __launch_bounds__(kBlock)
    render_backward_kernel(dgr_problem p, const Splat* splats, Binning b, float* rows,
                           const float* final_transmittance, dgr_image_grads grads, int columns,
                           int per_view) {
    DGR_SHARED(Shared, shared);
    Batch& batch = shared.batch;
    const Pixel pixel(p, columns, per_view);
    const float x = static_cast<float>(pixel.x), y = static_cast<float>(pixel.y);
    const int lane = lane_of_thread();
    const RowSlot mine(lane);
    const bool pass_clamped = (p.flags & DGR_CLAMP_PASSES_GRADIENT) != 0;
    const uint32_t first_pair = b.ranges[blockIdx.x].x;
    const uint32_t last = pixel.inside ? b.last[pixel.offset] : 0;
    Walk walk(p, pixel, final_transmittance, grads);

    const uint32_t warp_last = warp_max(last);
    if (lane == 0) shared.deepest[pixel.warp] = warp_last;
    __syncthreads();
    uint32_t end = 0;
    for (int w = 0; w < kBlock / kWarp; ++w) end = max(end, shared.deepest[w]);

    // Slot 0 of a batch holds the pair that lies deepest: number end - 1 of the tile's list.
    for (; end > 0; end -= min(end, static_cast<uint32_t>(kBlock))) {
        __syncthreads();
        const int count = min(kBlock, static_cast<int>(end)), slot = static_cast<int>(threadIdx.x);
        if (slot < count)
            load_into(batch, slot, splats, b.sorted_instances[first_pair + end - 1 - slot], pixel);
        __syncthreads();
        // Pairs deeper than this warp's last one contribute to none of its pixels.
        const int skip = end > warp_last
                             ? static_cast<int>(min(end - warp_last, static_cast<uint32_t>(count)))
                             : 0;
        for (int first = skip / kWarp * kWarp; first < count; first += kWarp) {
            for (unsigned mask = candidates(batch, first, count, pixel.warp); mask != 0;
                 mask &= mask - 1) {
                const int j = first + __ffs(mask) - 1;
                const Splat s = load_splat(batch.splats, j);
                const float dx = x - s.x, dy = y - s.y, raw = raw_alpha(s, dx, dy);
                const bool contributes =
                    end - 1 - static_cast<uint32_t>(j) < last && fminf(kMaxAlpha, raw) >= kMinAlpha;
                if (!__any_sync(kAllLanes, contributes)) continue;
                float row[kSums] = {};
                if (contributes) walk.step(s, dx, dy, raw, pass_clamped, row);
                const float total = spread_sums<kSums, kWarp / 2>(row, lane);
                if (mine.used)
                    atomicAdd(
                        rows + static_cast<int64_t>(batch.instances[j]) * kRowFloats + mine.slot,
                        total);
            }
        }
    }
}

}  // namespace

void launch_render_backward(const dgr_problem& p, const Geometry& g, const Binning& b,
                            const Scratch& s, const float* transmittance,
                            const dgr_image_grads& image_grads, cudaStream_t stream) {
    const Tiling tiling(p);
    cudaMemsetAsync(s.rows, 0, static_cast<size_t>(instances(p)) * kRowFloats * sizeof(float),
                    stream);
    launch(render_backward_kernel, tiling.all, kBlock, stream, p, g.splats, b, s.rows,
           transmittance, image_grads, tiling.columns, tiling.per_view);
}

}  // namespace dgr

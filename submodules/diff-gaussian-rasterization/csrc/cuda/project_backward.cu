// From the rows of the pixels to the parameters: a thread per Gaussian.
// SPDX-License-Identifier: Apache-2.0
#include "color.cuh"
#include "projection.cuh"
#include "stages.h"

namespace dgr {
namespace {

/// A Gaussian's gradients while the views are added up.
template <int kShFloats>
struct Sums {
    Vec3 mean{0.0f, 0.0f, 0.0f}, color{0.0f, 0.0f, 0.0f};
    Symmetric sigma{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    float opacity = 0.0f;
    float sh[kShFloats] = {};
};

/// Adds one view's row; returns the gradient by the mean in NDC units.
template <int kDegree, int kShFloats>
__device__ __forceinline__ float2 add_view(const dgr_problem& p, int v, int64_t n,
                                           const Shape& shape, const float* row,
                                           Sums<kShFloats>& sums) {
    const Camera camera = load_camera(p, v);
    const Vec3 mean = load3(p.means + 3 * n);
    const Footprint f = footprint(camera, mean, to_view(camera, mean), shape);
    const float compensated = compensation(f, p.flags), opacity = p.opacities[n];
    const float by_opacity = row[0] / (opacity * compensated);
    FootprintGradient g;
    // The rows hold w = log2(e) / 2 Q d instead of Q d.
    constexpr float kOne = 2.0f / kLog2e, kTwo = kOne * kOne;
    g.pixel_x = kOne * row[1];
    g.pixel_y = kOne * row[2];
    g.xx = 0.5f * kTwo * row[3];
    g.xy = kTwo * row[4];
    g.yy = 0.5f * kTwo * row[5];
    g.depth = p.flags & DGR_DETACH_DEPTH ? 0.0f : row[9];
    g.compensation = by_opacity * opacity;
    sums.opacity += by_opacity * compensated;
    footprint_backward(camera, f, g, p.flags, sums.mean, sums.sigma);
    const Vec3 by_color = load3(row + 6);
    if constexpr (kDegree >= 0) {
        color_backward<kDegree>(p, v, n, mean, by_color, sums.sh, sums.mean);
    } else {
        sums.color = sums.color + by_color;
    }
    return {g.pixel_x * 0.5f * camera.width, g.pixel_y * 0.5f * camera.height};
}

/// kDegree -1: colours are given.
template <int kDegree>
__global__ void __launch_bounds__(kBlock)
    project_backward_kernel(dgr_problem p, const uint32_t* counts, const float* rows,
                            dgr_grads grads) {
    constexpr int kShFloats = kDegree >= 0 ? 3 * (kDegree + 1) * (kDegree + 1) : 1;
    const int64_t n = global_thread();
    if (n >= p.gaussians) return;
    const Shape shape = load_shape(p, n);
    Sums<kShFloats> sums;
    for (int v = 0; v < p.views; ++v) {
        const int64_t i = static_cast<int64_t>(v) * p.gaussians + n;
        float2 screen{0.0f, 0.0f};
        if (counts[i] > 0) screen = add_view<kDegree>(p, v, n, shape, rows + i * kRowFloats, sums);
        if (grads.screen_means != nullptr) {
            grads.screen_means[2 * i] = screen.x;
            grads.screen_means[2 * i + 1] = screen.y;
        }
    }
    if (grads.means != nullptr) store3(grads.means + 3 * n, sums.mean);
    if (grads.opacities != nullptr) grads.opacities[n] = sums.opacity;
    if (grads.colors != nullptr) store3(grads.colors + 3 * n, sums.color);
    if (grads.cov3d != nullptr) {
        const float full[6] = {sums.sigma.xx, 2.0f * sums.sigma.xy, 2.0f * sums.sigma.xz,
                               sums.sigma.yy, 2.0f * sums.sigma.yz, sums.sigma.zz};
        for (int k = 0; k < 6; ++k) grads.cov3d[6 * n + k] = full[k];
    }
    if (p.scales != nullptr && (grads.scales != nullptr || grads.quats != nullptr)) {
        float scales[3], quat[4];
        covariance_backward(p, n, sums.sigma, scales, quat);
        for (int k = 0; k < 3 && grads.scales != nullptr; ++k) grads.scales[3 * n + k] = scales[k];
        for (int k = 0; k < 4 && grads.quats != nullptr; ++k) grads.quats[4 * n + k] = quat[k];
    }
    if (kDegree >= 0 && grads.sh != nullptr) {
        float* sh = grads.sh + 3 * static_cast<int64_t>(p.sh_bases) * n;
#pragma unroll
        for (int k = 0; k < kShFloats; ++k) sh[k] = sums.sh[k];
        for (int k = kShFloats; k < 3 * p.sh_bases; ++k) sh[k] = 0.0f;
    }
}

}  // namespace

void launch_projection_backward(const dgr_problem& p, const Geometry& g, const Scratch& s,
                                const dgr_grads& grads, cudaStream_t stream) {
    const auto kernel = p.sh == nullptr    ? project_backward_kernel<-1>
                        : p.sh_degree == 0 ? project_backward_kernel<0>
                        : p.sh_degree == 1 ? project_backward_kernel<1>
                        : p.sh_degree == 2 ? project_backward_kernel<2>
                                           : project_backward_kernel<3>;
    launch(kernel, blocks_for(p.gaussians), kBlock, stream, p, g.counts, s.rows, grads);
}

}  // namespace dgr

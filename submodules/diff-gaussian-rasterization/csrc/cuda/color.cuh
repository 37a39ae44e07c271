// A Gaussian's colour from a camera position, forward and backward.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "sh.cuh"

namespace dgr {

struct Direction {
    Vec3 unit;
    float inverse_length;
};

__device__ __forceinline__ Vec3 camera_position(const dgr_problem& p, int v) {
    if (p.positions != nullptr) return load3(p.positions + 3 * v);
    const float* view = p.view + 16 * v;
    return (-view[3]) * load3(view) + (-view[7]) * load3(view + 4) + (-view[11]) * load3(view + 8);
}

__device__ __forceinline__ Direction direction_from(Vec3 position, Vec3 mean) {
    const Vec3 offset = mean - position;
    const float inverse_length = 1.0f / fmaxf(sqrtf(dot(offset, offset)), 1e-12f);
    return {inverse_length * offset, inverse_length};
}

/// 0.5 + sum_k basis_k sh_k, before the clamp at 0.
template <int kDegree>
__device__ __forceinline__ Vec3 sh_color(const float* sh, Vec3 direction) {
    constexpr int kBases = (kDegree + 1) * (kDegree + 1);
    float basis[kBases];
    sh_basis<kDegree>(direction, basis);
    Vec3 color{0.5f, 0.5f, 0.5f};
#pragma unroll
    for (int k = 0; k < kBases; ++k) color = color + basis[k] * load3(sh + 3 * k);
    return color;
}

__device__ __forceinline__ Vec3 seen_color(const dgr_problem& p, int v, int64_t n, Vec3 mean) {
    if (p.colors != nullptr) return load3(p.colors + 3 * n);
    const float* sh = p.sh + 3 * static_cast<int64_t>(p.sh_bases) * n;
    const Vec3 direction = direction_from(camera_position(p, v), mean).unit;
    Vec3 color;
    switch (p.sh_degree) {
        case 0:
            color = sh_color<0>(sh, direction);
            break;
        case 1:
            color = sh_color<1>(sh, direction);
            break;
        case 2:
            color = sh_color<2>(sh, direction);
            break;
        default:
            color = sh_color<3>(sh, direction);
            break;
    }
    return {fmaxf(color.x, 0.0f), fmaxf(color.y, 0.0f), fmaxf(color.z, 0.0f)};
}

/// Adds to the gradients by sh [kBases * 3] and by the mean.
template <int kDegree>
__device__ __forceinline__ void color_backward(const dgr_problem& p, int v, int64_t n, Vec3 mean,
                                               Vec3 color_gradient, float* sh_gradient,
                                               Vec3& mean_gradient) {
    constexpr int kBases = (kDegree + 1) * (kDegree + 1);
    const float* sh = p.sh + 3 * static_cast<int64_t>(p.sh_bases) * n;
    const Direction d = direction_from(camera_position(p, v), mean);
    const Vec3 color = sh_color<kDegree>(sh, d.unit);
    const Vec3 g{color.x > 0.0f ? color_gradient.x : 0.0f, color.y > 0.0f ? color_gradient.y : 0.0f,
                 color.z > 0.0f ? color_gradient.z : 0.0f};
    float basis[kBases], by_basis[kBases];
    sh_basis<kDegree>(d.unit, basis);
#pragma unroll
    for (int k = 0; k < kBases; ++k) {
        by_basis[k] = dot(load3(sh + 3 * k), g);
        sh_gradient[3 * k] += basis[k] * g.x;
        sh_gradient[3 * k + 1] += basis[k] * g.y;
        sh_gradient[3 * k + 2] += basis[k] * g.z;
    }
    const Vec3 by_direction = sh_basis_gradient<kDegree>(d.unit, by_basis);
    mean_gradient =
        mean_gradient + d.inverse_length * (by_direction - dot(by_direction, d.unit) * d.unit);
}

}  // namespace dgr

// Real spherical harmonics up to degree 3 and their gradient by direction.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vector.cuh"

namespace dgr {

/// basis[k] for the unit direction d, k < (kDegree + 1)^2.
template <int kDegree>
__device__ __forceinline__ void sh_basis(Vec3 d, float* basis) {
    const float x = d.x, y = d.y, z = d.z;
    basis[0] = 0.28209479177387814f;
    if constexpr (kDegree >= 1) {
        constexpr float c = 0.4886025119029199f;
        basis[1] = -c * y;
        basis[2] = c * z;
        basis[3] = -c * x;
    }
    if constexpr (kDegree >= 2) {
        basis[4] = 1.0925484305920792f * x * y;
        basis[5] = -1.0925484305920792f * y * z;
        basis[6] = 0.31539156525252005f * (2.0f * z * z - x * x - y * y);
        basis[7] = -1.0925484305920792f * x * z;
        basis[8] = 0.5462742152960396f * (x * x - y * y);
    }
    if constexpr (kDegree >= 3) {
        basis[9] = -0.5900435899266435f * y * (3.0f * x * x - y * y);
        basis[10] = 2.890611442640554f * x * y * z;
        basis[11] = -0.4570457994644658f * y * (4.0f * z * z - x * x - y * y);
        basis[12] = 0.3731763325901154f * z * (2.0f * z * z - 3.0f * x * x - 3.0f * y * y);
        basis[13] = -0.4570457994644658f * x * (4.0f * z * z - x * x - y * y);
        basis[14] = 1.445305721320277f * z * (x * x - y * y);
        basis[15] = -0.5900435899266435f * x * (x * x - 3.0f * y * y);
    }
}

/// sum_k s[k] * d basis[k] / d direction, the direction's components taken as independent.
template <int kDegree>
__device__ __forceinline__ Vec3 sh_basis_gradient(Vec3 d, const float* s) {
    const float x = d.x, y = d.y, z = d.z;
    Vec3 g{0.0f, 0.0f, 0.0f};
    if constexpr (kDegree >= 1) {
        constexpr float c = 0.4886025119029199f;
        g = {-c * s[3], -c * s[1], c * s[2]};
    }
    if constexpr (kDegree >= 2) {
        constexpr float c0 = 1.0925484305920792f, c2 = 0.31539156525252005f,
                        c4 = 0.5462742152960396f;
        g.x += c0 * (y * s[4] - z * s[7]) - 2.0f * x * (c2 * s[6] - c4 * s[8]);
        g.y += c0 * (x * s[4] - z * s[5]) - 2.0f * y * (c2 * s[6] + c4 * s[8]);
        g.z += c0 * (-y * s[5] - x * s[7]) + 4.0f * z * c2 * s[6];
    }
    if constexpr (kDegree >= 3) {
        constexpr float c0 = -0.5900435899266435f, c1 = 2.890611442640554f,
                        c2 = -0.4570457994644658f;
        constexpr float c3 = 0.3731763325901154f, c5 = 1.445305721320277f;
        const float xx = x * x, yy = y * y, zz = z * z;
        g.x += c0 * (6.0f * x * y * s[9] + 3.0f * (xx - yy) * s[15]) + c1 * y * z * s[10] -
               6.0f * c3 * x * z * s[12] +
               c2 * (-2.0f * x * y * s[11] + (4.0f * zz - 3.0f * xx - yy) * s[13]) +
               2.0f * c5 * x * z * s[14];
        g.y += c0 * (3.0f * (xx - yy) * s[9] - 6.0f * x * y * s[15]) + c1 * x * z * s[10] -
               6.0f * c3 * y * z * s[12] +
               c2 * ((4.0f * zz - xx - 3.0f * yy) * s[11] - 2.0f * x * y * s[13]) -
               2.0f * c5 * y * z * s[14];
        g.z += c1 * x * y * s[10] + 8.0f * c2 * z * (y * s[11] + x * s[13]) +
               c3 * (6.0f * zz - 3.0f * xx - 3.0f * yy) * s[12] + c5 * (xx - yy) * s[14];
    }
    return g;
}

}  // namespace dgr

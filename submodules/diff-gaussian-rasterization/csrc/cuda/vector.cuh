// Three-component vectors and symmetric 3x3 matrices. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "platform.cuh"

namespace dgr {

struct Vec3 {
    float x, y, z;
};

__device__ __forceinline__ Vec3 operator+(Vec3 a, Vec3 b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z};
}
__device__ __forceinline__ Vec3 operator-(Vec3 a, Vec3 b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}
__device__ __forceinline__ Vec3 operator*(float s, Vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
__device__ __forceinline__ float dot(Vec3 a, Vec3 b, float plus = 0.0f) {
    return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, plus)));
}
__device__ __forceinline__ Vec3 load3(const float* p) { return {p[0], p[1], p[2]}; }
__device__ __forceinline__ void store3(float* p, Vec3 a) {
    p[0] = a.x;
    p[1] = a.y;
    p[2] = a.z;
}

/// Symmetric: the six entries of the upper triangle.
struct Symmetric {
    float xx, xy, xz, yy, yz, zz;
};

__device__ __forceinline__ Vec3 operator*(const Symmetric& m, Vec3 a) {
    return {dot({m.xx, m.xy, m.xz}, a), dot({m.xy, m.yy, m.yz}, a), dot({m.xz, m.yz, m.zz}, a)};
}

}  // namespace dgr

// One Gaussian seen by one camera, forward and backward; the formulas are listed in dgr.h.
// SPDX-License-Identifier: Apache-2.0
//
// Sources: EWA splatting (Zwicker et al. 2001); 3D Gaussian Splatting (Kerbl et al. 2023), appendix
// A. The gradients are derived by hand from the forward formulas in matrix form.
#pragma once

#include "vector.cuh"

namespace dgr {

constexpr float kNear = 0.2f;
constexpr float kLowPass = 0.3f;
constexpr float kMinCompensation = 2.5e-5f;

/// One view's row of the problem. Rows of matrices act on column vectors (m, 1).
struct Camera {
    Vec3 view_x, view_y, view_z, translation;
    Vec3 clip_x, clip_y, clip_w, clip_offset;  // clip_offset: the fourth column's x, y, w
    float width, height, focal_x, focal_y, limit_x, limit_y;
};

__device__ __forceinline__ Camera load_camera(const dgr_problem& p, int v) {
    const float* view = p.view + 16 * v;
    const float tan_x = p.tan_half_fov[2 * v], tan_y = p.tan_half_fov[2 * v + 1];
    Camera c;
    c.view_x = load3(view);
    c.view_y = load3(view + 4);
    c.view_z = load3(view + 8);
    c.translation = {view[3], view[7], view[11]};
    if (p.proj == nullptr) {
        c.clip_x = (1.0f / tan_x) * c.view_x;
        c.clip_y = (1.0f / tan_y) * c.view_y;
        c.clip_w = c.view_z;
        c.clip_offset = {c.translation.x / tan_x, c.translation.y / tan_y, c.translation.z};
    } else {
        const float* proj = p.proj + 16 * v;
        c.clip_x = load3(proj);
        c.clip_y = load3(proj + 4);
        c.clip_w = load3(proj + 12);
        c.clip_offset = {proj[3], proj[7], proj[15]};
    }
    c.width = static_cast<float>(p.width);
    c.height = static_cast<float>(p.height);
    c.focal_x = c.width / (2.0f * tan_x);
    c.focal_y = c.height / (2.0f * tan_y);
    c.limit_x = 1.3f * tan_x;
    c.limit_y = 1.3f * tan_y;
    return c;
}

__device__ __forceinline__ Vec3 to_view(const Camera& c, Vec3 mean) {
    return {dot(c.view_x, mean, c.translation.x), dot(c.view_y, mean, c.translation.y),
            dot(c.view_z, mean, c.translation.z)};
}

/// R, column by column, of the quaternion (w, x, y, z), which need not be a unit.
struct Rotation {
    Vec3 columns[3];
};

__device__ __forceinline__ Rotation rotation_of(float w, float x, float y, float z) {
    return {{{1.0f - 2.0f * (y * y + z * z), 2.0f * (x * y + w * z), 2.0f * (x * z - w * y)},
             {2.0f * (x * y - w * z), 1.0f - 2.0f * (x * x + z * z), 2.0f * (y * z + w * x)},
             {2.0f * (x * z + w * y), 2.0f * (y * z - w * x), 1.0f - 2.0f * (x * x + y * y)}}};
}

struct Quaternion {
    float w, x, y, z, inverse_norm;  // normalised where the flag asks for it; else inverse_norm = 1
};

__device__ __forceinline__ Quaternion load_quaternion(const dgr_problem& p, int64_t n) {
    Quaternion q{p.quats[4 * n], p.quats[4 * n + 1], p.quats[4 * n + 2], p.quats[4 * n + 3], 1.0f};
    if (p.flags & DGR_NORMALIZE_QUATS) {
        q.inverse_norm = 1.0f / fmaxf(sqrtf(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z), 1e-12f);
        q.w *= q.inverse_norm;
        q.x *= q.inverse_norm;
        q.y *= q.inverse_norm;
        q.z *= q.inverse_norm;
    }
    return q;
}

/// Sigma, and where it comes from scales its three axes s_k r_k: Sigma = sum_k axis_k axis_k^T.
struct Shape {
    Symmetric sigma;
    Vec3 axes[3];
    bool has_axes;
};

__device__ __forceinline__ Shape load_shape(const dgr_problem& p, int64_t n) {
    Shape shape{};
    Symmetric& sigma = shape.sigma;
    if (p.cov3d != nullptr) {
        const float* c = p.cov3d + 6 * n;
        sigma = {c[0], c[1], c[2], c[3], c[4], c[5]};
        return shape;
    }
    const Quaternion q = load_quaternion(p, n);
    const Rotation r = rotation_of(q.w, q.x, q.y, q.z);
    shape.has_axes = true;
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        const Vec3 a = (p.scale_modifier * p.scales[3 * n + k]) * r.columns[k];
        shape.axes[k] = a;
        sigma.xx += a.x * a.x;
        sigma.xy += a.x * a.y;
        sigma.xz += a.x * a.z;
        sigma.yy += a.y * a.y;
        sigma.yz += a.y * a.z;
        sigma.zz += a.z * a.z;
    }
    return shape;
}

/// a b - c d without cancellation (Kahan; the error is below 1.5 ulp).
__device__ __forceinline__ float difference_of_products(float a, float b, float c, float d) {
    const float cd = c * d;
    return fmaf(a, b, -cd) + fmaf(-c, d, cd);
}

/// A Gaussian on the screen, with what the backward pass wants of the way there.
struct Footprint {
    Vec3 t;  // view space
    float ndc_x, ndc_y, inverse_w;
    float pixel_x, pixel_y;
    float slope_x, slope_y;  // t.x / t.z, t.y / t.z, clamped
    bool clamped_x, clamped_y;
    Vec3 row_x, row_y;                    // of M = J W: cov2D = M Sigma M^T
    Vec3 sigma_row_x, sigma_row_y;        // Sigma M^T
    float sharp_xx, sharp_yy, sharp_det;  // before the low-pass filter
    float xx, xy, yy, det;                // after it

    __device__ bool drawable() const {
        return xx > 0.0f && det > 0.0f && pixel_x == pixel_x && pixel_y == pixel_y;
    }
};

__device__ __forceinline__ Footprint footprint(const Camera& c, Vec3 mean, Vec3 t,
                                               const Shape& shape) {
    Footprint f;
    f.t = t;
    const float w = dot(c.clip_w, mean, c.clip_offset.z);
    f.inverse_w = 1.0f / w;
    f.ndc_x = dot(c.clip_x, mean, c.clip_offset.x) / w;
    f.ndc_y = dot(c.clip_y, mean, c.clip_offset.y) / w;
    // ((ndc + 1) * size - 1) / 2 with one rounding: an error of the position weighs most in a
    // needle.
    f.pixel_x = fmaf(f.ndc_x, 0.5f * c.width, 0.5f * (c.width - 1.0f));
    f.pixel_y = fmaf(f.ndc_y, 0.5f * c.height, 0.5f * (c.height - 1.0f));
    const float inverse_z = 1.0f / t.z, slope_x = t.x / t.z, slope_y = t.y / t.z;
    f.slope_x = clampf(slope_x, -c.limit_x, c.limit_x);
    f.slope_y = clampf(slope_y, -c.limit_y, c.limit_y);
    f.clamped_x = f.slope_x != slope_x;
    f.clamped_y = f.slope_y != slope_y;
    f.row_x = (c.focal_x * inverse_z) * (c.view_x - f.slope_x * c.view_z);
    f.row_y = (c.focal_y * inverse_z) * (c.view_y - f.slope_y * c.view_z);
    f.sigma_row_x = shape.sigma * f.row_x;
    f.sigma_row_y = shape.sigma * f.row_y;
    if (shape.has_axes) {
        // The axes on the screen are the columns of a 2x3 matrix, and the determinant of that
        // matrix times its transpose is the sum of its squared minors (Cauchy and Binet): no
        // cancellation, however thin the splat.
        float x[3], y[3];
        f.sharp_xx = f.xy = f.sharp_yy = 0.0f;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            x[k] = dot(f.row_x, shape.axes[k]);
            y[k] = dot(f.row_y, shape.axes[k]);
            f.sharp_xx += x[k] * x[k];
            f.xy += x[k] * y[k];
            f.sharp_yy += y[k] * y[k];
        }
        const float minors[3] = {difference_of_products(x[0], y[1], x[1], y[0]),
                                 difference_of_products(x[0], y[2], x[2], y[0]),
                                 difference_of_products(x[1], y[2], x[2], y[1])};
        f.sharp_det = minors[0] * minors[0] + minors[1] * minors[1] + minors[2] * minors[2];
    } else {
        f.sharp_xx = dot(f.row_x, f.sigma_row_x);
        f.xy = dot(f.row_x, f.sigma_row_y);
        f.sharp_yy = dot(f.row_y, f.sigma_row_y);
        f.sharp_det = difference_of_products(f.sharp_xx, f.sharp_yy, f.xy, f.xy);
    }
    f.xx = f.sharp_xx + kLowPass;
    f.yy = f.sharp_yy + kLowPass;
    f.det = f.sharp_det + kLowPass * (f.sharp_xx + f.sharp_yy) + kLowPass * kLowPass;
    return f;
}

/// det(cov2D) / det(cov2D + 0.3 I): what the low-pass filter leaves of a splat's peak, squared.
__device__ __forceinline__ float sharpness(const Footprint& f) { return f.sharp_det / f.det; }

__device__ __forceinline__ float compensation(const Footprint& f, uint32_t flags) {
    return flags & DGR_ANTIALIASING ? sqrtf(fmaxf(sharpness(f), kMinCompensation)) : 1.0f;
}

/// Gradients by the pixel position, cov2D (xy counts both entries), t.z and the opacity
/// compensation. A pixel at offset d whose alpha has gradient g / alpha adds g Q d to the first and
/// g (Q d)(Q d)^T / 2 to the second, Q being the inverse of cov2D: the power is -d^T Q d / 2, and
/// dQ = -Q dcov Q.
struct FootprintGradient {
    float pixel_x, pixel_y, xx, xy, yy, depth, compensation;
};

/// Adds to the gradients by the mean and by Sigma (off-diagonal entries: of one of the two).
__device__ __forceinline__ void footprint_backward(const Camera& c, const Footprint& f,
                                                   const FootprintGradient& g, uint32_t flags,
                                                   Vec3& mean, Symmetric& sigma) {
    // Position: ndc = clip_xy / clip_w.
    const float ndc_x = g.pixel_x * 0.5f * c.width * f.inverse_w,
                ndc_y = g.pixel_y * 0.5f * c.height * f.inverse_w;
    mean = mean + ndc_x * (c.clip_x - f.ndc_x * c.clip_w) + ndc_y * (c.clip_y - f.ndc_y * c.clip_w);

    float xx = g.xx, xy = g.xy, yy = g.yy;
    if (flags & DGR_ANTIALIASING) {
        const float r = sharpness(f);
        if (r > kMinCompensation) {  // compensation = sqrt(r), r = det(sharp) / det
            const float by_r = 0.5f * g.compensation / sqrtf(r) / f.det;
            xx += by_r * (f.sharp_yy - r * f.yy);
            yy += by_r * (f.sharp_xx - r * f.xx);
            xy += by_r * 2.0f * f.xy * (r - 1.0f);
        }
    }

    // cov = M Sigma M^T: G_Sigma = M^T G M, G_M = 2 G M Sigma.
    const Vec3 a = f.row_x, b = f.row_y;
    sigma.xx += xx * a.x * a.x + xy * a.x * b.x + yy * b.x * b.x;
    sigma.yy += xx * a.y * a.y + xy * a.y * b.y + yy * b.y * b.y;
    sigma.zz += xx * a.z * a.z + xy * a.z * b.z + yy * b.z * b.z;
    sigma.xy += xx * a.x * a.y + 0.5f * xy * (a.x * b.y + a.y * b.x) + yy * b.x * b.y;
    sigma.xz += xx * a.x * a.z + 0.5f * xy * (a.x * b.z + a.z * b.x) + yy * b.x * b.z;
    sigma.yz += xx * a.y * a.z + 0.5f * xy * (a.y * b.z + a.z * b.y) + yy * b.y * b.z;
    const Vec3 row_x = 2.0f * xx * f.sigma_row_x + xy * f.sigma_row_y;
    const Vec3 row_y = xy * f.sigma_row_x + 2.0f * yy * f.sigma_row_y;

    // row_x = focal_x / z (view_x - slope_x view_z), slope_x = x / z or a constant where clamped.
    const float inverse_z = 1.0f / f.t.z;
    const float slope_x = f.clamped_x ? 0.0f : -c.focal_x * inverse_z * dot(row_x, c.view_z);
    const float slope_y = f.clamped_y ? 0.0f : -c.focal_y * inverse_z * dot(row_y, c.view_z);
    const Vec3 t{slope_x * inverse_z, slope_y * inverse_z,
                 g.depth - inverse_z * (dot(row_x, f.row_x) + dot(row_y, f.row_y) +
                                        slope_x * f.slope_x + slope_y * f.slope_y)};
    mean = mean + t.x * c.view_x + t.y * c.view_y + t.z * c.view_z;
}

/// From the gradient by Sigma (off-diagonal entries: of one of the two) to those by scales [3] and
/// raw quaternion [4].
__device__ __forceinline__ void covariance_backward(const dgr_problem& p, int64_t n,
                                                    const Symmetric& sigma, float* scales,
                                                    float* quat) {
    const Quaternion q = load_quaternion(p, n);
    const Rotation r = rotation_of(q.w, q.x, q.y, q.z);
    Vec3 by_column[3];  // gradient by the columns of R
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        const float s = p.scale_modifier * p.scales[3 * n + k];
        const Vec3 by_axis = (2.0f * s) * (sigma * r.columns[k]);
        scales[k] = p.scale_modifier * dot(by_axis, r.columns[k]);
        by_column[k] = s * by_axis;
    }
    const Vec3 x = by_column[0], y = by_column[1], z = by_column[2];
    float w = 2.0f * (q.x * (y.z - z.y) + q.y * (z.x - x.z) + q.z * (x.y - y.x));
    float i = 2.0f * (q.y * (x.y + y.x) + q.z * (x.z + z.x) + q.w * (y.z - z.y)) -
              4.0f * q.x * (y.y + z.z);
    float j = 2.0f * (q.x * (x.y + y.x) + q.z * (y.z + z.y) + q.w * (z.x - x.z)) -
              4.0f * q.y * (x.x + z.z);
    float k = 2.0f * (q.x * (x.z + z.x) + q.y * (y.z + z.y) + q.w * (x.y - y.x)) -
              4.0f * q.z * (x.x + y.y);
    if (p.flags & DGR_NORMALIZE_QUATS) {
        const float along = w * q.w + i * q.x + j * q.y + k * q.z;
        w = (w - along * q.w) * q.inverse_norm;
        i = (i - along * q.x) * q.inverse_norm;
        j = (j - along * q.y) * q.inverse_norm;
        k = (k - along * q.z) * q.inverse_norm;
    }
    quat[0] = w;
    quat[1] = i;
    quat[2] = j;
    quat[3] = k;
}

}  // namespace dgr

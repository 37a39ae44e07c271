// Per-Gaussian work, eight Gaussians at a time: projection and its backward pass.
// SPDX-License-Identifier: Apache-2.0

struct Camera {
    const float* view;
    float px[4], py[4], pw[4], position[3];
    float focal_x, focal_y, limit_x, limit_y, width, height;

    Camera(const dgr_problem& p, int v) : view(p.view + 16 * v) {
        const float tan_x = p.tan_half_fov[2 * v], tan_y = p.tan_half_fov[2 * v + 1];
        const float* proj = p.proj ? p.proj + 16 * v : nullptr;
        for (int i = 0; i < 4; ++i) {
            px[i] = proj ? proj[i] : view[i] / tan_x;
            py[i] = proj ? proj[4 + i] : view[4 + i] / tan_y;
            pw[i] = proj ? proj[12 + i] : view[8 + i];
        }
        for (int i = 0; i < 3; ++i) {
            position[i] =
                p.positions ? p.positions[3 * v + i]
                            : -(view[i] * view[3] + view[4 + i] * view[7] + view[8 + i] * view[11]);
        }
        width = static_cast<float>(p.width), height = static_cast<float>(p.height);
        focal_x = width / (2 * tan_x), focal_y = height / (2 * tan_y);
        limit_x = 1.3f * tan_x, limit_y = 1.3f * tan_y;
    }
};

DGR_INLINE f8 dot(const Vec3& a, const Vec3& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
DGR_INLINE f8 affine(const float* row, const Vec3& m) {
    return row[0] * m.x + row[1] * m.y + (row[2] * m.z + row[3]);
}
DGR_INLINE void add_scaled(Vec3& to, f8 s, const float* row) {
    to.x += s * row[0], to.y += s * row[1], to.z += s * row[2];
}

// A symmetric 3x3 matrix times a vector.
struct Covariance {
    f8 xx, xy, xz, yy, yz, zz;
    Vec3 operator*(const Vec3& v) const {
        return {xx * v.x + xy * v.y + xz * v.z, xy * v.x + yy * v.y + yz * v.z,
                xz * v.x + yz * v.y + zz * v.z};
    }
};

// The three axes of eight Gaussians: columns of R diag(modifier * scales).
struct Axes {
    f8 quat[4], inverse_norm;
    f8 rotation[9], scale[3];

    DGR_INLINE static Axes from(const f8* raw, const f8* scales, float modifier, bool normalize) {
        Axes a;
        a.inverse_norm = splat8(1.0f);
        if (normalize) {
            const f8 square = raw[0] * raw[0] + raw[1] * raw[1] + raw[2] * raw[2] + raw[3] * raw[3];
            a.inverse_norm = 1.0f / maximum(root(square), splat8(1e-12f));
        }
        for (int i = 0; i < 4; ++i) a.quat[i] = raw[i] * a.inverse_norm;
        const f8 w = a.quat[0], x = a.quat[1], y = a.quat[2], z = a.quat[3];
        a.rotation[0] = 1.0f - 2.0f * (y * y + z * z);
        a.rotation[1] = 2.0f * (x * y - w * z);
        a.rotation[2] = 2.0f * (x * z + w * y);
        a.rotation[3] = 2.0f * (x * y + w * z);
        a.rotation[4] = 1.0f - 2.0f * (x * x + z * z);
        a.rotation[5] = 2.0f * (y * z - w * x);
        a.rotation[6] = 2.0f * (x * z - w * y);
        a.rotation[7] = 2.0f * (y * z + w * x);
        a.rotation[8] = 1.0f - 2.0f * (x * x + y * y);
        for (int j = 0; j < 3; ++j) a.scale[j] = modifier * scales[j];
        return a;
    }
    Covariance covariance() const {
        Vec3 rows[3];
        for (int i = 0; i < 3; ++i) {
            rows[i] = {rotation[3 * i] * scale[0], rotation[3 * i + 1] * scale[1],
                       rotation[3 * i + 2] * scale[2]};
        }
        return {dot(rows[0], rows[0]), dot(rows[0], rows[1]), dot(rows[0], rows[2]),
                dot(rows[1], rows[1]), dot(rows[1], rows[2]), dot(rows[2], rows[2])};
    }
    // From dL/dSigma (off-diagonals count both entries) to the raw quaternion and scales.
    void backward(const Covariance& d, float modifier, bool normalize, f8* d_quat,
                  f8* d_scale) const {
        f8 r[9];  // dL/dR
        for (int j = 0; j < 3; ++j) {
            const Vec3 axis = {rotation[j] * scale[j], rotation[3 + j] * scale[j],
                               rotation[6 + j] * scale[j]};
            const Vec3 g = {2.0f * d.xx * axis.x + d.xy * axis.y + d.xz * axis.z,
                            d.xy * axis.x + 2.0f * d.yy * axis.y + d.yz * axis.z,
                            d.xz * axis.x + d.yz * axis.y + 2.0f * d.zz * axis.z};
            d_scale[j] =
                modifier * (rotation[j] * g.x + rotation[3 + j] * g.y + rotation[6 + j] * g.z);
            r[j] = g.x * scale[j], r[3 + j] = g.y * scale[j], r[6 + j] = g.z * scale[j];
        }
        const f8 w = quat[0], x = quat[1], y = quat[2], z = quat[3];
        d_quat[0] = 2.0f * (x * (r[7] - r[5]) + y * (r[2] - r[6]) + z * (r[3] - r[1]));
        d_quat[1] = 2.0f * (y * (r[1] + r[3]) + z * (r[2] + r[6]) + w * (r[7] - r[5]) -
                            2.0f * x * (r[4] + r[8]));
        d_quat[2] = 2.0f * (x * (r[1] + r[3]) + z * (r[5] + r[7]) + w * (r[2] - r[6]) -
                            2.0f * y * (r[0] + r[8]));
        d_quat[3] = 2.0f * (x * (r[2] + r[6]) + y * (r[5] + r[7]) + w * (r[3] - r[1]) -
                            2.0f * z * (r[0] + r[4]));
        if (!normalize) return;
        // Below the floor of the norm the divisor is a constant.
        const i8 free = inverse_norm < 1e12f;
        const f8 along = keep(free, quat[0] * d_quat[0] + quat[1] * d_quat[1] +
                                        quat[2] * d_quat[2] + quat[3] * d_quat[3]);
        for (int i = 0; i < 4; ++i) d_quat[i] = (d_quat[i] - quat[i] * along) * inverse_norm;
    }
};

// One view's projection of eight Gaussians, with what its derivative needs.
struct Screen {
    Vec3 camera;              // mean in camera space
    f8 inverse_z, inverse_w;  // of camera and clip space
    f8 ndc_x, ndc_y, x, y;    // x, y in pixels
    f8 slope_x, slope_y;      // clamped
    i8 free_x, free_y;        // where the clamp did nothing
    f8 j00, j02, j11, j12;    // Jacobian of the pixel with respect to camera space
    Vec3 row_x, row_y;        // Jacobian times the rotation of the camera
    Vec3 cov_x, cov_y;        // Sigma row_x, Sigma row_y
    f8 xx, xy, yy, det;       // screen covariance with the low-pass filter
    f8 compensation;          // factor of the opacity

    DGR_INLINE static Screen from(const Camera& c, const Vec3& mean, const Covariance& sigma,
                                  bool antialiasing) {
        Screen s;
        const float* v = c.view;
        s.camera = {affine(v, mean), affine(v + 4, mean), affine(v + 8, mean)};
        s.inverse_z = 1.0f / s.camera.z;
        s.inverse_w = 1.0f / affine(c.pw, mean);
        s.ndc_x = affine(c.px, mean) * s.inverse_w;
        s.ndc_y = affine(c.py, mean) * s.inverse_w;
        s.x = ((s.ndc_x + 1.0f) * c.width - 1.0f) * 0.5f;
        s.y = ((s.ndc_y + 1.0f) * c.height - 1.0f) * 0.5f;
        const f8 ux = s.camera.x * s.inverse_z, uy = s.camera.y * s.inverse_z;
        s.slope_x = maximum(minimum(ux, splat8(c.limit_x)), splat8(-c.limit_x));
        s.slope_y = maximum(minimum(uy, splat8(c.limit_y)), splat8(-c.limit_y));
        s.free_x = s.slope_x == ux, s.free_y = s.slope_y == uy;
        s.j00 = c.focal_x * s.inverse_z, s.j11 = c.focal_y * s.inverse_z;
        s.j02 = -s.j00 * s.slope_x, s.j12 = -s.j11 * s.slope_y;
        s.row_x = {s.j00 * v[0] + s.j02 * v[8], s.j00 * v[1] + s.j02 * v[9],
                   s.j00 * v[2] + s.j02 * v[10]};
        s.row_y = {s.j11 * v[4] + s.j12 * v[8], s.j11 * v[5] + s.j12 * v[9],
                   s.j11 * v[6] + s.j12 * v[10]};
        s.cov_x = sigma * s.row_x, s.cov_y = sigma * s.row_y;
        const f8 xx = dot(s.row_x, s.cov_x), yy = dot(s.row_y, s.cov_y);
        s.xy = dot(s.row_x, s.cov_y);
        s.xx = xx + LOW_PASS, s.yy = yy + LOW_PASS;
        s.det = s.xx * s.yy - s.xy * s.xy;
        s.compensation = splat8(1.0f);
        if (antialiasing)
            s.compensation = root(maximum((xx * yy - s.xy * s.xy) / s.det, splat8(2.5e-5f)));
        return s;
    }
};

// Gradients of one view's eight splats with respect to what the blending sees.
struct ScreenGrads {
    f8 x, y;        // pixels
    f8 xx, xy, yy;  // screen covariance; xy counts both entries
    f8 opacity;     // the compensated one
    f8 color[3], z;
};

// Adds to the gradients of mean and Sigma.
DGR_INLINE void project_backward(const Camera& c, const Screen& s, const ScreenGrads& g,
                                 Vec3& d_mean, Covariance& d_sigma) {
    const Vec3 &a = s.row_x, &b = s.row_y;
    d_sigma.xx += g.xx * a.x * a.x + g.xy * a.x * b.x + g.yy * b.x * b.x;
    d_sigma.yy += g.xx * a.y * a.y + g.xy * a.y * b.y + g.yy * b.y * b.y;
    d_sigma.zz += g.xx * a.z * a.z + g.xy * a.z * b.z + g.yy * b.z * b.z;
    d_sigma.xy += 2.0f * (g.xx * a.x * a.y + g.yy * b.x * b.y) + g.xy * (a.x * b.y + a.y * b.x);
    d_sigma.xz += 2.0f * (g.xx * a.x * a.z + g.yy * b.x * b.z) + g.xy * (a.x * b.z + a.z * b.x);
    d_sigma.yz += 2.0f * (g.xx * a.y * a.z + g.yy * b.y * b.z) + g.xy * (a.y * b.z + a.z * b.y);

    const f8 twice_xx = 2.0f * g.xx, twice_yy = 2.0f * g.yy;
    const Vec3 d_a = {twice_xx * s.cov_x.x + g.xy * s.cov_y.x,
                      twice_xx * s.cov_x.y + g.xy * s.cov_y.y,
                      twice_xx * s.cov_x.z + g.xy * s.cov_y.z};
    const Vec3 d_b = {twice_yy * s.cov_y.x + g.xy * s.cov_x.x,
                      twice_yy * s.cov_y.y + g.xy * s.cov_x.y,
                      twice_yy * s.cov_y.z + g.xy * s.cov_x.z};
    const float* v = c.view;
    const f8 d_j00 = d_a.x * v[0] + d_a.y * v[1] + d_a.z * v[2],
             d_j02 = d_a.x * v[8] + d_a.y * v[9] + d_a.z * v[10];
    const f8 d_j11 = d_b.x * v[4] + d_b.y * v[5] + d_b.z * v[6],
             d_j12 = d_b.x * v[8] + d_b.y * v[9] + d_b.z * v[10];
    const f8 d_slope_x = keep(s.free_x, -s.j00 * d_j02), d_slope_y = keep(s.free_y, -s.j11 * d_j12);
    const f8 d_x = d_slope_x * s.inverse_z, d_y = d_slope_y * s.inverse_z;
    const f8 d_z =
        g.z - s.inverse_z * (d_j00 * s.j00 + d_j02 * s.j02 + d_j11 * s.j11 + d_j12 * s.j12 +
                             d_slope_x * s.slope_x + d_slope_y * s.slope_y);
    add_scaled(d_mean, d_x, v), add_scaled(d_mean, d_y, v + 4), add_scaled(d_mean, d_z, v + 8);

    const f8 d_clip_x = g.x * (0.5f * c.width) * s.inverse_w,
             d_clip_y = g.y * (0.5f * c.height) * s.inverse_w;
    add_scaled(d_mean, d_clip_x, c.px), add_scaled(d_mean, d_clip_y, c.py);
    add_scaled(d_mean, -(d_clip_x * s.ndc_x + d_clip_y * s.ndc_y), c.pw);
}

// Colours seen from a camera, and back.
struct Direction {
    Vec3 unit;
    f8 inverse_length;
    Direction(const Camera& c, const Vec3& mean) {
        const Vec3 d = {mean.x - c.position[0], mean.y - c.position[1], mean.z - c.position[2]};
        inverse_length = 1.0f / maximum(root(dot(d, d)), splat8(1e-12f));
        unit = {d.x * inverse_length, d.y * inverse_length, d.z * inverse_length};
    }
};

// What a view makes of eight Gaussians' harmonics: colours, and their derivatives by the mean. Kept
// from the forward pass, so that the backward pass need not read the coefficients again.
struct Shade {
    f8 color[3];
    i8 open;        // bit i: channel i is above its clamp at 0
    Vec3 slope[3];  // of each channel; zero where clamped
    bool finite;    // all coefficients are: what is not finite in one stays so in the colours

    DGR_INLINE Shade(const Direction& d, int degree, const f8* sh) {
        f8 basis[16];
        sh_basis(d.unit, degree, basis);
        const int bases = (degree + 1) * (degree + 1);
        for (int i = 0; i < 3; ++i) color[i] = splat8(0.5f);
        for (int k = 0; k < bases; ++k) {
            for (int i = 0; i < 3; ++i) color[i] += basis[k] * sh[3 * k + i];
        }
        const f8 zero = color[0] * 0.0f + color[1] * 0.0f +
                        color[2] * 0.0f;  // NaN where a colour is not finite
        finite = !any(~(zero == 0.0f));
        open = i8{};
        for (int i = 0; i < 3; ++i) {
            const i8 here = color[i] > 0.0f;
            color[i] = keep(here, color[i]);
            open |= here & (1 << i);
            if (degree == 0) continue;
            const Vec3 g = sh_gradient(d.unit, degree, sh + i);
            const f8 along = dot(g, d.unit), scale = keep(here, d.inverse_length);
            slope[i] = {(g.x - along * d.unit.x) * scale, (g.y - along * d.unit.y) * scale,
                        (g.z - along * d.unit.z) * scale};
        }
    }
    // As `Geometry::shades` holds it.
    DGR_INLINE void save(float* out, int degree) const {
        store(out, as_float(open));
        if (degree == 0) return;
        for (int i = 0; i < 3; ++i) {
            store(out + 24 * i + 8, slope[i].x), store(out + 24 * i + 16, slope[i].y),
                store(out + 24 * i + 24, slope[i].z);
        }
    }
};

// Gradients of the coefficients of eight Gaussians, rows: the outer product of basis and gradient
// of the colour, added to what earlier views left. Vectors run along a row: entry c is of basis c /
// 3 and channel c % 3.
DGR_INLINE void sh_backward(const Vec3& unit, int degree, const f8* d_color, bool first,
                            float (&rows)[8][SH_ROW]) {
    f8 basis[16] = {}, color[8] = {d_color[0], d_color[1], d_color[2]};
    sh_basis(unit, degree, basis);
    f8 low[8], high[8];
    for (int i = 0; i < 8; ++i) low[i] = basis[i], high[i] = basis[8 + i];
    transpose(color), transpose(low), transpose(high);
    const int used = 3 * (degree + 1) * (degree + 1);
    for (int i = 0; i < 8; ++i) {
        const f8 c = color[i];
        const f8 rgb[3] = {DGR_SHUFFLE(c, c, 0, 1, 2, 0, 1, 2, 0, 1),
                           DGR_SHUFFLE(c, c, 2, 0, 1, 2, 0, 1, 2, 0),
                           DGR_SHUFFLE(c, c, 1, 2, 0, 1, 2, 0, 1, 2)};
        for (int at = 0; at < used; at += 24) {
            const f8 b = at ? high[i] : low[i];
            const f8 each[3] = {DGR_SHUFFLE(b, b, 0, 0, 0, 1, 1, 1, 2, 2),
                                DGR_SHUFFLE(b, b, 2, 3, 3, 3, 4, 4, 4, 5),
                                DGR_SHUFFLE(b, b, 5, 5, 6, 6, 6, 7, 7, 7)};
            for (int j = 0; j < 3; ++j) {
                float* out = rows[i] + at + 8 * j;
                store(out, first ? each[j] * rgb[j] : load<f8>(out) + each[j] * rgb[j]);
            }
        }
    }
}

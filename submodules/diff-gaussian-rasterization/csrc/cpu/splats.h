// The tasks over Gaussians: inputs to records, and gradient rows to gradients.
// SPDX-License-Identifier: Apache-2.0

DGR_INLINE int sh_columns(const dgr_problem& p) {
    return 3 * (p.sh_degree + 1) * (p.sh_degree + 1);
}

// Inputs of eight Gaussians, columns; all but colours and harmonics.
struct Inputs {
    Vec3 mean;
    f8 opacity, quat[4], scale[3];
    Covariance sigma;
    Axes axes;
    bool normalize;
    DGR_INLINE Inputs(const dgr_problem& p, int64_t first)
        : normalize(p.flags & DGR_NORMALIZE_QUATS) {
        f8 m[3];
        load_columns(p.means, first, p.gaussians, 3, 3, m);
        mean = {m[0], m[1], m[2]};
        load_columns(p.opacities, first, p.gaussians, 1, 1, &opacity);
        if (p.cov3d) {
            f8 s[6];
            load_columns(p.cov3d, first, p.gaussians, 6, 6, s);
            sigma = {s[0], s[1], s[2], s[3], s[4], s[5]};
        } else {
            load_columns(p.quats, first, p.gaussians, 4, 4, quat);
            load_columns(p.scales, first, p.gaussians, 3, 3, scale);
            axes = Axes::from(quat, scale, p.scale_modifier, normalize);
            sigma = axes.covariance();
        }
    }

    // Bit i is set where a value of input DGR_NONFINITE_MEANS + i is NaN or infinite.
    DGR_INLINE uint32_t faults(const dgr_problem& p, const f8* colors, int columns) const {
        uint32_t found = 0;
        const auto look = [&](int status, const f8* x, int count) {
            f8 zeros[4] = {};  // 0 * x is NaN where x is not finite
            for (int i = 0; i < count; ++i) zeros[i % 4] += x[i] * 0.0f;
            const f8 zero = (zeros[0] + zeros[1]) + (zeros[2] + zeros[3]);
            if (any(~(zero == 0.0f))) found |= 1u << (status - DGR_NONFINITE_MEANS);
        };
        const f8 m[3] = {mean.x, mean.y, mean.z};
        look(DGR_NONFINITE_MEANS, m, 3);
        look(DGR_NONFINITE_OPACITIES, &opacity, 1);
        if (p.cov3d) {
            const f8 s[6] = {sigma.xx, sigma.xy, sigma.xz, sigma.yy, sigma.yz, sigma.zz};
            look(DGR_NONFINITE_COV3D, s, 6);
        } else {
            look(DGR_NONFINITE_QUATS, quat, 4);
            look(DGR_NONFINITE_SCALES, scale, 3);
        }
        look(p.sh ? DGR_NONFINITE_SH : DGR_NONFINITE_COLORS, colors, columns);
        return found;
    }
};

// Integers of eight lanes from floats already within the range of an image.
DGR_INLINE i8 whole(f8 x) { return __builtin_convertvector(x, i8); }
DGR_INLINE f8 floor8(f8 x) {
    const f8 t = __builtin_convertvector(whole(x), f8);
    return t - keep(t > x, splat8(1.0f));
}
DGR_INLINE f8 clamp8(f8 x, float low, float high) {
    return minimum(maximum(x, splat8(low)), splat8(high));
}

// Pixel boxes, ends included, and what is visible.
struct Boxes {
    i8 seen, drawn;  // radius > 0; and has a pixel where alpha may reach 1 / 255
    i8 x0, y0, x1, y1;
    f8 radius;

    DGR_INLINE Boxes(const Screen& s, const Camera& c, f8 log2_opacity, i8 valid, bool tiles16) {
        const f8 middle = 0.5f * (s.xx + s.yy);
        const f8 spread = root(maximum(middle * middle - s.det, splat8(0.1f)));
        f8 r = minimum(3.0f * root(middle + spread), splat8(1e9f));
        const f8 down = floor8(r);
        radius = down + keep(r > down, splat8(1.0f));
        // Half sizes of the level set alpha = 1/255, then a hundredth of a pixel more for rounding.
        const f8 power = (2.0f * LN2) * (log2_opacity - LOG2_MIN_ALPHA);
        const i8 opaque = power >= 0.0f;
        const f8 ex = root(keep(opaque, power) * s.xx), ey = root(keep(opaque, power) * s.yy);
        const float right = c.width - 1.0f, bottom = c.height - 1.0f;
        const i8 inside = has_pixel(s.x, ex, right) & has_pixel(s.y, ey, bottom);
        f8 left = clamp8(s.x - ex - 0.01f, -1.0f, c.width),
           top = clamp8(s.y - ey - 0.01f, -1.0f, c.height);
        x0 = whole(maximum(floor8(left) + 1.0f, f8{})),
        y0 = whole(maximum(floor8(top) + 1.0f, f8{}));
        x1 = whole(floor8(clamp8(s.x + ex + 0.01f, -1.0f, right)));
        y1 = whole(floor8(clamp8(s.y + ey + 0.01f, -1.0f, bottom)));
        seen = valid & opaque & inside;
        if (tiles16) {
            const i8 wx0 = whole(clamp8((s.x - radius) * 0.0625f, 0.0f, c.width)) << 4;
            const i8 wy0 = whole(clamp8((s.y - radius) * 0.0625f, 0.0f, c.height)) << 4;
            const i8 wx1 = whole(clamp8((s.x + radius + 15.0f) * 0.0625f, 0.0f, c.width)) << 4;
            const i8 wy1 = whole(clamp8((s.y + radius + 15.0f) * 0.0625f, 0.0f, c.height)) << 4;
            const i8 width = whole(splat8(c.width)), height = whole(splat8(c.height));
            seen = valid & (least(wx1, (width + 15) & ~15) > wx0) &
                   (least(wy1, (height + 15) & ~15) > wy0);
            x0 = most(x0, wx0), y0 = most(y0, wy0), x1 = least(x1, wx1 - 1),
            y1 = least(y1, wy1 - 1);
        }
        drawn = seen & opaque & (x1 >= x0) & (y1 >= y0);
    }
    // Does [centre - half, centre + half] hold an integer of [0, last]?
    DGR_INLINE static i8 has_pixel(f8 centre, f8 half, float last) {
        const f8 low = clamp8(centre - half, -2.0f, last + 2.0f),
                 high = clamp8(centre + half, -2.0f, last + 2.0f);
        const f8 first = floor8(low) + keep(floor8(low) < low, splat8(1.0f));
        return (maximum(first, f8{}) <= minimum(floor8(high), splat8(last))) & (centre == centre);
    }
    DGR_INLINE static i8 least(i8 a, i8 b) { return ((a < b) & a) | (~(a < b) & b); }
    DGR_INLINE static i8 most(i8 a, i8 b) { return ((a > b) & a) | (~(a > b) & b); }
};

DGR_INLINE void write_records(const Screen& s, const Boxes& b, f8 log2_opacity, const f8* color,
                              Record* out, int count) {
    const f8 scale = -0.5f * LOG2E / s.det;
    const f8 inverse_yy = 1.0f / s.yy;
    const f8 a = scale * s.yy, cross = -scale * s.xy, c = scale * s.xx;
    // The excess of the exponent over the level set, enlarged by the rounding errors of evaluating
    // it far from the centre.
    f8 excess = log2_opacity - LOG2_MIN_ALPHA;
    excess += 1e-6f + 4e-6f * excess * (s.xx * s.yy / s.det);
    f8 low[8] = {s.x, s.y, a, cross, c, log2_opacity, color[0], color[1]};
    f8 high[8] = {color[2],
                  s.camera.z,
                  s.xy * inverse_yy,
                  -excess / a,
                  s.det * inverse_yy * inverse_yy,
                  as_float(b.x0 | (b.y0 << 16)),
                  as_float(b.x1 | (b.y1 << 16)),
                  f8{}};
    transpose(low), transpose(high);
    for (int i = 0; i < count; ++i) {
        float* record = reinterpret_cast<float*>(out + i);
        store(record, low[i]), store(record + 8, high[i]);
    }
}

constexpr int AHEAD = 16;  // Gaussians between a prefetch and its use

// Projects one chunk of Gaussians into all views: records, radii, and into `slots` the number of
// tiles of each.
static void project(const dgr_problem& p, const Geometry& geometry, int32_t* radii, int64_t chunk) {
    const int64_t n = p.gaussians, begin = chunk * CHUNK,
                  end = begin + CHUNK < n ? begin + CHUNK : n;
    const int columns = p.sh ? sh_columns(p) : 3;
    uint32_t faults = 0;
    for (int64_t first = begin; first < end; first += 8) {
        const int count = static_cast<int>(end - first < 8 ? end - first : 8);
        const Inputs in(p, first);
        f8 colors[SH_ROW];  // or harmonics
        if (p.sh) {
            const int64_t width = 3 * p.sh_bases, ahead = first + AHEAD < end ? first + AHEAD : end;
            prefetch(p.sh, ahead * width, (ahead + 8 < end ? ahead + 8 : end) * width);
            load_columns(p.sh, first, n, static_cast<int>(width), columns, colors);
        } else {
            load_columns(p.colors, first, n, 3, 3, colors);
        }
        if (!p.sh) faults |= in.faults(p, colors, columns);
        bool look = p.sh != nullptr;  // at the coefficients themselves, which no view's colours
                                      // have shown to be finite
        for (int v = 0; v < p.views; ++v) {
            const Camera camera(p, v);
            const Screen s = Screen::from(camera, in.mean, in.sigma, p.flags & DGR_ANTIALIASING);
            const f8 opacity = in.opacity * s.compensation;
            const f8 log2_opacity = log2(maximum(opacity, splat8(1e-30f)));
            const i8 valid =
                (s.camera.z > NEAR_Z) & (s.xx > 0.0f) & (s.det > 0.0f) & (s.det < 1e30f);
            const Boxes boxes(s, camera, log2_opacity, valid, p.flags & DGR_TILES16);
            const i8 tiles = (((boxes.x1 >> 5) - (boxes.x0 >> 5)) + 1) *
                             (((boxes.y1 >> 5) - (boxes.y0 >> 5)) + 1);
            const i8 touched = tiles & boxes.drawn, radius = whole(boxes.radius) & boxes.seen;
            const int64_t at = v * n + first;
            __builtin_memcpy(geometry.slots + at, &touched, 4 * count);
            __builtin_memcpy(radii + at, &radius, 4 * count);
            if (!any(boxes.drawn)) continue;
            if (p.sh) {
                const Shade shade(Direction(camera, in.mean), p.sh_degree, colors);
                look &= !shade.finite;
                shade.save(geometry.shade_of(v, first), p.sh_degree);
                write_records(s, boxes, log2_opacity, shade.color, geometry.records + at, count);
            } else {
                write_records(s, boxes, log2_opacity, colors, geometry.records + at, count);
            }
        }
        if (p.sh) faults |= in.faults(p, colors, look ? columns : 0);
    }
    geometry.faults[chunk] = faults;
}

// Sums the gradient rows of eight Gaussians in one view: moments and colours, as columns.
DGR_INLINE bool gather(const uint32_t* slots, const float* rows, int count, f8 (&low)[8],
                       f8 (&high)[2]) {
    for (auto& x : low) x = f8{};
    high[0] = high[1] = f8{};
    if (slots[0] == slots[count]) return false;
    float last[2][8] = {};
    for (int i = 0; i < count; ++i) {
        f8 sum = f8{};
        float blue = 0.0f, z = 0.0f;
        for (uint32_t slot = slots[i]; slot < slots[i + 1]; ++slot) {
            const float* row = rows + static_cast<int64_t>(slot) * ROW;
            sum += load<f8>(row);
            blue += row[8], z += row[9];
        }
        low[i] = sum, last[0][i] = blue, last[1][i] = z;
    }
    high[0] = load<f8>(last[0]), high[1] = load<f8>(last[1]);
    transpose(low);
    return true;
}

// From the moments of one view to the gradients of the projection: with w = conic d, the power -d.w
// / 2 has the derivatives w by the mean and w w^T / 2 by the covariance.
DGR_INLINE ScreenGrads screen_grads(const dgr_problem& p, const Screen& s, const f8 (&m)[8],
                                    const f8 (&high)[2], f8 opacity, i8 drawn) {
    ScreenGrads g;
    constexpr float unit = -2.0f * LN2;  // u, v to w
    g.x = unit * m[1], g.y = unit * m[2];
    g.xx = (0.5f * unit * unit) * m[3], g.xy = (unit * unit) * m[4],
    g.yy = (0.5f * unit * unit) * m[5];
    const f8 of_compensated = m[0] / (opacity * s.compensation);
    g.opacity = keep(drawn, of_compensated * s.compensation);
    if (p.flags & DGR_ANTIALIASING) {
        const f8 inverse = 1.0f / s.det, xx = s.xx - LOW_PASS, yy = s.yy - LOW_PASS,
                 ratio = (xx * yy - s.xy * s.xy) * inverse;
        const f8 d_ratio =
            keep(ratio > 2.5e-5f, 0.5f * of_compensated * opacity / s.compensation) * inverse;
        g.xx += d_ratio * (yy - ratio * s.yy);
        g.yy += d_ratio * (xx - ratio * s.xx);
        g.xy += d_ratio * 2.0f * s.xy * (ratio - 1.0f);
    }
    g.color[0] = m[6], g.color[1] = m[7], g.color[2] = high[0];
    g.z = p.flags & DGR_DETACH_DEPTH ? f8{} : high[1];
    return g;
}

DGR_INLINE void keep_vec(i8 mask, Vec3& v) {
    v.x = keep(mask, v.x), v.y = keep(mask, v.y), v.z = keep(mask, v.z);
}

// Gradients of eight Gaussians, summed over the views.
struct SplatGrads {
    Vec3 mean = {f8{}, f8{}, f8{}};
    Covariance sigma = {f8{}, f8{}, f8{}, f8{}, f8{}, f8{}};
    f8 opacity = f8{}, color[3] = {};

    void store_all(const dgr_problem& p, const Inputs& in, const dgr_grads& grads, int64_t first,
                   int64_t end) const {
        const f8 m[3] = {mean.x, mean.y, mean.z};
        if (grads.means) store_columns(grads.means, first, end, 3, 3, m);
        if (grads.opacities) store_columns(grads.opacities, first, end, 1, 1, &opacity);
        if (grads.colors) store_columns(grads.colors, first, end, 3, 3, color);
        if (grads.cov3d) {
            const f8 s[6] = {sigma.xx, sigma.xy, sigma.xz, sigma.yy, sigma.yz, sigma.zz};
            store_columns(grads.cov3d, first, end, 6, 6, s);
        }
        if (grads.quats || grads.scales) {
            f8 d_quat[4], d_scale[3];
            in.axes.backward(sigma, p.scale_modifier, in.normalize, d_quat, d_scale);
            if (grads.quats) store_columns(grads.quats, first, end, 4, 4, d_quat);
            if (grads.scales) store_columns(grads.scales, first, end, 3, 3, d_scale);
        }
    }
};

// Takes the gradient of the colours through the clamp (in place) and to the mean.
DGR_INLINE void shade_backward(const dgr_problem& p, const float* shade, i8 drawn, f8* d_color,
                               Vec3& d_mean) {
    const i8 open = bits(load<f8>(shade)) & drawn;
    for (int i = 0; i < 3; ++i) {
        d_color[i] = keep((open & (1 << i)) != 0, d_color[i]);
        if (p.sh_degree == 0) continue;
        const float* slope = shade + 24 * i + 8;
        d_mean.x += d_color[i] * load<f8>(slope);
        d_mean.y += d_color[i] * load<f8>(slope + 8);
        d_mean.z += d_color[i] * load<f8>(slope + 16);
    }
}

// Rows of the harmonics' gradients; zero beyond the degree in use. What is too large for the caches
// goes past them.
DGR_INLINE void store_sh(const dgr_problem& p, const float (&rows)[8][SH_ROW], bool any_view,
                         int64_t first, int count, float* out) {
    const int width = 3 * p.sh_bases, used = any_view ? sh_columns(p) : 0;
    out += first * width;
    if (used == SH_ROW && width == SH_ROW && count == 8 &&
        streams(out, static_cast<int64_t>(p.gaussians) * width)) {
        for (int i = 0; i < 8 * SH_ROW; i += 8) stream(out + i, load<f8>(&rows[0][0] + i));
        return;
    }
    for (int i = 0; i < count; ++i, out += width) {
        __builtin_memcpy(out, rows[i], 4 * used);
        __builtin_memset(out + used, 0, 4 * (width - used));
    }
}

static void backward_splats(const dgr_problem& p, const Geometry& geometry, const float* rows,
                            const dgr_grads& grads, int64_t chunk) {
    const int64_t n = p.gaussians, begin = chunk * CHUNK,
                  end = begin + CHUNK < n ? begin + CHUNK : n;
    for (int64_t first = begin; first < end; first += 8) {
        const int count = static_cast<int>(end - first < 8 ? end - first : 8);
        const Inputs in(p, first);
        SplatGrads total;
        alignas(64) float sh_rows[8][SH_ROW];
        int sh_views = 0;
        for (int v = 0; v < p.views; ++v) {
            const int64_t at = v * n + first;
            const uint32_t* slots = geometry.slots + v * n;
            const int64_t soon = first + AHEAD < end ? first + AHEAD : end,
                          later = soon + 8 < end ? soon + 8 : end;
            prefetch(rows, static_cast<int64_t>(slots[soon]) * ROW,
                     static_cast<int64_t>(slots[later]) * ROW);
            f8 moments[8], high[2];
            ScreenGrads g = {};
            if (gather(geometry.slots + at, rows, count, moments, high)) {
                i8 drawn = i8{};
                for (int i = 0; i < count; ++i)
                    drawn[i] = geometry.slots[at + i + 1] > geometry.slots[at + i] ? -1 : 0;
                const Camera camera(p, v);
                const Screen s =
                    Screen::from(camera, in.mean, in.sigma, p.flags & DGR_ANTIALIASING);
                g = screen_grads(p, s, moments, high, in.opacity, drawn);
                Vec3 d_mean = {f8{}, f8{}, f8{}};
                Covariance d = {f8{}, f8{}, f8{}, f8{}, f8{}, f8{}};
                project_backward(camera, s, g, d_mean, d);
                if (p.sh) {
                    shade_backward(p, geometry.shade_of(v, first), drawn, g.color, d_mean);
                    if (grads.sh) {
                        sh_backward(Direction(camera, in.mean).unit, p.sh_degree, g.color,
                                    sh_views++ == 0, sh_rows);
                    }
                }
                keep_vec(drawn, d_mean);
                total.mean.x += d_mean.x, total.mean.y += d_mean.y, total.mean.z += d_mean.z;
                total.sigma.xx += keep(drawn, d.xx), total.sigma.xy += keep(drawn, d.xy),
                    total.sigma.xz += keep(drawn, d.xz);
                total.sigma.yy += keep(drawn, d.yy), total.sigma.yz += keep(drawn, d.yz),
                    total.sigma.zz += keep(drawn, d.zz);
                total.opacity += g.opacity;
                for (int i = 0; i < 3; ++i) total.color[i] += g.color[i];
            }
            if (grads.screen_means) {
                const f8 ndc[2] = {g.x * (0.5f * p.width), g.y * (0.5f * p.height)};
                store_columns(grads.screen_means + 2 * v * n, first, end, 2, 2, ndc);
            }
        }
        total.store_all(p, in, grads, first, end);
        if (grads.sh) store_sh(p, sh_rows, sh_views > 0, first, count, grads.sh);
    }
    if (grads.sh) stream_fence();
}

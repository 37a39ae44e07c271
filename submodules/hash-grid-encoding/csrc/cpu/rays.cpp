// The C ABI of the rays: samples in occupied cells, what of them can be seen, and their
// compositing. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../hge.h"
#include "parallel.h"

namespace hge {
namespace {

constexpr int64_t BUNCH = 256;  // rays of a task

template <class F>
void each_ray(int64_t rays, int threads, const F& body) {
    parallel((rays + BUNCH - 1) / BUNCH, threads, [&](int64_t bunch) {
        const int64_t end = std::min(rays, (bunch + 1) * BUNCH);
        for (int64_t r = bunch * BUNCH; r < end; ++r) body(r);
    });
}

// Walks along one ray from occupied sample to occupied sample.
class Walk {
  public:
    Walk(const hge_rays& rays, int64_t r) : rays_(rays) {
        double near = 0.0, far = 1e30;
        for (int k = 0; k < 3; ++k) {
            const double o = rays.origins[3 * r + k], d = rays.directions[3 * r + k];
            const double size = static_cast<double>(rays.high[k]) - rays.low[k];
            origin_[k] = (o - rays.low[k]) / size, slope_[k] = d / size;
            if (d == 0.0) {
                if (origin_[k] < 0.0 || origin_[k] >= 1.0) far = -1.0;
                continue;
            }
            const double a = -origin_[k] / slope_[k], b = (1.0 - origin_[k]) / slope_[k];
            near = std::max(near, std::min(a, b)), far = std::min(far, std::max(a, b));
        }
        first_ = near + rays.jitter[r] * static_cast<double>(rays.step);
        const bool crosses = far > first_ && far < 1e30;  // not so for a ray without direction
        count_ = crosses ? static_cast<int64_t>(std::ceil((far - first_) / rays.step)) : 0;
    }

    // The next sample's t and position (0 .. 1 within the box); false past the last.
    bool next(double& t, double (&at)[3]) {
        const int cells = rays_.cells;
        while (index_ < count_) {
            t = first_ + static_cast<double>(index_) * rays_.step;
            int cell[3];
            for (int k = 0; k < 3; ++k) {
                at[k] = std::min(std::max(origin_[k] + t * slope_[k], 0.0), 1.0);
                cell[k] = std::min(static_cast<int>(at[k] * cells), cells - 1);
            }
            if (rays_.occupied[(static_cast<int64_t>(cell[0]) * cells + cell[1]) * cells +
                               cell[2]]) {
                ++index_;
                return true;
            }
            index_ = std::max(index_ + 1, first_beyond(cell));
        }
        return false;
    }

  private:
    // The first step whose middle is surely past this cell: rather one too early, which is then
    // looked up.
    int64_t first_beyond(const int (&cell)[3]) const {
        double leave = 1e30;
        for (int k = 0; k < 3; ++k) {
            if (slope_[k] == 0.0) continue;
            const double wall = static_cast<double>(cell[k] + (slope_[k] > 0.0)) / rays_.cells;
            leave = std::min(leave, (wall - origin_[k]) / slope_[k]);
        }
        const double steps = (leave - first_) / rays_.step;
        return steps < static_cast<double>(count_) ? static_cast<int64_t>(std::floor(steps))
                                                   : count_;
    }

    const hge_rays& rays_;
    double origin_[3], slope_[3], first_;
    int64_t index_ = 0, count_;
};

bool finite(const float* numbers, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        if (!std::isfinite(numbers[i])) return false;
    }
    return true;
}

// Sizes are bounded, so that neither a loop nor the memory is endless.
bool valid(const hge_rays* rays) {
    if (!rays || rays->rays < 0 || rays->cells < 1 || rays->cells > 1024 || rays->threads < 1)
        return false;
    if (!(rays->step > 0.0f) || !rays->occupied) return false;
    for (int k = 0; k < 3; ++k) {
        if (!(rays->high[k] > rays->low[k]) ||
            !((rays->high[k] - rays->low[k]) / rays->step < 1 << 20))
            return false;
    }
    return rays->rays == 0 || (rays->origins && rays->directions && rays->jitter);
}

float alpha_of(float sigma, float step) { return -std::expm1(-sigma * step); }

}  // namespace
}  // namespace hge

using namespace hge;

extern "C" {

int hge_march_count(const hge_rays* rays, int64_t* offsets) {
    if (!valid(rays) || !offsets) return HGE_INVALID;
    const int64_t n = rays->rays;
    if (!finite(rays->origins, 3 * n) || !finite(rays->directions, 3 * n) ||
        !finite(rays->jitter, n)) {
        return HGE_NONFINITE_RAYS;
    }
    each_ray(rays->rays, rays->threads, [&](int64_t r) {
        Walk walk(*rays, r);
        double t, at[3];
        int64_t count = 0;
        while (walk.next(t, at)) ++count;
        offsets[r + 1] = count;
    });
    offsets[0] = 0;
    for (int64_t r = 0; r < rays->rays; ++r) offsets[r + 1] += offsets[r];
    return HGE_OK;
}

int hge_march_fill(const hge_rays* rays, const int64_t* offsets, int64_t samples, int64_t* ray,
                   float* t, float* positions) {
    if (!valid(rays) || !offsets || samples < 0 || offsets[rays->rays] != samples)
        return HGE_INVALID;
    if (samples > 0 && (!ray || !t || !positions)) return HGE_INVALID;
    each_ray(rays->rays, rays->threads, [&](int64_t r) {
        Walk walk(*rays, r);
        double middle, at[3];
        for (int64_t s = offsets[r]; s < offsets[r + 1] && walk.next(middle, at); ++s) {
            ray[s] = r, t[s] = static_cast<float>(middle);
            for (int k = 0; k < 3; ++k) positions[k * samples + s] = static_cast<float>(at[k]);
        }
    });
    return HGE_OK;
}

int hge_visible(const int64_t* offsets, int64_t rays, const float* sigmas, float step,
                float min_alpha, float min_light, uint8_t* keep, int32_t threads) {
    if (!offsets || rays < 0 || threads < 1 || (offsets[rays] > 0 && (!sigmas || !keep)))
        return HGE_INVALID;
    each_ray(rays, threads, [&](int64_t r) {
        float light = 1.0f;
        for (int64_t s = offsets[r]; s < offsets[r + 1]; ++s) {
            const float alpha = alpha_of(sigmas[s], step);
            keep[s] = alpha >= min_alpha && light >= min_light;
            if (alpha >= min_alpha) light *= 1.0f - alpha;
        }
    });
    return HGE_OK;
}

int hge_composite(const int64_t* offsets, int64_t rays, const float* sigmas, const float* colors,
                  const float* t, float step, int64_t samples, float* weights, float* opacity,
                  float* depth, float* rgb, int32_t threads) {
    if (!offsets || rays < 0 || threads < 1 || offsets[rays] != samples) return HGE_INVALID;
    if (samples > 0 && (!sigmas || !colors || !t || !weights)) return HGE_INVALID;
    if (rays > 0 && (!opacity || !depth || !rgb)) return HGE_INVALID;
    each_ray(rays, threads, [&](int64_t r) {
        float light = 1.0f, o = 0.0f, z = 0.0f, c[3] = {};
        for (int64_t s = offsets[r]; s < offsets[r + 1]; ++s) {
            const float alpha = alpha_of(sigmas[s], step), w = light * alpha;
            weights[s] = w, o += w, z += w * t[s], light *= 1.0f - alpha;
            for (int k = 0; k < 3; ++k) c[k] += w * colors[k * samples + s];
        }
        opacity[r] = o, depth[r] = z;
        for (int k = 0; k < 3; ++k) rgb[3 * r + k] = c[k];
    });
    return HGE_OK;
}

int hge_composite_backward(const int64_t* offsets, int64_t rays, const float* sigmas,
                           const float* colors, const float* t, float step, int64_t samples,
                           const float* weights, const float* grad_weights,
                           const float* grad_opacity, const float* grad_depth,
                           const float* grad_rgb, float* grad_sigmas, float* grad_colors,
                           int32_t threads) {
    if (!offsets || rays < 0 || threads < 1 || offsets[rays] != samples) return HGE_INVALID;
    if (samples > 0 && (!sigmas || !colors || !t || !weights || !grad_sigmas || !grad_colors))
        return HGE_INVALID;
    each_ray(rays, threads, [&](int64_t r) {
        const float o = grad_opacity ? grad_opacity[r] : 0.0f,
                    z = grad_depth ? grad_depth[r] : 0.0f;
        float c[3] = {};
        if (grad_rgb) std::memcpy(c, grad_rgb + 3 * r, sizeof c);
        // Light left behind each sample, front to back: it is not the weights' to tell once alpha
        // rounds to 1.
        float light = 1.0f;
        for (int64_t s = offsets[r]; s < offsets[r + 1]; ++s) {
            light *= std::exp(-sigmas[s] * step);
            grad_sigmas[s] = light;
        }
        // d w_j / d sigma_s = step (light behind s where j = s, - w_j where j > s).
        float behind = 0.0f;  // sum of grad w_j over j > s
        for (int64_t s = offsets[r + 1] - 1; s >= offsets[r]; --s) {
            float g = o + z * t[s] + (grad_weights ? grad_weights[s] : 0.0f);
            for (int k = 0; k < 3; ++k) {
                g += c[k] * colors[k * samples + s];
                grad_colors[k * samples + s] = c[k] * weights[s];
            }
            grad_sigmas[s] = step * (g * grad_sigmas[s] - behind);
            behind += g * weights[s];
        }
    });
    return HGE_OK;
}

}  // extern "C"

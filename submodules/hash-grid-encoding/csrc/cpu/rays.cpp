// The C ABI of the rays: samples in occupied cells, what of them can be seen, and their
// compositing. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels.h"
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

// The corners of the cells that are occupied, in cells: those of axis k are low[k] .. high[k] - 1;
// none at all where high is low.
struct Extent {
    int low[3] = {}, high[3] = {};

    explicit Extent(const hge_rays& rays) {
        const int side = rays.cells;
        std::vector<uint8_t> any[3];
        for (auto& axis : any) axis.assign(side, 0);
        for (int x = 0; x < side; ++x) {
            for (int y = 0; y < side; ++y) {
                const uint8_t* row = rays.occupied + (static_cast<int64_t>(x) * side + y) * side;
                uint8_t here = 0;
                for (int z = 0; z < side; ++z) here |= row[z], any[2][z] |= row[z];
                any[0][x] |= here, any[1][y] |= here;
            }
        }
        const auto holds = [](uint8_t cell) { return cell != 0; };
        for (int k = 0; k < 3; ++k) {
            const auto begin = any[k].begin(), end = any[k].end();
            const auto first = std::find_if(begin, end, holds);
            if (first == end) continue;
            low[k] = static_cast<int>(first - begin);
            high[k] = static_cast<int>(std::find_if(any[k].rbegin(), any[k].rend(), holds).base() -
                                       begin);
        }
    }
};

// The steps of one ray that may be in an occupied cell. Those outside of the cells' extent are left
// out; of all others the cell is looked up, many at a time: that is faster than to leap from cell
// to cell, each time waiting for the last.
class Ray {
  public:
    Ray(const hge_rays& rays, const Extent& extent, int64_t r) : rays_(rays) {
        double near = 0.0, far = 1e30, enter = 0.0, leave = 1e30;
        for (int k = 0; k < 3; ++k) {
            const double o = rays.origins[3 * r + k], d = rays.directions[3 * r + k];
            const double size = static_cast<double>(rays.high[k]) - rays.low[k];
            line_.origin[k] = (o - rays.low[k]) / size, line_.slope[k] = d / size;
            // A little more than the cells, for a step on their very edge.
            const double low = static_cast<double>(extent.low[k]) / rays.cells - 1e-9,
                         high = static_cast<double>(extent.high[k]) / rays.cells + 1e-9;
            if (d == 0.0) {
                if (line_.origin[k] < 0.0 || line_.origin[k] >= 1.0) far = -1.0;
                if (line_.origin[k] < low || line_.origin[k] > high) leave = -1.0;
                continue;
            }
            const auto at = [&](double wall) { return (wall - line_.origin[k]) / line_.slope[k]; };
            near = std::max(near, std::min(at(0.0), at(1.0)));
            far = std::min(far, std::max(at(0.0), at(1.0)));
            enter = std::max(enter, std::min(at(low), at(high)));
            leave = std::min(leave, std::max(at(low), at(high)));
        }
        line_.first = near + rays.jitter[r] * static_cast<double>(rays.step);
        line_.step = rays.step;
        const bool crosses = far > line_.first && far < 1e30;  // not so without a direction
        if (!crosses || enter > leave) return;
        const auto steps = [&](double t) { return (t - line_.first) / line_.step; };
        begin_ = static_cast<int64_t>(std::floor(std::max(steps(enter), 0.0)));
        end_ = static_cast<int64_t>(std::ceil(std::min(steps(far), steps(leave) + 1.0)));
    }

    // Calls body(i) for each step i in an occupied cell, in order.
    template <class F>
    void each(const F& body) const {
        int32_t cell[STEPS];
        for (int64_t i = begin_; i < end_; i += STEPS) {
            const int count = static_cast<int>(std::min<int64_t>(STEPS, end_ - i));
            kernels().cells(line_, rays_.cells, i, count, cell);
            for (int j = 0; j < count; ++j) {
                if (rays_.occupied[cell[j]]) body(i + j);
            }
        }
    }

    double t(int64_t i) const { return line_.first + static_cast<double>(i) * line_.step; }

    // 0 .. 1 within the box.
    double at(double t, int axis) const {
        return std::min(std::max(line_.origin[axis] + t * line_.slope[axis], 0.0), 1.0);
    }

  private:
    static constexpr int STEPS = 128;  // at a time
    const hge_rays& rays_;
    Line line_;
    int64_t begin_ = 0, end_ = 0;
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
    const Extent extent(*rays);
    each_ray(rays->rays, rays->threads, [&](int64_t r) {
        int64_t count = 0;
        Ray(*rays, extent, r).each([&](int64_t) { ++count; });
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
    const Extent extent(*rays);
    each_ray(rays->rays, rays->threads, [&](int64_t r) {
        int64_t s = offsets[r];
        if (s == offsets[r + 1]) return;
        const Ray line(*rays, extent, r);
        line.each([&](int64_t i) {
            if (s == offsets[r + 1]) return;
            const double middle = line.t(i);
            ray[s] = r, t[s] = static_cast<float>(middle);
            for (int k = 0; k < 3; ++k)
                positions[k * samples + s] = static_cast<float>(line.at(middle, k));
            ++s;
        });
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

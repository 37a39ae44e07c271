// What each instruction set offers: loops over ranges of points.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "../hge.h"

namespace hge {

// Of a ray: t = first + i step, and origin + t slope in units of the box.
struct Line {
    double origin[3], slope[3], first, step;
};

// Whether gradients go through a head's hidden units.
inline bool goes_back(const hge_mlp_problem& p, const hge_head& head) {
    return head.grad_out && (p.grad_x || head.grad_w1 || (head.grad_w2 && head.outputs == 1));
}

struct Kernels {
    const char* name;
    int lanes;
    // Points [begin, end) of one level; `along` may be null.
    void (*encode)(const hge_grid& grid, int level, const float* tables, const float* points,
                   const float* along, int64_t n, int64_t begin, int64_t end, float* features);
    // Points [begin, end) of one level, added to its table; grads [2, pitch] are the level's, and
    // their first column is point `begin`.
    void (*scatter)(const hge_grid& grid, int level, const float* points, const float* along,
                    int64_t n, int64_t begin, int64_t end, const float* grads, int64_t pitch,
                    float* grad_tables);
    // Points [begin, end), all levels.
    void (*pull)(const hge_grid& grid, const float* tables, const float* points, const float* along,
                 const float* grads, int64_t n, int64_t begin, int64_t end, float* grad_points);
    // Points [begin, end). w1_transposed [I, H] are the weights of the hidden units that go back,
    // of all heads; times those behind them where a head has one output. grads receives the
    // gradients of all weights for these points, head by head [H, I] and [O, H], undefined where
    // they are not wanted; it may be null.
    void (*mlp)(const hge_mlp_problem& problem, const float* w1_transposed, int64_t begin,
                int64_t end, float* grads);
    // Points [begin, end), the first features of in [n, stride], into out [features, pitch], whose
    // first column is point `begin`.
    void (*turn)(const float* in, int features, int64_t stride, int64_t begin, int64_t end,
                 float* out, int64_t pitch);
    // The cell, of `side` to the third, of each of count steps from `begin` on; the nearest where a
    // step is outside of the box.
    void (*cells)(const Line& line, int side, int64_t begin, int count, int32_t* cell);
    // For the benchmark: loads, and additions in place, at index [8, n]; the least that a level
    // needs.
    float (*floor_gather)(const float* table, const uint32_t* index, int64_t n);
    void (*floor_add)(float* table, const uint32_t* index, int64_t n);
};

// Those of the best instruction set that the machine has.
const Kernels& kernels();

#ifdef HGE_PORTABLE
extern const Kernels kernels_portable;
#else
extern const Kernels kernels_v2, kernels_v3, kernels_v4;
#endif

}  // namespace hge

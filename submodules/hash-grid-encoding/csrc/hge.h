/* C ABI of the hash grid encoding and of what a radiance field needs beside it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A shared library (libhge_cpu) exports exactly these functions. The caller owns all memory:
 * float32 unless a type says otherwise, contiguous, row-major. Arrays over points are
 * "feature-major", [features, N], so that a vector holds one feature of many points. Results are
 * bitwise the same for every number of threads.
 *
 * Letters: N points, L levels, E entries of all tables, R rays, S samples.
 *
 * The grid (instant-NGP, Mueller et al. 2022, equations 2 to 4):
 *
 * - Level l has r_l = resolutions[l] cells a side, and entries offsets[l] .. offsets[l + 1], of two
 *   features each.
 * - A position is p = clamp(x, 0, 1) r_l; its cell is min(floor(p), r_l - 1), and its fraction
 *   p - cell, 0 .. 1.
 * - Vertex (i, j, k), of (r_l + 1)^3, is entry i + (r_l + 1) (j + (r_l + 1) k) where all of them
 *   fit into the level's entries, else (i xor 2654435761 j xor 805459861 k) mod entries, which are
 *   a power of two and at least 8.
 * - Features are the trilinear mix of the eight vertices; levels from levels_on on give 0 and get
 *   no gradient.
 */
#ifndef HGE_H
#define HGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define HGE_API __declspec(dllexport)
#else
#define HGE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define HGE_ABI_VERSION 4
#define HGE_MAX_LEVELS 32
#define HGE_MAX_INPUTS 64
#define HGE_MAX_HEADS 8
#define HGE_MAX_HIDDEN 256
#define HGE_MAX_OUTPUTS 16

enum hge_status {
    HGE_OK = 0,
    HGE_INVALID = 1,
    HGE_OUT_OF_MEMORY = 2,
    HGE_NONFINITE_POINTS = 3,
    HGE_NONFINITE_RAYS = 4
};

typedef struct hge_grid {
    int32_t levels, levels_on;  /* 1 .. HGE_MAX_LEVELS; 0 .. levels */
    const int32_t* resolutions; /* [L], 1 .. 2^20 */
    const int64_t* offsets;     /* [L + 1], from 0, rising; at most 2^30 entries per level */
} hge_grid;

HGE_API int hge_abi_version(void);

/* Name of the code path in use ("x86-64-v4", "portable"). */
HGE_API const char* hge_backend_name(void);

/* features [2 L, N] of points [3, N]. With along [3, N], not null: their derivative in that
 * direction instead. Checks the points. */
HGE_API int hge_encode(const hge_grid* grid, const float* tables, const float* points,
                       const float* along, int64_t n, float* features, int32_t threads);

/* The transpose: grad_tables [E, 2], overwritten, receives the gradient of the tables from that of
 * the features (with along: of their derivative in that direction): grads [2 L, N], or [N, 2 L] if
 * by_point is not 0. */
HGE_API int hge_scatter(const hge_grid* grid, const float* points, const float* along,
                        const float* grads, int32_t by_point, int64_t n, float* grad_tables,
                        int32_t threads);

/* grad_points [3, N]: the gradient of s = sum(grads * features) by the points; with along, the
 * gradient of s's derivative in that direction (the Hessian of s times along; only its mixed terms
 * are not zero). */
HGE_API int hge_pull(const hge_grid* grid, const float* tables, const float* points,
                     const float* along, const float* grads, int64_t n, float* grad_points,
                     int32_t threads);

/* out [features, N] of in [N, features]: what comes from elsewhere, feature-major. */
HGE_API int hge_turn(const float* in, int64_t n, int32_t features, float* out, int32_t threads);

// clang-format off
/* Perceptrons of the same inputs ("heads"), each with one hidden layer and no biases:
 * hidden = m W1 x, out = W2 hidden, where m is 1 or 0: as on_in says, else, and then it is ReLU,
 * 1 where (W1 x) > 0. Null outputs are not computed, the others are overwritten:
 *   out      [O, N]
 *   on_out   m as bits: bit p of [b, h] is that of point 16 b + p; b to 2 (N + 31) / 32
 *   grad_x   [I, N] = sum over heads of W1^T (m W2^T grad_out)
 *   grad_w1  [H, I] = (m W2^T grad_out) x^T
 *   grad_w2  [O, H] = grad_out hidden^T
 * So forward is x -> out, on_out; backward (x, on_in, grad_out) -> grads; and the gradient of
 * u . grad_x is (u, on_in, grad_out) -> out (that of grad_out), grad_w1, grad_w2. */
// clang-format on
typedef struct hge_head {
    int32_t hidden, outputs; /* 1 .. HGE_MAX_... of all heads together; hidden a multiple of 8 */
    const float* w1;         /* [H, I] */
    const float* w2;         /* [O, H] */
    const float* grad_out;   /* [O, N]; null: it is 0, and this head's gradients are not wanted */
    const uint16_t* on_in;   /* not null where grad_out is not */
    float* out;
    uint16_t* on_out; /* null where on_in is not */
    float* grad_w1;
    float* grad_w2;
} hge_head;

typedef struct hge_mlp_problem {
    int32_t inputs, heads, threads; /* 1 .. HGE_MAX_... */
    int64_t n;
    const float* x; /* [I, N] */
    float* grad_x;
    const hge_head* head; /* [heads] */
} hge_mlp_problem;
HGE_API int hge_mlp(const hge_mlp_problem* problem);

/* Samples along rays: the middles t = near + (i + jitter) step, i = 0, 1, ..., of those steps whose
 * middle lies within the box and in an occupied cell; near is where the ray enters the box, but at
 * least 0. */
typedef struct hge_rays {
    int64_t rays;
    const float* origins;    /* [R, 3] */
    const float* directions; /* [R, 3], of unit length */
    const float* jitter;     /* [R], 0 .. 1 */
    float low[3], high[3];   /* the box */
    int32_t cells;           /* G, a side */
    const uint8_t* occupied; /* [G, G, G], x y z (z fastest): not 0 where something may be */
    float step;
    int32_t threads;
} hge_rays;

/* Checks the rays. offsets [R + 1]: offsets[r + 1] - offsets[r] samples lie on ray r. */
HGE_API int hge_march_count(const hge_rays* rays, int64_t* offsets);

/* ray [S], t [S], positions [3, S] in units of the box (0 .. 1). */
HGE_API int hge_march_fill(const hge_rays* rays, const int64_t* offsets, int64_t samples,
                           int64_t* ray, float* t,
                           float* positions); /* of rays that hge_march_count has seen */

/* keep [S]: 1 where the sample's alpha = 1 - exp(-sigma step) is at least min_alpha and the light
 * that reaches it at least min_light (samples below min_alpha are taken out before the light is
 * counted). */
HGE_API int hge_visible(const int64_t* offsets, int64_t rays, const float* sigmas, float step,
                        float min_alpha, float min_light, uint8_t* keep, int32_t threads);

/* weights [S] = T (1 - exp(-sigma step)); per ray opacity [R] = sum of weights, depth [R] = sum of
 * weights t, rgb [R, 3] = sum of weights colours; colours [3, S]. */
HGE_API int hge_composite(const int64_t* offsets, int64_t rays, const float* sigmas,
                          const float* colors, const float* t, float step, int64_t samples,
                          float* weights, float* opacity, float* depth, float* rgb,
                          int32_t threads);

/* Gradients, overwritten, from those of the four results; incoming ones may be null (zero). */
HGE_API int hge_composite_backward(const int64_t* offsets, int64_t rays, const float* sigmas,
                                   const float* colors, const float* t, float step, int64_t samples,
                                   const float* weights, const float* grad_weights,
                                   const float* grad_opacity, const float* grad_depth,
                                   const float* grad_rgb, float* grad_sigmas, float* grad_colors,
                                   int32_t threads);

#ifdef __cplusplus
}
#endif
#endif

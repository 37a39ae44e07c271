/* C ABI of the rasterizer backends. SPDX-License-Identifier: Apache-2.0
 *
 * Every backend is a shared library (libdgr_cpu, libdgr_cuda) that exports exactly these functions.
 * Python owns all memory: it asks for sizes, allocates, and passes raw pointers. Unless marked
 * "host", a pointer is to memory of the backend's device, contiguous, row-major, float32 (or the
 * stated type); workspaces are aligned to 64 bytes and opaque to the caller.
 *
 *   forward    dgr_project  ->  number of (splat, tile) pairs, read back to the host
 *              caller allocates dgr_binning_bytes(pairs)
 *              dgr_render
 *   backward   dgr_backward, with the two workspaces and the transmittance of the forward pass
 *
 * Letters: V views, N Gaussians, K spherical-harmonic bases stored per Gaussian, H W pixels.
 *
 * Numerics (all backends agree on them):
 *   covariance  Sigma = R diag(scale_modifier * s)^2 R^T, q = (w, x, y, z), divided by max(|q|,
 * 1e-12) with DGR_NORMALIZE_QUATS view space  t = view * (m, 1); dropped when t.z <= 0.2 pixel ndc
 * = proj_xy * (m, 1) / (proj_w * (m, 1)); pixel = ((ndc + 1) * size - 1) / 2; centres at integers
 *   Jacobian    focal = size / (2 tan_half_fov); t.x / t.z and t.y / t.z clamped to +-1.3
 * tan_half_fov (its gradient is exact: zero to x beyond the clamp, and z receives the derivative of
 * the clamped expression) low pass    cov2D + 0.3 on the diagonal; dropped unless cov_xx > 0 and
 * det > 0 DGR_ANTIALIASING  opacity *= sqrt(max(2.5e-5, det(cov2D) / det(cov2D + 0.3 I))) radius r
 * = ceil(3 sqrt(mid + sqrt(max(0.1, mid^2 - det)))), mid = (cov_xx + cov_yy) / 2 clip DGR_TILES16:
 * pixels of the 16x16 tiles trunc((c - r) / 16) .. trunc((c + r + 15) / 16) (end excluded), clamped
 *               to the grid of tiles; radii = r, or 0 where that is empty.
 *               Otherwise ("tight"): no clip window but the level set alpha >= 1/255 itself; radii
 * = r, or 0 where the bounding box of the level set (half sizes sqrt(2 ln(255 o) cov_xx), likewise
 * y) holds no pixel centre. order       per view by (bits of t.z as uint32, index): stable pixel a
 * = min(0.99, o * exp(-d^T conic d / 2)); skipped when < 1/255; when T * (1 - a) < 1e-4 the pixel
 * is finished before this splat is added; rgb += a T c, depth += a T t.z, T *= 1 - a; finally rgb
 * += T * background gradient    of min(0.99, .): zero where clamped, or passed through with
 * DGR_CLAMP_PASSES_GRADIENT colours     from SH: max(0, 0.5 + sum_k basis_k(dir) sh_k), dir =
 * normalize(m - position); a clamped channel has no gradient; the direction's gradient flows to the
 * means
 */
#ifndef DGR_H
#define DGR_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define DGR_API __declspec(dllexport)
#else
#define DGR_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define DGR_ABI_VERSION 3

enum dgr_flag {
    DGR_TILES16 = 1, /* the 16-pixel clip window of the originals instead of the exact level set */
    DGR_NORMALIZE_QUATS = 2, /* quaternions are normalised (gradient included) */
    DGR_DETACH_DEPTH =
        4, /* no gradient from the depth image to t.z (the one to alpha stays exact) */
    DGR_CLAMP_PASSES_GRADIENT = 8, /* min(0.99, a) has derivative 1 everywhere */
    DGR_ANTIALIASING = 16          /* opacity compensated for the low-pass filter */
};

enum dgr_status {
    DGR_OK = 0,
    DGR_INVALID = 1,        /* a size or combination of pointers that this header forbids */
    DGR_TOO_MANY_PAIRS = 2, /* more than 2^31 - 1 pairs */
    DGR_OUT_OF_MEMORY = 3,
    DGR_DEVICE_ERROR = 4, /* dgr_message says what went wrong with the device last on this thread */
    /* NaN or infinity found by dgr_project in an input; of the splats, the first in this order is
       reported. */
    DGR_NONFINITE_MEANS = 16,
    DGR_NONFINITE_QUATS = 17,
    DGR_NONFINITE_SCALES = 18,
    DGR_NONFINITE_COV3D = 19,
    DGR_NONFINITE_OPACITIES = 20,
    DGR_NONFINITE_COLORS = 21,
    DGR_NONFINITE_SH = 22,
    /* The same in the cameras; where splats are at fault too, either may be reported. */
    DGR_NONFINITE_VIEW = 23,
    DGR_NONFINITE_TAN_HALF_FOV = 24,
    DGR_NONPOSITIVE_TAN_HALF_FOV = 25,
    DGR_NONFINITE_PROJ = 26,
    DGR_NONFINITE_POSITIONS = 27,
    DGR_NONFINITE_BACKGROUND = 28
};

/* All that a render depends on. The same struct, unchanged, goes to every call of one
 * forward/backward. */
typedef struct dgr_problem {
    int32_t views, gaussians, width, height; /* V >= 1, N >= 0, W H >= 1 */
    int32_t sh_bases, sh_degree; /* K >= (sh_degree + 1)^2, sh_degree 0..3; both 0 without sh */
    uint32_t flags;
    int32_t threads; /* CPU only: threads to use, >= 1 */
    float scale_modifier;
    int32_t reserved;
    const float* means;     /* [N,3] */
    const float* quats;     /* [N,4] w x y z, with scales; else both null */
    const float* scales;    /* [N,3] */
    const float* cov3d;     /* [N,6] xx xy xz yy yz zz, or null */
    const float* opacities; /* [N] */
    const float* colors;    /* [N,3] or null */
    const float* sh;        /* [N,K,3] or null */
    const float*
        view; /* [V,4,4] world to camera, column vectors (not transposed); rows 0..2 are read */
    const float*
        proj; /* [V,4,4] world to clip, column vectors (not transposed), rows 0, 1 and 3 are read;
                 or null: rows 0 and 1 of view over tan_half_fov, and row 2 (pinhole, centred) */
    const float* tan_half_fov; /* [V,2] x, y */
    const float*
        positions; /* [V,3] camera centres, for the SH directions; or null: -R^T t of view */
    const float* background; /* [V,3] */
} dgr_problem;

/* Outputs of dgr_render; alpha may be null, the others may not. All are written completely. */
typedef struct dgr_images {
    float* rgb;           /* [V,3,H,W] */
    float* alpha;         /* [V,H,W] 1 - transmittance, or null */
    float* depth;         /* [V,H,W] sum of alpha T z */
    float* transmittance; /* [V,H,W] final T; dgr_backward needs it */
} dgr_images;

/* Incoming gradients; null means zero. */
typedef struct dgr_image_grads {
    const float* rgb;
    const float* alpha;
    const float* depth;
    const float* transmittance;
} dgr_image_grads;

/* Outgoing gradients, overwritten completely; null means not wanted. Summed over the views except
 * screen_means. */
typedef struct dgr_grads {
    float* means;        /* [N,3] */
    float* quats;        /* [N,4] */
    float* scales;       /* [N,3] */
    float* cov3d;        /* [N,6]; xy xz yz count both symmetric entries */
    float* opacities;    /* [N] */
    float* colors;       /* [N,3] */
    float* sh;           /* [N,K,3] */
    float* screen_means; /* [V,N,2] gradient of the projected mean in NDC units: pixel gradient *
                            (W/2, H/2) */
} dgr_grads;

DGR_API int dgr_abi_version(void);

/* A sentence for a status; static storage, or thread-local for DGR_DEVICE_ERROR. Host. */
DGR_API const char* dgr_message(int status);

/* Name of the code path in use ("x86-64-v4", "portable", "cuda"). Host. */
DGR_API const char* dgr_backend_name(void);

/* Bytes of the workspace that dgr_project fills and dgr_render and dgr_backward read; 0 where that
 * cannot be told: dgr_message(DGR_DEVICE_ERROR) then says why. */
DGR_API size_t dgr_geometry_bytes(const dgr_problem* problem);

/* Projects all Gaussians into all views. geometry_bytes: the workspace's size, that of
 * dgr_geometry_bytes. radii: int32 [V,N], written completely. pairs: host, written on return (a GPU
 * backend synchronises the stream here, and refuses one that is being captured). stream:
 * cudaStream_t as a pointer, ignored by the CPU. Returns a dgr_status. */
DGR_API int dgr_project(const dgr_problem* problem, void* geometry, size_t geometry_bytes,
                        int32_t* radii, int64_t* pairs, void* stream);

/* Bytes of the workspace that dgr_render fills (sort and bins, all views together) and dgr_backward
 * reads; 0 as above. */
DGR_API size_t dgr_binning_bytes(const dgr_problem* problem, int64_t pairs);

DGR_API int dgr_render(const dgr_problem* problem, void* geometry, int64_t pairs, void* binning,
                       size_t binning_bytes, const dgr_images* images, void* stream);

/* Bytes of scratch that dgr_backward alone needs. */
DGR_API size_t dgr_scratch_bytes(const dgr_problem* problem, int64_t pairs);

DGR_API int dgr_backward(const dgr_problem* problem, const void* geometry, int64_t pairs,
                         const void* binning, void* scratch, const float* transmittance,
                         const dgr_image_grads* image_grads, const dgr_grads* grads, void* stream);

/* visible[i] = 1 where t.z > 0.2, else 0, for means [n,3] and one view matrix [4,4] (column
 * vectors). threads: CPU only. */
DGR_API int dgr_mark_visible(const float* means, int32_t n, const float* view, uint8_t* visible,
                             int32_t threads, void* stream);

#ifdef __cplusplus
}
#endif
#endif

// The C ABI on the CPU: checks, instruction set, and the order of the tasks.
// SPDX-License-Identifier: Apache-2.0
#ifdef __linux__
#include <sys/mman.h>
#endif
#include <time.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "../problem.h"
#include "layout.h"
#include "pool.h"

namespace dgr {
namespace {

#if defined(__x86_64__) && !defined(DGR_PORTABLE)
const Kernels& choose() {
    // DGR_CPU forces a lower level than the machine has, for tests and measurements; the names
    // stand in order.
    const char* highest = std::getenv("DGR_CPU");
    const auto allowed = [highest](const Kernels& k) {
        return highest == nullptr || std::strcmp(k.name, highest) <= 0;
    };
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (v4 && allowed(kernels_v4)) return kernels_v4;
    if (v3 && allowed(kernels_v3)) return kernels_v3;
    return kernels_v2;
}
#else
const Kernels& choose() { return kernels_portable; }
#endif

const Kernels& kernels() {
    static const Kernels& chosen = choose();
    return chosen;
}

bool workable(const dgr_problem* p) { return valid(p) && p->threads >= 1; }

int check_cameras(const dgr_problem& p) {
    const auto finite = [&p](const float* numbers, int width) {
        for (int i = 0; numbers && i < width * p.views; ++i) {
            if (!std::isfinite(numbers[i])) return false;
        }
        return true;
    };
    if (!finite(p.view, 16)) return DGR_NONFINITE_VIEW;
    if (!finite(p.tan_half_fov, 2)) return DGR_NONFINITE_TAN_HALF_FOV;
    for (int i = 0; i < 2 * p.views; ++i) {
        if (p.tan_half_fov[i] <= 0) return DGR_NONPOSITIVE_TAN_HALF_FOV;
    }
    if (!finite(p.proj, 16)) return DGR_NONFINITE_PROJ;
    if (!finite(p.positions, 3)) return DGR_NONFINITE_POSITIONS;
    return finite(p.background, 3) ? DGR_OK : DGR_NONFINITE_BACKGROUND;
}

int64_t chunks(const dgr_problem& p) { return (p.gaussians + CHUNK - 1) / CHUNK; }

// Turns counts into first indices, and returns the total.
int64_t scan(uint32_t* counts, int64_t n) {
    int64_t total = 0;
    for (int64_t i = 0; i < n; ++i) {
        const uint32_t count = counts[i];
        counts[i] = static_cast<uint32_t>(total);
        total += count;
    }
    counts[n] = static_cast<uint32_t>(total);
    return total;
}

// Lists the splats of every tile in the order of the Gaussians: a counting sort over `ranges`
// slices of each view, each slice with its own counters, so that the result does not depend on
// their number.
class Lists {
  public:
    Lists(const dgr_problem& p, const Geometry& geometry, const Binning& bins)
        : p_(p), geometry_(geometry), bins_(bins), grid_(p) {
        ranges_ = p.threads == 1 || p.gaussians < 4096 ? 1 : p.threads;
        const int64_t tiles = static_cast<int64_t>(p.views) * grid_.tiles();
        // Slice r of view v counts in [v][r][tile]; rewritten as first indices.
        counters_ = static_cast<uint32_t*>(
            std::calloc(static_cast<size_t>(tiles * ranges_) + 1, sizeof(uint32_t)));
    }
    ~Lists() { std::free(counters_); }
    Lists(const Lists&) = delete;
    Lists& operator=(const Lists&) = delete;

    bool build() {
        if (counters_ == nullptr) return false;
        const int64_t tasks = static_cast<int64_t>(p_.views) * ranges_;
        parallel(tasks, p_.threads, [this](int64_t task) {
            each(task, [](uint32_t& counter, const Record&, int64_t) { ++counter; });
        });
        uint32_t total = 0;
        for (int v = 0; v < p_.views; ++v) {
            for (int t = 0; t < grid_.tiles(); ++t) {
                const uint32_t begin = total;
                bins_.begins[static_cast<int64_t>(v) * grid_.tiles() + t] = begin;
                for (int64_t r = 0; r < ranges_; ++r) {
                    uint32_t& counter = counters_[(v * ranges_ + r) * grid_.tiles() + t];
                    const uint32_t count = counter;
                    counter = begin + total;  // the masks take two places an entry
                    total += count;
                }
            }
        }
        bins_.begins[static_cast<int64_t>(p_.views) * grid_.tiles()] = total;
        parallel(tasks, p_.threads, [this](int64_t task) {
            each(task, [unsorted = bins_.masks](uint32_t& counter, const Record& record,
                                                int64_t gaussian) {
                uint32_t depth;
                std::memcpy(&depth, &record.z, 4);
                unsorted[counter++] =
                    static_cast<uint64_t>(depth) << 32 | static_cast<uint64_t>(gaussian);
            });
        });
        return true;
    }

  private:
    template <class F>
    void each(int64_t task, const F& body) const {
        const int64_t v = task / ranges_, r = task % ranges_, n = p_.gaussians;
        uint32_t* counters = counters_ + task * grid_.tiles();
        const Record* records = geometry_.records + v * n;
        const uint32_t* slots = geometry_.slots + v * n;
        for (int64_t i = n * r / ranges_; i < n * (r + 1) / ranges_; ++i) {
            const uint32_t tiles = slots[i + 1] - slots[i];
            if (tiles == 0) continue;
            const Record& record = records[i];
            if (tiles == 1) {
                body(counters[record.y0 / TILE * grid_.columns + record.x0 / TILE], record, i);
                continue;
            }
            for (int y = record.y0 / TILE; y <= record.y1 / TILE; ++y) {
                for (int x = record.x0 / TILE; x <= record.x1 / TILE; ++x)
                    body(counters[y * grid_.columns + x], record, i);
            }
        }
    }

    const dgr_problem& p_;
    const Geometry& geometry_;
    const Binning& bins_;
    Grid grid_;
    int64_t ranges_;
    uint32_t* counters_;
};

// Asks for large pages under memory that is about to be written. What is allocated for a step is
// often fresh from the system, which then finds, clears and enters each small page by itself. Where
// the memory is old, this does nothing.
void expect_writes(void* memory, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t page = 1 << 21;
    const uintptr_t at = reinterpret_cast<uintptr_t>(memory);
    const uintptr_t begin = (at + page - 1) & ~(page - 1), end = (at + bytes) & ~(page - 1);
    if (memory != nullptr && begin < end)
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

double thread_nanoseconds() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e9 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec);
}

}  // namespace
}  // namespace dgr

using namespace dgr;

extern "C" {

int dgr_abi_version(void) { return DGR_ABI_VERSION; }

const char* dgr_backend_name(void) { return kernels().name; }

// There is no device; a size of 0, after which one asks for its error, means a problem that is
// invalid.
const char* dgr_message(int status) {
    return sentence(status == DGR_DEVICE_ERROR ? DGR_INVALID : status);
}

size_t dgr_geometry_bytes(const dgr_problem* p) {
    return workable(p) ? Geometry(*p, nullptr).bytes : 0;
}

int dgr_project(const dgr_problem* p, void* workspace, size_t bytes, int32_t* radii, int64_t* pairs,
                void*) {
    if (!workable(p)) return DGR_INVALID;
    if (const int fault = check_cameras(*p)) return fault;
    const Geometry geometry(*p, workspace);
    if (bytes < geometry.bytes) return DGR_INVALID;
    expect_writes(workspace, geometry.bytes);
    const Kernels& k = kernels();
    parallel(chunks(*p), p->threads, [&](int64_t chunk) { k.project(*p, geometry, radii, chunk); });
    uint32_t faults = 0;
    for (int64_t i = 0; i < chunks(*p); ++i) faults |= geometry.faults[i];
    if (faults) return DGR_NONFINITE_MEANS + __builtin_ctz(faults);
    *pairs = scan(geometry.slots, static_cast<int64_t>(p->views) * p->gaussians);
    return *pairs > INT32_MAX ? DGR_TOO_MANY_PAIRS : DGR_OK;
}

size_t dgr_binning_bytes(const dgr_problem* p, int64_t pairs) {
    return workable(p) ? Binning(*p, pairs, nullptr).bytes : 0;
}

int dgr_render(const dgr_problem* p, void* workspace, int64_t pairs, void* binning, size_t bytes,
               const dgr_images* images, void*) {
    if (!workable(p) || !images || !images->rgb || !images->depth || !images->transmittance)
        return DGR_INVALID;
    const Geometry geometry(*p, workspace);
    const Binning bins(*p, pairs, binning);
    if (bytes < bins.bytes) return DGR_INVALID;
    expect_writes(binning, bins.bytes);
    const size_t plane = sizeof(float) * static_cast<size_t>(p->views) * p->width * p->height;
    expect_writes(images->rgb, 3 * plane), expect_writes(images->depth, plane);
    expect_writes(images->alpha, plane), expect_writes(images->transmittance, plane);
    if (!Lists(*p, geometry, bins).build()) return DGR_OUT_OF_MEMORY;
    const Kernels& k = kernels();
    parallel(static_cast<int64_t>(p->views) * Grid(*p).tiles(), p->threads,
             [&](int64_t tile) { k.render_tile(*p, geometry, bins, *images, tile); });
    return DGR_OK;
}

size_t dgr_scratch_bytes(const dgr_problem*, int64_t pairs) {
    return static_cast<size_t>(pairs) * ROW * sizeof(float);
}

int dgr_backward(const dgr_problem* p, const void* workspace, int64_t pairs, const void* binning,
                 void* scratch, const float* transmittance, const dgr_image_grads* image_grads,
                 const dgr_grads* grads, void*) {
    if (!workable(p) || !transmittance || !image_grads || !grads) return DGR_INVALID;
    if ((p->cov3d && (grads->quats || grads->scales)) || (p->scales && grads->cov3d))
        return DGR_INVALID;
    const Geometry geometry(*p, const_cast<void*>(workspace));
    const Binning bins(*p, pairs, const_cast<void*>(binning));
    float* rows = static_cast<float*>(scratch);
    expect_writes(scratch, dgr_scratch_bytes(p, pairs));
    expect_writes(grads->sh, sizeof(float) * 3 * static_cast<size_t>(p->gaussians) * p->sh_bases);
    // Entries that reached no unfinished pixel leave their rows as they are.
    constexpr int64_t slice = 1 << 12;
    parallel((pairs + slice - 1) / slice, p->threads, [&](int64_t i) {
        const int64_t first = i * slice, count = pairs - first < slice ? pairs - first : slice;
        std::memset(rows + first * ROW, 0, static_cast<size_t>(count) * ROW * sizeof(float));
    });
    const Kernels& k = kernels();
    parallel(static_cast<int64_t>(p->views) * Grid(*p).tiles(), p->threads, [&](int64_t tile) {
        k.backward_tile(*p, geometry, bins, transmittance, *image_grads, rows, tile);
    });
    parallel(chunks(*p), p->threads,
             [&](int64_t chunk) { k.backward_splats(*p, geometry, rows, *grads, chunk); });
    return DGR_OK;
}

int dgr_mark_visible(const float* means, int32_t n, const float* view, uint8_t* visible,
                     int32_t threads, void*) {
    if (n < 0 || (n > 0 && (!means || !view || !visible))) return DGR_INVALID;
    constexpr int64_t slice = 16384;
    parallel((n + slice - 1) / slice, threads, [&](int64_t s) {
        for (int64_t i = s * slice; i < n && i < (s + 1) * slice; ++i) {
            const float* m = means + 3 * i;
            visible[i] = view[8] * m[0] + view[9] * m[1] + (view[10] * m[2] + view[11]) > NEAR_Z;
        }
    });
    return DGR_OK;
}

// For the benchmark, not part of the ABI: nanoseconds per pixel lane of the forward and the
// backward blending body.
DGR_API void dgr_cpu_floor(int repeats, double* forward, double* backward) {
    const Kernels& k = kernels();
    double* results[2] = {forward, backward};
    double (*passes[2])(int) = {k.floor_forward, k.floor_backward};
    for (int i = 0; i < 2; ++i) {
        passes[i](repeats / 10 + 1);
        const double start = thread_nanoseconds();
        const double lanes = passes[i](repeats);
        *results[i] = (thread_nanoseconds() - start) / lanes;
    }
}

// For the benchmark, not part of the ABI: pixel lanes that dgr_render evaluated, from the masks
// that it left.
DGR_API int64_t dgr_cpu_lanes(const dgr_problem* p, int64_t pairs, void* binning) {
    const Binning bins(*p, pairs, binning);
    const int words = TILE * TILE / kernels().lanes / 64;
    int64_t blocks = 0;
    for (int64_t t = 0; t < static_cast<int64_t>(p->views) * Grid(*p).tiles(); ++t) {
        for (int64_t entry = bins.begins[t];
             entry < bins.begins[t] + static_cast<int64_t>(bins.drawn[t]); ++entry) {
            for (int w = 0; w < words; ++w)
                blocks += __builtin_popcountll(bins.masks[2 * entry + w]);
        }
    }
    return blocks * kernels().lanes;
}

}  // extern "C"

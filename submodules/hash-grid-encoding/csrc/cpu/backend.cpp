// The C ABI of the grid and of the perceptrons: checks, instruction set, tasks.
// SPDX-License-Identifier: Apache-2.0
#ifdef __linux__
#include <sys/mman.h>
#endif
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "kernels.h"
#include "parallel.h"

namespace hge {
namespace {

constexpr int64_t CHUNK =
    4096;  // points of a task: fixed, for sums over chunks must not depend on the threads

constexpr int64_t BATCH = 8 * CHUNK;  // points
constexpr int64_t SMALL = 1 << 19;    // entries, 4 MiB

#ifndef HGE_PORTABLE
const Kernels& choose() {
    // HGE_CPU forces a lower level than the machine has, for tests and measurements; the names
    // stand in order.
    const char* highest = std::getenv("HGE_CPU");
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

bool valid(const hge_grid* grid) {
    if (!grid || !grid->resolutions || !grid->offsets || grid->levels < 1 ||
        grid->levels > HGE_MAX_LEVELS)
        return false;
    if (grid->levels_on < 0 || grid->levels_on > grid->levels || grid->offsets[0] != 0)
        return false;
    for (int l = 0; l < grid->levels; ++l) {
        const int64_t r = grid->resolutions[l], entries = grid->offsets[l + 1] - grid->offsets[l];
        if (r < 1 || r > 1 << 20 || entries < 1 || entries > 1 << 30) return false;
        const bool hashed = (r + 1) * (r + 1) * (r + 1) > entries;
        if (hashed && (entries < 8 || (entries & (entries - 1)) != 0)) return false;
    }
    return true;
}

bool valid(const hge_mlp_problem* p) {
    if (!p || p->inputs < 1 || p->inputs > HGE_MAX_INPUTS || p->heads < 1 ||
        p->heads > HGE_MAX_HEADS || !p->head || p->threads < 1 || p->n < 0 || (p->n > 0 && !p->x))
        return false;
    int hidden = 0, outputs = 0;
    for (int k = 0; k < p->heads; ++k) {
        const hge_head& head = p->head[k];
        if (head.hidden < 8 || head.hidden > HGE_MAX_HIDDEN || head.hidden % 8 != 0 ||
            head.outputs < 1 || head.outputs > HGE_MAX_OUTPUTS || !head.w1 || !head.w2)
            return false;
        if (p->n > 0 && (head.grad_w1 || head.grad_w2) && !head.grad_out) return false;
        if (p->n > 0 && ((head.grad_out && !head.on_in) || (head.on_in && head.on_out)))
            return false;
        hidden += head.hidden, outputs += head.outputs;
    }
    return hidden <= HGE_MAX_HIDDEN && outputs <= HGE_MAX_OUTPUTS;
}

int64_t chunks(int64_t n) { return (n + CHUNK - 1) / CHUNK; }
int64_t chunk_end(int64_t chunk, int64_t n) {
    return (chunk + 1) * CHUNK < n ? (chunk + 1) * CHUNK : n;
}

bool finite(const float* numbers, int64_t n) {
    uint32_t largest = 0;  // without their signs, numbers lie in the order of their bits
    for (int64_t i = 0; i < n; ++i) {
        uint32_t number;
        std::memcpy(&number, numbers + i, sizeof number);
        number &= 0x7fffffffu;
        largest = number > largest ? number : largest;
    }
    return largest < 0x7f800000u;  // infinity
}

// Asks for large pages under memory that is about to be written: results of this size are fresh
// from the system, which then finds, clears and enters each small page by itself. Where the memory
// is old, this does nothing.
void expect_writes(float* memory, int64_t floats) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t page = 1 << 21;
    const uintptr_t at = reinterpret_cast<uintptr_t>(memory);
    const uintptr_t begin = (at + page - 1) & ~(page - 1);
    const uintptr_t end = (at + sizeof(float) * static_cast<uintptr_t>(floats)) & ~(page - 1);
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)memory, (void)floats;
#endif
}

double thread_nanoseconds() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e9 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec);
}

}  // namespace

const Kernels& kernels() {
    static const Kernels& chosen = choose();
    return chosen;
}

}  // namespace hge

using namespace hge;

extern "C" {

int hge_abi_version(void) { return HGE_ABI_VERSION; }

const char* hge_backend_name(void) { return kernels().name; }

int hge_encode(const hge_grid* grid, const float* tables, const float* points, const float* along,
               int64_t n, float* features, int32_t threads) {
    if (!valid(grid) || !tables || n < 0 || threads < 1 || (n > 0 && (!points || !features)))
        return HGE_INVALID;
    if (!finite(points, 3 * n)) return HGE_NONFINITE_POINTS;
    expect_writes(features, 2 * grid->levels * n);
    const Kernels& k = kernels();
    // Level by level: of all tables, those in use at a time are few.
    parallel(grid->levels * chunks(n), threads, [&](int64_t task) {
        const int level = static_cast<int>(task / chunks(n));
        const int64_t begin = task % chunks(n) * CHUNK, end = chunk_end(task % chunks(n), n);
        if (level < grid->levels_on)
            return k.encode(*grid, level, tables, points, along, n, begin, end, features);
        for (int f = 2 * level; f < 2 * level + 2; ++f) {
            std::memset(features + f * n + begin, 0,
                        sizeof(float) * static_cast<size_t>(end - begin));
        }
    });
    return HGE_OK;
}

int hge_scatter(const hge_grid* grid, const float* points, const float* along, const float* grads,
                int32_t by_point, int64_t n, float* grad_tables, int32_t threads) {
    if (!valid(grid) || !grad_tables || n < 0 || threads < 1 || (n > 0 && (!points || !grads)))
        return HGE_INVALID;
    expect_writes(grad_tables, 2 * grid->offsets[grid->levels]);
    const Kernels& k = kernels();
    // Points [begin, end) of levels [lowest, highest), whose rows of grads begin at `in`. One
    // thread a level: additions keep the order of the points. The finest take longest, so they come
    // first.
    const auto scatter = [&](int lowest, int highest, int64_t begin, int64_t end, const float* in,
                             int64_t pitch) {
        parallel(highest - lowest, threads, [&](int64_t task) {
            const int level = highest - 1 - static_cast<int>(task);
            const int64_t first = grid->offsets[level], size = grid->offsets[level + 1] - first;
            if (begin == 0)
                std::memset(grad_tables + 2 * first, 0,
                            2 * sizeof(float) * static_cast<size_t>(size));
            if (level < grid->levels_on)
                k.scatter(*grid, level, points, along, n, begin, end,
                          in + 2 * (level - lowest) * pitch, pitch, grad_tables);
        });
    };
    if (!by_point || n == 0) {
        scatter(0, grid->levels, 0, n, grads, n);
        return HGE_OK;
    }
    // Rows of points are turned first. Tables that the cache holds take a batch of points at a
    // time, which it holds as well; larger ones are gone over once, and where rows are whole lines
    // of the cache, one line a point is turned at a time: the memory for it is fresh, and clearing
    // that takes as long as the work.
    const bool small = grid->offsets[grid->levels] <= SMALL;
    const int width = !small && grid->levels % 8 == 0 ? 8 : grid->levels;
    const int64_t batch = small ? std::min(BATCH, n) : n;
    std::unique_ptr<float[]> turned(new (std::nothrow) float[2 * width * batch]);
    if (!turned) return HGE_OUT_OF_MEMORY;
    expect_writes(turned.get(), 2 * width * batch);
    for (int lowest = grid->levels - width; lowest >= 0; lowest -= width) {
        for (int64_t begin = 0; begin < n; begin += batch) {
            const int64_t end = std::min(begin + batch, n);
            if (lowest < grid->levels_on) {
                parallel(chunks(end - begin), threads, [&](int64_t chunk) {
                    const int64_t first = begin + chunk * CHUNK;
                    k.turn(grads + 2 * lowest, 2 * width, 2 * grid->levels, first,
                           std::min(first + CHUNK, end), turned.get() + chunk * CHUNK, batch);
                });
            }
            scatter(lowest, lowest + width, begin, end, turned.get(), batch);
        }
    }
    return HGE_OK;
}

int hge_pull(const hge_grid* grid, const float* tables, const float* points, const float* along,
             const float* grads, int64_t n, float* grad_points, int32_t threads) {
    if (!valid(grid) || !tables || n < 0 || threads < 1) return HGE_INVALID;
    if (n > 0 && (!points || !grads || !grad_points)) return HGE_INVALID;
    const Kernels& k = kernels();
    parallel(chunks(n), threads, [&](int64_t chunk) {
        k.pull(*grid, tables, points, along, grads, n, chunk * CHUNK, chunk_end(chunk, n),
               grad_points);
    });
    return HGE_OK;
}

int hge_turn(const float* in, int64_t n, int32_t features, float* out, int32_t threads) {
    if (n < 0 || features < 1 || threads < 1 || (n > 0 && (!in || !out))) return HGE_INVALID;
    expect_writes(out, features * n);
    const Kernels& k = kernels();
    parallel(chunks(n), threads, [&](int64_t chunk) {
        k.turn(in, features, features, chunk * CHUNK, chunk_end(chunk, n), out + chunk * CHUNK, n);
    });
    return HGE_OK;
}

int hge_mlp(const hge_mlp_problem* p) {
    if (!valid(p)) return HGE_INVALID;
    const int I = p->inputs;
    int live = 0;
    int64_t stride = 0;  // of one chunk's gradients
    bool sums = false;
    for (int k = 0; k < p->heads; ++k) {
        const hge_head& head = p->head[k];
        if (goes_back(*p, head)) live += head.hidden;
        stride += head.hidden * (I + head.outputs);
        sums = sums || head.grad_w1 || head.grad_w2;
    }
    stride = (stride + 15) / 16 * 16;
    std::unique_ptr<float[]> turned(new (std::nothrow) float[I * live]);
    std::unique_ptr<float[]> parts(sums ? new (std::nothrow) float[stride * chunks(p->n)]
                                        : nullptr);
    if (!turned || (sums && !parts)) return HGE_OUT_OF_MEMORY;
    if (p->grad_x) expect_writes(p->grad_x, I * p->n);
    for (int k = 0, first = 0; k < p->heads; ++k) {
        const hge_head& head = p->head[k];
        if (head.out) expect_writes(head.out, head.outputs * p->n);
        if (!goes_back(*p, head)) continue;
        for (int h = 0; h < head.hidden; ++h) {
            const float behind = head.outputs == 1 ? head.w2[h] : 1.0f;
            for (int i = 0; i < I; ++i) turned[i * live + first + h] = behind * head.w1[h * I + i];
        }
        first += head.hidden;
    }
    const Kernels& k = kernels();
    parallel(chunks(p->n), p->threads, [&](int64_t chunk) {
        k.mlp(*p, turned.get(), chunk * CHUNK, chunk_end(chunk, p->n),
              sums ? parts.get() + stride * chunk : nullptr);
    });
    int64_t first = 0;
    const auto add_up = [&](float* out, int64_t size) {
        for (int64_t i = 0; out && i < size; ++i) {
            double sum = 0.0;
            for (int64_t chunk = 0; chunk < chunks(p->n); ++chunk)
                sum += parts[stride * chunk + first + i];
            out[i] = static_cast<float>(sum);
        }
        first += size;
    };
    for (int h = 0; h < p->heads; ++h) {
        const hge_head& head = p->head[h];
        add_up(head.grad_w1, head.hidden * I), add_up(head.grad_w2, head.outputs * head.hidden);
    }
    return HGE_OK;
}

// For the benchmark, not part of the ABI: nanoseconds per point of one level's loads and of its
// additions in place, at the entries index [8, n] of its table, which is changed.
HGE_API void hge_cpu_floor(float* table, const uint32_t* index, int64_t n, double* gather,
                           double* add) {
    const Kernels& k = kernels();
    const double start = thread_nanoseconds();
    volatile float sum = k.floor_gather(table, index, n);
    (void)sum;
    const double middle = thread_nanoseconds();
    k.floor_add(table, index, n);
    *gather = (middle - start) / static_cast<double>(n),
    *add = (thread_nanoseconds() - middle) / static_cast<double>(n);
}

}  // extern "C"

// What lies where in the workspaces that the caller allocates. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "splat.cuh"

namespace dgr {

constexpr int kRowFloats = 12;  // 10 used: see render_backward.cu

/// Hands out aligned pieces of a workspace, or only adds up their sizes when `base` is null.
class Arena {
  public:
    explicit Arena(const void* base) : base_(static_cast<char*>(const_cast<void*>(base))) {}

    template <typename T>
    T* take(int64_t count) {
        constexpr size_t kAlign = 256;
        T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
        used_ += (static_cast<size_t>(count) * sizeof(T) + kAlign - 1) / kAlign * kAlign;
        return piece;
    }
    size_t used() const { return used_; }

  private:
    char* base_;
    size_t used_ = 0;
};

struct Totals {
    unsigned long long pairs;
    int status;  // the smallest DGR_NONFINITE_* seen, or INT32_MAX
    int unused;
};

struct Tiling {
    int columns, rows, per_view;
    int64_t all;

    explicit Tiling(const dgr_problem& p)
        : columns((p.width + kTile - 1) / kTile),
          rows((p.height + kTile - 1) / kTile),
          per_view(columns * rows),
          all(static_cast<int64_t>(per_view) * p.views) {}
};

inline int64_t instances(const dgr_problem& p) {
    return static_cast<int64_t>(p.views) * p.gaussians;
}

// Bytes that the sorts and prefix sums of dgr_project and dgr_render want at the end of their
// workspaces (binning.cu). They are asked for apart from the layout because CUB has to ask the
// driver.
cudaError_t geometry_temporary_bytes(const dgr_problem& p, size_t& bytes);
cudaError_t binning_temporary_bytes(int64_t pairs, size_t& bytes);

/// Filled by dgr_project. An "instance" is one (view, Gaussian), numbered v * N + n.
struct Geometry {
    Totals* totals;
    Splat* splats;                      // [VN]
    TileRect* rects;                    // [VN]
    uint32_t* counts;                   // [VN] touched tiles
    uint32_t *depths, *sorted_depths;   // [VN] bits of t.z; hidden instances come last
    uint32_t *numbers, *order;          // [VN] 0, 1, 2, ... and the instances front to back
    uint32_t *sorted_counts, *offsets;  // [VN] along `order`: tiles, and their exclusive prefix sum
    char* temporary;                    // up to the end
    size_t bytes;                       // without it

    Geometry(const dgr_problem& p, const void* base) {
        const int64_t n = instances(p);
        Arena arena(base);
        totals = arena.take<Totals>(1);
        splats = arena.take<Splat>(n);
        rects = arena.take<TileRect>(n);
        counts = arena.take<uint32_t>(n);
        depths = arena.take<uint32_t>(n);
        sorted_depths = arena.take<uint32_t>(n);
        numbers = arena.take<uint32_t>(n);
        order = arena.take<uint32_t>(n);
        sorted_counts = arena.take<uint32_t>(n);
        offsets = arena.take<uint32_t>(n);
        temporary = arena.take<char>(0);
        bytes = arena.used();
    }
};

/// Filled by dgr_render. A "pair" is one (instance, tile).
struct Binning {
    uint2* ranges;   // [V * tiles] first pair, one past the last
    uint32_t* last;  // [V,H,W] one past the last contributing pair, counted from the tile's first
    uint32_t *keys, *sorted_keys;            // [pairs] v * tiles + tile
    uint32_t *instances, *sorted_instances;  // [pairs]
    char* temporary;                         // up to the end
    size_t bytes;                            // without it

    Binning(const dgr_problem& p, int64_t pairs, const void* base) {
        Arena arena(base);
        ranges = arena.take<uint2>(Tiling(p).all);
        last = arena.take<uint32_t>(static_cast<int64_t>(p.views) * p.height * p.width);
        keys = arena.take<uint32_t>(pairs);
        sorted_keys = arena.take<uint32_t>(pairs);
        instances = arena.take<uint32_t>(pairs);
        sorted_instances = arena.take<uint32_t>(pairs);
        temporary = arena.take<char>(0);
        bytes = arena.used();
    }
};

/// Used by dgr_backward alone.
struct Scratch {
    float* rows;  // [VN,12] what the pixels tell each instance
    size_t bytes;

    Scratch(const dgr_problem& p, const void* base) {
        Arena arena(base);
        rows = arena.take<float>(instances(p) * kRowFloats);
        bytes = arena.used();
    }
};

}  // namespace dgr

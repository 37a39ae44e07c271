// What the workspaces hold, and the table of kernels that every instruction set implements.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "../dgr.h"

namespace dgr {

constexpr int TILE = 32;    // pixels a side of a tile, the unit of binning and of a render task
constexpr int CHUNK = 512;  // Gaussians of a projection task
constexpr int SH_ROW = 48;  // floats of the coefficients of one Gaussian at degree 3
constexpr int ROW = 10;     // floats of a gradient row: moments 1 u v uu uv vv, then r g b z
constexpr float NEAR_Z = 0.2f, LOW_PASS = 0.3f, MAX_ALPHA = 0.99f, MIN_TRANSMITTANCE = 1e-4f;
constexpr float LOG2E = 1.44269504089f, LN2 = 0.69314718056f;
constexpr float LOG2_MIN_ALPHA = -7.99435343686f;  // log2(1 / 255)

// One Gaussian in one view; one cache line. log2(opacity * exp(power)) = l + a dx^2 + 2 b dx dy + c
// dy^2.
struct alignas(64) Record {
    float x, y;        // centre, pixels
    float a, b, c, l;  // all but l from the conic
    float red, green, blue, z;
    float slope, reach,
        narrowing;  // row span of the level set: slope dy -+ sqrt(reach - narrowing dy^2)
    uint16_t x0, y0, x1,
        y1;  // pixel box, ends included: of the level set, clipped to window and image
};
static_assert(sizeof(Record) == 64, "a record is one cache line");

struct Grid {
    int columns, rows;
    int tiles() const { return columns * rows; }
    explicit Grid(const dgr_problem& p)
        : columns((p.width + TILE - 1) / TILE), rows((p.height + TILE - 1) / TILE) {}
};

// Cuts typed, 64-byte aligned arrays out of one block; with a null base it only measures.
class Carver {
  public:
    explicit Carver(void* base) : base_(static_cast<char*>(base)) {}
    template <class T>
    T* take(int64_t count) {
        T* at = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
        used_ += (static_cast<size_t>(count) * sizeof(T) + 63) & ~static_cast<size_t>(63);
        return at;
    }
    size_t used() const { return used_; }

  private:
    char* base_;
    size_t used_ = 0;
};

struct Geometry {
    Record* records;  // [V,N]
    uint32_t* slots;  // [V N + 1] first gradient row of each; its rows follow the tiles of its box,
                      // row-major
    uint32_t* faults;  // [chunks] bit i: a value of input DGR_NONFINITE_MEANS + i is not finite
    float* shades;     // [V, groups of 8 Gaussians, shade] with harmonics: struct Shade without the
                       // colours, 8 floats a field
    int64_t groups, shade;
    size_t bytes;

    Geometry(const dgr_problem& p, void* base) {
        Carver carver(base);
        const int64_t all = static_cast<int64_t>(p.views) * p.gaussians;
        records = carver.take<Record>(all);
        slots = carver.take<uint32_t>(all + 1);
        faults = carver.take<uint32_t>((p.gaussians + CHUNK - 1) / CHUNK);
        groups = (p.gaussians + 7) / 8, shade = p.sh_degree > 0 ? 80 : 8;
        shades = carver.take<float>(p.sh ? p.views * groups * shade : 0);
        bytes = carver.used();
    }
    float* shade_of(int64_t view, int64_t gaussian) const {
        return shades + (view * groups + gaussian / 8) * shade;
    }
};

struct Binning {
    uint32_t* begins;  // [V tiles + 1] first entry of each tile's list
    uint32_t* drawn;  // [V tiles] how many entries were drawn: the first of the list, once the tile
                      // is rendered
    uint32_t* finished;    // [V tiles] pixels of the tile that finished early
    uint32_t* finish_at;   // [V tiles, TILE * TILE] entry at which they did, ascending
    uint16_t* finish_who;  // [V tiles, TILE * TILE] which pixel, in block order
    uint64_t* entries;  // [pairs] gradient row << 32 | Gaussian, by depth; written when the tile is
                        // rendered
    uint64_t* masks;  // [pairs, 2] blocks of the tile that the entry was drawn to; until then depth
                      // bits << 32 | Gaussian, unsorted
    size_t bytes;

    Binning(const dgr_problem& p, int64_t pairs, void* base) {
        Carver carver(base);
        const int64_t tiles = static_cast<int64_t>(p.views) * Grid(p).tiles();
        begins = carver.take<uint32_t>(tiles + 1);
        drawn = carver.take<uint32_t>(tiles);
        finished = carver.take<uint32_t>(tiles);
        finish_at = carver.take<uint32_t>(tiles * TILE * TILE);
        finish_who = carver.take<uint16_t>(tiles * TILE * TILE);
        entries = carver.take<uint64_t>(pairs);
        masks = carver.take<uint64_t>(2 * pairs);
        bytes = carver.used();
    }
};

// One instruction set's kernels. Tasks write to disjoint memory.
struct Kernels {
    const char* name;
    int lanes;  // pixels in a block
    void (*project)(const dgr_problem&, const Geometry&, int32_t* radii, int64_t chunk);
    void (*render_tile)(const dgr_problem&, const Geometry&, const Binning&, const dgr_images&,
                        int64_t tile);
    void (*backward_tile)(const dgr_problem&, const Geometry&, const Binning&,
                          const float* transmittance, const dgr_image_grads&, float* rows,
                          int64_t tile);
    void (*backward_splats)(const dgr_problem&, const Geometry&, const float* rows,
                            const dgr_grads&, int64_t chunk);
    double (*floor_forward)(int repeats);
    double (*floor_backward)(int repeats);
};

#if defined(__x86_64__) && !defined(DGR_PORTABLE)
extern const Kernels kernels_v2, kernels_v3, kernels_v4;
#else
extern const Kernels kernels_portable;
#endif

}  // namespace dgr

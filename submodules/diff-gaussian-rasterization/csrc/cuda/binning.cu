// From instances to the list of each tile: sorted by depth once, then by tile.
// SPDX-License-Identifier: Apache-2.0
//
// The depth sort runs over the instances (32-bit keys), the tile sort over the pairs with only as
// many key bits as there are tiles. Both are stable, so a tile's list is ordered by (depth, index);
// one 64-bit sort over the pairs, the usual way, moves about three times the bytes.
#include "algorithms.cuh"
#include "stages.h"

namespace dgr {

cudaError_t geometry_temporary_bytes(const dgr_problem& p, size_t& bytes) {
    const int64_t n = instances(p);
    size_t sort = 0, sum = 0;
    cudaError_t asked = n == 0 ? cudaSuccess : sort_pairs_bytes(n, sort);
    if (n > 0 && asked == cudaSuccess) asked = exclusive_sum_bytes(n, sum);
    bytes = sort > sum ? sort : sum;
    return asked;
}

cudaError_t binning_temporary_bytes(int64_t pairs, size_t& bytes) {
    bytes = 0;
    return pairs == 0 ? cudaSuccess : sort_pairs_bytes(pairs, bytes);
}

namespace {

__global__ void gather_counts_kernel(Geometry g, int64_t n) {
    const int64_t i = global_thread();
    if (i < n) g.sorted_counts[i] = g.counts[g.order[i]];
}

__global__ void __launch_bounds__(kBlock)
    write_pairs_kernel(Geometry g, Binning b, int64_t instances, int gaussians, int columns,
                       int per_view) {
    const int64_t i = global_thread();
    const bool any = i < instances && g.sorted_counts[i] > 0;
    Splat splat{};
    TileRect rect{};
    uint32_t instance = 0, out = 0;
    if (any) {
        instance = g.order[i];
        out = g.offsets[i];
        splat = load_splat(g.splats, instance);
        rect = g.rects[instance];
    }
    const TileJob job{reach_of(splat), rect, instance, out};
    for_each_tile(job, [&](const TileJob& j, int tile_x, int tile_y, uint32_t k) {
        b.keys[j.out + k] = j.tag / gaussians * per_view + tile_y * columns + tile_x;
        b.instances[j.out + k] = j.tag;
    });
}

__global__ void find_ranges_kernel(Binning b, int64_t pairs) {
    const int64_t i = global_thread();
    if (i >= pairs) return;
    const uint32_t key = b.sorted_keys[i];
    if (i == 0 || b.sorted_keys[i - 1] != key) b.ranges[key].x = static_cast<uint32_t>(i);
    if (i == pairs - 1 || b.sorted_keys[i + 1] != key)
        b.ranges[key].y = static_cast<uint32_t>(i + 1);
}

int bits_of(int64_t largest) {
    int bits = 1;
    while (largest >> bits) ++bits;
    return bits;
}

}  // namespace

cudaError_t launch_depth_order(const dgr_problem& p, const Geometry& g, size_t temporary_bytes,
                               cudaStream_t stream) {
    const int64_t n = instances(p);
    if (n == 0) return cudaSuccess;
    const cudaError_t sorted = sort_pairs(g.temporary, temporary_bytes, g.depths, g.sorted_depths,
                                          g.numbers, g.order, n, 32, stream);
    if (sorted != cudaSuccess) return sorted;
    launch(gather_counts_kernel, blocks_for(n), kBlock, stream, g, n);
    return exclusive_sum(g.temporary, temporary_bytes, g.sorted_counts, g.offsets, n, stream);
}

cudaError_t launch_binning(const dgr_problem& p, const Geometry& g, const Binning& b,
                           size_t temporary_bytes, int64_t pairs, cudaStream_t stream) {
    const Tiling tiling(p);
    cudaMemsetAsync(b.ranges, 0, static_cast<size_t>(tiling.all) * sizeof(uint2), stream);
    if (pairs == 0) return cudaSuccess;
    launch(write_pairs_kernel, blocks_for(instances(p)), kBlock, stream, g, b, instances(p),
           p.gaussians, tiling.columns, tiling.per_view);
    const cudaError_t sorted =
        sort_pairs(b.temporary, temporary_bytes, b.keys, b.sorted_keys, b.instances,
                   b.sorted_instances, pairs, bits_of(tiling.all - 1), stream);
    if (sorted != cudaSuccess) return sorted;
    launch(find_ranges_kernel, blocks_for(pairs), kBlock, stream, b, pairs);
    return cudaSuccess;
}

}  // namespace dgr

// The two device-wide algorithms, from CUB. SPDX-License-Identifier: Apache-2.0
//
// Each call, the questions for sizes too, takes an error that it finds in cudaGetLastError for its
// own: it clears it, returns it and does nothing else. So what it returns is always looked at; it
// does not show in cudaGetLastError.
#pragma once

#include "platform.cuh"

#ifndef DGR_EMULATED
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

namespace dgr {

/// Stable, by the lowest `bits` bits of the keys. n < 2^31 everywhere here: CUB is faster with
/// 32-bit offsets.
inline cudaError_t sort_pairs(void* temporary, size_t bytes, const uint32_t* keys,
                              uint32_t* sorted_keys, const uint32_t* values,
                              uint32_t* sorted_values, int64_t n, int bits, cudaStream_t stream) {
    return cub::DeviceRadixSort::SortPairs(temporary, bytes, keys, sorted_keys, values,
                                           sorted_values, static_cast<int>(n), 0, bits, stream);
}

inline cudaError_t sort_pairs_bytes(int64_t n, size_t& bytes) {
    const uint32_t* in = nullptr;
    uint32_t* out = nullptr;
    return cub::DeviceRadixSort::SortPairs(nullptr, bytes, in, out, in, out, static_cast<int>(n), 0,
                                           32);
}

inline cudaError_t exclusive_sum(void* temporary, size_t bytes, const uint32_t* values,
                                 uint32_t* sums, int64_t n, cudaStream_t stream) {
    return cub::DeviceScan::ExclusiveSum(temporary, bytes, values, sums, static_cast<int>(n),
                                         stream);
}

inline cudaError_t exclusive_sum_bytes(int64_t n, size_t& bytes) {
    const uint32_t* in = nullptr;
    uint32_t* out = nullptr;
    return cub::DeviceScan::ExclusiveSum(nullptr, bytes, in, out, static_cast<int>(n));
}

}  // namespace dgr
#endif

// The one file that knows whether a GPU or the host emulation runs the kernels.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../dgr.h"

#ifdef DGR_EMULATED
#include "../emulation/emulated_cuda.h"
#else
#include <cuda_runtime.h>

#include <utility>

// A block's shared memory: one struct per kernel.
#define DGR_SHARED(Type, name) __shared__ Type name

namespace dgr {

constexpr const char* kBackendName = "cuda";

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, cudaStream_t stream,
            Arguments&&... arguments) {
    if (blocks > 0) {
        kernel<<<static_cast<unsigned>(blocks), threads, 0, stream>>>(
            std::forward<Arguments>(arguments)...);
    }
}

/// 2^x to 2 ulp; results below the smallest normal number become 0, where alpha is long below
/// 1/255.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// 1 / x to 1 ulp for normal x whose inverse is normal: the hardware's estimate and one Newton
/// step.
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return fmaf(y, fmaf(-x, y, 1.0f), y);
}

}  // namespace dgr
#endif

namespace dgr {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kBlock = 256;  // threads of every kernel here

inline int64_t blocks_for(int64_t threads) { return (threads + kBlock - 1) / kBlock; }

__device__ __forceinline__ int64_t global_thread() {
    return static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
}
__device__ __forceinline__ int lane_of_thread() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ float clampf(float x, float low, float high) {
    return fminf(fmaxf(x, low), high);
}

/// The trivially copyable `value` of lane `source`, word by word. All lanes take part.
template <typename T>
__device__ __forceinline__ T from_lane(const T& value, int source) {
    static_assert(sizeof(T) % sizeof(int) == 0, "whole words");
    constexpr int kWords = sizeof(T) / sizeof(int);
    int words[kWords];
    memcpy(words, &value, sizeof(T));
#pragma unroll
    for (int i = 0; i < kWords; ++i) words[i] = __shfl_sync(kAllLanes, words[i], source);
    T result;
    memcpy(&result, words, sizeof(T));
    return result;
}

}  // namespace dgr

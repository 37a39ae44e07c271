// Just enough of CUDA for the kernels of csrc/cuda to run on a CPU.
// SPDX-License-Identifier: Apache-2.0
//
// Blocks run one after another. The threads of a block are fibers on one host thread: each runs
// until it waits for its warp (shuffles, votes) or its block (__syncthreads), then the next one
// runs. What a GPU leaves undefined stops the program with a sentence: a full-mask warp operation
// that not all lanes reach, lanes that meet in different operations, a barrier that not all threads
// reach. Shared memory is filled with 0xff bytes (NaN) before each block. The order in which fibers
// get their turn is chosen by DGR_EMULATION_ORDER: forward (the default; the first warp runs until
// it waits for the block, then the second), backward (the last warp first) or shuffled (all threads
// in turn, in random order). A kernel that lacks a barrier gives wrong or different results under
// them. Any call of the runtime or of CUB can be made to fail once, and then leaves its error
// behind as the real one does.
//
// This is for tests: it says whether the logic is right, nothing about speed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct uint2 {
    uint32_t x, y;
};

namespace dgr::emulation {

struct Index {
    unsigned x;
};

enum class WarpOperation { none, shuffle, shuffle_xor, ballot };

/// The running thread's coordinates; set by the scheduler whenever a fiber gets its turn.
extern Index thread_index, block_index;

void run_grid(int64_t blocks, int threads, const std::function<void()>& kernel);

/// The block's shared memory, at least `bytes` large.
void* shared_memory(size_t bytes);

/// Waits for the block; returns the number of its threads whose predicate is not zero.
int block_barrier(int predicate);

/// Leaves `word` for the other lanes, waits for all 32, and returns what they left. The array stays
/// valid until this lane's next warp operation.
const uint32_t* warp_exchange(WarpOperation operation, uint32_t word);

[[noreturn]] void stop(const char* sentence);

template <typename T>
T shuffled(WarpOperation operation, T value, int source) {
    static_assert(sizeof(T) == 4, "one word");
    uint32_t word;
    std::memcpy(&word, &value, 4);
    const uint32_t received = warp_exchange(operation, word)[source & 31];
    std::memcpy(&value, &received, 4);
    return value;
}

}  // namespace dgr::emulation

#define threadIdx (dgr::emulation::thread_index)
#define blockIdx (dgr::emulation::block_index)
#define DGR_SHARED(Type, name) \
    Type& name = *static_cast<Type*>(dgr::emulation::shared_memory(sizeof(Type)))

inline void __syncthreads() { dgr::emulation::block_barrier(0); }
inline int __syncthreads_count(int predicate) { return dgr::emulation::block_barrier(predicate); }

inline unsigned __ballot_sync(unsigned, bool predicate) {
    const uint32_t* words =
        dgr::emulation::warp_exchange(dgr::emulation::WarpOperation::ballot, predicate);
    unsigned mask = 0;
    for (int lane = 0; lane < 32; ++lane) mask |= words[lane] << lane;
    return mask;
}
inline bool __any_sync(unsigned mask, bool predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
inline bool __all_sync(unsigned mask, bool predicate) {
    return __ballot_sync(mask, predicate) == 0xffffffffu;
}

template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
    return dgr::emulation::shuffled(dgr::emulation::WarpOperation::shuffle, value, lane);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int bits) {
    const int lane = static_cast<int>(threadIdx.x % 32) ^ bits;
    return dgr::emulation::shuffled(dgr::emulation::WarpOperation::shuffle_xor, value, lane);
}

template <typename T>
T atomicAdd(T* where, T value) {
    const T before = *where;
    *where = before + value;
    return before;
}
inline int atomicMin(int* where, int value) {
    const int before = *where;
    *where = std::min(before, value);
    return before;
}

// The file is compiled without contraction of a * b + c, so plain operators round once each, as
// these promise.
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(unsigned x) { return __builtin_ffs(static_cast<int>(x)); }
inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
template <typename T>
T min(T a, T b) {
    return std::min(a, b);
}
template <typename T>
T max(T a, T b) {
    return std::max(a, b);
}

// The runtime: all memory is the host's, a stream is nothing, every call is over when it returns.
typedef void* cudaStream_t;
typedef void* cudaEvent_t;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyDeviceToHost };
enum cudaMemoryType { cudaMemoryTypeDevice, cudaMemoryTypeManaged };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
enum { cudaEventDisableTiming, cudaHostAllocPortable };
struct cudaPointerAttributes {
    cudaMemoryType type;
    int device;
};

namespace dgr::emulation {

/// A thread's side of the runtime; tests set it (dgr_emulated_runtime in backend.cpp).
struct Runtime {
    char
        failing[32];  // the call that fails the next time, by its name here; "launch" is a kernel's
    int last_error;   // what cudaGetLastError will return and clear
    int capturing;    // whether streams are being captured
    int device;       // the current one; all memory is on device 0
};
inline thread_local Runtime runtime{};

/// What a call returns; an error stays behind too, as the runtime leaves it.
inline cudaError_t result_of(const char* call, cudaError_t error = cudaSuccess) {
    if (std::strcmp(runtime.failing, call) == 0) {
        runtime.failing[0] = 0;
        error = cudaErrorInvalidValue;
    }
    if (error != cudaSuccess) runtime.last_error = error;
    return error;
}

}  // namespace dgr::emulation

inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline const char* cudaGetErrorName(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetLastError() {
    const cudaError_t error = static_cast<cudaError_t>(dgr::emulation::runtime.last_error);
    dgr::emulation::runtime.last_error = cudaSuccess;
    return error;
}
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void*) {
    *attributes = {cudaMemoryTypeDevice, 0};
    return dgr::emulation::result_of("cudaPointerGetAttributes");
}
inline cudaError_t cudaGetDevice(int* device) {
    *device = dgr::emulation::runtime.device;
    return dgr::emulation::result_of("cudaGetDevice");
}
inline cudaError_t cudaSetDevice(int device) {
    const cudaError_t error = dgr::emulation::result_of("cudaSetDevice");
    if (error == cudaSuccess) dgr::emulation::runtime.device = device;
    return error;
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    *status = dgr::emulation::runtime.capturing ? cudaStreamCaptureStatusActive
                                                : cudaStreamCaptureStatusNone;
    return dgr::emulation::result_of("cudaStreamIsCapturing");
}
inline cudaError_t cudaHostAlloc(void** memory, size_t bytes, int) {
    const cudaError_t error = dgr::emulation::result_of("cudaHostAlloc");
    if (error == cudaSuccess) *memory = std::malloc(bytes);
    return error != cudaSuccess || *memory != nullptr ? error : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, int) {
    *event = nullptr;
    return dgr::emulation::result_of("cudaEventCreateWithFlags");
}
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
    return dgr::emulation::result_of("cudaEventRecord");
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) {
    return dgr::emulation::result_of("cudaEventSynchronize");
}
inline cudaError_t cudaEventDestroy(cudaEvent_t) {
    return dgr::emulation::result_of("cudaEventDestroy");
}
inline cudaError_t cudaMemsetAsync(void* where, int value, size_t bytes, cudaStream_t) {
    std::memset(where, value, bytes);
    return dgr::emulation::result_of("cudaMemsetAsync");
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
    std::memcpy(to, from, bytes);
    return dgr::emulation::result_of("cudaMemcpyAsync");
}

namespace dgr {

constexpr const char* kBackendName = "emulated";

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, cudaStream_t,
            const Arguments&... arguments) {
    if (emulation::result_of("launch") != cudaSuccess) return;
    emulation::run_grid(blocks, threads, [&] { kernel(arguments...); });
}

/// As inexact as the hardware's may be: off by -2 to 2 ulp, the same for the same x.
inline float exp2_fast(float x) {
    const float exact = std::exp2(x);
    uint32_t bits = __float_as_uint(exact);
    if (exact < 1e-30f) return exact;
    bits += __float_as_uint(x) * 2654435761u % 5u - 2u;
    float result;
    std::memcpy(&result, &bits, 4);
    return result;
}

inline float reciprocal(float x) { return 1.0f / x; }

/// CUB's own: an error that lies about, from whatever call, is cleared and becomes the result.
inline cudaError_t cub_result(const char* call) {
    const cudaError_t error = emulation::result_of(call), left = cudaGetLastError();
    return error == cudaSuccess ? left : error;
}

// Made up but for their growth with n, as CUB's is. They are written, so that a sanitizer sees an
// overrun.
inline size_t bytes_to_sort(int64_t n) { return 8 * static_cast<size_t>(n) + 1; }
inline size_t bytes_to_sum(int64_t n) { return static_cast<size_t>(n) / 32 + 1; }

inline cudaError_t sort_pairs_bytes(int64_t n, size_t& bytes) {
    const cudaError_t error = cub_result("sort_pairs_bytes");
    if (error == cudaSuccess) bytes = bytes_to_sort(n);
    return error;
}

inline cudaError_t exclusive_sum_bytes(int64_t n, size_t& bytes) {
    const cudaError_t error = cub_result("exclusive_sum_bytes");
    if (error == cudaSuccess) bytes = bytes_to_sum(n);
    return error;
}

inline cudaError_t sort_pairs(void* temporary, size_t bytes, const uint32_t* keys,
                              uint32_t* sorted_keys, const uint32_t* values,
                              uint32_t* sorted_values, int64_t n, int bits, cudaStream_t) {
    const cudaError_t error = cub_result("sort_pairs");
    if (error != cudaSuccess || bytes < bytes_to_sort(n))
        return error != cudaSuccess ? error : cudaErrorInvalidValue;
    std::memset(temporary, 0xff, bytes_to_sort(n));
    const uint32_t mask = bits == 32 ? 0xffffffffu : (1u << bits) - 1u;
    std::vector<int64_t> order(n);
    for (int64_t i = 0; i < n; ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [=](int64_t a, int64_t b) { return (keys[a] & mask) < (keys[b] & mask); });
    for (int64_t i = 0; i < n; ++i) {
        sorted_keys[i] = keys[order[i]];
        sorted_values[i] = values[order[i]];
    }
    return cudaSuccess;
}

inline cudaError_t exclusive_sum(void* temporary, size_t bytes, const uint32_t* values,
                                 uint32_t* sums, int64_t n, cudaStream_t) {
    const cudaError_t error = cub_result("exclusive_sum");
    if (error != cudaSuccess || bytes < bytes_to_sum(n))
        return error != cudaSuccess ? error : cudaErrorInvalidValue;
    std::memset(temporary, 0xff, bytes_to_sum(n));
    uint32_t sum = 0;
    for (int64_t i = 0; i < n; ++i) {
        sums[i] = sum;
        sum += values[i];
    }
    return cudaSuccess;
}

}  // namespace dgr

// C interface of simple_knn. Plain pointers: any caller that can load a shared library can use it.
#pragma once
#include <cstdint>

#if defined(_WIN32)
#define KNN_EXPORT extern "C" __declspec(dllexport)
#else
#define KNN_EXPORT extern "C" __attribute__((visibility("default")))
#endif

/// Mean of the squared distances to the `k` nearest other points.
///
/// points   [n,3] float32, row-major, finite
/// n        >= 0
/// k        1..64; with fewer than k other points the mean is over those that exist, 0 when there
/// are none threads  >= 1; the result does not depend on it out      [n] float32
///
/// Returns 0, or 1 on a bad argument, 2 when memory ran out.
KNN_EXPORT int knn_mean_squared_distance(const float* points, int64_t n, int32_t k, int32_t threads,
                                         float* out);

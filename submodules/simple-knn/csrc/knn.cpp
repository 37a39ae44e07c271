// Argument checks and the choice of the instruction set.
#include "knn.h"

#include <new>

#include "kernel.h"

KNN_EXPORT int knn_mean_squared_distance(const float* points, int64_t n, int32_t k, int32_t threads,
                                         float* out) {
    constexpr int64_t kMostPoints = INT32_MAX - 8;  // indices are 32-bit
    if (n < 0 || n > kMostPoints || k < 1 || k > knn::kMaxNeighbours || threads < 1) return 1;
    if (n == 0) return 0;
    if (points == nullptr || out == nullptr) return 1;
    try {
#ifdef KNN_HAVE_X86_64_V3
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
            knn::x86_64_v3::mean_squared_distance(points, n, k, threads, out);
            return 0;
        }
#endif
        knn::base::mean_squared_distance(points, n, k, threads, out);
    } catch (const std::bad_alloc&) { return 2; }
    return 0;
}

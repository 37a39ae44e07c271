// The search, compiled once per instruction set; `KNN_ISA` names the namespace of this compilation.
#pragma once
#include <cstdint>

namespace knn {
constexpr int kMaxNeighbours = 64;
namespace base {
void mean_squared_distance(const float* points, int64_t n, int k, int threads, float* out);
}
namespace x86_64_v3 {
void mean_squared_distance(const float* points, int64_t n, int k, int threads, float* out);
}
}  // namespace knn

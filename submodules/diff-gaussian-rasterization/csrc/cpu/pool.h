// A persistent thread pool: no OpenMP, since torch brings its own and its spinning is ruinous on
// shared machines. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgr {

using Task = void (*)(const void* context, int64_t index);

// Calls task(context, i) once for every i in [0, count) from at most `threads` threads (the caller
// is one of them) and returns when all calls have. Which thread takes which index is not fixed:
// tasks write to disjoint memory.
void parallel_for(int64_t count, int threads, Task task, const void* context);

// The same for a callable.
template <class F>
void parallel(int64_t count, int threads, const F& body) {
    parallel_for(
        count, threads,
        [](const void* context, int64_t i) { (*static_cast<const F*>(context))(i); }, &body);
}

}  // namespace dgr

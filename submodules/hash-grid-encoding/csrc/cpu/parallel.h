// Loops over tasks on several threads, started anew for each loop: those take milliseconds, a
// thread some ten microseconds, and a forked child has nothing to lose. No OpenMP, since torch
// brings its own. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace hge {

// Calls task(i) once for every i in [0, count); which thread takes which is not fixed: tasks write
// to disjoint memory.
template <class F>
void parallel(int64_t count, int threads, const F& task) {
    std::atomic<int64_t> next{0};
    const auto take = [&] {
        for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(i);
    };
    std::vector<std::thread> helpers;
    try {
        for (int64_t h = 1; h < threads && h < count; ++h) helpers.emplace_back(take);
    } catch (const std::system_error&) {
        // Fewer helpers than asked for: the others do their work.
    }
    take();
    for (auto& helper : helpers) helper.join();
}

}  // namespace hge

// SPDX-License-Identifier: Apache-2.0
#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace dgr {
namespace {

class Pool {
  public:
    // One loop at a time: a second caller finds the pool busy and runs its own loop alone.
    void run(int64_t count, int threads, Task task, const void* context) {
        std::unique_lock<std::mutex> busy(busy_, std::try_to_lock);
        if (!busy.owns_lock()) {
            for (int64_t i = 0; i < count; ++i) task(context, i);
            return;
        }
        const int helpers = grow(static_cast<int>(count < threads ? count : threads) - 1);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            task_ = task, context_ = context, count_ = count, next_ = 0;
            wanted_ = running_ = helpers;
            ++generation_;
        }
        wake_.notify_all();
        take();
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return running_ == 0; });
    }

  private:
    // Starts missing workers; fewer than asked for where the system refuses.
    int grow(int helpers) {
        try {
            while (static_cast<int>(workers_.size()) < helpers) {
                const int id = static_cast<int>(workers_.size());
                workers_.emplace_back([this, id, seen = generation_]() mutable { work(id, seen); });
            }
        } catch (const std::system_error&) {
            helpers = static_cast<int>(workers_.size());
        }
        return helpers;
    }

    void take() {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(context_, i);
    }

    void work(int id, uint64_t seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            if (id >= wanted_) continue;
            lock.unlock();
            take();
            lock.lock();
            if (--running_ == 0) done_.notify_one();
        }
    }

    std::mutex busy_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    uint64_t generation_ = 0;
    int wanted_ = 0, running_ = 0;
    Task task_ = nullptr;
    const void* context_ = nullptr;
    int64_t count_ = 0;
    std::atomic<int64_t> next_{0};
};

// Never destroyed: workers sleep until the process ends. A forked child has none of them and starts over with a new pool.
Pool* pool = nullptr;

void renew() { pool = new (std::nothrow) Pool; }

Pool* shared_pool() {
    static const bool ready = [] {
        renew();
#ifndef _WIN32
        pthread_atfork(nullptr, nullptr, renew);
#endif
        return true;
    }();
    return ready ? pool : nullptr;
}

}  // namespace

void parallel_for(int64_t count, int threads, Task task, const void* context) {
    Pool* shared = threads > 1 && count > 1 ? shared_pool() : nullptr;
    if (shared != nullptr) return shared->run(count, threads, task, context);
    for (int64_t i = 0; i < count; ++i) task(context, i);
}

}  // namespace dgr

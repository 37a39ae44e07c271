// SPDX-License-Identifier: Apache-2.0
#include "pool.h"

#include <atomic>
#include <chrono>
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

// Tells the core that this is a loop of waiting.
inline void breathe() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// How long a thread looks out for work, or for the end of it, before it sleeps: the loops of one
// pass follow one another within some ten microseconds, and to be woken takes as long. Short enough
// that a machine with other work to do loses nothing by it.
constexpr std::chrono::microseconds LOOKOUT{50};

template <class Done>
void look_out(const Done& done) {
    const auto end = std::chrono::steady_clock::now() + LOOKOUT;
    while (!done() && std::chrono::steady_clock::now() < end) {
        for (int i = 0; i < 16 && !done(); ++i) breathe();
    }
}

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
            places_ = helpers;
            generation_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        take();
        // Whoever has not come by now is not waited for.
        std::unique_lock<std::mutex> lock(mutex_);
        places_ = 0;
        if (working_ == 0) return;
        lock.unlock();
        look_out([this] { return working_.load(std::memory_order_acquire) == 0; });
        lock.lock();
        done_.wait(lock, [this] { return working_ == 0; });
    }

  private:
    // Starts missing workers; fewer than asked for where the system refuses.
    int grow(int helpers) {
        try {
            while (static_cast<int>(workers_.size()) < helpers) {
                workers_.emplace_back([this, seen = generation_.load()]() mutable { work(seen); });
            }
        } catch (const std::system_error&) { helpers = static_cast<int>(workers_.size()); }
        return helpers;
    }

    void take() {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;)
            task_(context_, i);
    }

    void work(uint64_t seen) {
        const auto is_called = [&] { return generation_.load(std::memory_order_acquire) != seen; };
        for (;;) {
            look_out(is_called);
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, is_called);
            seen = generation_;
            if (places_ == 0) continue;
            --places_, ++working_;
            lock.unlock();
            take();
            lock.lock();
            if (--working_ == 0) done_.notify_one();
        }
    }

    std::mutex busy_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    std::atomic<uint64_t> generation_{0};  // of loops; changed, as all below, under the mutex
    std::atomic<int> working_{0};          // helpers in the loop
    int places_ = 0;                       // helpers that may still join it
    Task task_ = nullptr;
    const void* context_ = nullptr;
    int64_t count_ = 0;
    std::atomic<int64_t> next_{0};
};

// Never destroyed: workers sleep until the process ends. A forked child has none of them and starts
// over with a new pool.
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

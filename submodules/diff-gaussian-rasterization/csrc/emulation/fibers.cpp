// The scheduler of emulated_cuda.h. SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "emulated_cuda.h"

#if defined(__x86_64__) && !defined(_WIN32)
#define DGR_OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

namespace dgr::emulation {

Index thread_index{}, block_index{};

namespace {

constexpr int kWarpLanes = 32, kMaxThreads = 1024;
constexpr size_t kStackBytes = 64 * 1024, kSharedBytes = 48 * 1024;

#ifdef DGR_OWN_SWITCH
// Saves what the System V ABI wants saved, exchanges the stacks, restores: forty times faster than
// swapcontext, which asks the kernel for the signal mask each time.
extern "C" void dgr_switch_stack(void** save, void* load);
asm(R"(
.text
.globl dgr_switch_stack
.hidden dgr_switch_stack
.type dgr_switch_stack, @function
dgr_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size dgr_switch_stack, .-dgr_switch_stack
)");

struct Context {
    void* stack_pointer = nullptr;

    void prepare(char* stack, void (*entry)()) {
        // As if `entry` had been called from nowhere: the (empty) return address 8 bytes off a
        // multiple of 16, as the ABI wants it on entry, and below it what dgr_switch_stack pops.
        void** top = reinterpret_cast<void**>(stack + kStackBytes - 24);
        *top = nullptr;
        *--top = reinterpret_cast<void*>(entry);
        for (int i = 0; i < 6; ++i) *--top = nullptr;
        stack_pointer = top;
    }
    void switch_to(Context& next) { dgr_switch_stack(&stack_pointer, next.stack_pointer); }
};
#else
struct Context {
    ucontext_t context;

    void prepare(char* stack, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = kStackBytes;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    void switch_to(Context& next) { swapcontext(&context, &next.context); }
};
#endif

enum class State { ready, waits_for_warp, waits_for_block, done };

struct Fiber {
    Context context;
    State state = State::done;
};

struct Warp {
    uint32_t words[2][kWarpLanes];  // two sets: a slow lane may still read the one while a fast
                                    // lane writes the other
    int set = 0, arrived = 0;
    WarpOperation operation = WarpOperation::none;
};

struct Block {
    Fiber fibers[kMaxThreads];
    Warp warps[kMaxThreads / kWarpLanes];
    int order[kMaxThreads];  // whose turn comes when
    int place[kMaxThreads];  // where each thread stands in it
    bool by_warps = true;    // a warp goes on as long as one of its threads can
    int threads = 0, running = 0, finished = 0, arrived = 0, sum = 0, result = 0;
    const std::function<void()>* kernel = nullptr;
    Context scheduler;
    std::unique_ptr<char[]> stacks{new char[kMaxThreads * kStackBytes]};
    alignas(256) char shared[kSharedBytes];
};

Block* block = nullptr;
std::mutex one_grid_at_a_time;

/// The thread whose turn comes after the running one's, or -1 where none can run.
int next_thread() {
    const int first = block->running / kWarpLanes * kWarpLanes;
    for (int k = 1; block->by_warps && k <= kWarpLanes; ++k) {
        const int next = first + (block->running + k) % kWarpLanes;
        if (next < block->threads && block->fibers[next].state == State::ready) return next;
    }
    for (int k = 1; k <= block->threads; ++k) {
        const int next = block->order[(block->place[block->running] + k) % block->threads];
        if (block->fibers[next].state == State::ready) return next;
    }
    return -1;
}

/// Gives the turn away; returns when it comes back.
void yield() {
    Context& mine = block->fibers[block->running].context;
    const int next = next_thread();
    if (next == block->running) return;
    if (next >= 0) {
        block->running = next;
        thread_index.x = static_cast<unsigned>(next);
        mine.switch_to(block->fibers[next].context);
    } else if (block->finished == block->threads) {
        mine.switch_to(block->scheduler);
    } else {
        stop("deadlock: some threads wait at a barrier or warp operation that others do not reach");
    }
}

void fiber_main() {
    (*block->kernel)();
    block->fibers[block->running].state = State::done;
    ++block->finished;
    yield();
    stop("a finished thread was resumed");
}

/// Whose turn comes when: by DGR_EMULATION_ORDER.
void choose_order(int64_t number) {
    const char* wish = std::getenv("DGR_EMULATION_ORDER");
    const bool backward = wish != nullptr && std::strcmp(wish, "backward") == 0;
    const bool shuffled = wish != nullptr && std::strcmp(wish, "shuffled") == 0;
    block->by_warps = !shuffled;
    uint64_t random = 0x9e3779b97f4a7c15ull * static_cast<uint64_t>(number + 1);
    for (int i = 0; i < block->threads; ++i)
        block->order[i] = backward ? block->threads - 1 - i : i;
    for (int i = block->threads - 1; shuffled && i > 0; --i) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        std::swap(block->order[i], block->order[(random >> 33) % static_cast<uint64_t>(i + 1)]);
    }
    for (int i = 0; i < block->threads; ++i) block->place[block->order[i]] = i;
}

void run_block(int64_t number) {
    block_index.x = static_cast<unsigned>(number);
    block->finished = block->arrived = block->sum = 0;
    std::memset(block->shared, 0xff, kSharedBytes);
    choose_order(number);
    for (int w = 0; w * kWarpLanes < block->threads; ++w) block->warps[w] = Warp{};
    for (int i = 0; i < block->threads; ++i) {
        block->fibers[i].state = State::ready;
        block->fibers[i].context.prepare(block->stacks.get() + i * kStackBytes, fiber_main);
    }
    block->running = block->order[0];
    thread_index.x = static_cast<unsigned>(block->running);
    block->scheduler.switch_to(block->fibers[block->running].context);
}

}  // namespace

void stop(const char* sentence) {
    std::fprintf(stderr, "emulated CUDA, block %u, thread %u: %s\n", block_index.x, thread_index.x,
                 sentence);
    std::abort();
}

void run_grid(int64_t blocks, int threads, const std::function<void()>& kernel) {
    const std::lock_guard<std::mutex> lock(one_grid_at_a_time);
    static const std::unique_ptr<Block> the_block(new Block);
    if (threads < 1 || threads > kMaxThreads) stop("a block has 1 to 1024 threads");
    block = the_block.get();
    block->threads = threads;
    block->kernel = &kernel;
    for (int64_t i = 0; i < blocks; ++i) run_block(i);
}

void* shared_memory(size_t bytes) {
    if (bytes > kSharedBytes) stop("a block has 48 KiB of shared memory");
    return block->shared;
}

int block_barrier(int predicate) {
    block->sum += predicate != 0;
    if (++block->arrived < block->threads) {
        block->fibers[block->running].state = State::waits_for_block;
        yield();
        return block->result;
    }
    block->result = block->sum;
    block->arrived = block->sum = 0;
    for (int i = 0; i < block->threads; ++i) {
        if (block->fibers[i].state == State::waits_for_block) block->fibers[i].state = State::ready;
    }
    const int result = block->result;
    yield();  // so that nobody always runs on first after a barrier
    return result;
}

const uint32_t* warp_exchange(WarpOperation operation, uint32_t word) {
    const int lane = block->running % kWarpLanes, first = block->running - lane;
    if (block->threads < first + kWarpLanes)
        stop("a full-mask operation in a warp of fewer than 32 lanes");
    Warp& warp = block->warps[first / kWarpLanes];
    if (warp.arrived == 0) warp.operation = operation;
    if (warp.operation != operation) stop("the lanes of a warp meet in different operations");
    const uint32_t* words = warp.words[warp.set];
    warp.words[warp.set][lane] = word;
    if (++warp.arrived < kWarpLanes) {
        block->fibers[block->running].state = State::waits_for_warp;
        yield();
        return words;
    }
    warp.arrived = 0;
    warp.set ^= 1;
    for (int i = first; i < first + kWarpLanes; ++i) {
        if (block->fibers[i].state == State::waits_for_warp) block->fibers[i].state = State::ready;
    }
    return words;
}

}  // namespace dgr::emulation

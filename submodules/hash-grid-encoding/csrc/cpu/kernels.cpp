// The kernels, compiled once for every instruction set. SPDX-License-Identifier: Apache-2.0
#include "kernels.h"

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HGE_JOIN_(a, b) a##b
#define HGE_JOIN(a, b) HGE_JOIN_(a, b)

namespace hge {
namespace HGE_JOIN(isa_, HGE_ARCH) {

#include "simd.h"

#include "place.h"

#include "row.h"

#include "grid.h"
#include "scatter.h"
#include "mlp.h"
#include "turn.h"
#include "cells.h"
#include "floor.h"

}  // namespace HGE_JOIN(isa_,HGE_ARCH)

extern const Kernels HGE_JOIN(kernels_, HGE_ARCH) = {
    HGE_NAME,
    HGE_JOIN(isa_, HGE_ARCH)::LANES,
    HGE_JOIN(isa_, HGE_ARCH)::encode,
    HGE_JOIN(isa_, HGE_ARCH)::scatter,
    HGE_JOIN(isa_, HGE_ARCH)::pull,
    HGE_JOIN(isa_, HGE_ARCH)::mlp,
    HGE_JOIN(isa_, HGE_ARCH)::turn,
    HGE_JOIN(isa_, HGE_ARCH)::cells,
    HGE_JOIN(isa_, HGE_ARCH)::floor_gather,
    HGE_JOIN(isa_, HGE_ARCH)::floor_add,
};

}  // namespace hge

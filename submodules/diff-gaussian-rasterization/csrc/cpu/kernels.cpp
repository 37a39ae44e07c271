// All kernels, compiled once per instruction set: -DDGR_ARCH=v3 and the matching flags. Nothing
// here may run when the library is loaded, and no function here may have a name that another
// instruction set's copy shares: everything is static or in the namespace of the instruction set,
// and no standard library template is used. SPDX-License-Identifier: Apache-2.0
#include "layout.h"

#ifndef DGR_LANES
#define DGR_LANES 8
#endif

namespace dgr {
namespace DGR_ARCH {
namespace {

#include "simd.h"

#include "harmonics.h"

#include "project.h"

#include "splats.h"

#include "blend.h"

#include "tiles.h"

#include "floor.h"

}  // namespace
}  // namespace DGR_ARCH

#define DGR_JOIN_(a, b) a##b
#define DGR_JOIN(a, b) DGR_JOIN_(a, b)

extern const Kernels DGR_JOIN(kernels_, DGR_ARCH) = {
    DGR_NAME,
    DGR_LANES,
    DGR_ARCH::project,
    DGR_ARCH::render_tile,
    DGR_ARCH::backward_tile,
    DGR_ARCH::backward_splats,
    DGR_ARCH::floor_forward,
    DGR_ARCH::floor_backward,
};

}  // namespace dgr

// What both backends say of a problem and of a status. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dgr.h"

namespace dgr {

/// Whether sizes and pointers are as dgr.h wants them on every backend. Reads the struct, none of
/// the arrays.
inline bool valid(const dgr_problem* p) {
    constexpr int32_t max_size = 32768;  // tile coordinates are kept in 16 bits
    if (p == nullptr || p->views < 1 || p->gaussians < 0) return false;
    if (p->width < 1 || p->height < 1 || p->width > max_size || p->height > max_size) return false;
    if (!p->view || !p->tan_half_fov || !p->background) return false;
    if (p->gaussians == 0) return true;
    if (!p->means || !p->opacities) return false;
    if ((p->quats != nullptr) != (p->scales != nullptr) ||
        (p->cov3d != nullptr) == (p->scales != nullptr))
        return false;
    if ((p->colors != nullptr) == (p->sh != nullptr)) return false;
    if (p->sh == nullptr) return true;
    return p->sh_degree >= 0 && p->sh_degree <= 3 &&
           p->sh_bases >= (p->sh_degree + 1) * (p->sh_degree + 1);
}

/// The sentence of dgr_message; what a device reported is for its backend to say.
inline const char* sentence(int status) {
    switch (status) {
        case DGR_OK:
            return "no error";
        case DGR_INVALID:
            return "a size or a combination of inputs is invalid";
        case DGR_TOO_MANY_PAIRS:
            return "more than 2^31 - 1 pairs of a splat and a tile: use fewer or smaller splats, "
                   "fewer views or a smaller image";
        case DGR_OUT_OF_MEMORY:
            return "out of memory";
        case DGR_DEVICE_ERROR:
            return "device error";
        case DGR_NONFINITE_MEANS:
            return "means contains NaN or infinity";
        case DGR_NONFINITE_QUATS:
            return "quats contains NaN or infinity";
        case DGR_NONFINITE_SCALES:
            return "scales contains NaN or infinity";
        case DGR_NONFINITE_COV3D:
            return "cov3d contains NaN or infinity";
        case DGR_NONFINITE_OPACITIES:
            return "opacities contains NaN or infinity";
        case DGR_NONFINITE_COLORS:
            return "colors contains NaN or infinity";
        case DGR_NONFINITE_SH:
            return "sh contains NaN or infinity";
        case DGR_NONFINITE_VIEW:
            return "view contains NaN or infinity";
        case DGR_NONFINITE_TAN_HALF_FOV:
            return "tan_half_fov contains NaN or infinity";
        case DGR_NONPOSITIVE_TAN_HALF_FOV:
            return "tan_half_fov must be positive";
        case DGR_NONFINITE_PROJ:
            return "proj contains NaN or infinity";
        case DGR_NONFINITE_POSITIONS:
            return "positions contains NaN or infinity";
        case DGR_NONFINITE_BACKGROUND:
            return "background contains NaN or infinity";
        default:
            return "unknown status";
    }
}

}  // namespace dgr

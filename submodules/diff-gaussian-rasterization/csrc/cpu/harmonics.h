// Real spherical harmonics to degree 3, eight directions at a time.
// SPDX-License-Identifier: Apache-2.0

constexpr float C0 = 0.28209479177387814f, C1 = 0.4886025119029199f;
constexpr float C20 = 1.0925484305920792f, C22 = 0.31539156525252005f, C24 = 0.5462742152960396f;
constexpr float C30 = 0.5900435899266435f, C31 = 2.890611442640554f, C32 = 0.4570457994644658f;
constexpr float C33 = 0.3731763325901154f, C35 = 1.445305721320277f;

struct Vec3 {
    f8 x, y, z;
};

// basis[0 .. (degree + 1)^2) at the unit vector d.
DGR_INLINE void sh_basis(const Vec3& d, int degree, f8* basis) {
    const f8 x = d.x, y = d.y, z = d.z;
    basis[0] = splat8(C0);
    if (degree < 1) return;
    basis[1] = -C1 * y;
    basis[2] = C1 * z;
    basis[3] = -C1 * x;
    if (degree < 2) return;
    const f8 xx = x * x, yy = y * y, zz = z * z;
    basis[4] = C20 * (x * y);
    basis[5] = -C20 * (y * z);
    basis[6] = C22 * (2.0f * zz - xx - yy);
    basis[7] = -C20 * (x * z);
    basis[8] = C24 * (xx - yy);
    if (degree < 3) return;
    basis[9] = -C30 * y * (3.0f * xx - yy);
    basis[10] = C31 * (x * y) * z;
    basis[11] = -C32 * y * (4.0f * zz - xx - yy);
    basis[12] = C33 * z * (2.0f * zz - 3.0f * xx - 3.0f * yy);
    basis[13] = -C32 * x * (4.0f * zz - xx - yy);
    basis[14] = C35 * z * (xx - yy);
    basis[15] = -C30 * x * (xx - 3.0f * yy);
}

// Gradient with respect to d of sum_k weight[3 k] basis_k(d): one channel of the coefficients.
DGR_INLINE Vec3 sh_gradient(const Vec3& d, int degree, const f8* weight) {
    Vec3 g = {f8{}, f8{}, f8{}};
    if (degree < 1) return g;
    const f8 x = d.x, y = d.y, z = d.z;
    g.x = -C1 * weight[9];
    g.y = -C1 * weight[3];
    g.z = C1 * weight[6];
    if (degree < 2) return g;
    g.x +=
        C20 * (y * weight[12] - z * weight[21]) + 2.0f * x * (C24 * weight[24] - C22 * weight[18]);
    g.y +=
        C20 * (x * weight[12] - z * weight[15]) - 2.0f * y * (C24 * weight[24] + C22 * weight[18]);
    g.z += 4.0f * C22 * z * weight[18] - C20 * (y * weight[15] + x * weight[21]);
    if (degree < 3) return g;
    const f8 xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
    g.x += -6.0f * C30 * xy * weight[27] + C31 * yz * weight[30] + 2.0f * C32 * xy * weight[33] -
           6.0f * C33 * xz * weight[36] - C32 * (4.0f * zz - 3.0f * xx - yy) * weight[39] +
           2.0f * C35 * xz * weight[42] - 3.0f * C30 * (xx - yy) * weight[45];
    g.y += -3.0f * C30 * (xx - yy) * weight[27] + C31 * xz * weight[30] -
           C32 * (4.0f * zz - xx - 3.0f * yy) * weight[33] - 6.0f * C33 * yz * weight[36] +
           2.0f * C32 * xy * weight[39] - 2.0f * C35 * yz * weight[42] +
           6.0f * C30 * xy * weight[45];
    g.z += C31 * xy * weight[30] - 8.0f * C32 * yz * weight[33] +
           C33 * (6.0f * zz - 3.0f * xx - 3.0f * yy) * weight[36] - 8.0f * C32 * xz * weight[39] +
           C35 * (xx - yy) * weight[42];
    return g;
}

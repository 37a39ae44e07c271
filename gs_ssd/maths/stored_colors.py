"""Colours as files store them, whatever numbers they use. Numpy alone."""

import numpy as np

BYTE, WORD = 255.0, 65535.0
BRIGHT = 16.0  #: floats beyond are no amounts of light any more


def unit_colors(rgb: np.ndarray) -> np.ndarray:
    """Colours in 0..1, float32, whatever numbers hold them; NaN becomes mid grey.

    Bytes and 16-bit words mean what their type says (signed ones are read as unsigned, as older
    programs call bytes `char`). Other types are judged by their largest value but for strays:
    floats reach to 1, or shine above it (then they are no whole numbers), anything reaches to 255,
    and beyond that to 65535.
    """
    if rgb.dtype in (np.int8, np.int16):
        rgb = rgb.view(np.uint8 if rgb.dtype == np.int8 else np.uint16)
    if rgb.dtype in (np.uint8, np.uint16):
        full = np.iinfo(rgb.dtype).max
        return (rgb.astype(np.float32) / full).astype(np.float32)
    values = rgb.astype(np.float64)
    full = _full_scale(values[np.isfinite(values)], is_float=rgb.dtype.kind == "f")
    return np.clip(np.nan_to_num(values / full, nan=0.5), 0.0, 1.0).astype(np.float32)


def _full_scale(values: np.ndarray, *, is_float: bool) -> float:
    """What stands for 1; a thousandth of the values may be strays."""
    if len(values) == 0:
        return 1.0
    most = float(np.percentile(values, 99.9, method="lower"))
    whole = bool((values == np.rint(values)).all())
    if is_float and (most <= 2.0 or (most <= BRIGHT and not whole)):
        return 1.0
    return BYTE if most <= BYTE else WORD

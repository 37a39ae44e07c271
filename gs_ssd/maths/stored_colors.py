"""Colours as files store them, whatever numbers they use. Numpy alone."""

import numpy as np

BYTE, WORD = 255, 65535


def unit_colors(rgb: np.ndarray) -> np.ndarray:
    """Colours in 0..1, float32, whatever numbers hold them; NaN becomes mid grey.

    Bytes and 16-bit words mean what their type says. Other types are judged by their largest value:
    floats reach to 1 (or a little above), anything reaches to 255, and beyond that to 65535.
    """
    if rgb.dtype in (np.uint8, np.uint16):
        full = np.iinfo(rgb.dtype).max
        return (rgb.astype(np.float32) / full).astype(np.float32)
    values = np.nan_to_num(rgb.astype(np.float64), nan=0.5)
    most = float(values.max(initial=0.0))
    full = 1 if most <= 2.0 and rgb.dtype.kind == "f" else BYTE if most <= BYTE else WORD
    return np.clip(values / full, 0.0, 1.0).astype(np.float32)

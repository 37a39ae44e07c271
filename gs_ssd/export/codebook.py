"""Codebooks: the few values, or few vectors, that stand for many.

Lloyd's algorithm (k-means), seeded."""

import numpy as np
from numpy.typing import NDArray

from gs_ssd.export.frames import FloatArray

ROUNDS = 10
SAMPLE = 1 << 16  #: rows that the coarse clusters are learnt from


def scalar_codebook(
    values: FloatArray, size: int = 256
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """`size` values (at most 256), rising, and for each of `values` (any shape) the nearest's
    index.

    Exact where there are no more distinct values than that; the last one then fills the rest.
    Otherwise Lloyd's rounds begin at quantiles for one half and at an even grid for the other, so
    that rare extremes keep an entry near them.
    """
    flat = np.sort(values.astype(np.float64), axis=None)
    distinct = np.unique(flat)
    if len(distinct) <= size:
        centers = distinct
    else:
        even = np.linspace(flat[0], flat[-1], size // 2)
        quantiles = flat[np.linspace(0, len(flat) - 1, size - size // 2).round().astype(int)]
        centers = np.unique(np.concatenate([even, quantiles]))
        sums = np.concatenate([[0.0], np.cumsum(flat)])
        for _ in range(2 * ROUNDS):
            edges = np.searchsorted(flat, (centers[1:] + centers[:-1]) / 2)
            edges = np.concatenate([[0], edges, [len(flat)]])
            counts = np.diff(edges)
            means = np.diff(sums[edges]) / np.maximum(counts, 1)
            centers = np.where(counts > 0, means, centers)
    book = centers.astype(np.float32)
    labels = np.searchsorted((book[1:] + book[:-1]) / 2, values).astype(np.uint8)
    return np.pad(book, (0, size - len(book)), mode="edge"), labels


def palette(rows: FloatArray, size: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """At most `size` vectors [K,D] and for each of `rows` [N,D] the index of one near it.

    Exact where there are no more distinct rows than that. Otherwise in two levels, so that the cost
    grows with the square root of `size`: coarse clusters, then within each as many entries as its
    share of the rows.
    """
    distinct, labels = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) <= size:
        return distinct, labels.reshape(-1)
    rng = np.random.default_rng(0)
    coarse = max(1, round(size**0.5))
    sample = rows[rng.permutation(len(rows))[:SAMPLE]]
    _, cluster = _lloyd(rows, sample, coarse, rng)
    members = np.argsort(cluster, kind="stable")
    counts = np.bincount(cluster, minlength=coarse)
    entries = np.minimum(
        np.maximum(counts * size // len(rows), 1), counts
    )  # shares, at least one, none for none
    while entries.sum() > size:
        entries[entries.argmax()] -= 1
    centers, labels, first = [], np.empty(len(rows), dtype=np.int64), 0
    for index, count in zip(np.split(members, np.cumsum(counts)[:-1]), entries, strict=True):
        if count:
            own, label = _lloyd(rows[index], rows[index], int(count), rng)
            labels[index] = first + label
            centers.append(own)
            first += len(own)
    return np.concatenate(centers), labels


def _lloyd(
    rows: FloatArray, sample: FloatArray, count: int, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.int64]]:
    """`count` centres learnt from `sample`, and the nearest of them for each of `rows`."""
    centers = sample[rng.choice(len(sample), count, replace=False)].astype(np.float32)
    for _ in range(ROUNDS):
        label = _nearest(sample, centers)
        counts = np.bincount(label, minlength=count)
        used = counts > 0
        starts = np.concatenate([[0], np.cumsum(counts[used])[:-1]])
        sums = np.add.reduceat(sample[np.argsort(label, kind="stable")], starts, axis=0)
        centers[used] = sums / counts[used, None]
    return centers, _nearest(rows, centers)


def _nearest(rows: FloatArray, centers: FloatArray, block: int = 1 << 14) -> NDArray[np.int64]:
    squares = 0.5 * (centers**2).sum(axis=1)
    blocks = (rows[i : i + block].astype(np.float32) for i in range(0, len(rows), block))
    return np.concatenate([(squares - part @ centers.T).argmin(axis=1) for part in blocks])

import numpy as np

from cytofast.kernels.rng import below, generator, key_of, row_digests, substream


def test_numbers_are_uniform_and_belong_to_their_key():
    draws = np.array([below(np.uint64(5), np.uint64(i), np.uint64(7)) for i in range(14_000)])
    counts = np.bincount(draws, minlength=7)
    assert ((counts - 2000) ** 2 / 2000).sum() < 25
    assert [below(np.uint64(5), np.uint64(i), np.uint64(7)) for i in range(9)] == draws[:9].tolist()
    assert substream(np.uint64(5), np.uint64(0)) != substream(np.uint64(5), np.uint64(1))


def test_keys_and_generators_are_reproducible():
    assert key_of("labels", 0, "T1") == key_of("labels", 0, "T1") != key_of("labels", 0, "T2")
    assert generator(1, 2).integers(100) == generator(1, 2).integers(100)


def test_digests_tell_contents_apart():
    rows = np.random.default_rng(0).normal(size=(50, 7))
    rows[7] = rows[3]
    out = np.empty(50, dtype=np.uint64)
    row_digests(rows.view(np.uint64), out)
    assert out[7] == out[3]
    assert len(set(out.tolist())) == 49

import numpy as np
import pytest
import torch

from itl_hf import select_rows
from itl_hf.embedding import FeatureStore
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.feature_arrays import as_rows

ROWS = np.random.default_rng(1).normal(size=(23, 5)).astype(np.float32)
INDEX = np.array([0, 1, 2, 0, 3, 3, 4, 5, 1])


@pytest.fixture(params=["plain", "duplicates", "one shard", "float16"])
def case(request, tmp_path):
    """Stored features, and the array that they should equal."""
    index = INDEX if request.param == "duplicates" else None
    dtype = "float16" if request.param == "float16" else "float32"
    stored_rows = ROWS.astype(dtype)
    store = FeatureStore(
        tmp_path,
        {},
        rows=23 if index is None else len(index),
        dimension=5,
        shard_rows=64 if request.param == "one shard" else 4,
        dtype=dtype,
        index=index,
    )
    for shard in store.missing():
        store.write(shard, stored_rows[slice(*store.row_range(shard))])
    return FeatureStore.open(tmp_path).features(), stored_rows if index is None else stored_rows[index]


def test_shape(case):
    features, expected = case
    assert (features.shape, features.ndim, features.dtype, len(features)) == (
        expected.shape,
        2,
        expected.dtype,
        len(expected),
    )


@pytest.mark.parametrize(
    "index",
    [
        3,
        -1,
        np.int64(2),
        slice(None),
        slice(2, 9),
        slice(-3, None),
        slice(8, 2, -2),
        slice(5, 5),
        slice(0, 10**6),
        [],
        [7, 0, 7, -2],
        (np.arange(8) * 5) % 8,
        range(2, 6),
    ],
)
def test_indexing_equals_indexing_the_array(case, index):
    features, expected = case
    rows = features[index]
    expected_rows = expected[np.asarray(index, dtype=np.int64) if isinstance(index, list | range) else index]
    np.testing.assert_array_equal(rows, expected_rows)
    assert rows.dtype == expected.dtype
    assert rows.shape == expected_rows.shape


def test_indexing_with_masks_and_tensors(case):
    features, expected = case
    mask = np.arange(len(expected)) % 3 == 1
    np.testing.assert_array_equal(features[mask], expected[mask])
    np.testing.assert_array_equal(features[torch.from_numpy(mask)], expected[mask])
    np.testing.assert_array_equal(features[torch.tensor([4, 1])], expected[[4, 1]])


def test_what_is_read_is_a_copy(case):
    features, expected = case
    rows = features[0:2]
    rows[:] = 7
    np.testing.assert_array_equal(features[0:2], expected[0:2])


@pytest.mark.parametrize("index", [1000, -1000, [0, 1000], [[0, 1]], [0.5], np.array([True]), (0, 1), None, ...])
def test_bad_indices(case, index):
    with pytest.raises(IndexError):
        case[0][index]


def test_as_an_array_and_as_a_tensor(case):
    features, expected = case
    np.testing.assert_array_equal(np.asarray(features), expected)
    np.testing.assert_array_equal(np.concatenate([features, features]), np.concatenate([expected, expected]))
    assert np.asarray(features, dtype=np.float64).dtype == np.float64
    tensor = torch.tensor(features)
    assert tensor.dtype == torch.from_numpy(expected).dtype
    np.testing.assert_array_equal(tensor, expected)
    np.testing.assert_array_equal(np.stack(list(features)), expected)


def test_one_shard_without_duplicates_is_a_view(case):
    features, _ = case
    view = np.asarray(features)
    single = features.store.num_shards == 1
    assert view.flags.writeable is not single
    if not single:
        with pytest.raises(ValueError, match="without a copy"):
            features.__array__(copy=False)


def test_a_pool_streams_it(case):
    features, expected = case
    standardize = Standardization("scale")
    from_disk, in_memory = Pool(as_rows(features, "pool"), standardize), Pool(expected, standardize)
    for numbers in ([5, 0, 3], [2]):
        assert torch.equal(from_disk.rows(numbers), in_memory.rows(numbers))
    (_, block), (_, same) = next(from_disk.blocks()), next(in_memory.blocks())
    assert torch.equal(block, same)


def test_a_selection_equals_that_from_the_array(case):
    features, expected = case
    picks = select_rows(features, features[:2], 4, noise_std=0.5)
    expected_picks = select_rows(expected, expected[:2], 4, noise_std=0.5)
    assert picks.indices.tolist() == expected_picks.indices.tolist()
    assert picks.gains.tolist() == expected_picks.gains.tolist()


def test_reading_some_rows_opens_only_their_shards(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, {}, rows=23, dimension=5, shard_rows=4)
    for shard in store.missing():
        store.write(shard, ROWS[slice(*store.row_range(shard))])
    opened_shards = []
    read = FeatureStore.shard
    monkeypatch.setattr(FeatureStore, "shard", lambda self, shard: (opened_shards.append(shard), read(self, shard))[1])
    store.features()[[21, 4, 7, 20]]
    assert opened_shards == [1, 5]

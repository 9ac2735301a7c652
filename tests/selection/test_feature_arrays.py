import numpy as np
import pytest
import torch

from itl_hf.selection.feature_arrays import ReadRows, as_rows, finite


class OnDisk:
    """An array that understands slices and ascending row numbers only, as HDF5 does, and counts what it reads."""

    ndim = 2

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, index):
        if not isinstance(index, slice) and (np.diff(index) <= 0).any():
            raise TypeError("row numbers must ascend")
        rows = self.array[index]
        self.read += len(rows)
        return rows

    def __array__(self, dtype=None):
        raise AssertionError("read whole")


ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


def test_an_array_on_the_disk_is_read_by_rows():
    array = OnDisk(ROWS)
    rows = as_rows(array, "pool")
    assert isinstance(rows, ReadRows)
    assert (rows.shape, array.read) == ((6, 2), 0)
    assert rows[1:3].tolist() == ROWS[1:3].tolist()
    assert rows[[4, 0, 4]].tolist() == ROWS[[4, 0, 4]].tolist()
    assert array.read == 4
    assert torch.equal(finite(rows, "pool"), torch.from_numpy(ROWS))


def test_read_only_rows_are_copied():
    fixed = ROWS.copy()
    fixed.flags.writeable = False
    rows = as_rows(OnDisk(fixed), "pool")[0:2]
    rows += 1
    assert fixed[0, 0] == 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (OnDisk(ROWS.astype(int)), "`pool` must hold floats"),
        (OnDisk(ROWS[:0]), "`pool` is empty"),
    ],
)
def test_what_is_no_matrix_of_floats_is_refused(array, message):
    with pytest.raises(ValueError, match=message):
        as_rows(array, "pool")


def test_lists_arrays_and_tensors_stay_what_they_were():
    assert as_rows([[1, 2]], "pool").dtype == np.float64
    assert as_rows(ROWS, "pool") is ROWS
    tensor = torch.ones(2, 2, requires_grad=True)
    assert not as_rows(tensor, "pool").requires_grad

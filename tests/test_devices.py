import pytest

from rnn_jax.devices import choose_devices


@pytest.mark.parametrize(
    ("count", "batch_size", "chosen"), [(None, 128, 8), (None, 12, 6), (None, 11, 1), (2, 128, 2), (1, 7, 1)]
)
def test_as_many_devices_as_can_share_the_batch(count, batch_size, chosen):
    assert len(choose_devices(count, batch_size)) == chosen


@pytest.mark.parametrize(
    ("count", "batch_size", "message"),
    [
        (9, 100, "--devices 9 is more than the 8 found"),
        (8, 130, "--batch-size 130 cannot be shared equally by --devices 8"),
    ],
)
def test_devices_that_cannot_share_it_are_refused(count, batch_size, message):
    with pytest.raises(ValueError, match=message):
        choose_devices(count, batch_size)

import pytest

from rnn_jax.app.devices import choose_data_on, choose_devices


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


class Device:
    def __init__(self, memory):
        self.memory = memory

    def memory_stats(self):
        return self.memory


GIB = 1 << 30


@pytest.mark.parametrize(
    ("asked", "memory", "num_bytes", "chosen"),
    [
        ("auto", {"bytes_limit": 400}, 100, "device"),
        ("auto", {"bytes_limit": 400}, 101, "host"),
        ("device", {"bytes_limit": 400}, 401, "device"),
        ("host", {"bytes_limit": 400}, 1, "host"),
        ("auto", None, GIB, "device"),
        ("auto", None, GIB + 1, "host"),
    ],
)
def test_data_that_take_too_much_of_a_device_stay_on_the_host(monkeypatch, asked, memory, num_bytes, chosen):
    monkeypatch.setattr("jax.local_devices", lambda: [Device(memory)])
    assert choose_data_on(asked, num_bytes, seeds=1) == chosen


def test_data_on_the_host_are_for_one_seed():
    assert choose_data_on("auto", 1, seeds=3) == "device"
    with pytest.raises(ValueError, match=r"^--seeds 3 needs the training images on the device: ask for --data-on dev"):
        choose_data_on("host", 1, seeds=3)

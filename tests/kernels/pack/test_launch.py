"""Loading and launching, with a stand-in that writes down what PyCUDA is asked for."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pack_entries import kernel_entry

from mmedge_kernels.errors import PackError, TensorError
from mmedge_kernels.pack import PackedKernel, open_pack
from mmedge_kernels.pack.launch import argument_format, launch_values

KERNEL = PackedKernel.read(kernel_entry(), "kernel")
GOOD = {"x_ptr": 0x7F00_0000_0100, "rows": 7, "cols": 63, "out_ptr": 0x7F00_0000_0002}


class Allocation:
    """As `pycuda.driver.DeviceAllocation`: int() gives the address."""

    def __init__(self, address):
        self.address = address

    def __int__(self):
        return self.address


@pytest.fixture
def pack(make_pack):
    return open_pack(
        make_pack(
            kernel_entry(),
            kernel_entry("large", shared_bytes=60_000),
            kernel_entry("flat", grid=[{"product": [], "divisor": 1}]),
        )
    )


def test_order_of_calls(pack, use_driver):
    driver = use_driver()
    loaded = pack.load("softmax-fp16")
    assert driver.calls == [
        ("module_from_buffer", b"machine code"),
        ("get_function", "softmax_rows"),
        ("prepare", "PiiPPP"),
    ]
    loaded.launch("a stream", GOOD)
    assert driver.calls[3:] == [("launch", (7, 126, 1), (128, 1, 1), "a stream", 16)]  # 63 columns * 128 / 64


def test_arguments_as_the_gpu_gets_them(pack, use_driver):
    driver = use_driver()
    pack.load("softmax-fp16").launch(None, GOOD)
    expected = struct.pack("<QiiQQQ", GOOD["x_ptr"], 7, 63, GOOD["out_ptr"], 0, 0)
    assert driver.launches == [expected]


def test_allocations_and_numpy_numbers(pack, use_driver):
    driver = use_driver()
    addresses = {"x_ptr": Allocation(GOOD["x_ptr"]), "out_ptr": np.uintp(GOOD["out_ptr"])}
    given = {**addresses, "rows": np.int64(7), "cols": np.uint8(63)}
    pack.load("softmax-fp16").launch(None, given)
    pack.load("softmax-fp16").launch(None, GOOD)
    assert driver.launches[0] == driver.launches[1]


def test_more_than_48_kib_of_shared_memory_is_asked_for(pack, use_driver):
    driver = use_driver()
    pack.load("large").launch(None, GOOD)
    assert driver.calls[2] == ("set_attribute", "max-dynamic-shared", 60_000)
    assert driver.calls[-1][-1] == 60_000


def test_a_grid_without_numbers(pack, use_driver):
    driver = use_driver()
    pack.load("flat").launch(None, GOOD)
    assert driver.calls[-1][1] == (1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": None}, "lacks rows; it takes x_ptr, out_ptr, rows, cols"),
        ({"more": 1, "other": 2}, "knows no more, other; it takes"),
        ({"rows": None, "row": 3}, "lacks rows and knows no row"),
        ({"x_ptr": 0}, "x_ptr must be a device address that is a multiple of 16 bytes, got 0x0"),
        ({"x_ptr": 0x7F00_0000_0108}, "x_ptr must be .* a multiple of 16 bytes, got 0x7f0000000108"),
        ({"out_ptr": 0x7F00_0000_0001}, "out_ptr must be a device address that is a multiple of 2 bytes"),
        ({"x_ptr": -16}, "x_ptr must be a device address"),
        ({"x_ptr": 2**64}, "x_ptr must be a device address"),
        ({"x_ptr": "0x100"}, "x_ptr must be a device address or an allocation, got '0x100'"),
        ({"x_ptr": 256.0}, "x_ptr must be a device address or an allocation"),
        ({"x_ptr": True}, "x_ptr must be a device address or an allocation"),
        ({"x_ptr": []}, "x_ptr must be a device address or an allocation"),
        ({"rows": 2**31}, r"rows must be from -2\^31 to 2\^31 - 1, got 2147483648"),
        ({"rows": 7.0}, "rows must be a whole number, got 7.0"),
        ({"rows": True}, "rows must be a whole number"),
        ({"rows": "7"}, "rows must be a whole number"),
        ({"rows": 0}, "rows=0, cols=63 make 0 programs along axis 0 of the grid; 1 to 2147483647 can run"),
        ({"rows": -1}, "make -1 programs along axis 0"),
        ({"cols": 32768}, "make 65536 programs along axis 1 of the grid; 1 to 65535 can run"),
    ],
    ids=str,
)
def test_bad_arguments(pack, use_driver, changes, message):
    driver = use_driver()
    given = {name: value for name, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(TensorError, match=message):
        pack.load("softmax-fp16").launch(None, given)
    assert driver.launches == []


def test_numbers_that_the_code_takes_for_multiples():
    parameters = [{"name": "x_ptr", "type": "*u8", "aligned": False, "shape": []}]
    parameters += [{"name": "n", "type": "i32", "aligned": True, "shape": []}]
    entry = kernel_entry(parameters=parameters, grid=[{"product": ["n"], "divisor": 16}])
    kernel = PackedKernel.read(entry, "kernel")
    assert launch_values(kernel, {"x_ptr": 3, "n": 48}) == ((3, 1, 1), [3, 48, 0, 0])
    with pytest.raises(TensorError, match="compiled for n that is a multiple of 16, got 47"):
        launch_values(kernel, {"x_ptr": 3, "n": 47})


@given(rows=st.integers(1, 2**31 - 1), cols=st.integers(1, 32767), address=st.integers(1, 2**60 - 1))
def test_any_argument_arrives(rows, cols, address):
    given = {"x_ptr": address * 16, "rows": rows, "cols": cols, "out_ptr": address * 2}
    grid, values = launch_values(KERNEL, given)
    assert grid == (rows, -(-cols * 128 // 64), 1)
    packed = struct.pack(argument_format(KERNEL), *values)
    assert packed == struct.pack("<QiiQQQ", address * 16, rows, cols, address * 2, 0, 0)


def test_another_gpu(pack, use_driver):
    use_driver(sm=90)
    with pytest.raises(PackError, match=r"is there for sm_87 \(another major version\), .* not run .* of sm_90"):
        pack.load("softmax-fp16")


def test_an_old_driver(pack, use_driver):
    use_driver(version=11080)
    with pytest.raises(PackError, match=r"was assembled with CUDA 12\.9, this driver is for CUDA 11: update it"):
        pack.load("softmax-fp16")


def test_a_driver_of_the_same_major_version_is_new_enough(pack, use_driver):
    use_driver(version=12000)
    assert pack.load("softmax-fp16").kernel.name == "softmax-fp16"


def test_no_context(pack, use_driver):
    use_driver(context=False)
    with pytest.raises(PackError, match=r"no CUDA context is current \(invalid device context\)"):
        pack.load("softmax-fp16")


def test_code_that_the_driver_refuses(pack, use_driver):
    use_driver(loads=False)
    with pytest.raises(PackError, match=r"softmax-fp16 \(sm_87\) was not loaded by the driver: .*no kernel image"):
        pack.load("softmax-fp16")


def test_without_pycuda(pack, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    with pytest.raises(PackError, match=r"needs PyCUDA: .*pip install pycuda"):
        pack.load("softmax-fp16")

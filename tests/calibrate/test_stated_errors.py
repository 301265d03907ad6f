"""What a device file says of its fits is what comes out when they are held against the same rows again."""

from __future__ import annotations

import pytest

from gpusim.calibrate.calibration import Calibration, fits_of, parameter_totals
from gpusim.calibrate.fit import samples
from gpusim.silicon.layout import read_folder
from gpusim.silicon.machines import device_name
from helpers import shared_data
from machines import catalog_device


@pytest.fixture(scope="module")
def folder():
    """Return the measured tables."""
    return read_folder(shared_data("silicon"))


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"])
def test_stated_errors_are_true(folder, name):
    """Rows and errors of every law, of shapes fitted and kept out; rows of other GPUs are not read."""
    device = catalog_device(name)
    found = []
    for measured in folder:
        table = measured.table
        own = table.filter(table["gpu"].is_in([gpu for gpu in table["gpu"].unique() if device_name(gpu) == name]))
        found += samples(measured.family, own.drop_nulls(measured.family.columns), device)
    strangers = others(name)
    assert not any(f"-{gpu}" in row for sample in found for row in sample.ids for gpu in strangers)
    again = fits_of(device, device.laws, found)
    assert again.keys() == device.laws.fits.keys()
    for law, stated in device.laws.fits.items():
        assert (again[law].rows, again[law].held_out_rows) == (stated.rows, stated.held_out_rows)
        assert again[law].mape == pytest.approx(stated.mape, abs=0.002), law
        assert again[law].held_out_mape == pytest.approx(stated.held_out_mape, abs=0.003), law


def others(name):
    """Return what the tables call the other GPUs."""
    gpus = ("a100_sxm", "h100_sxm", "b200_sxm", "rtx_pro_6000_server")
    return [gpu for gpu in gpus if device_name(gpu) != name]


def test_every_number_is_counted(folder):
    """The totals that calibrate prints are those of all laws, NCCL's too."""
    device = catalog_device("h100-sxm")
    found = [
        sample
        for measured in folder
        if measured.family.file == "collectives"
        for sample in samples(measured.family, measured.table.filter(measured.table["gpu"] == "h100_sxm"), device)
    ]
    totals = parameter_totals(Calibration(device, found))
    counted = {law: device.laws.fits[law].parameters for law in {".".join(sample.calls.law) for sample in found}}
    assert totals["nccl.ring"] == counted["nccl.ring"] > 0
    assert sum(totals.values()) - totals["physics"] == sum(counted.values())

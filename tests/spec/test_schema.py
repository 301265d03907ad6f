"""The JSON Schema of files, as editors use it."""

import jsonschema
import pytest

from gpusim.spec.device import DeviceSpec
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import locate, names
from gpusim.spec.scenario import Scenario
from gpusim.spec.schema import json_schema
from gpusim.spec.topology import TopologySpec
from gpusim.spec.workload import WorkloadSpec
from gpusim.spec.yaml_files import read_document

SPECS = {
    "example": Scenario,
    "topology": TopologySpec,
    "workload": WorkloadSpec,
    "model": ModelSpec,
    "device": DeviceSpec,
}


def validator(cls):
    schema = json_schema(cls)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(("kind", "cls"), SPECS.items())
def test_every_file_of_the_catalog_is_accepted(kind, cls):
    """An editor marks nothing in the files we ship, `extends` included."""
    check = validator(cls)
    for path in (locate(kind, name) for name in names(kind)):
        assert not [error.message for error in check.iter_errors(read_document(path).data)], path.name


@pytest.mark.parametrize("wrong", [{"modle": "tiny"}, {"serving": {"block_size": "x"}}, {"slo": {"itl": 50}}])
def test_slips_are_marked(wrong):
    """An unknown key, a wrong type and a quantity without unit do not pass."""
    assert list(validator(Scenario).iter_errors({"schema": 1, "topology": "single-gpu", "model": "tiny", **wrong}))


def test_quantities_say_their_unit_and_default():
    """Descriptions carry the unit, defaults are written as a file would."""
    schema = json_schema(Scenario)
    warmup = schema["$defs"]["MeasureSpec"]["properties"]["warmup"]
    assert warmup["description"] == "Requests that arrived before this time. Unit: seconds, as in 2 us."
    assert warmup["default"] == "0.0 s"
    assert schema["$defs"]["SloSpec"]["properties"]["itl"]["description"].endswith("Unit: seconds, as in 2 us.")


@pytest.mark.parametrize("name", ["ServingSpec", "EngineSpec", "CopySpec", "DtypeSpec", "SloSpec", "MeasureSpec"])
def test_every_key_is_described(name):
    """Whoever hovers over a key of a scenario reads what it means."""
    schema = json_schema(Scenario)
    for part in (schema, schema["$defs"][name]):
        silent = [key for key, value in part["properties"].items() if not {"description", "const", "$ref"} & set(value)]
        assert not silent

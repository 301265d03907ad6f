"""What a scenario may say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from builders import scenario_data
from gpusim.errors import SpecError
from gpusim.spec.document import Document, validate
from gpusim.spec.scenario import Scenario


def scenario(**changes) -> Scenario:
    return validate(Scenario, Document("test.yaml", scenario_data(**changes)))


def test_defaults_are_those_of_the_design():
    """A scenario that says no more than it must is served as vLLM would by default, and measured as a whole."""
    known = scenario(serving={})
    assert (known.efficiency, known.seed) == ("calibrated", 0)
    assert (known.dtype.weights, known.dtype.kv, known.attention_kernel) == ("bf16", "bf16", "fused")
    serving = known.serving
    assert (serving.tensor_parallel_size, serving.scheduler, serving.kv_placement) == (1, "continuous", "sharded")
    assert (serving.max_num_seqs, serving.max_num_batched_tokens, serving.block_size) == (128, 2048, 16)
    assert serving.gpu_memory_utilization == 0.9
    assert (known.measure.warmup, known.measure.cooldown, known.slo.ttft) == (0, 0, None)


@given(text=st.text(max_size=8))
def test_attention_is_one_of_three_words(text):
    """Nothing but mha, mqa and gqa:N gets through, whatever alphabet its digits are of."""
    if text in {"mha", "mqa"} or (text.startswith("gqa:") and text[4:].isascii() and text[4:].isdecimal()):
        return
    with pytest.raises(SpecError, match="write mha, mqa or gqa:N"):
        scenario(attention=text)


def test_units_are_read_and_written_back():
    """Quantities are SI floats inside and have their unit again when dumped."""
    known = scenario(
        slo={"ttft": "500 ms", "itl": "0.05 s"},
        background=[
            {"kind": "copy", "from": "gpu0", "to": "cpu0", "size": "2 GiB", "period": "10 ms"},
        ],
    )
    assert (known.slo.ttft, known.slo.itl, known.background[0].size) == (0.5, 0.05, 2 * 2**30)
    dumped = known.model_dump(mode="json", by_alias=True)
    assert dumped["slo"] == {"ttft": "500 ms", "itl": "50 ms"}
    assert dumped["background"][0]["from"] == "gpu0"
    assert validate(Scenario, Document("again", dumped)) == known


@pytest.mark.parametrize(
    "entry",
    [
        {"size": "1 GB", "rate": "1 GB/s"},
        {},
        {"rate": "1 GB/s", "count": 3},
        {"rate": "1 GB/s", "period": "1 s"},
    ],
)
def test_a_copy_has_a_size_or_a_rate(entry):
    """Both, neither, or a stream with an end are contradictions."""
    with pytest.raises(SpecError, match=r"either size|no period and no count"):
        scenario(background=[{"kind": "copy", "from": "gpu0", "to": "cpu0", **entry}])


def test_python_may_leave_units_out():
    """Only files must write units; Python states SI numbers."""
    data = scenario_data(slo={"itl": 0.05})
    data["workload"]["arrivals"]["rate"] = 5.0
    assert Scenario(**data).slo.itl == 0.05
    with pytest.raises(ValidationError):
        Scenario(**data, unknown=1)


def test_times_end_where_the_clock_does():
    """A time that picoseconds in 64 bits cannot hold is refused when it is read."""
    with pytest.raises(SpecError, match=r"slo\.itl: must be at most 9e\+06 s, not 1e\+09 s"):
        scenario(slo={"itl": "1e9 s"})

"""What differs between two scenarios."""

from gpusim.results.differences import differences


def gpu(name, bandwidth, device="a100"):
    """Return a node of a topology."""
    return {"name": name, "device": {"name": device, "memory": {"bandwidth": bandwidth}, "source": "sheet"}}


def lines(a, b):
    """Return the differences as they are printed."""
    return [str(found) for found in differences(a, b)]


def test_keys_are_named_by_their_path():
    """Entries of lists go by name; titles and sources do not count."""
    a = {"name": "old", "topology": {"nodes": [gpu("gpu0", "2 TB/s")]}, "seed": 0}
    b = {"name": "new", "topology": {"nodes": [gpu("gpu0", "1.9 TB/s")]}, "seed": 1, "dtype": "fp8"}
    assert lines(a, b) == [
        "topology.nodes.gpu0.device.memory.bandwidth: 2 TB/s → 1.9 TB/s",
        "seed: 0 → 1",
        "dtype: – → fp8",
    ]
    assert not lines(a, a)


def test_what_differs_alike_is_one_line():
    """Eight GPUs of another bandwidth are one difference."""
    a, b = ({"nodes": [gpu(f"gpu{i}", speed) for i in range(8)]} for speed in ("2 TB/s", "1 TB/s"))
    assert lines(a, b) == ["nodes.gpu0.device.memory.bandwidth: 2 TB/s → 1 TB/s (and 7 more alike)"]


def test_another_thing_is_named_instead_of_taken_apart():
    """Another device differs in every number: its name says it. So does a list of another length."""
    assert lines({"n": [gpu("g", "2 TB/s")]}, {"n": [gpu("g", "3 TB/s", "h100")]}) == ["n.g.device: a100 → h100"]
    assert lines({"n": [1]}, {"n": [1, 2]}) == ["n: [1] → [1, 2]"]

"""Routers."""

from gpusim.serving.router import RoundRobin


def test_round_robin_goes_by_number():
    """The engine is that of the request's number, whoever was asked for before."""
    router = RoundRobin(["a", "b", "c"])
    assert [router.choose(index) for index in (0, 1, 2, 3, 7, 7)] == ["a", "b", "c", "a", "b", "b"]
    assert router.engines == ("a", "b", "c")

"""What our service promises, and what we want to hear of when it moves."""


def test_service(gpusim):
    result = gpusim.simulate("service.yaml")
    assert result.ttft.p99 < "500 ms"
    assert result.itl.p99 < "100 ms"
    gpusim.assert_latency(result, "baselines/service.json", rtol_of={"queue": 0.1})


def test_twice_the_load(gpusim):
    result = gpusim.simulate("service.yaml", overrides={"workload.arrivals.rate": "12 /s"})
    assert result.ttft.p99 < "1 s"
    assert result.itl.p99 < "100 ms"

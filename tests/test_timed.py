import torch

from stages import command, timed
from stages.params.measuring import Latency


def test_networks_are_timed_by_turns_and_what_disturbs_one_round_does_not_count(monkeypatch):
    milliseconds = {"a": [5.0, 4.0, 40.0], "b": [2.0, 20.0, 3.0]}
    order = []

    def times(network, architecture, settings, where):
        order.append(network)
        assert settings.seconds * timed.ROUNDS == 0.3
        measured = milliseconds[network].pop(0)
        return {batch: batch * measured for batch in settings.batch_sizes}

    monkeypatch.setattr(timed, "times", times)
    networks = [({"criterion": name, "step": 1}, lambda name=name: (name, None)) for name in ("a", "b")]
    settings = Latency(batch_sizes=[1, 32], seconds=0.3, threads=1)
    rows = timed.in_rounds(networks, settings, torch.device("cpu"), command.logger("latency"))
    assert order == ["a", "b"] * 3
    assert rows == [
        {"criterion": name, "step": 1, "batch": batch, "threads": 1, "milliseconds": middle, "spread": spread}
        for name, batch, middle, spread in [("a", 1, 5, 36), ("a", 32, 160, 1152), ("b", 1, 3, 18), ("b", 32, 96, 576)]
    ]

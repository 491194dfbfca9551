import pandas as pd

from stages.reporting import deployment


def test_the_table_has_times_and_images_of_both_networks_beside_what_macs_promise():
    row = {"criterion": "lrp", "seed": 0, "engine": "PyTorch", "batch": 32, "threads": 1}
    row |= {"milliseconds": 40.0, "unpruned_milliseconds": 80.0, "images_per_second": 800.4}
    row |= {"unpruned_images_per_second": 400.2, "speed_up": 2.0, "macs": 40, "macs_ratio": 2.5}
    row |= {"images": 10, "identical": 10, "max_abs_difference": 1e-6}
    text = deployment.page(pd.DataFrame([row], columns=deployment.COLUMNS))
    assert text.splitlines()[-3:] == [
        "| criterion | engine | batch | ms | ms of the unpruned | images a second | of the unpruned | times the speed "
        "| MACs, times fewer |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| lrp | PyTorch | 32 | 40.00 | 80.00 | 800 | 400 | 2.00 | 2.50 |",
    ]
    assert "- lrp: 10 of 10 test images are classed as by PyTorch" in text

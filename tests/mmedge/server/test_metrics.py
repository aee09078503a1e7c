from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from support.device_stand_in import DeviceStandIn
from support.serving import Client

AWKWARD = 'back\\slash "quote"\nline'


def test_a_real_parser_reads_every_sample(client: Client) -> None:
    device = DeviceStandIn({"door": "squares", AWKWARD: "mood"})
    device.step()
    device.step()
    app = client(on=device)
    app.get("/no-such")
    answer = app.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    door = (("model", "squares"), ("source", "door"))
    assert samples["mmedge_source_processed_total", door] == 2
    assert samples["mmedge_source_read_total", door] == 4
    assert samples["mmedge_source_dropped_total", (door[0], ("reason", "newer"), door[1])] == 2
    assert samples["mmedge_source_state", (*door, ("state", "live"))] == 1
    assert samples["mmedge_source_state", (*door, ("state", "frozen"))] == 0
    assert samples["mmedge_source_processed_total", (("model", "mood"), ("source", AWKWARD))] == 2
    assert samples["mmedge_sink_written_total", (("kind", "jsonl"), ("sink", "log"))] == 2
    assert samples["mmedge_server_answers_total", (("code", "404"),)] == 1
    assert samples["mmedge_model_prompt_version", (("model", "squares"),)] == 1
    assert all(family.type in ("counter", "gauge") and family.documentation for family in families.values())
    assert 0 < samples["mmedge_source_latency_seconds", door] < 1


def test_what_is_not_known_is_left_out(client: Client) -> None:
    text = client(on=DeviceStandIn()).get("/metrics").text
    assert "mmedge_source_age_seconds{" not in text
    assert "None" not in text
    assert list(text_string_to_metric_families(text))

"""Results, states and events on an MQTT broker, and prompts from there; Home Assistant finds them by itself."""

from mmedge.sinks.mqtt.opening import open_mqtt
from mmedge.sinks.mqtt.settings import Frames, MqttSettings, Tls
from mmedge.sinks.mqtt.sink import Mqtt

__all__ = ["Frames", "Mqtt", "MqttSettings", "Tls", "open_mqtt"]

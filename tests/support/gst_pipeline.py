"""Runs a pipeline that ends in an appsink, by the system's Python, and prints what comes out as JSON.

/usr/bin/python3 gst_pipeline.py PIPELINE
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")

from gi.repository import Gst, GstApp  # noqa: E402, F401

Gst.init(None)
pipeline = Gst.parse_launch(sys.argv[1])
sink = pipeline.get_by_name("appsink0")
pipeline.set_state(Gst.State.PLAYING)
sample = sink.try_pull_sample(10 * Gst.SECOND)
caps = sample.get_caps().get_structure(0)
found = {name: caps.get_value(name) for name in ("format", "width", "height")}
found["framerate"] = caps.get_fraction("framerate")[1:]
found |= {name: sink.get_property(name) for name in ("drop", "max-buffers", "sync")}
print(json.dumps(found))
pipeline.set_state(Gst.State.NULL)

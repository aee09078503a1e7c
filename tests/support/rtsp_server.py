"""A real RTSP server for tests, run by the system's Python: serves one H.264 .mp4 at /clip.

/usr/bin/python3 rtsp_server.py PORT CLIP
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")

from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
port, clip = sys.argv[1:]
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch(f'( filesrc location="{clip}" ! qtdemux ! h264parse ! rtph264pay name=pay0 config-interval=-1 )')
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(port)
server.get_mount_points().add_factory("/clip", factory)
if not server.attach(None):
    sys.exit(f"port {port} cannot be served")
print("ready", flush=True)
GLib.MainLoop().run()

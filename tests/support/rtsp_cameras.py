"""Real RTSP cameras for tests, run by the system's Python, 30 frames a second of a moving ball:

    /tcp, /udp      320 x 240, over this transport and no other
    /jpeg, /h264    320 x 240, and 160 x 120 from the signal SIGUSR1 on; TCP

Every one asks for user and password. With a certificate (PEM with key) they speak TLS.

/usr/bin/python3 rtsp_cameras.py PORT USER PASSWORD [CERTIFICATE]
"""

import signal
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")

from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

BALL = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,framerate=30/1"
LARGE = "video/x-raw,width=320,height=240"
JPEG = "jpegenc ! rtpjpegpay name=pay0"
H264 = "openh264enc gop-size=10 ! h264parse ! rtph264pay name=pay0 config-interval=-1"
CAMERAS = {
    "/tcp": (f"{BALL} ! videoscale ! {LARGE} ! {JPEG}", GstRtsp.RTSPLowerTrans.TCP),
    "/udp": (f"{BALL} ! videoscale ! {LARGE} ! {JPEG}", GstRtsp.RTSPLowerTrans.UDP),
    "/jpeg": (f"{BALL} ! videoscale ! capsfilter name=size caps={LARGE} ! {JPEG}", GstRtsp.RTSPLowerTrans.TCP),
    "/h264": (f"{BALL} ! videoscale ! capsfilter name=size caps={LARGE} ! {H264}", GstRtsp.RTSPLowerTrans.TCP),
}


def remember_size(factory, media):
    size = media.get_element().get_by_name("size")
    if size is not None:
        sizes.append(size)


def shrink():
    for size in sizes:
        size.set_property("caps", Gst.Caps.from_string("video/x-raw,width=160,height=120"))
    return GLib.SOURCE_CONTINUE


def protect(server, user, password, certificate):
    auth = GstRtspServer.RTSPAuth.new()
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    if certificate:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(certificate))
    server.set_auth(auth)


Gst.init(None)
sizes = []
GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, shrink)
port, user, password, *certificate = sys.argv[1:]
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(port)
protect(server, user, password, certificate[0] if certificate else None)
for path, (pipeline, transport) in CAMERAS.items():
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(f"( {pipeline} )")
    factory.set_protocols(transport)
    factory.connect("media-configure", remember_size)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string("viewer,media.factory.access=(boolean)true,media.factory.construct=(boolean)true")
    )
    server.get_mount_points().add_factory(path, factory)
if not server.attach(None):
    sys.exit(f"port {port} cannot be served")
print("ready", flush=True)
GLib.MainLoop().run()

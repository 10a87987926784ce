"""`python rtsp_server.py PORT WIDTH HEIGHT`: red pictures as Motion JPEG over RTSP, until killed (for the tests)."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    port, width_px, height_px = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(
        "( videotestsrc is-live=true pattern=solid-color foreground-color=0xffc81010 "
        f"! video/x-raw,format=I420,width={width_px},height={height_px},framerate=25/1 "
        "! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
    )
    server.get_mount_points().add_factory("/line", factory)
    server.attach(None)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()

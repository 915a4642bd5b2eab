#!/bin/sh
# Open3D and OpenCV load these at import; the wheels do not bring them. Called by make before the venv is built.
set -eu
[ "$(uname -s)" = Linux ] || exit 0
missing=""
while read -r library package; do
    if ! /sbin/ldconfig -p 2>/dev/null | grep -q "$library"; then missing="$missing $package"; fi
done <<LIST
libEGL.so.1 libegl1
libGL.so.1 libgl1
libX11.so.6 libx11-6
libudev.so.1 libudev1
libusb-1.0.so.0 libusb-1.0-0
libidn2.so.0 libidn2-0
LIST
[ -n "$missing" ] || exit 0
install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install
else
    echo "Missing system libraries. Run this once, then make again:  sudo $install" >&2
    echo "(on other distributions: the packages that hold them; libusb alone is also brought by the wheel libusb-package)" >&2
    [ "$missing" = " libusb-1.0-0" ] || exit 1
fi

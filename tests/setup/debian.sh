#!/usr/bin/env bash
# Install the Debian packages named in the given list files, where they are missing.
# Usage: debian.sh LIST...   (one package a line, '#' starts a comment)
set -euo pipefail

mapfile -t wanted < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' "$@" | grep -v '^$' | sort -u)

missing=()
for package in "${wanted[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "These Debian packages are missing: ${missing[*]}" >&2
    echo "Run this command as root, or install them: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# Services of the packages (libvirtd, tgt, iscsid) are started by the lab, in its own namespaces, never on this machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi

install() {
    apt-get install -y --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "${missing[@]}"
}

echo "Installing Debian packages: ${missing[*]}"
log=$(mktemp)
# The package lists are fetched only when those at hand are not enough: they may be missing or old.
if ! install >"$log" 2>&1; then
    if ! { apt-get -o DPkg::Lock::Timeout=300 update && install; } >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "apt-get could not install: ${missing[*]} (full log: $log)" >&2
        exit 1
    fi
fi
rm -f "$log"

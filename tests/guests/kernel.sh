# SPDX-License-Identifier: Apache-2.0
# Debian's kernel for virtual machines, for guests of tests: from this machine's own archive, kept in a cache.
# guest_kernel CACHE FOLDER: unpacks it, boot/vmlinuz-* and lib/modules, into the folder.

# The kernel that the archive's metapackage stands for.
guest_kernel_name() {
    apt-cache depends --important linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image.*\)/\1/p'
}

guest_kernel() {
    local cache=$1 folder=$2 kernel fetch
    kernel=$(guest_kernel_name)
    [ -n "$kernel" ] || { apt-get update -q >/dev/null && kernel=$(guest_kernel_name); }
    [ -n "$kernel" ] || { echo "${0##*/}: apt knows no linux-image-cloud-amd64" >&2; return 1; }
    mkdir -p "$cache"
    if [ ! -f "$cache/$kernel.deb" ]; then
        fetch=$(mktemp -d)
        (cd "$fetch" && apt-get download -q "$kernel" >/dev/null 2>apt.log) || { cat "$fetch/apt.log" >&2; return 1; }
        mv "$fetch"/linux-image-*.deb "$cache/$kernel.deb"
        rm -rf "$fetch"
    fi
    dpkg-deb -x "$cache/$kernel.deb" "$folder"
}

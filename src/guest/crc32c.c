/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli), with which VHDX, XFS and btrfs protect what they write. */
#include "guest-private.h"

uint32_t guest_crc32c(uint32_t crc, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

uint32_t guest_crc32c_around(const uint8_t *bytes, size_t len, size_t at) {
    static const uint8_t blank[4];
    uint32_t crc = guest_crc32c(UINT32_MAX, bytes, at);

    crc = guest_crc32c(crc, blank, sizeof(blank));
    return ~guest_crc32c(crc, bytes + at + 4, len - at - 4);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The receive filter, virtio 1.2, sections 5.1.6.5.1 to 5.1.6.5.3; the order of
 * its tests is QEMU's, drivers rely on it.
 */
#include <string.h>

#include "qn.h"

#define ETH_P_VLAN 0x8100

static bool in_table(const uint8_t (*table)[6], unsigned n, const uint8_t *mac)
{
    for (unsigned i = 0; i < n; i++)
        if (memcmp(table[i], mac, 6) == 0)
            return true;
    return false;
}

static bool wants_vlan(const struct qn_filter *f, const uint8_t *frame, size_t len)
{
    if (len < 16 || (frame[12] << 8 | frame[13]) != ETH_P_VLAN)
        return true;
    unsigned id = (frame[14] << 8 | frame[15]) & 0xfff;
    return f->vlans[id / 8] >> (id % 8) & 1;
}

bool qn_accepts(const struct qn_filter *f, const uint8_t *frame, size_t len)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    if (f->promisc) /* as QEMU: also what is too short for an address */
        return len > 0;
    if (len < QN_FRAME_MIN)
        return false;
    if (!wants_vlan(f, frame, len))
        return false;
    if (frame[0] & 1) {
        if (memcmp(frame, broadcast, 6) == 0)
            return !f->nobcast;
        if (f->nomulti)
            return false;
        return f->allmulti || in_table(f->table + f->n_unicast, f->n_multicast, frame);
    }
    if (f->nouni)
        return false;
    return f->alluni || memcmp(frame, f->mac, 6) == 0 || in_table(f->table, f->n_unicast, frame);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#define F_MAC (1ull << 5)
#define F_MRG_RXBUF (1ull << 15)
#define F_STATUS (1ull << 16)
#define CONFIG_MAC 0
#define CONFIG_STATUS 6
#define STATUS_LINK_UP 1u

#define RING_LIMIT 256
#define BUFFER_SIZE 2048u

/* All zeros: no offload asked for. One serves every frame; the device only reads it. */
static u8 no_offload[12] __attribute__((aligned(16)));

bool net_start(struct net *n)
{
    struct virtio *v = &n->virtio;
    if (!virtio_negotiate(v, F_MAC | F_MRG_RXBUF | F_STATUS))
        return false;
    /* 5.1.6.1: num_buffers is there with VERSION_1 or MRG_RXBUF */
    n->header_length = v->features & (F_VERSION_1 | F_MRG_RXBUF) ? 12 : 10;
    if (v->features & F_MAC)
        for (unsigned i = 0; i < 6; i++)
            n->mac[i] = virtio_config8(v, CONFIG_MAC + i);
    n->link_up = !(v->features & F_STATUS) || (virtio_config16(v, CONFIG_STATUS) & STATUS_LINK_UP);
    n->rx = virtio_queue(v, 0, RING_LIMIT);
    n->tx = virtio_queue(v, 1, RING_LIMIT);
    if (n->rx == NULL || n->tx == NULL)
        return false;
    for (unsigned i = 0; i < NET_BUFFERS; i++) {
        void *buffer = allocate(BUFFER_SIZE, 64);
        struct segment in = {buffer, BUFFER_SIZE};
        vring_offer(n->rx, &in, 0, 1, buffer);
    }
    virtio_driver_ok(v);
    vring_kick(n->rx);
    return true;
}

bool net_offer(struct net *n, const void *frame, u32 length)
{
    struct segment out[2] = {{no_offload, n->header_length}, {(void *)frame, length}};
    return vring_offer(n->tx, out, 2, 0, (void *)frame);
}

void *net_take_sent(struct net *n) { return vring_take(n->tx, NULL); }

u32 net_receive(struct net *n, void *frame)
{
    u32 written;
    u8 *buffer = vring_take(n->rx, &written);
    if (buffer == NULL)
        return 0;
    u32 length = written > n->header_length ? written - n->header_length : 0;
    if (length > NET_FRAME_MAX)
        length = NET_FRAME_MAX;
    memcpy(frame, buffer + n->header_length, length);
    struct segment in = {buffer, BUFFER_SIZE};
    vring_offer(n->rx, &in, 0, 1, buffer);
    vring_kick(n->rx);
    return length;
}

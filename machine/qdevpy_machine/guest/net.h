/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net (virtio 1.2, 5.1), one pair of queues, no offloads. */
#ifndef DEMO_NET_H
#define DEMO_NET_H

#include "virtio.h"

#define NET_FRAME_MAX 1514u
#define NET_BUFFERS 64u

struct net {
    struct virtio virtio;
    struct vring *rx, *tx;
    u32 header_length; /* of struct virtio_net_hdr, 5.1.6.1 */
    u8 mac[6];
    bool link_up;
};

/* Set up, and give the device NET_BUFFERS buffers to receive into. */
bool net_start(struct net *n);

/* Offer a frame without kicking; FRAME must stay until it is taken back. */
bool net_offer(struct net *n, const void *frame, u32 length);

/* Take back a frame that is sent; NULL: none. */
void *net_take_sent(struct net *n);

/* Copy a received frame to FRAME (NET_FRAME_MAX bytes) and give its buffer back; its length, 0: none. */
u32 net_receive(struct net *n, void *frame);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device behind PCI, through its modern (virtio 1.2, 4.1.4) or its legacy registers (4.1.4.10). */
#ifndef DEMO_VIRTIO_H
#define DEMO_VIRTIO_H

#include "pci.h"
#include "vring.h"

#define VIRTIO_VENDOR 0x1af4u

#define VIRTIO_NET 1u
#define VIRTIO_BLOCK 2u
#define VIRTIO_CONSOLE 3u

#define F_VERSION_1 (1ull << 32)

#define MAX_QUEUES 8u

/* Registers: ports or memory. */
struct window {
    u64 base;
    bool is_io;
};

struct virtio {
    struct pci_function pci;
    u16 type; /* VIRTIO_NET, ... */
    bool modern;
    u64 offered, features;
    struct window common, config; /* legacy: the same BAR, config behind the header */
    struct window notify;
    u32 notify_multiplier;
    unsigned queue_count;
    struct vring queues[MAX_QUEUES];
};

/* VIRTIO_NET and so on; 0: no virtio device. */
u16 virtio_type(const struct pci_function *f);

/* Find the device's registers and reset it. TRANSPORT: "auto" (modern if offered), "modern" or "legacy".
 * Says why and returns false if that cannot be had, or if the function is no virtio device. */
bool virtio_probe(struct virtio *v, const struct pci_function *f, const char *transport);

/* Negotiate features: those of WANTED that are offered, and of the rings' what the words say: EVENT_IDX unless
 * event-idx=off, INDIRECT_DESC with indirect=on, RING_PACKED with ring=packed. False: the device refused, or has no packed
 * rings where they are wanted. */
bool virtio_negotiate(struct virtio *v, u64 wanted);

/* Set up queue INDEX; NULL: the device has no such queue. At most LIMIT entries where the transport lets us choose. */
struct vring *virtio_queue(struct virtio *v, unsigned index, u16 limit);

void virtio_driver_ok(struct virtio *v);
void virtio_reset(struct virtio *v);
u8 virtio_status(const struct virtio *v);

u8 virtio_config8(const struct virtio *v, unsigned offset);
u16 virtio_config16(const struct virtio *v, unsigned offset);
u32 virtio_config32(const struct virtio *v, unsigned offset);
u64 virtio_config64(const struct virtio *v, unsigned offset);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio.h"

#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER 2u
#define STATUS_DRIVER_OK 4u
#define STATUS_FEATURES_OK 8u

/* 4.1.4.10: the legacy header in BAR 0; without MSI-X the device's configuration follows it */
enum {
    LEGACY_OFFERED = 0,
    LEGACY_FEATURES = 4,
    LEGACY_QUEUE_PFN = 8,
    LEGACY_QUEUE_SIZE = 12,
    LEGACY_QUEUE_SELECT = 14,
    LEGACY_NOTIFY = 16,
    LEGACY_STATUS = 18,
    LEGACY_CONFIG = 20,
};

/* 4.1.4.3: struct virtio_pci_common_cfg */
enum {
    COMMON_OFFERED_SELECT = 0,
    COMMON_OFFERED = 4,
    COMMON_FEATURES_SELECT = 8,
    COMMON_FEATURES = 12,
    COMMON_STATUS = 20,
    COMMON_QUEUE_SELECT = 22,
    COMMON_QUEUE_SIZE = 24,
    COMMON_QUEUE_ENABLE = 28,
    COMMON_QUEUE_NOTIFY_OFF = 30,
    COMMON_QUEUE_DESC = 32,
    COMMON_QUEUE_DRIVER = 40,
    COMMON_QUEUE_DEVICE = 48,
};

/* 4.1.4: struct virtio_pci_cap and its types */
enum { CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_NOTIFY_MULTIPLIER = 16 };
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4 };

static u8 get8(const struct window *w, unsigned offset)
{
    return w->is_io ? in8((u16)(w->base + offset)) : read8(w->base + offset);
}

static u16 get16(const struct window *w, unsigned offset)
{
    return w->is_io ? in16((u16)(w->base + offset)) : read16(w->base + offset);
}

static u32 get32(const struct window *w, unsigned offset)
{
    return w->is_io ? in32((u16)(w->base + offset)) : read32(w->base + offset);
}

static void set8(const struct window *w, unsigned offset, u8 value)
{
    if (w->is_io)
        out8((u16)(w->base + offset), value);
    else
        write8(w->base + offset, value);
}

static void set16(const struct window *w, unsigned offset, u16 value)
{
    if (w->is_io)
        out16((u16)(w->base + offset), value);
    else
        write16(w->base + offset, value);
}

static void set32(const struct window *w, unsigned offset, u32 value)
{
    if (w->is_io)
        out32((u16)(w->base + offset), value);
    else
        write32(w->base + offset, value);
}

static bool is(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* -- finding registers */

static void find_capability(struct virtio *v, unsigned at)
{
    u8 type = (u8)pci_read(&v->pci, at + CAP_TYPE, 1);
    struct window *w = type == CAP_COMMON ? &v->common : type == CAP_NOTIFY ? &v->notify : type == CAP_DEVICE ? &v->config : NULL;
    u8 bar = (u8)pci_read(&v->pci, at + CAP_BAR, 1);
    if (w == NULL || w->base != 0 || bar > 5)
        return; /* 4.1.4: the first of a type that we can use */
    bool is_io;
    u64 base = pci_bar(&v->pci, bar, &is_io);
    if (base == 0)
        return;
    w->is_io = is_io;
    w->base = base + pci_read(&v->pci, at + CAP_OFFSET, 4);
    if (type == CAP_NOTIFY)
        v->notify_multiplier = pci_read(&v->pci, at + CAP_NOTIFY_MULTIPLIER, 4);
}

static bool find_modern(struct virtio *v)
{
    if (!(pci_read(&v->pci, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES))
        return false;
    u8 at = (u8)pci_read(&v->pci, PCI_CAPABILITIES, 1) & 0xfc;
    for (unsigned n = 0; at != 0 && n < 48; n++) {
        if (pci_read(&v->pci, at, 1) == PCI_CAP_VENDOR)
            find_capability(v, at);
        at = (u8)pci_read(&v->pci, at + 1, 1) & 0xfc;
    }
    return v->common.base != 0 && v->notify.base != 0;
}

static bool find_legacy(struct virtio *v)
{
    /* 4.1.2.3: transitional devices have 0x1000 to 0x103f and revision 0 */
    if (v->pci.device >= 0x1040 || pci_read(&v->pci, PCI_REVISION, 1) != 0)
        return false;
    bool is_io;
    u64 base = pci_bar(&v->pci, 0, &is_io);
    if (base == 0 || !is_io)
        return false;
    v->common = (struct window){base, true};
    v->config = (struct window){base + LEGACY_CONFIG, true};
    return true;
}

u16 virtio_type(const struct pci_function *f)
{
    if (f->vendor != VIRTIO_VENDOR || f->device < 0x1000 || f->device > 0x107f)
        return 0;
    return f->device >= 0x1040 ? (u16)(f->device - 0x1040) : (u16)pci_read(f, PCI_SUBSYSTEM_ID, 2);
}

bool virtio_probe(struct virtio *v, const struct pci_function *f, const char *transport)
{
    *v = (struct virtio){.pci = *f, .type = virtio_type(f)};
    if (v->type == 0)
        return false;
    v->modern = !is(transport, "legacy") && find_modern(v);
    if (!v->modern && (is(transport, "modern") || !find_legacy(v))) {
        say("00:%02x.%u: no %s registers\n", f->slot, f->function, is(transport, "auto") ? "usable" : transport);
        return false;
    }
    u32 command = pci_read(f, PCI_COMMAND, 2);
    pci_write(f, PCI_COMMAND, 2, command | PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    virtio_reset(v);
    return true;
}

/* -- bringing up: 3.1.1 */

static void set_status(struct virtio *v, u8 status) { set8(&v->common, v->modern ? COMMON_STATUS : LEGACY_STATUS, status); }

u8 virtio_status(const struct virtio *v) { return get8(&v->common, v->modern ? COMMON_STATUS : LEGACY_STATUS); }

void virtio_reset(struct virtio *v)
{
    set_status(v, 0);
    if (!wait_for(virtio_status(v) == 0))
        say("00:%02x.%u: reset does not end\n", v->pci.slot, v->pci.function);
}

static bool negotiate_modern(struct virtio *v, u64 wanted)
{
    for (u32 half = 0; half < 2; half++) {
        set32(&v->common, COMMON_OFFERED_SELECT, half);
        v->offered |= (u64)get32(&v->common, COMMON_OFFERED) << (32 * half);
    }
    v->features = v->offered & (wanted | F_VERSION_1);
    for (u32 half = 0; half < 2; half++) {
        set32(&v->common, COMMON_FEATURES_SELECT, half);
        set32(&v->common, COMMON_FEATURES, (u32)(v->features >> (32 * half)));
    }
    set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    if (wanted & ~v->features & F_RING_PACKED)
        return false;
    return (v->features & F_VERSION_1) && (virtio_status(v) & STATUS_FEATURES_OK);
}

static u64 ring_features(void)
{
    return (word_is("event-idx", "off") ? 0 : F_EVENT_IDX) | (word_is("indirect", "on") ? F_INDIRECT_DESC : 0) |
           (word_is("ring", "packed") ? F_RING_PACKED : 0);
}

bool virtio_negotiate(struct virtio *v, u64 wanted)
{
    wanted |= ring_features();
    set_status(v, STATUS_ACKNOWLEDGE);
    set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    if (v->modern)
        return negotiate_modern(v, wanted);
    v->offered = get32(&v->common, LEGACY_OFFERED);
    v->features = v->offered & wanted;
    set32(&v->common, LEGACY_FEATURES, (u32)v->features);
    return !(wanted & F_RING_PACKED);
}

static void set_address(struct virtio *v, unsigned offset, const volatile void *address)
{
    set32(&v->common, offset, (u32)(u64)address);
    set32(&v->common, offset + 4, (u32)((u64)address >> 32));
}

static void enable_modern(struct virtio *v, struct vring *ring)
{
    set16(&v->common, COMMON_QUEUE_SIZE, ring->size);
    struct vring_areas areas = vring_areas(ring);
    set_address(v, COMMON_QUEUE_DESC, areas.descriptors);
    set_address(v, COMMON_QUEUE_DRIVER, areas.driver);
    set_address(v, COMMON_QUEUE_DEVICE, areas.device);
    ring->notify_is_port = v->notify.is_io;
    ring->notify_address = v->notify.base + (u64)get16(&v->common, COMMON_QUEUE_NOTIFY_OFF) * v->notify_multiplier;
    set16(&v->common, COMMON_QUEUE_ENABLE, 1);
}

struct vring *virtio_queue(struct virtio *v, unsigned index, u16 limit)
{
    if (index >= MAX_QUEUES)
        return NULL;
    set16(&v->common, v->modern ? COMMON_QUEUE_SELECT : LEGACY_QUEUE_SELECT, (u16)index);
    u16 size = get16(&v->common, v->modern ? COMMON_QUEUE_SIZE : LEGACY_QUEUE_SIZE);
    if (size == 0)
        return NULL;
    if (v->modern && size > limit)
        size = limit;
    struct vring *ring = &v->queues[index];
    vring_init(ring, (u16)index, size, v->features);
    if (v->modern) {
        enable_modern(v, ring);
    } else {
        ring->notify_is_port = true;
        ring->notify_address = v->common.base + LEGACY_NOTIFY;
        set32(&v->common, LEGACY_QUEUE_PFN, (u32)((u64)ring->desc / VRING_ALIGN));
    }
    if (index >= v->queue_count)
        v->queue_count = index + 1;
    return ring;
}

void virtio_driver_ok(struct virtio *v) { set_status(v, virtio_status(v) | STATUS_DRIVER_OK); }

/* -- device configuration: 4.1.3.1, at most 32 bits at a time */

u8 virtio_config8(const struct virtio *v, unsigned offset) { return get8(&v->config, offset); }
u16 virtio_config16(const struct virtio *v, unsigned offset) { return get16(&v->config, offset); }
u32 virtio_config32(const struct virtio *v, unsigned offset) { return get32(&v->config, offset); }

u64 virtio_config64(const struct virtio *v, unsigned offset)
{
    return virtio_config32(v, offset) | (u64)virtio_config32(v, offset + 4) << 32;
}

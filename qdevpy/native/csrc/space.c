/* SPDX-License-Identifier: Apache-2.0
 *
 * The port and MMIO address spaces.
 *
 * Regions are kept as they were mapped and, per bus, flattened into a sorted array of ranges that do not overlap:
 * an access is a binary search, or none where it hits the range of the one before. Everything is under the VM lock.
 *
 * A callback may map and unmap, its own region too: nothing of a region or range is touched after the call.
 */
#define _GNU_SOURCE
#include "qd_space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "fair_lock.h"

#define MAX_REGIONS 1024
#define MAX_EVENTFDS 4096

enum owner { NATIVE, PYTHON, NOTIFY };

struct region {
    int id; /* grows: of two with the same priority the later has the larger */
    int bus, priority;
    uint64_t first, last;
    enum owner owner;
    const struct qd_region_ops *ops;
    void *opaque; /* the callbacks', or the Python handle */
    struct qd_vdev *vdev;
    int how;
    uint32_t multiplier;
    unsigned count; /* its place in qd_space.accesses, for as long as it is mapped */
};

struct range {
    uint64_t first, last;
    struct region region; /* a copy: see the top of the file */
};

struct soft_eventfd {
    int bus, fd;
    uint64_t addr, value;
    uint32_t size;
    bool match;
};

struct qd_space {
    struct fair_lock lock; /* the VM lock */
    int next_id;
    unsigned n_regions, n_eventfds;
    struct region regions[MAX_REGIONS];
    struct range *ranges[2];
    unsigned n_ranges[2], hit[2];
    uint64_t accesses[MAX_REGIONS], unanswered[2];
    struct soft_eventfd *eventfds;
};

struct qd_space *qd_space_new(void)
{
    struct qd_space *space = calloc(1, sizeof(*space));
    if (!space)
        return NULL;
    space->next_id = 1;
    return space;
}

void qd_space_free(struct qd_space *space)
{
    free(space->ranges[QD_PIO]);
    free(space->ranges[QD_MMIO]);
    free(space->eventfds);
    free(space);
}

void qd_space_lock(struct qd_space *space)
{
    fair_lock_take(&space->lock);
}

void qd_space_unlock(struct qd_space *space)
{
    fair_lock_give(&space->lock);
}

/* --- mapping --- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The region that answers at ADDR, or NULL. */
static const struct region *winner(const struct qd_space *space, int bus, uint64_t addr)
{
    const struct region *best = NULL;
    for (unsigned i = 0; i < space->n_regions; i++) {
        const struct region *r = &space->regions[i];
        if (r->bus != bus || addr < r->first || addr > r->last)
            continue;
        if (!best || r->priority > best->priority || (r->priority == best->priority && r->id > best->id))
            best = r;
    }
    return best;
}

/* Cut the bus at every edge of a region; between two edges the winner is the same everywhere. */
static int flatten(struct qd_space *space, int bus)
{
    unsigned n = 0, n_ranges = 0;
    uint64_t *edges = malloc((2 * space->n_regions + 1) * sizeof(*edges));
    struct range *ranges = malloc((2 * space->n_regions + 1) * sizeof(*ranges));
    if (!edges || !ranges) {
        free(edges);
        free(ranges);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < space->n_regions; i++) {
        const struct region *r = &space->regions[i];
        if (r->bus != bus)
            continue;
        edges[n++] = r->first;
        if (r->last != UINT64_MAX)
            edges[n++] = r->last + 1;
    }
    qsort(edges, n, sizeof(*edges), compare_u64);
    for (unsigned i = 0; i < n; i++) {
        if (i + 1 < n && edges[i + 1] == edges[i])
            continue;
        const struct region *r = winner(space, bus, edges[i]);
        if (!r)
            continue;
        uint64_t last = i + 1 < n ? edges[i + 1] - 1 : r->last;
        struct range *before = n_ranges ? &ranges[n_ranges - 1] : NULL;
        if (before && before->region.id == r->id && before->last + 1 == edges[i])
            before->last = last;
        else
            ranges[n_ranges++] = (struct range){.first = edges[i], .last = last, .region = *r};
    }
    free(edges);
    free(space->ranges[bus]);
    space->ranges[bus] = ranges;
    space->n_ranges[bus] = n_ranges;
    space->hit[bus] = 0;
    return 0;
}

/* A place in qd_space.accesses that no region has; there are as many as there may be regions. */
static unsigned free_count(const struct qd_space *space)
{
    bool taken[MAX_REGIONS] = {false};
    for (unsigned i = 0; i < space->n_regions; i++)
        taken[space->regions[i].count] = true;
    unsigned n = 0;
    while (taken[n])
        n++;
    return n;
}

static int add_region(struct qd_space *space, struct region region, uint64_t size)
{
    if (region.bus != QD_PIO && region.bus != QD_MMIO)
        return -EINVAL;
    uint64_t limit = region.bus == QD_PIO ? 0xffff : UINT64_MAX;
    if (size == 0 || region.first > limit || size - 1 > limit - region.first)
        return -EINVAL;
    if (space->n_regions == MAX_REGIONS)
        return -ENOSPC;
    region.last = region.first + size - 1;
    region.id = space->next_id++;
    region.count = free_count(space);
    space->accesses[region.count] = 0;
    space->regions[space->n_regions++] = region;
    int error = flatten(space, region.bus);
    if (error)
        space->n_regions--;
    return error ? error : region.id;
}

int qd_space_map(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority,
                 const struct qd_region_ops *ops, void *opaque)
{
    struct region r = {.bus = bus, .first = base, .priority = priority, .owner = NATIVE, .ops = ops, .opaque = opaque};
    return add_region(space, r, size);
}

int qd_space_map_python(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority, void *handle)
{
    struct region r = {.bus = bus, .first = base, .priority = priority, .owner = PYTHON, .opaque = handle};
    return add_region(space, r, size);
}

int qd_space_map_notify(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority,
                        struct qd_vdev *vdev, int how, uint32_t multiplier, void *handle)
{
    if (how == QD_QUEUE_BY_OFFSET && multiplier < 2)
        return -EINVAL;
    struct region r = {.bus = bus, .first = base, .priority = priority, .owner = NOTIFY,
                       .opaque = handle, .vdev = vdev, .how = how, .multiplier = multiplier};
    return add_region(space, r, size);
}

void qd_space_unmap(struct qd_space *space, int id)
{
    for (unsigned i = 0; i < space->n_regions; i++) {
        if (space->regions[i].id != id)
            continue;
        int bus = space->regions[i].bus;
        memmove(&space->regions[i], &space->regions[i + 1], (space->n_regions - i - 1) * sizeof(struct region));
        space->n_regions--;
        if (flatten(space, bus)) /* no memory: nobody answers rather than somebody who is gone */
            space->n_ranges[bus] = 0;
        return;
    }
}

uint64_t qd_space_accesses(const struct qd_space *space, int id)
{
    for (unsigned i = 0; i < space->n_regions; i++)
        if (space->regions[i].id == id)
            return space->accesses[space->regions[i].count];
    return 0;
}

uint64_t qd_space_unanswered(const struct qd_space *space, int bus)
{
    return space->unanswered[bus];
}

/* --- software eventfds --- */

static struct soft_eventfd *find_eventfd(struct qd_space *space, int bus, uint64_t addr, uint32_t size, bool match,
                                         uint64_t value)
{
    for (unsigned i = 0; i < space->n_eventfds; i++) {
        struct soft_eventfd *e = &space->eventfds[i];
        if (e->bus == bus && e->addr == addr && e->size == size && e->match == match && (!match || e->value == value))
            return e;
    }
    return NULL;
}

int qd_space_add_eventfd(struct qd_space *space, int bus, uint64_t addr, uint32_t size, bool match, uint64_t value, int fd)
{
    if (find_eventfd(space, bus, addr, size, match, value))
        return -EEXIST;
    if (space->n_eventfds == MAX_EVENTFDS)
        return -ENOSPC;
    struct soft_eventfd *grown = realloc(space->eventfds, (space->n_eventfds + 1) * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    space->eventfds = grown;
    grown[space->n_eventfds++] =
        (struct soft_eventfd){.bus = bus, .fd = fd, .addr = addr, .value = value, .size = size, .match = match};
    return 0;
}

int qd_space_del_eventfd(struct qd_space *space, int bus, uint64_t addr, uint32_t size, bool match, uint64_t value, int fd)
{
    struct soft_eventfd *e = find_eventfd(space, bus, addr, size, match, value);
    if (!e || e->fd != fd)
        return -ENOENT;
    *e = space->eventfds[--space->n_eventfds];
    return 0;
}

/* As KVM: address and size must be the same, and the value where one was given. */
static bool signal_eventfds(struct qd_space *space, int bus, uint64_t addr, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < space->n_eventfds; i++) {
        struct soft_eventfd *e = &space->eventfds[i];
        if (e->bus != bus || e->addr != addr || (e->size && e->size != size) || (e->match && e->value != value))
            continue;
        uint64_t one = 1;
        return write(e->fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN;
    }
    return false;
}

/* --- access --- */

static const struct range *find_range(struct qd_space *space, int bus, uint64_t addr)
{
    const struct range *ranges = space->ranges[bus];
    unsigned low = 0, high = space->n_ranges[bus];
    if (space->hit[bus] < high) {
        const struct range *hit = &ranges[space->hit[bus]];
        if (addr >= hit->first && addr <= hit->last)
            return hit;
    }
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (addr > ranges[middle].last) {
            low = middle + 1;
        } else if (addr < ranges[middle].first) {
            high = middle;
        } else {
            space->hit[bus] = middle;
            return &ranges[middle];
        }
    }
    return NULL;
}

/* A kick by hand: true where a native queue took it. */
static bool notify_natively(const struct region *r, uint64_t offset, uint64_t value)
{
    uint64_t index = r->how == QD_QUEUE_BY_VALUE ? value & 0xffff : offset / r->multiplier;
    if (index > 0xffff || (r->how == QD_QUEUE_BY_OFFSET && offset % r->multiplier))
        return false;
    struct qd_vq *vq = qd_vdev_queue(r->vdev, index);
    return vq && qd_vq_kick(vq);
}

static void call_region(const struct region *r, uint64_t offset, uint64_t *value, unsigned size, bool write)
{
    if (r->owner == NATIVE) {
        if (write)
            r->ops->write(r->opaque, offset, *value, size);
        else
            *value = r->ops->read(r->opaque, offset, size);
    } else if (write) {
        if (r->owner != NOTIFY || !notify_natively(r, offset, *value))
            qd_py_write(r->opaque, offset, *value, size);
    } else {
        *value = qd_py_read(r->opaque, offset, size);
    }
}

static uint64_t mask_of(unsigned size)
{
    return size == 8 ? UINT64_MAX : (1ull << 8 * size) - 1;
}

static bool access_locked(struct qd_space *space, int bus, uint64_t addr, uint64_t *value, unsigned size, bool write)
{
    const struct range *range = find_range(space, bus, addr);
    if (size > 1 && (!range || range->last - addr < size - 1)) {
        /* not wholly in one range: each half to whoever is there. A sum that wraps finds what is at 0. */
        unsigned half = size / 2, rest = size - half;
        uint64_t low = *value & mask_of(half), high = *value >> 8 * half & mask_of(rest);
        bool answered = access_locked(space, bus, addr, &low, half, write);
        answered |= access_locked(space, bus, addr + half, &high, rest, write);
        *value = high << 8 * half | low;
        return answered;
    }
    if (!range) {
        space->unanswered[bus]++;
        if (!write)
            *value = 0xff;
        return false;
    }
    struct region region = range->region; /* the callback may unmap it */
    space->accesses[region.count]++;
    call_region(&region, addr - region.first, value, size, write);
    *value &= mask_of(size);
    return true;
}

int qd_space_owner(struct qd_space *space, int bus, uint64_t addr)
{
    fair_lock_take(&space->lock);
    const struct range *range = find_range(space, bus, addr);
    int id = range ? range->region.id : 0;
    fair_lock_give(&space->lock);
    return id;
}

bool qd_space_access(struct qd_space *space, int bus, uint64_t addr, uint64_t *value, unsigned size, bool write)
{
    fair_lock_take(&space->lock);
    if (write)
        *value &= mask_of(size);
    bool answered = write && space->n_eventfds && signal_eventfds(space, bus, addr, *value, size);
    if (!answered)
        answered = access_locked(space, bus, addr, value, size, write);
    fair_lock_give(&space->lock);
    return answered;
}

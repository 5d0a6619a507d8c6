/* SPDX-License-Identifier: Apache-2.0
 *
 * Who answers at a port or an MMIO address. vCPU exits and, without a CPU
 * (mock driver, qtest), Python's own accesses go through qd_space_access();
 * there is no other way to a device's registers.
 */
#ifndef QD_SPACE_H
#define QD_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "qd_queue.h"

enum qd_bus { QD_PIO = 0, QD_MMIO = 1 };

struct qd_region_ops {
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
};

struct qd_space;

struct qd_space *qd_space_new(void);
void qd_space_free(struct qd_space *space);

/* Map SIZE bytes at BASE. Where regions overlap the higher PRIORITY answers, then the later one.
 * Returns an id above 0, or -errno. Under the VM lock. */
int qd_space_map(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority,
                 const struct qd_region_ops *ops, void *opaque);
/* Regions that Python owns: handle is a cffi handle given to the Python callbacks. */
int qd_space_map_python(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority, void *handle);
/* A virtqueue's notify register: the queue's index is the written value (QUEUE_BY_VALUE), or
 * offset / multiplier (QUEUE_BY_OFFSET, multiplier >= 2). A native STARTED queue is served right here, without
 * Python; for others, reads, and indexes beyond the last, the region's Python handle answers. */
enum qd_notify_how { QD_QUEUE_BY_VALUE = 0, QD_QUEUE_BY_OFFSET = 1 };
int qd_space_map_notify(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority,
                        struct qd_vdev *vdev, int how, uint32_t multiplier, void *handle);
void qd_space_unmap(struct qd_space *space, int id);
/* Accesses that a region has answered since it was mapped, and those on a bus that nobody did. Under the VM lock. */
uint64_t qd_space_accesses(const struct qd_space *space, int id);
uint64_t qd_space_unanswered(const struct qd_space *space, int bus);

/* The software twin of KVM_IOEVENTFD, for accelerators without a CPU: a matching write signals FD and goes
 * nowhere else. SIZE 0 matches any size. -EEXIST where the same is there already. */
int qd_space_add_eventfd(struct qd_space *space, int bus, uint64_t addr, uint32_t size, bool match, uint64_t value, int fd);
int qd_space_del_eventfd(struct qd_space *space, int bus, uint64_t addr, uint32_t size, bool match, uint64_t value, int fd);

/* One access of SIZE 1, 2, 4 or 8; from KVM also 3, 5, 6 or 7: what one page has of an access that crosses into
 * the next. Takes the VM lock around a device's callback. What nobody answers reads as ones and swallows writes; the
 * result says whether somebody did. */
bool qd_space_access(struct qd_space *space, int bus, uint64_t addr, uint64_t *value, unsigned size, bool write);

/* The id of the region that would answer there, as qd_space_map() returned it; 0: nobody, or it is another since. */
int qd_space_owner(struct qd_space *space, int bus, uint64_t addr);

/* The lock that orders device-model state: vCPU exits and the main loop. Recursive, and taken in the
 * order in which it was asked for: a vCPU that hammers a register keeps nobody out. Take it before the GIL,
 * never while waiting for the GIL (cffi drops the GIL around these calls). */
void qd_space_lock(struct qd_space *space);
void qd_space_unlock(struct qd_space *space);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The guest's physical memory as this process sees it.
 *
 * Every guest-physical address that a device uses goes through qd_mem_ptr(),
 * with its length, and nowhere else. The map is filled before the first vCPU
 * runs and does not change while one does, so readers take no lock.
 */
#ifndef QD_MEM_H
#define QD_MEM_H

#include <stddef.h>
#include <stdint.h>

#define QD_MEM_MAX 16

struct qd_ram {
    uint64_t gpa;  /* first guest-physical address */
    uint64_t size; /* bytes */
    uint8_t *hva;  /* where the same bytes are in this process */
};

struct qd_mem {
    uint32_t n;
    struct qd_ram ram[QD_MEM_MAX];
};

/* Host pointer to LEN bytes at GPA, or NULL where any of them is not RAM.
 * A zero LEN is valid inside RAM only. */
static inline void *qd_mem_ptr(const struct qd_mem *mem, uint64_t gpa, uint64_t len)
{
    for (uint32_t i = 0; i < mem->n; i++) {
        const struct qd_ram *ram = &mem->ram[i];
        /* written so that no sum can wrap: gpa and len are the guest's */
        if (gpa >= ram->gpa && gpa - ram->gpa < ram->size && len <= ram->size - (gpa - ram->gpa))
            return ram->hva + (gpa - ram->gpa);
    }
    return NULL;
}

/* The same, looking first where the last one was. *NEAR: a region of MEM; the caller's, so that threads do not share it. */
static inline void *qd_mem_ptr_near(const struct qd_mem *mem, const struct qd_ram **near, uint64_t gpa, uint64_t len)
{
    const struct qd_ram *ram = *near;
    uint64_t offset = gpa - ram->gpa; /* below the region it wraps, and is larger than any region */
    if (__builtin_expect(offset < ram->size && len <= ram->size - offset, 1))
        return ram->hva + offset;
    for (uint32_t i = 0; i < mem->n; i++) {
        ram = &mem->ram[i];
        offset = gpa - ram->gpa;
        if (offset < ram->size && len <= ram->size - offset) {
            *near = ram;
            return ram->hva + offset;
        }
    }
    return NULL;
}

#endif

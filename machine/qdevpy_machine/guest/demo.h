/* SPDX-License-Identifier: Apache-2.0 */
/* The scenario: what is checked of each device, and how the guest ends. */
#ifndef DEMO_H
#define DEMO_H

#include "blk.h"
#include "console.h"
#include "net.h"

#define DEVICES 4u /* of each sort, at most */

struct machine {
    struct console consoles[DEVICES];
    struct blk disks[DEVICES];
    struct net nics[DEVICES];
    unsigned console_count, disk_count, nic_count;
    unsigned broken;  /* virtio devices that could not be used */
    u64 console_kick; /* cycles of the fastest, 0: not measured */
};

extern struct machine machine;

/* Count a check and say how it went: "ok: ..." or "FAILED: ...". Returns PASSED. */
__attribute__((format(printf, 2, 3))) bool check(bool passed, const char *format, ...);

void check_console(struct console *c);
void check_disk(struct blk *b, unsigned number);
void check_nic(struct net *n, unsigned number);
/* Frames from A to B; A and B may be the same card. */
void check_frames(struct net *a, struct net *b, const char *way);

/* How kicks of a device travelled, by what the driver can see. */
struct kicks {
    u64 fastest; /* cycles of a kick that finds nothing to do */
    unsigned requests, done_at_once;
};

void say_kicks(const char *name, unsigned number, const struct kicks *kicks);

#endif

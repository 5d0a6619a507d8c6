/* SPDX-License-Identifier: Apache-2.0
 *
 * The vCPU loop. Everything about KVM that is not hot (creating the VM, memory slots, routing, irqfd,
 * ioeventfd, CPUID, registers) is Python with ioctl numbers from the kernel's headers, see accel/kvm.
 */
#ifndef QD_KVM_H
#define QD_KVM_H

#include "qd_space.h"

enum qd_stop {
    QD_STOP_REQUESTED = 0, /* qd_vcpu_kick() */
    QD_STOP_SHUTDOWN = 1,  /* KVM_EXIT_SHUTDOWN: triple fault */
    QD_STOP_SYSTEM = 2,    /* KVM_EXIT_SYSTEM_EVENT, type in detail */
    QD_STOP_INTERNAL = 3,  /* KVM_EXIT_INTERNAL_ERROR: read kvm_run for suberror and bytes */
    QD_STOP_FAIL_ENTRY = 4,
    QD_STOP_UNKNOWN = 5,   /* exit reason in detail */
    QD_STOP_ERRNO = 6,     /* KVM_RUN failed: errno in detail */
    QD_STOP_DEBUG = 7
};

struct qd_trace_source;

struct qd_vcpu {
    int fd;                /* vCPU file descriptor */
    void *run;             /* mapped struct kvm_run */
    struct qd_space *space;
    uint64_t detail;
    uint64_t exits_pio, exits_mmio, exits_other;
    struct qd_trace_source *trace; /* NULL: exits are not traced; atomic */
    int stop_requested;    /* atomic */
    unsigned long thread;  /* pthread_t while inside qd_vcpu_run, else 0; atomic */
};

/* Once a process, before the first vCPU: take the kick signal. 0 or -errno. */
int qd_vcpu_init(void);
/* Sits in KVM_RUN, serving PIO and MMIO exits, until something else happens; an enum qd_stop. */
int qd_vcpu_run(struct qd_vcpu *vcpu);
/* Any thread: make qd_vcpu_run() return QD_STOP_REQUESTED soon, also where it is not in it yet. The thread that
 * runs the vCPU does not end meanwhile. */
void qd_vcpu_kick(struct qd_vcpu *vcpu);
/* Drive a GSI of the in-kernel interrupt controllers; any thread. OPAQUE: the VM's descriptor, as a pointer. */
void qd_kvm_set_gsi(void *opaque, int gsi, int level);
/* KVM_SET_TSS_ADDR: its argument is a number above INT_MAX, which Python's ioctl() does not take. 0 or -errno. */
int qd_kvm_set_tss(int vm_fd, unsigned long address);

#endif

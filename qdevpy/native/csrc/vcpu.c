/* SPDX-License-Identifier: Apache-2.0
 *
 * The vCPU loop.
 *
 * A kick must not be lost wherever the thread is. qd_vcpu_kick() raises stop_requested, then immediate_exit, then
 * sends the signal:
 *   - in guest mode: the signal ends KVM_RUN with EINTR;
 *   - between two KVM_RUNs, serving an exit, or not in the loop yet: the next KVM_RUN sees immediate_exit.
 * The loop always leaves through KVM_RUN, because that completes the PIO or MMIO access served last: a vCPU that
 * stops has no half-done instruction, so its registers may be read and set.
 */
#define _GNU_SOURCE
#include "trace.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

static int kick_signal(void)
{
    return SIGRTMIN + 1;
}

static void on_kick(int signal)
{
    (void)signal; /* that KVM_RUN was interrupted is all we want */
}

int qd_vcpu_init(void)
{
    /* without SA_RESTART: KVM_RUN returns EINTR */
    struct sigaction action = {.sa_handler = on_kick};
    return sigaction(kick_signal(), &action, NULL) ? -errno : 0;
}

static void serve_pio(struct qd_vcpu *vcpu, struct kvm_run *run)
{
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned size = run->io.size;
    bool write = run->io.direction == KVM_EXIT_IO_OUT;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint64_t value = 0;
        if (write)
            memcpy(&value, data, size);
        qd_space_access(vcpu->space, QD_PIO, run->io.port, &value, size, write);
        if (!write)
            memcpy(data, &value, size);
    }
    vcpu->exits_pio++;
}

static void serve_mmio(struct qd_vcpu *vcpu, struct kvm_run *run)
{
    uint64_t value = 0;
    unsigned len = run->mmio.len;
    if (len > sizeof(value))
        len = sizeof(value);
    if (run->mmio.is_write)
        memcpy(&value, run->mmio.data, len);
    qd_space_access(vcpu->space, QD_MMIO, run->mmio.phys_addr, &value, len, run->mmio.is_write);
    if (!run->mmio.is_write)
        memcpy(run->mmio.data, &value, len);
    vcpu->exits_mmio++;
}

/* Serve an exit; -1: go on, else the enum qd_stop to return. */
static int serve_exit(struct qd_vcpu *vcpu, struct kvm_run *run)
{
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        serve_pio(vcpu, run);
        return -1;
    case KVM_EXIT_MMIO:
        serve_mmio(vcpu, run);
        return -1;
    case KVM_EXIT_INTR:
        return -1;
    case KVM_EXIT_SHUTDOWN:
        return QD_STOP_SHUTDOWN;
    case KVM_EXIT_SYSTEM_EVENT:
        vcpu->detail = run->system_event.type;
        return QD_STOP_SYSTEM;
    case KVM_EXIT_INTERNAL_ERROR:
        vcpu->detail = run->internal.suberror;
        return QD_STOP_INTERNAL;
    case KVM_EXIT_FAIL_ENTRY:
        vcpu->detail = run->fail_entry.hardware_entry_failure_reason;
        return QD_STOP_FAIL_ENTRY;
    case KVM_EXIT_DEBUG:
        return QD_STOP_DEBUG;
    default:
        vcpu->detail = run->exit_reason;
        return QD_STOP_UNKNOWN;
    }
}

/* The same for a trace. Who answers is asked before: the access may change it. */
static __attribute__((cold, noinline)) int serve_traced(struct qd_vcpu *vcpu, struct kvm_run *run, struct qd_trace_source *trace)
{
    uint64_t began = qd_trace_now(), value = run->exit_reason;
    enum qd_exit_kind kind = QD_EXIT_OTHER;
    int region = 0;
    if (run->exit_reason == KVM_EXIT_IO) {
        kind = run->io.direction == KVM_EXIT_IO_OUT ? QD_EXIT_PIO_WRITE : QD_EXIT_PIO_READ;
        value = run->io.port;
        region = qd_space_owner(vcpu->space, QD_PIO, value);
    } else if (run->exit_reason == KVM_EXIT_MMIO) {
        kind = run->mmio.is_write ? QD_EXIT_MMIO_WRITE : QD_EXIT_MMIO_READ;
        value = run->mmio.phys_addr;
        region = qd_space_owner(vcpu->space, QD_MMIO, value);
    }
    int stop = serve_exit(vcpu, run);
    qd_trace_exit(trace, began, kind, value, (uint32_t)region);
    return stop;
}

int qd_vcpu_run(struct qd_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    int stop = -1;
    /* release: the kicker that sees our id finds the thread alive */
    __atomic_store_n(&vcpu->thread, pthread_self(), __ATOMIC_RELEASE);
    while (stop < 0) {
        if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
            struct qd_trace_source *trace = __atomic_load_n(&vcpu->trace, __ATOMIC_ACQUIRE);
            stop = __builtin_expect(trace != NULL, 0) ? serve_traced(vcpu, run, trace) : serve_exit(vcpu, run);
            if (stop >= 0 || run->exit_reason == KVM_EXIT_INTR)
                vcpu->exits_other++;
            continue;
        }
        if (errno == EINTR) {
            /* immediate_exit goes down first: a kick after the exchange raises it anew */
            __atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
            if (__atomic_exchange_n(&vcpu->stop_requested, 0, __ATOMIC_SEQ_CST))
                stop = QD_STOP_REQUESTED;
        } else if (errno != EAGAIN) { /* EAGAIN: an application processor got its INIT or SIPI */
            vcpu->detail = errno;
            stop = QD_STOP_ERRNO;
        }
    }
    __atomic_store_n(&vcpu->thread, 0, __ATOMIC_RELEASE);
    return stop;
}

void qd_vcpu_kick(struct qd_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    __atomic_store_n(&vcpu->stop_requested, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    unsigned long thread = __atomic_load_n(&vcpu->thread, __ATOMIC_ACQUIRE);
    if (thread)
        pthread_kill(thread, kick_signal());
}

void qd_kvm_set_gsi(void *opaque, int gsi, int level)
{
    struct kvm_irq_level line = {.irq = gsi, .level = level};
    /* fails for a GSI without a route only: then nobody listens */
    ioctl((int)(intptr_t)opaque, KVM_IRQ_LINE, &line);
}

int qd_kvm_set_tss(int vm_fd, unsigned long address)
{
    return ioctl(vm_fd, KVM_SET_TSS_ADDR, address) ? -errno : 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A trace of what a machine does, as Perfetto's viewer reads it.
 *
 *   queue (a tap) --\
 *   queue (a tap) ----> a ring each, no lock --> the writer's thread --> trace packets in a file
 *   vCPU -----------/
 *
 * A source has one producer at a time (vq->lock, or the vCPU's thread) and one consumer. Where its ring is full the event is
 * lost, counted, and said so in the trace: nothing waits for the writer.
 */
#ifndef QD_TRACE_H
#define QD_TRACE_H

#include "qd_kvm.h"
#include "qd_tap.h"

enum trace_kind { TRACE_KICK, TRACE_POP, TRACE_SUBMIT, TRACE_COMPLETE, TRACE_PUSH, TRACE_INTERRUPT, TRACE_SILENCE, TRACE_RESET, TRACE_EXIT };
enum qd_exit_kind { QD_EXIT_PIO_READ, QD_EXIT_PIO_WRITE, QD_EXIT_MMIO_READ, QD_EXIT_MMIO_WRITE, QD_EXIT_OTHER };

struct trace_event {
    uint64_t ns;     /* CLOCK_MONOTONIC */
    uint64_t value;  /* POP: readable bytes; PUSH: bytes written; EXIT: address, or the exit's reason */
    uint32_t extra;  /* POP: writable bytes; EXIT: duration in ns */
    uint32_t region; /* EXIT: who answers there (qd_space_owner); 0: nobody */
    uint16_t head;
    uint8_t kind;    /* enum trace_kind */
    uint8_t detail;  /* KICK: enum qd_kick; EXIT: enum qd_exit_kind */
};

#define TRACE_RING 16384 /* events, a power of two: at a million a second some 16 ms of the writer's absence */
#define TRACE_FLOWS 64   /* requests that one interrupt is linked with, at most */

struct qd_trace;

struct qd_trace_source {
    struct qd_tap tap;
    struct qd_trace_source *next; /* of the trace's */
    struct qd_trace *trace;
    uint64_t track, parent;       /* its identity in the trace, which those of its requests follow; that of what it is below */
    char *name;                   /* NULL: the track was described, for something has happened there */
    uint64_t head, tail;          /* atomic: events written, and taken; go round */
    uint64_t lost;                /* atomic */
    struct trace_event *ring;
    /* the writer's own */
    uint64_t lost_said;
    uint64_t kick;                /* the last kick's flow, until a chain is popped; 0: none */
    uint64_t n_kicks, n_requests;
    uint16_t n_shown;
    uint64_t shown[TRACE_FLOWS];  /* flows of requests that were pushed since the last interrupt */
    uint8_t slots[QD_VRING_MAX];  /* whether a track for requests is taken */
    uint16_t n_slots;             /* tracks that were described */
    struct trace_request {
        uint64_t flow;            /* 0: not open */
        uint64_t popped_ns;
        uint16_t slot;
        uint8_t stage;            /* 0, or the enum trace_kind of the last stage */
    } *requests;                  /* by head; of queues */
};

/* Begin: writes to FD, which is the caller's, from a thread of its own. NULL and errno. */
struct qd_trace *qd_trace_start(int fd, int pid, const char *process);
/* A track below PARENT (0: the process); its identity. */
uint64_t qd_trace_track(struct qd_trace *trace, uint64_t parent, const char *name);
/* Who is called what in exits; ID as qd_space_owner() has it. */
void qd_trace_name(struct qd_trace *trace, uint32_t id, const char *name);
/* Follow a queue, as qd_vq_add_tap(); a vCPU. NULL: no memory. */
struct qd_trace_source *qd_trace_queue(struct qd_trace *trace, uint64_t parent, const char *name, struct qd_vq *vq);
struct qd_trace_source *qd_trace_vcpu(struct qd_trace *trace, const char *name, struct qd_vcpu *vcpu);
/* No longer; as qd_vq_remove_tap(), and the vCPU is paused. What it has seen is written. */
void qd_trace_leave_queue(struct qd_trace_source *source, struct qd_vq *vq);
void qd_trace_leave_vcpu(struct qd_trace_source *source, struct qd_vcpu *vcpu);
/* Write what is left, and end; nobody is followed any more. EVENTS and LOST: how many in all. 0, or -errno of the first write
 * that failed. */
int qd_trace_stop(struct qd_trace *trace, uint64_t *events, uint64_t *lost);

/* For vcpu.c: an exit that was served from BEGAN (a time of qd_trace_now) until now. VALUE: address or reason. */
uint64_t qd_trace_now(void);
void qd_trace_exit(struct qd_trace_source *s, uint64_t began, enum qd_exit_kind kind, uint64_t value, uint32_t region);

/* --- between trace.c and trace_packets.c --- */

struct trace_file {
    int fd, error;       /* error: -errno of the first write that failed */
    size_t used;
    uint8_t data[1 << 18];
};

struct trace_names {
    uint32_t room;
    char **text;         /* by id; NULL where there is none */
};

void trace_flush(struct trace_file *file);
void trace_write_process(struct trace_file *file, int pid, const char *name);
void trace_write_track(struct trace_file *file, uint64_t track, uint64_t parent, const char *name);
void trace_write_event(struct trace_file *file, struct qd_trace_source *source, const struct trace_event *event,
                       const struct trace_names *names);
void trace_write_lost(struct trace_file *file, struct qd_trace_source *source, uint64_t ns, uint64_t lost);

#endif

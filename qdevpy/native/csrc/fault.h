/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose C code a thread is in, for the report of a crash.
 */
#ifndef QD_FAULT_H
#define QD_FAULT_H

#include <stddef.h>

#include "qd_loop.h"

/* The queue whose C handler this thread is in, and what the handler does (fault.c). In static TLS: both are written with
 * every kick. A handler is never called by another one, so leaving is forgetting. */
extern __thread const struct qd_vq *qd_serving __attribute__((tls_model("initial-exec")));
extern __thread const char *qd_doing __attribute__((tls_model("initial-exec")));

static inline void qd_enter(const struct qd_vq *vq, const char *doing)
{
    qd_doing = doing;
    qd_serving = vq;
}

static inline void qd_leave(void)
{
    qd_serving = NULL;
}

/* For loops. The handler may be gone afterwards. */
static inline void qd_fd_ready(struct qd_fd *handler, uint32_t events)
{
    qd_enter(handler->owner, "seeing to a descriptor of");
    handler->ready(handler, events);
    qd_leave();
}
#define QD_N_FAULTS 4
extern const int qd_faults[QD_N_FAULTS]; /* signals that a thread gets for what it does itself */

/* From now on a handler that ends the process is named on standard error. May be called any number of times. */
void qd_report_faults(void);

#endif

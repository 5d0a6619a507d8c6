/* SPDX-License-Identifier: Apache-2.0 */
/* The second vCPU, for who wants one. */
#ifndef DEMO_CPU_H
#define DEMO_CPU_H

#include "base.h"

/* Have JOB(ARGUMENT) run on the second vCPU, which is started where it has not been; false: there is none. Between jobs it
 * polls for the next one, for the rest of the guest's life. */
bool cpu_run(void (*job)(void *argument), void *argument);

/* Wait until the job is done. */
void cpu_wait(void);

#endif

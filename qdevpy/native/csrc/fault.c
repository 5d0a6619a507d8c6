/* SPDX-License-Identifier: Apache-2.0
 *
 * When a plugin's C brings the process down: one line that names the device before whoever else looks at the signal.
 */
#include "fault.h"
#include "qd_queue.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define HEX_DIGITS 16

__thread const struct qd_vq *qd_serving;
__thread const char *qd_doing;

const int qd_faults[QD_N_FAULTS] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static struct sigaction before[QD_N_FAULTS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Only what a signal handler may call: no stdio, no locks. */
static void say(const char *text)
{
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written; /* there is nobody to tell */
}

static void say_number(uint64_t value, unsigned base)
{
    char digits[3 * HEX_DIGITS] = "";
    char *at = digits + sizeof(digits) - 1;
    do {
        *--at = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    say(at);
}

static void report(int number, siginfo_t *info, void *context)
{
    const struct qd_vq *vq = qd_serving;
    (void)context;
    if (vq) {
        qd_serving = NULL;
        say("qdevpy: ");
        say(vq->vdev->label ? vq->vdev->label : "a device");
        say(": signal ");
        say_number((uint64_t)number, 10);
        say(" at address 0x");
        say_number((uintptr_t)info->si_addr, 16);
        say(" in its C handler, while ");
        say(qd_doing);
        say(" queue ");
        say_number(vq->index, 10);
        say("; the machine has ended\n");
    }
    for (size_t i = 0; i < QD_N_FAULTS; i++)
        if (qd_faults[i] == number)
            sigaction(number, &before[i], NULL);
    if (info->si_code <= 0) /* somebody sent it; else the instruction runs again, and the earlier handler gets it */
        raise(number);
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = report, .sa_flags = SA_SIGINFO};
    for (size_t i = 0; i < QD_N_FAULTS; i++)
        sigaction(qd_faults[i], &action, &before[i]);
}

void qd_report_faults(void)
{
    pthread_once(&once, install);
}

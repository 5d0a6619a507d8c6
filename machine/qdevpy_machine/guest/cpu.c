/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"

/* The local APIC's interrupt command register (Intel SDM 3A, 11.6.1), and what starts processors (9.4.4.1) */
#define ICR_LOW 0xfee00300u
#define ALL_BUT_SELF (3u << 18)
#define ASSERT (1u << 14)
#define INIT (5u << 8)
#define STARTUP (6u << 8)

#define START_PAGE 8u /* of 4096 bytes; loaders have been and gone */
#define SETTLE 30000000u /* cycles: ten milliseconds or so after INIT */

extern const u8 second_start[], second_end[];

static volatile bool is_up;
static void (*volatile job)(void *argument);
static void *volatile job_argument;

void cpu_second_main(void);

void cpu_second_main(void)
{
    is_up = true;
    for (;;) {
        if (job == NULL) {
            pause();
            continue;
        }
        job(job_argument);
        compiler_barrier(); /* what the job did before the word that it is done; x86 keeps stores in order */
        job = NULL;
    }
}

static bool start(void)
{
    memcpy((void *)(START_PAGE * 4096ull), second_start, (size_t)(second_end - second_start));
    write32(ICR_LOW, ALL_BUT_SELF | ASSERT | INIT);
    for (u64 until = cycles() + SETTLE; cycles() < until;)
        pause();
    write32(ICR_LOW, ALL_BUT_SELF | ASSERT | STARTUP | START_PAGE);
    return wait_for(is_up);
}

bool cpu_run(void (*wanted)(void *argument), void *argument)
{
    if (!is_up && !start())
        return false;
    job_argument = argument;
    compiler_barrier(); /* the argument before the job; x86 keeps stores in order */
    job = wanted;
    return true;
}

void cpu_wait(void)
{
    while (job != NULL)
        pause();
}

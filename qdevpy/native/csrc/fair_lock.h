/* SPDX-License-Identifier: Apache-2.0
 *
 * A recursive lock that is taken in the order in which it was asked for (a ticket lock that sleeps).
 *
 * A pthread mutex goes to whoever comes by when it is free, which is a vCPU that hammers a register and has just let go
 * of it: the main loop, still waking up, waited for seconds. Here it waits for as many accesses as there are vCPUs.
 */
#ifndef QD_FAIR_LOCK_H
#define QD_FAIR_LOCK_H

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct fair_lock {
    uint32_t next;    /* the ticket that is given out next; atomic */
    uint32_t serving; /* whose turn it is; atomic, and a futex */
    unsigned long owner; /* pthread_t, 0: nobody; atomic; only the owner finds itself here */
    unsigned depth;   /* the owner's */
};

/* Looks before sleeping: about two microseconds, as long as a short register access. */
#define FAIR_LOCK_SPINS 50

/* Sleepers are woken by ticket, so that not all of them wake for each turn. */
static inline uint32_t fair_lock_bit(uint32_t ticket)
{
    return 1u << ticket % 32;
}

static inline void fair_lock_wait(struct fair_lock *lock, uint32_t ticket)
{
    for (unsigned spins = 0;; spins++) {
        /* acquire: pairs with the release in fair_lock_give */
        uint32_t serving = __atomic_load_n(&lock->serving, __ATOMIC_ACQUIRE);
        if (serving == ticket)
            return;
        if (spins < FAIR_LOCK_SPINS)
            __builtin_ia32_pause();
        else /* returns at once where the turn has moved on meanwhile */
            syscall(SYS_futex, &lock->serving, FUTEX_WAIT_BITSET_PRIVATE, serving, NULL, NULL, fair_lock_bit(ticket));
    }
}

static inline void fair_lock_take(struct fair_lock *lock)
{
    unsigned long self = pthread_self();
    if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == self) {
        lock->depth++;
        return;
    }
    /* seq_cst: see fair_lock_give */
    fair_lock_wait(lock, __atomic_fetch_add(&lock->next, 1, __ATOMIC_SEQ_CST));
    __atomic_store_n(&lock->owner, self, __ATOMIC_RELAXED);
    lock->depth = 1;
}

static inline void fair_lock_give(struct fair_lock *lock)
{
    if (--lock->depth)
        return;
    __atomic_store_n(&lock->owner, 0, __ATOMIC_RELAXED);
    /* A waiter takes a ticket, then looks at `serving`; we move `serving`, then look at `next`. Both seq_cst: either it
     * sees its turn, or we see it and wake it. */
    uint32_t serving = __atomic_add_fetch(&lock->serving, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&lock->next, __ATOMIC_SEQ_CST) != serving)
        syscall(SYS_futex, &lock->serving, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, fair_lock_bit(serving));
}

#endif

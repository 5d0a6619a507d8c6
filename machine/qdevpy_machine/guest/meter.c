/* SPDX-License-Identifier: Apache-2.0 */
#include "meter.h"

#define EXACT (1u << METER_BITS)

void meter_start(struct meter *m)
{
    memset(m, 0, sizeof(*m));
    m->shortest = ~0ull;
    m->start = cycles();
}

void meter_stop(struct meter *m) { m->end = cycles(); }

static unsigned bucket_of(u64 duration)
{
    if (duration < EXACT)
        return (unsigned)duration;
    unsigned above = 63u - (unsigned)__builtin_clzll(duration) - METER_BITS; /* bits that are dropped */
    unsigned bucket = ((above + 1) << METER_BITS) + (unsigned)((duration >> above) & (EXACT - 1));
    return bucket < METER_BUCKETS ? bucket : METER_BUCKETS - 1;
}

static u64 lower_bound(unsigned bucket)
{
    if (bucket < EXACT)
        return bucket;
    unsigned above = (bucket >> METER_BITS) - 1;
    return (u64)(EXACT + (bucket & (EXACT - 1))) << above;
}

void meter_note(struct meter *m, u64 duration)
{
    m->durations[bucket_of(duration)]++;
    if (duration < m->shortest)
        m->shortest = duration;
    if (duration > m->longest)
        m->longest = duration;
}

void meter_add(struct meter *m, const struct meter *other)
{
    m->vcpus = (m->vcpus ? m->vcpus : 1) + 1;
    m->waited += other->waited;
    m->requests += other->requests;
    m->bytes += other->bytes;
    m->kicks += other->kicks;
    m->failed += other->failed;
    m->shortest = other->shortest < m->shortest ? other->shortest : m->shortest;
    m->longest = other->longest > m->longest ? other->longest : m->longest;
    m->end = other->end > m->end ? other->end : m->end;
    for (unsigned i = 0; i < METER_BUCKETS; i++)
        m->durations[i] += other->durations[i];
}

static u64 count_all(const struct meter *m)
{
    u64 all = 0;
    for (unsigned i = 0; i < METER_BUCKETS; i++)
        all += m->durations[i];
    return all;
}

/* The duration that RANK of the noted ones do not exceed: the middle of its bucket. */
static u64 at_rank(const struct meter *m, u64 rank)
{
    u64 seen = 0;
    for (unsigned i = 0; i < METER_BUCKETS; i++) {
        seen += m->durations[i];
        if (seen >= rank && seen > 0)
            return (lower_bound(i) + lower_bound(i + 1)) / 2;
    }
    return m->longest;
}

static u64 per_mille(const struct meter *m, u64 all, u64 share) { return at_rank(m, (all * share + 999) / 1000); }

/* Coarser than it was counted: a line has to fit what say() holds. */
#define TOGETHER 8u

static void report_histogram(const struct meter *m)
{
    say(" histogram=");
    for (unsigned first = 0, shown = 0; first < METER_BUCKETS; first += TOGETHER) {
        u64 count = 0;
        for (unsigned i = first; i < first + TOGETHER; i++)
            count += m->durations[i];
        if (count > 0)
            say("%s%lu:%lu", shown++ ? "," : "", lower_bound(first), count);
    }
}

void meter_report(const struct meter *m, bool histogram)
{
    say("result start=%lu end=%lu vcpus=%lu waited=%lu requests=%lu bytes=%lu kicks=%lu failed=%lu", m->start, m->end,
        m->vcpus ? m->vcpus : 1, m->waited,
        m->requests, m->bytes, m->kicks, m->failed);
    u64 all = count_all(m);
    if (all > 0)
        say(" noted=%lu min=%lu p50=%lu p90=%lu p99=%lu p999=%lu max=%lu", all, m->shortest, per_mille(m, all, 500),
            per_mille(m, all, 900), per_mille(m, all, 990), per_mille(m, all, 999), m->longest);
    if (all > 0 && histogram)
        report_histogram(m);
    say("\n");
}

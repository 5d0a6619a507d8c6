/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#define DEVICES 16u
#define LINE_LENGTH 512u

/* Data buffers lie here: beyond the program and what loaders put behind it. The machine needs 128 MiB. */
#define MEMORY_START 0x2000000ull
#define MEMORY_END 0x7000000ull

static const struct bench_sort *const sorts[] = {&bench_bare, &bench_blk, &bench_clock, &bench_echo,
                                           &bench_kick, &bench_net, &bench_queue};

static struct pci_function functions[DEVICES]; /* virtio devices, in the order of slots */
static unsigned function_count;
static struct virtio devices[2]; /* of the measurement that is on */
static unsigned device_count;
static u64 memory_used;
static struct meter meter;

/* -- what measurements use */

bool bench_refuse(const char *format, ...)
{
    __builtin_va_list list;
    __builtin_va_start(list, format);
    say("error ");
    say_list(format, list);
    say("\n");
    __builtin_va_end(list);
    return false;
}

static struct virtio *find_device(u16 type, u64 number)
{
    const char *transport = word("transport");
    struct virtio *found = &devices[device_count];
    for (unsigned i = 0; i < function_count; i++) {
        if (virtio_type(&functions[i]) != type || number-- > 0)
            continue;
        if (!virtio_probe(found, &functions[i], transport ? transport : "auto"))
            break;
        device_count++;
        return found;
    }
    bench_refuse("no such device");
    return NULL;
}

struct virtio *bench_device(u16 type) { return find_device(type, word_number("device", 0)); }

struct virtio *bench_second_device(u16 type) { return find_device(type, word_number("device", 0) + 1); }

bool bench_time_is_left(const struct meter *m, u64 now) { return now - m->start < word_number("cycles", BENCH_CYCLES); }

void *bench_memory(size_t length)
{
    u64 start = MEMORY_START + memory_used;
    memory_used += (length + 4095) & ~4095ull;
    if (MEMORY_START + memory_used <= MEMORY_END)
        return (void *)start;
    bench_refuse("not so much memory");
    return NULL;
}

/* -- the dialogue */

static char line[LINE_LENGTH];

static void read_line(void)
{
    unsigned length = 0;
    for (char c; (c = serial_read()) != '\n';)
        if (length < sizeof(line) - 1)
            line[length++] = c;
    line[length] = '\0';
}

static const struct bench_sort *find_sort(void)
{
    for (unsigned i = 0; i < COUNT(sorts); i++)
        if (word(sorts[i]->name) != NULL)
            return sorts[i];
    bench_refuse("nothing to measure: %s", line);
    return NULL;
}

static void serve(const struct bench_sort *sort)
{
    if (!sort->prepare())
        return;
    say("ready\n");
    read_line();
    meter_start(&meter);
    sort->measure(&meter);
    if (meter.end == 0)
        meter_stop(&meter);
    say("done\n");
    read_line();
    meter_report(&meter, word("histogram") != NULL);
}

static void remember(const struct pci_function *f)
{
    if (f->vendor == VIRTIO_VENDOR && function_count < DEVICES)
        functions[function_count++] = *f;
}

void bench(void)
{
    serial_start();
    say_to(serial_write);
    pci_scan(remember);
    say("bench %u\n", function_count);
    for (;;) {
        read_line();
        words_set(line);
        if (word("end") != NULL)
            return;
        size_t mark = allocated();
        const struct bench_sort *sort = find_sort();
        if (sort != NULL)
            serve(sort);
        while (device_count > 0)
            virtio_reset(&devices[--device_count]);
        memory_used = 0;
        release(mark);
    }
}

/* -- nothing at all: for the host, which sets its clock by the counter */

static bool prepare_nothing(void) { return true; }

static void measure_nothing(struct meter *m) { meter_stop(m); }

const struct bench_sort bench_clock = {"clock", prepare_nothing, measure_nothing};

/* SPDX-License-Identifier: Apache-2.0 */
/* What every part of the guest stands on: integers, ports, time, memory, text. */
#ifndef DEMO_BASE_H
#define DEMO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* -- ports and memory-mapped registers */

static inline u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline u16 in16(u16 port)
{
    u16 value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline u32 in32(u16 port)
{
    u32 value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(u16 port, u16 value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(u16 port, u32 value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

/* One instruction of exactly this width, which is what a device decodes. */
static inline u8 read8(u64 address) { return *(volatile u8 *)address; }
static inline u16 read16(u64 address) { return *(volatile u16 *)address; }
static inline u32 read32(u64 address) { return *(volatile u32 *)address; }
static inline void write8(u64 address, u8 value) { *(volatile u8 *)address = value; }
static inline void write16(u64 address, u16 value) { *(volatile u16 *)address = value; }
static inline void write32(u64 address, u32 value) { *(volatile u32 *)address = value; }

/* -- order and time */

#define compiler_barrier() __asm__ volatile("" : : : "memory")
/* x86 reorders only an earlier store with a later load; this is for the one place where that matters */
#define full_barrier() __asm__ volatile("mfence" : : : "memory")

static inline void pause(void) { __asm__ volatile("pause" : : : "memory"); }

/* Cycles of the time stamp counter; ordered after what stands before it. */
static inline u64 cycles(void)
{
    u32 low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (u64)high << 32 | low;
}

/* A few seconds on any machine: the counter's frequency is between 1 and 5 GHz. */
#define PATIENCE 15000000000ull

/* Wait until CONDITION holds; false when patience ran out. */
#define wait_for(condition) \
    ({ \
        u64 until_ = cycles() + PATIENCE; \
        bool met_; \
        while (!(met_ = (condition)) && cycles() < until_) \
            pause(); \
        met_; \
    })

/* -- memory */

void *memcpy(void *to, const void *from, size_t length);
void *memset(void *to, int byte, size_t length);
int memcmp(const void *a, const void *b, size_t length);

/* Zeroed memory; ALIGN is a power of two. Addresses are physical addresses. */
void *allocate(size_t length, size_t align);

/* What has been allocated so far, and: give back everything allocated since. */
size_t allocated(void);
void release(size_t mark);

/* FNV-1a, 32 bit, continued from HASH (start with CHECKSUM_START). */
#define CHECKSUM_START 0x811c9dc5u
u32 checksum(u32 hash, const void *data, size_t length);

/* Fill DATA with bytes that follow from SEED. */
void fill_pattern(void *data, size_t length, u32 seed);

/* -- text */

/* printf's %s %c %u %x %lu %lx with an optional field width and leading zero; newline ends a line.
 * Lines wait in a buffer until a console takes them. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
void say_list(const char *format, __builtin_va_list list);

/* Lines go to WRITE from now on, those that waited at once. */
void say_to(void (*write)(const char *text, unsigned length));

/* -- the first serial port (16550A), polled */

#define SERIAL_PORT 0x3f8

void serial_start(void);
void serial_write(const char *text, unsigned length);
/* The next byte; waits for good: somebody at the other end decides when to go on. */
char serial_read(void);

/* -- command line: words, some of them KEY=VALUE */

void words_set(const char *line);
/* The value of KEY=VALUE, "" for a bare KEY, NULL where it is not there; the last one counts. */
const char *word(const char *key);
bool word_is(const char *key, const char *value);
/* The number after KEY=, decimal or 0x..., else FALLBACK. */
u64 word_number(const char *key, u64 fallback);

#endif

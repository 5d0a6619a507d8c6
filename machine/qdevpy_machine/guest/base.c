/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#define ARENA_SIZE (4u << 20)
#define LINE_MAX 1024
#define KEY_MAX 64

/* -- memory */

static u8 arena[ARENA_SIZE] __attribute__((aligned(4096)));
static size_t arena_used;

void *allocate(size_t length, size_t align)
{
    size_t start = (arena_used + align - 1) & ~(align - 1);
    if (length > ARENA_SIZE - start) {
        say("out of memory: %lu bytes wanted\n", length);
        __asm__ volatile("ud2");
    }
    arena_used = start + length;
    return memset(arena + start, 0, length);
}

size_t allocated(void) { return arena_used; }

void release(size_t mark) { arena_used = mark; }

/* The compiler calls these three; without -fno-builtin it would turn the loops into calls of themselves. */

void *memcpy(void *to, const void *from, size_t length)
{
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
    return start;
}

void *memset(void *to, int byte, size_t length)
{
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(byte) : "memory");
    return start;
}

int memcmp(const void *a, const void *b, size_t length)
{
    const u8 *left = a, *right = b;
    for (size_t i = 0; i < length; i++)
        if (left[i] != right[i])
            return left[i] - right[i];
    return 0;
}

u32 checksum(u32 hash, const void *data, size_t length)
{
    const u8 *bytes = data;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * 0x01000193u;
    return hash;
}

void fill_pattern(void *data, size_t length, u32 seed)
{
    u8 *bytes = data;
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = seed >> 24;
    }
}

/* -- text */

static char waiting[8192]; /* what was said before there was a console, and the line being made */
static unsigned waiting_length;
static void (*sink)(const char *text, unsigned length);

static void put(char c)
{
    if (waiting_length < sizeof(waiting))
        waiting[waiting_length++] = c;
    if (c == '\n' && sink != NULL) {
        sink(waiting, waiting_length);
        waiting_length = 0;
    }
}

static void put_number(u64 value, unsigned base, unsigned width, char fill)
{
    char digits[24];
    unsigned n = 0;
    do
        digits[n++] = "0123456789abcdef"[value % base];
    while ((value /= base) != 0);
    while (n < width && n < sizeof(digits))
        digits[n++] = fill;
    while (n > 0)
        put(digits[--n]);
}

void say_list(const char *format, __builtin_va_list list)
{
    for (const char *at = format; *at; at++) {
        if (*at != '%') {
            put(*at);
            continue;
        }
        char fill = at[1] == '0' ? '0' : ' ';
        unsigned width = 0;
        while (at[1] >= '0' && at[1] <= '9')
            width = width * 10 + (unsigned)(*++at - '0');
        bool is_long = at[1] == 'l';
        if (is_long)
            at++;
        switch (*++at) {
        case 's':
            for (const char *text = __builtin_va_arg(list, const char *); *text; text++)
                put(*text);
            break;
        case 'c':
            put((char)__builtin_va_arg(list, int));
            break;
        case 'u':
        case 'x':
            put_number(is_long ? __builtin_va_arg(list, u64) : __builtin_va_arg(list, u32), *at == 'u' ? 10 : 16, width, fill);
            break;
        default:
            put(*at);
        }
    }
}

void say(const char *format, ...)
{
    __builtin_va_list list;
    __builtin_va_start(list, format);
    say_list(format, list);
    __builtin_va_end(list);
}

void say_to(void (*write)(const char *text, unsigned length))
{
    sink = write;
    if (waiting_length > 0)
        sink(waiting, waiting_length);
    waiting_length = 0;
}

/* -- the first serial port */

enum { SERIAL_DATA = 0, SERIAL_FIFO = 2, SERIAL_LINE_STATUS = 5 };
#define SERIAL_FIFO_ON 1u
#define SERIAL_HAS_DATA 1u
#define SERIAL_POLL 50000u /* cycles between two looks: each is an exit, which disturbs who is to send */

void serial_start(void) { out8(SERIAL_PORT + SERIAL_FIFO, SERIAL_FIFO_ON); }

/* One instruction, so that a KVM makes few exits of it. */
void serial_write(const char *text, unsigned length)
{
    u64 count = length;
    __asm__ volatile("rep outsb" : "+S"(text), "+c"(count) : "d"((u16)SERIAL_PORT) : "memory");
}

char serial_read(void)
{
    while (!(in8(SERIAL_PORT + SERIAL_LINE_STATUS) & SERIAL_HAS_DATA))
        for (u64 until = cycles() + SERIAL_POLL; cycles() < until;)
            pause();
    return (char)in8(SERIAL_PORT + SERIAL_DATA);
}

/* -- command line */

static char line[LINE_MAX]; /* words, each ended by a zero byte */
static unsigned line_length;

void words_set(const char *text)
{
    line_length = 0;
    while (*text && line_length < LINE_MAX - 1) {
        line[line_length++] = *text == ' ' || *text == '\t' ? '\0' : *text;
        text++;
    }
    line[line_length++] = '\0';
}

const char *word(const char *key)
{
    const char *found = NULL;
    for (unsigned start = 0; start < line_length; start++) {
        if (start > 0 && line[start - 1] != '\0')
            continue;
        unsigned n = 0;
        while (key[n] && line[start + n] == key[n])
            n++;
        if (key[n] == '\0' && n > 0 && (line[start + n] == '=' || line[start + n] == '\0'))
            found = line + start + n + (line[start + n] == '=');
    }
    return found;
}

bool word_is(const char *key, const char *value)
{
    const char *given = word(key);
    if (given == NULL)
        return false;
    while (*given && *given == *value)
        given++, value++;
    return *given == *value;
}

u64 word_number(const char *key, u64 fallback)
{
    const char *text = word(key);
    if (text == NULL || *text == '\0')
        return fallback;
    unsigned base = 10;
    if (text[0] == '0' && text[1] == 'x') {
        base = 16;
        text += 2;
    }
    u64 value = 0;
    for (; *text; text++) {
        unsigned digit = *text <= '9' ? (unsigned)(*text - '0') : (unsigned)((*text | 32) - 'a' + 10);
        if (digit >= base)
            return fallback;
        value = value * base + digit;
    }
    return value;
}

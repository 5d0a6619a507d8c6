/* SPDX-License-Identifier: Apache-2.0
 *
 * What Python sees of blk.h.
 */
enum blk_aio { BLK_AIO_THREADS, BLK_AIO_URING, BLK_AIO_NATIVE, BLK_AIO_NULL };

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZEROES, BLK_OPS };

enum blk_policy { BLK_REPORT, BLK_IGNORE, BLK_STOP, BLK_STOP_IF_FULL };

struct blk_counter {
    uint64_t requests, bytes, errors, last_errno, merged;
};

struct blk_disk {
    int fd, aio, readonly, unmap, on_read_error, on_write_error, read_zeroes, merging, in_memory;
    uint64_t offset;
    uint32_t block_size, mem_align, max_discard, max_zeroes;
    uint8_t serial[20];
    uint64_t sectors;
    int write_through, no_punch, no_zero_range, no_nowait, no_dsync, no_fixed_file;
    uint64_t invalid;
    struct blk_counter counters[5];
};

uint32_t blk_queue_held(const struct blk_queue *q);
struct blk_queue *blk_queue_new(struct blk_disk *disk);
void blk_queue_free(struct blk_queue *q);
const struct qd_queue_ops *blk_queue_ops(void);
int blk_in_memory(int fd);
int blk_probe(int aio);

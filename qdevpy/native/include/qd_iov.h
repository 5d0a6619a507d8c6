/* SPDX-License-Identifier: Apache-2.0
 *
 * iovecs as one string of bytes. Devices accept any layout (VIRTIO_F_ANY_LAYOUT), so headers are copied out of the
 * buffers by offset, never taken from "the first descriptor".
 */
#ifndef QD_IOV_H
#define QD_IOV_H

#include <stddef.h>
#include <sys/uio.h>

static inline size_t qd_iov_read(const struct iovec *iov, unsigned n, size_t offset, void *to, size_t len)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - offset;
        if (part > len - done)
            part = len - done;
        __builtin_memcpy((char *)to + done, (char *)iov[i].iov_base + offset, part);
        done += part;
        offset = 0;
    }
    return done;
}

static inline size_t qd_iov_write(const struct iovec *iov, unsigned n, size_t offset, const void *from, size_t len)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - offset;
        if (part > len - done)
            part = len - done;
        __builtin_memcpy((char *)iov[i].iov_base + offset, (const char *)from + done, part);
        done += part;
        offset = 0;
    }
    return done;
}

/* TO gets the LEN bytes of IOV that start at OFFSET; returns the parts, at most N. */
static inline unsigned qd_iov_slice(const struct iovec *iov, unsigned n, size_t offset, size_t len, struct iovec *to)
{
    unsigned parts = 0;
    for (unsigned i = 0; i < n && len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - offset;
        if (part > len)
            part = len;
        to[parts].iov_base = (char *)iov[i].iov_base + offset;
        to[parts++].iov_len = part;
        len -= part;
        offset = 0;
    }
    return parts;
}

#endif

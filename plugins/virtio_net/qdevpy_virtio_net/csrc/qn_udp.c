/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of a batch of datagrams: one a frame, but on UDP sockets frames of
 * one length go as one message, which the kernel cuts into the same datagrams
 * again (UDP_SEGMENT, udp(7)), after most of its way through the network stack.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "qn.h"

#define MESSAGE_MAX 65000 /* a little less than what fits with its headers into an IP packet's 65535 bytes */

struct qn_control {
    _Alignas(struct cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
};

size_t qn_segment_max(int fd)
{
    int value = 0;
    socklen_t size = sizeof(value);
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &size) || value != IPPROTO_UDP)
        return 0;
    size = sizeof(value);
    return getsockopt(fd, SOL_UDP, UDP_SEGMENT, &value, &size) ? 0 : QN_FRAME_MAX;
}

/* How many of N frames from FIRST on go as one message: of one length, but for the last one, which may be shorter. */
static unsigned count_equal(const struct qn_queue *q, const struct qn_chain *first, unsigned n)
{
    size_t len = first->len, sum = len;
    unsigned iovs = first->n, count = 1;

    if (len > q->segment_max)
        return 1;
    for (; count < n && first[count - 1].len == len; count++) {
        sum += first[count].len;
        iovs += first[count].n;
        if (first[count].len > len || sum > MESSAGE_MAX || iovs > QN_IOV_MAX)
            break;
    }
    return count;
}

static void cut_into(struct msghdr *msg, struct qn_control *control, uint16_t len)
{
    msg->msg_control = control;
    msg->msg_controllen = sizeof(*control);
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
    cmsg->cmsg_level = SOL_UDP;
    cmsg->cmsg_type = UDP_SEGMENT;
    cmsg->cmsg_len = CMSG_LEN(sizeof(len));
    memcpy(CMSG_DATA(cmsg), &len, sizeof(len));
}

/* COUNT frames from FIRST on. A length stands before each but the first; on datagram sockets it is empty. */
static void fill(struct msghdr *msg, struct iovec *iov, const struct qn_chain *first, unsigned count)
{
    const struct qn_chain *last = first + count - 1;
    msg->msg_iov = iov + first->first + 1;
    msg->msg_iovlen = last->first + last->n - (first->first + 1);
}

unsigned qn_fill_messages(struct qn_queue *q, unsigned n, uint8_t *frames)
{
    struct qn_chain *first = &q->batch.chain[q->batch.next], *end = first + n;
    unsigned i = 0;

    if (q->segment_max && !q->controls)
        q->controls = calloc(QN_BATCH, sizeof(*q->controls));
    if (!q->controls) {
        memset(frames, 1, n);
        for (; first < end; first++)
            fill(&q->msgs[i++].msg_hdr, q->batch.iov, first, 1);
        return n;
    }
    for (; first < end; first += frames[i++]) {
        struct msghdr *msg = &q->msgs[i].msg_hdr;
        frames[i] = count_equal(q, first, end - first);
        fill(msg, q->batch.iov, first, frames[i]);
        msg->msg_control = NULL;
        msg->msg_controllen = 0;
        if (frames[i] > 1)
            cut_into(msg, &q->controls[i], first->len);
    }
    return i;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "qd_intx.h"

#include <string.h>

void qd_lines_init(struct qd_lines *lines, void (*set_gsi)(void *opaque, int gsi, int level), void *opaque)
{
    memset(lines, 0, sizeof(*lines));
    pthread_mutex_init(&lines->lock, NULL);
    lines->set_gsi = set_gsi;
    lines->opaque = opaque;
}

/* With the lock held: one device more or less on a line; the first one raises it, the last one lowers it. */
static void count(struct qd_lines *lines, int gsi, int level)
{
    if (gsi < 0 || gsi >= QD_GSI_MAX)
        return;
    if (level ? lines->asserted[gsi]++ == 0 : --lines->asserted[gsi] == 0)
        lines->set_gsi(lines->opaque, gsi, level);
}

static bool asserted(const struct qd_intx *intx)
{
    return intx->level && !intx->disabled;
}

/* With the lock held: the device asserted its line BEFORE; bring the line to what it wants now. */
static void changed(struct qd_intx *intx, bool before)
{
    if (asserted(intx) != before)
        count(intx->lines, intx->gsi, !before);
}

void qd_intx_set(void *opaque, int level)
{
    struct qd_intx *intx = opaque;
    pthread_mutex_lock(&intx->lines->lock);
    bool before = asserted(intx);
    intx->level = level;
    changed(intx, before);
    pthread_mutex_unlock(&intx->lines->lock);
}

void qd_intx_disable(struct qd_intx *intx, bool disabled)
{
    pthread_mutex_lock(&intx->lines->lock);
    bool before = asserted(intx);
    intx->disabled = disabled;
    changed(intx, before);
    pthread_mutex_unlock(&intx->lines->lock);
}

void qd_intx_route(struct qd_intx *intx, int gsi)
{
    pthread_mutex_lock(&intx->lines->lock);
    if (asserted(intx) && intx->gsi != gsi) {
        count(intx->lines, intx->gsi, 0);
        count(intx->lines, gsi, 1);
    }
    intx->gsi = gsi;
    pthread_mutex_unlock(&intx->lines->lock);
}

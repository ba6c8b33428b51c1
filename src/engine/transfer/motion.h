/* SPDX-License-Identifier: Apache-2.0 */
/*
 * motion.h - whether bytes of a connection still move, for whoever waits until something that was given up
 * is quiet (docs/protocol.md 6.4): a slow link that drains is waited for, a peer that has stopped is not.
 */
#ifndef KVI_ENGINE_MOTION_H
#define KVI_ENGINE_MOTION_H

#include <stdint.h>

struct kvt_conn;

/* When to look for the first time at what is given up now. */
int64_t kvi_motion_get_first_due(void);

/*
 * For what was given up at since_ns and is not quiet: when to ask again; 0 when it is late, as nothing has
 * moved for KVI_QUIESCE_NS, or it took KVI_DRAIN_NS in all. Any thread; however many ask, the lanes are
 * looked at a few times a second. Time in which nobody here ran (a stopped process, a paused machine) does
 * not count.
 */
int64_t kvi_motion_get_due(struct kvt_conn *conn, int64_t since_ns);

#endif

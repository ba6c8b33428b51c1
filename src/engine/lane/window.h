/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window.h - a range of memory registered in every domain that a connection's lanes live in, so that
 * any lane can carry it; or in every domain of the engine, for the lanes of any connection.
 */
#ifndef KVI_ENGINE_WINDOW_H
#define KVI_ENGINE_WINDOW_H

#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvt_conn;
struct kvt_engine;
struct kvi_link;
struct kvi_window;

/* access: KVI_ACCESS_*. Any thread. */
enum kvt_err kvi_window_open(struct kvt_conn *conn, void *base, size_t len, unsigned access,
			     struct kvi_window **window, struct kvt_error *error);

/* For this side's own operations, on any connection. Any thread; rails and queues are open. */
enum kvt_err kvi_window_open_local(struct kvt_engine *engine, void *base, size_t len,
				   struct kvi_window **window, struct kvt_error *error);

/* Deregisters. The caller has made sure that nobody uses it: see rule Q. NULL is allowed. */
void kvi_window_close(struct kvi_window *window);

bool kvi_window_holds(const struct kvi_window *window, const void *base, size_t len);

/* The registration in the domain of link. */
struct kvi_memory *kvi_window_get_memory(const struct kvi_window *window,
					 const struct kvi_link *link);

/* What the peer needs: one grant when it serves all lanes, else one a rail. Returns their number. */
size_t kvi_window_get_grants(const struct kvi_window *window,
			     struct kvi_wire_grant grants[KVI_RAILS_MAX]);

#endif

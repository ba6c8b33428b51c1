/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registration.h - a range of memory registered in every domain that a connection's lanes live in, so that
 * any lane can carry it; or in every domain of the network's rails, for the lanes of any connection there.
 */
#ifndef KVI_ENGINE_REGISTRATION_H
#define KVI_ENGINE_REGISTRATION_H

#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvt_conn;
struct kvt_engine;
struct kvi_link;
struct kvi_registration;

/* access: KVI_ACCESS_*. Any thread. */
enum kvt_err kvi_registration_open(struct kvt_conn *conn, void *base, size_t len, unsigned access,
				   struct kvi_registration **registration, struct kvt_error *error);

/* For this side's own operations, on any connection over the network, of which the engine has rails. Any thread; rails
 * and queues are open. */
enum kvt_err kvi_registration_open_local(struct kvt_engine *engine, void *base, size_t len,
					 struct kvi_registration **registration,
					 struct kvt_error *error);

/* Deregisters. The caller has made sure that nobody uses it: see rule Q. NULL is allowed. */
void kvi_registration_close(struct kvi_registration *registration);

bool kvi_registration_holds(const struct kvi_registration *registration, const void *base,
			    size_t len);

/* The memory as the domain of link knows it; NULL: it was not registered for link's path, which needs none. */
struct kvi_memory *kvi_registration_get_memory(const struct kvi_registration *registration,
					       const struct kvi_link *link);

/* What the peer needs: one rkey when it serves all lanes, else one a rail. Returns their number. */
size_t kvi_registration_get_rkeys(const struct kvi_registration *registration,
				  struct kvi_wire_rkey rkeys[KVI_RAILS_MAX]);

#endif

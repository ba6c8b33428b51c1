/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exports.h - what the two sides of a connection let each other see: exports of ours, remotes of theirs
 * (docs/protocol.md 7.1, 7.2).
 *
 * An export is withdrawn as rule Q says: told, confirmed by the peer or its lanes severed, and only
 * then deregistered. A peer that never asked for it has nothing to confirm. Who imports asks the
 * owner first, so a remote is never older than its export's withdrawal.
 */
#ifndef KVI_ENGINE_EXPORTS_H
#define KVI_ENGINE_EXPORTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "base/list.h"
#include "engine/core/ref.h"
#include "engine/paged/plan.h"
#include "engine/progress/worker.h"
#include "wire/wire.h"

struct kvi_link;
struct kvi_exports;
struct kvi_registration;
struct kvt_conn;
struct kvt_export;
struct kvt_offer;
struct kvt_pool;
struct kvt_remote;

enum kvi_export_state {
	KVI_EXPORT_OPEN,
	KVI_EXPORT_CLOSING,   /* WITHDRAW is out, or about to be */
	KVI_EXPORT_CONFIRMED, /* the peer has stopped, or is cut off */
	KVI_EXPORT_CLOSED,    /* and it is deregistered */
};

/* What one withdrawal has to do, from its beginning to its end. */
struct kvi_withdrawal {
	bool first; /* else somebody else does it, and is waited for */
	bool asked; /* the peer was told */
	int64_t since_ns;
};

struct kvt_export {
	/* immutable after open */
	struct kvt_conn *conn;
	struct kvt_pool *pool;
	uint64_t id;
	unsigned access;
	char *name; /* NULL: none */
	uint8_t *descriptor;
	size_t descriptor_len;
	struct kvi_link *home; /* what is said of it goes there */

	/* under exports.lock */
	UT_hash_handle by_id;			 /* in exports.by_id */
	UT_hash_handle by_name;			 /* in exports.by_name */
	struct kvi_registration **registrations; /* of the extents; NULL once closed */
	bool attached;				 /* the peer knows it */

	/* under engine->lock */
	struct kvi_list pool_node; /* in pool->exports, until its withdrawal has ended */

	/* of the thread that withdraws it with others; taken and left under engine->lock */
	struct kvi_list batch_node;
	struct kvi_withdrawal withdrawal;

	/* atomic */
	_Atomic(struct kvt_offer *)
		offer; /* whose export it is: nobody has its handle; NULL: an application's */
	_Atomic(enum kvi_export_state) state;
	struct kvi_ref ref; /* the handle's, and that of whoever withdraws */
};

struct kvt_remote {
	/* immutable after import */
	struct kvt_conn *conn;
	uint64_t id;
	unsigned access;
	bool is_shared; /* by its owner with its rails, when it was exported */
	struct kvi_layout layout;
	size_t rkey_count;
	struct kvi_wire_rkey *rkeys; /* rkey_count for each extent */
	struct kvi_link *home;

	/* under exports.lock */
	UT_hash_handle by_id; /* in exports.remotes */

	/* atomic */
	atomic_bool withdrawn;
	atomic_bool confirmed;	    /* WITHDRAWN was sent, or is about to be */
	struct kvi_command confirm; /* which sends it */
	atomic_uint in_flight;	    /* transfers that may use it */
	struct kvi_ref ref;	    /* the handles' and one a transfer's */
};

void kvi_exports_init(struct kvi_exports *exports);
void kvi_exports_destroy(struct kvi_exports *exports);

/* The lanes are severed: no export can be reached any more, nobody answers. */
void kvi_exports_on_severed(struct kvt_conn *conn);

/* export.c */
/* Returns when the peer can no longer touch the pool: it has confirmed that, or is cut off. */
void kvi_export_withdraw(struct kvt_export *exported);
/* The same of all exports of the pool, or (else offer is NULL) of those that are the offer's: from all peers at the
 * same time. It needs no memory. */
void kvi_exports_withdraw(struct kvt_pool *pool, const struct kvt_offer *offer);
/* What may be exported so; name may be NULL. */
enum kvt_err kvi_export_check(const struct kvt_engine *engine, const struct kvt_pool *pool,
			      unsigned access, const char *name, struct kvt_error *error);
/* The caller's reference becomes its own, until it is withdrawn or ends with its connection. */
void kvi_export_adopt(struct kvt_export *exported, struct kvt_offer *offer);
/* The export that the peer names, NULL when it has confirmed the withdrawal. It stays valid while a
 * worker's lock is held that was taken before. */
struct kvt_export *kvi_export_find(struct kvt_conn *conn, uint64_t id);
enum kvt_err kvi_export_on_attach(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_export_on_find(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_export_on_withdrawn(struct kvi_link *link, const struct kvi_message *message);
void kvi_exports_end(struct kvt_conn *conn);

/* remote.c */
/* The remote of a descriptor that the peer has made for this connection, with a reference; known from now on. INVALID,
 * NO_MEMORY. */
enum kvt_err kvi_remote_make(struct kvt_conn *conn, const uint8_t *bytes, size_t len,
			     struct kvt_remote **remote, struct kvt_error *error);
/* A transfer begins to use the remote, and ends. False: it is withdrawn. */
bool kvi_remote_enter(struct kvt_remote *remote);
void kvi_remote_leave(struct kvt_remote *remote);
struct kvi_rkey kvi_remote_get_rkey(const struct kvt_remote *remote, size_t extent,
				    const struct kvi_link *link);
enum kvt_err kvi_remote_on_withdraw(struct kvi_link *link, const struct kvi_message *message);

#endif

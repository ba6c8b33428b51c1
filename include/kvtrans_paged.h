/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvtrans_paged.h - paged transfers: blocks moved between a pool of ours and a pool that a peer
 * exported, and what an engine tells without being asked. A part of <kvtrans.h>, which includes it.
 *
 * A pool is local memory, seen as blocks. Exporting it on a connection lets that peer write or read
 * it; a descriptor, or a name, tells the peer so, who imports it as a remote. Threads, handles and
 * errors are as in <kvtrans.h>.
 */
#ifndef KVTRANS_PAGED_H
#define KVTRANS_PAGED_H

#include <kvtrans_base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kvt_pool;
struct kvt_export;
struct kvt_offer;
struct kvt_remote;

/* ---- pools ---- */

enum {
	KVT_EXTENTS_MAX = 4096,
	KVT_PARTS_MAX = 65536, /* of a transfer */
	KVT_NAME_LEN_MAX = 255,
	KVT_NOTIFY_LEN_MAX = 1048576,
};

/*
 * count blocks, the first at base, stride bytes from one to the next. A layer's K, say. base NULL: the
 * engine allocates the memory, zeroed, aligned for huge pages, near the NIC where that is known, and
 * frees it when the pool is closed.
 */
struct kvt_extent {
	void *base;
	size_t count;
	size_t stride;
};

enum kvt_memory {
	KVT_MEMORY_HOST, /* what CPUs address. Other kinds will follow */
};

/*
 * Of memory that the engine allocates, or of a file's. PRIVATE: no peer's engine maps it, also on one host; it is copied
 * by the kernel. PREFAULT: all of its pages are there when kvt_pool_open() returns, so that no transfer waits for one.
 * HUGE_PAGES: the same, and joined to huge pages as far as the kernel can.
 *
 * FILE: adopt a file in memory that somebody else has made, a memfd or a file in /dev/shm, of this process or another:
 * the extents lie in it one directly behind the other, count times stride bytes each, from file_offset on.
 * It is mapped, and its descriptor can be closed. Peers of this host map it for reading, up to the pool's end, when it
 * is a memfd sealed with F_SEAL_SHRINK, and keep that until their connection ends; else the kernel copies, which is
 * slower. A file that is not sealed must not be truncated while the pool is open: who touches what is gone dies
 * of SIGBUS in this process, as with any mapping. A peer never does: it loses the connection.
 */
enum {
	KVT_POOL_PRIVATE = 1,
	KVT_POOL_PREFAULT = 2,
	KVT_POOL_HUGE_PAGES = 4,
	KVT_POOL_FILE = 8,
};

/*
 * A pool: extents of blocks of block_len bytes, numbered alike in each. stride is at least block_len.
 * extent_size is sizeof(struct kvt_extent), as KVT_POOL_CONFIG_INIT has it.
 * The memory must stay valid until kvt_pool_close() has returned. read_only: never a destination.
 * memory and device: where all of it is; a number for kinds of which a machine has several, else 0.
 * flags: KVT_POOL_* bits; but for PRIVATE they are for extents whose base is NULL. file, file_offset: with FILE only.
 * In spans (below) the extents follow each other: each has (count - 1) * stride + block_len bytes.
 */
struct kvt_pool_config {
	size_t size;
	const struct kvt_extent *extents;
	size_t extent_count;
	size_t extent_size;
	size_t block_len;
	bool read_only;
	enum kvt_memory memory;
	uint64_t device;
	unsigned flags;
	int file;
	uint64_t file_offset;
};

#define KVT_POOL_CONFIG_INIT KVT_INIT_WITH(kvt_pool_config, extent_size, sizeof(struct kvt_extent))

/* Errors: INVALID (also a file that is too short, not in memory, or not open for what the pool does), UNSUPPORTED (memory that is not the host's), LIMIT (KVT_EXTENTS_MAX; pinned memory),
 * NO_MEMORY, FABRIC, CLOSED, FORKED. */
KVT_API enum kvt_err kvt_pool_open(struct kvt_engine *engine, const struct kvt_pool_config *config,
				   struct kvt_pool **pool, struct kvt_error *error);

/*
 * End the pool's transfers with KVT_E_CLOSED, withdraw its exports, wait until no peer, NIC or thread
 * of the library touches its memory. Returns soon. The handle stays valid, and memory that
 * the engine allocated stays, until kvt_pool_close(). NULL is allowed.
 */
KVT_API void kvt_pool_stop(struct kvt_pool *pool);

/* Stop the pool and give back its handle. NULL is allowed. */
KVT_API void kvt_pool_close(struct kvt_pool *pool);

/* The first block of an extent; NULL when there is no such extent. */
KVT_API void *kvt_pool_get_base(const struct kvt_pool *pool, size_t extent);

/* ---- exports: what a peer may do with a pool ---- */

enum {
	KVT_ACCESS_READ = 1,
	KVT_ACCESS_WRITE = 2,
};

/*
 * Let the peer of conn access pool, as KVT_ACCESS_* bits say. name: NULL, or 1 to KVT_NAME_LEN_MAX
 * bytes that no export on conn has: the peer may then find it by name, until it is withdrawn. Errors: INVALID (also a
 * name in use, or writing a read-only pool), LIMIT, NO_MEMORY, FABRIC, PEER_*, CLOSED, FORKED.
 */
KVT_API enum kvt_err kvt_export_open(struct kvt_conn *conn, struct kvt_pool *pool, unsigned access,
				     const char *name, struct kvt_export **exported,
				     struct kvt_error *error);

/*
 * The descriptor, for kvt_remote_import() on the other side of this connection and nowhere else. It
 * can be sent any way, and is no secret from those who may see the transfers. bytes NULL: its length.
 * *len: the room at bytes, then the length. KVT_E_TOO_LARGE: more room is needed.
 */
KVT_API enum kvt_err kvt_export_describe(const struct kvt_export *exported, void *bytes,
					 size_t *len);

/*
 * Withdraw: the peer's transfers end with KVT_E_WITHDRAWN, and when this returns the peer can no
 * longer touch the pool through this export. That is soon: a peer that does not confirm it loses the
 * connection. NULL is allowed.
 */
KVT_API void kvt_export_close(struct kvt_export *exported);

/*
 * Offer a pool to every peer: it is exported, by this name, on all connections that the application has, and on
 * those that it opens or accepts later before it gets them. A connection on which a later one fails ends with
 * that error; so does this call, and then nothing is offered. Errors: as kvt_export_open(), but for PEER_*.
 */
KVT_API enum kvt_err kvt_offer_open(struct kvt_engine *engine, struct kvt_pool *pool,
				    unsigned access, const char *name, struct kvt_offer **offer,
				    struct kvt_error *error);

/* Withdraw it from all peers, who are asked at once, and give back the handle: as kvt_export_close() of each.
 * Stopping the pool withdraws it, too. NULL is allowed. */
KVT_API void kvt_offer_close(struct kvt_offer *offer);

/* ---- remotes: what a peer exported ---- */

/*
 * Default timeout: 5 s. Asks the peer, which may have withdrawn it. Errors: INVALID (truncated,
 * altered, or of another connection or session), WITHDRAWN, TIMEOUT, CANCELLED (interrupted),
 * LIMIT, NO_MEMORY, FABRIC, PEER_*, CLOSED, FORKED.
 */
KVT_API enum kvt_err kvt_remote_import(struct kvt_conn *conn, const void *bytes, size_t len,
				       int64_t timeout_ns, struct kvt_remote **remote,
				       struct kvt_error *error);

/* The peer's export of this name, waiting for it until the timeout (default: 5 s): the peer is asked again after 20 ms,
 * and then less and less often, every 320 ms at last. Errors as above. */
KVT_API enum kvt_err kvt_remote_find(struct kvt_conn *conn, const char *name, int64_t timeout_ns,
				     struct kvt_remote **remote, struct kvt_error *error);

/*
 * The same without waiting: a name, or a descriptor. Thousands may be under way at a time. reap: kvt_engine_reap() shall
 * return the transfer. Default timeout: 5 s.
 */
struct kvt_import_request {
	size_t size;
	struct kvt_conn *conn;
	const char *name;  /* copied; bytes is NULL then */
	const void *bytes; /* not used after the start */
	size_t len;
	bool reap;
	int64_t timeout_ns;
};

#define KVT_IMPORT_REQUEST_INIT KVT_INIT(kvt_import_request)

/*
 * Start to import; never blocks. The transfer ends as kvt_remote_find() and kvt_remote_import() do, or with what ended
 * the connection; its remote is taken with kvt_transfer_take_remote(). result.len is 0. Errors of the start: INVALID
 * (also what kvt_remote_import() finds in a descriptor), LIMIT (65,536 transfers of the connection in flight), NO_MEMORY,
 * FORKED, and what ended the connection.
 */
KVT_API enum kvt_err kvt_import_start(const struct kvt_import_request *request,
				      struct kvt_transfer **transfer, struct kvt_error *error);

/*
 * The remote of a kvt_import_start() that has succeeded: the caller's from now on, to be closed with kvt_remote_close().
 * It is given once, to one thread; NULL else. One that nobody takes is closed when the transfer is freed.
 */
KVT_API struct kvt_remote *kvt_transfer_take_remote(struct kvt_transfer *transfer);

/* Transfers that use it go on. NULL is allowed. */
KVT_API void kvt_remote_close(struct kvt_remote *remote);

/* What the peer exported. Blocks and bytes are those of one extent, the smallest where they differ. */
struct kvt_remote_info {
	size_t size;
	unsigned access;
	bool withdrawn;
	size_t extent_count;
	size_t block_count;
	size_t block_len;
	uint64_t len; /* bytes of all extents, the space of spans */
};

#define KVT_REMOTE_INFO_INIT KVT_INIT(kvt_remote_info)

KVT_API enum kvt_err kvt_remote_get_info(const struct kvt_remote *remote,
					 struct kvt_remote_info *info);

/* ---- transfers ---- */

enum kvt_direction {
	KVT_WRITE, /* from the pool to the remote */
	KVT_READ,  /* from the remote to the pool */
};

/*
 * What all paged transfers have. notify: NULL, or up to KVT_NOTIFY_LEN_MAX bytes (copied) that the
 * peer's engine gets as an event after the data, once, also when the transfer failed (the event's err
 * tells). Success means that its application will get it, whatever becomes of this side or the connection.
 * Default timeout: 60 s. reap: kvt_engine_reap() shall return the transfer.
 *
 * When a transfer has ended, with any outcome, nothing of it moves any more on either side: neither the
 * pool nor what the peer exported is touched for it, and the event of a failure comes behind the last
 * byte. The exception is a connection that is lost: this side is cut off, but what the peer's host had
 * received may still land there until the peer's engine has seen the end (its KVT_EVENT_CONN_ENDED), or
 * kvt_export_close() has returned there.
 */

/*
 * Blocks: local block local_idx[i] and remote block remote_idx[i], for each i below count, in each of the
 * extents named (NULL: in all; both sides have as many then). Indices are signed, index_len 4 or 8
 * bytes each, and copied. Both sides' blocks have the same length; no block is a destination twice.
 * block_len: 0, or another length of blocks for this request. A side whose blocks have none of that length must be
 * without gaps (stride is block_len; plain bytes: both are 1), and has blocks from the start of each extent on, as
 * many as there are whole ones.
 */
struct kvt_blocks_request {
	size_t size;
	enum kvt_direction direction;
	bool reap;
	struct kvt_pool *pool;
	struct kvt_remote *remote;
	const void *local_idx;
	const void *remote_idx;
	size_t index_len;
	size_t count;
	const size_t *extents;
	size_t extent_count;
	const void *notify;
	size_t notify_len;
	int64_t timeout_ns;
	size_t block_len;
};

/* Spans: lens[i] bytes at offset local_off[i] of the pool and remote_off[i] of the remote, none crossing
 * the end of an extent, none overlapping another in the destination. */
struct kvt_spans_request {
	size_t size;
	enum kvt_direction direction;
	bool reap;
	struct kvt_pool *pool;
	struct kvt_remote *remote;
	const uint64_t *local_off;
	const uint64_t *remote_off;
	const uint64_t *lens;
	size_t count;
	const void *notify;
	size_t notify_len;
	int64_t timeout_ns;
};

/*
 * Spans of several pools: one transfer, which ends when all of them have, and one notification. Each part has
 * a pool and a remote, and count spans as above; any pool or remote may be in several parts. All remotes are of one
 * connection. That parts do not overlap in the destination is not looked at: such bytes are those of one
 * of them. part_size is sizeof(struct kvt_part), as KVT_PARTS_REQUEST_INIT has it.
 */
struct kvt_part {
	struct kvt_pool *pool;
	struct kvt_remote *remote;
	const uint64_t *local_off;
	const uint64_t *remote_off;
	const uint64_t *lens;
	size_t count;
};

struct kvt_parts_request {
	size_t size;
	enum kvt_direction direction;
	bool reap;
	const struct kvt_part *parts;
	size_t part_count; /* 1 to KVT_PARTS_MAX */
	size_t part_size;
	const void *notify;
	size_t notify_len;
	int64_t timeout_ns;
};

/*
 * Start a transfer; never blocks on the peer. Success means that every byte is in the destination, and
 * that the notification, if any, is in the peer's engine. Errors: INVALID (the text names the first
 * bad index or span; nothing moves), ACCESS, WITHDRAWN, LIMIT, NO_MEMORY, FORKED, CLOSED, and what
 * ended the connection; everything later is the transfer's result. result.len: bytes moved.
 */
KVT_API enum kvt_err kvt_blocks_start(const struct kvt_blocks_request *request,
				      struct kvt_transfer **transfer, struct kvt_error *error);
KVT_API enum kvt_err kvt_spans_start(const struct kvt_spans_request *request,
				     struct kvt_transfer **transfer, struct kvt_error *error);
KVT_API enum kvt_err kvt_parts_start(const struct kvt_parts_request *request,
				     struct kvt_transfer **transfer, struct kvt_error *error);

#define KVT_PARTS_REQUEST_INIT KVT_INIT_WITH(kvt_parts_request, part_size, sizeof(struct kvt_part))
#define KVT_BLOCKS_REQUEST_INIT KVT_INIT(kvt_blocks_request)
#define KVT_SPANS_REQUEST_INIT KVT_INIT(kvt_spans_request)

/* A notification alone. Default timeout: 60 s. err: what the peer's event says; KVT_OK, or that something failed. */
struct kvt_notify_request {
	size_t size;
	struct kvt_conn *conn;
	enum kvt_err err;
	bool reap;
	const void *notify;
	size_t notify_len;
	int64_t timeout_ns;
};

#define KVT_NOTIFY_REQUEST_INIT KVT_INIT(kvt_notify_request)

KVT_API enum kvt_err kvt_notify_start(const struct kvt_notify_request *request,
				      struct kvt_transfer **transfer, struct kvt_error *error);

/* ---- what happened ---- */

/*
 * Readable while kvt_engine_reap() or kvt_engine_get_event() has something; owned by the engine. For
 * poll, epoll and asyncio; what is behind it is read with those two calls only.
 */
KVT_API int kvt_engine_get_fd(const struct kvt_engine *engine);

/*
 * Transfers that were started with reap and have completed, each once, in the order of completion; at
 * most max. Returns their number. Never waits, and costs next to nothing when there are none. A
 * transfer that was freed before is not returned.
 */
KVT_API size_t kvt_engine_reap(struct kvt_engine *engine, struct kvt_transfer **transfers,
			       size_t max);

enum kvt_event_kind {
	KVT_EVENT_NOTIFICATION, /* data: what the peer sent. err: KVT_OK, or why its transfer failed */
	/* err: why. Once for each connection that the application has, after its notifications */
	KVT_EVENT_CONN_ENDED,
	/* A peer has connected (accept_events in the engine's configuration): conn is the application's from now on, to be
	 * closed by it. Before all other events of that connection, which may have ended already */
	KVT_EVENT_CONN_ACCEPTED,
};

/* Kinds of events, or'ed. */
enum {
	KVT_EVENTS_NOTIFICATION = 1 << KVT_EVENT_NOTIFICATION,
	KVT_EVENTS_CONN_ENDED = 1 << KVT_EVENT_CONN_ENDED,
	KVT_EVENTS_CONN_ACCEPTED = 1 << KVT_EVENT_CONN_ACCEPTED,
	KVT_EVENTS_ALL = (1 << 3) - 1,
};

struct kvt_event {
	enum kvt_event_kind kind;
	struct kvt_conn *conn; /* valid until the event is freed, closed meanwhile or not */
	enum kvt_err err;
	const void *data; /* valid as long */
	size_t len;
};

/* The next event of a connection that the application has: KVT_OK, or KVT_E_AGAIN. Waits for no peer; before CONN_ACCEPTED
 * it registers what is offered to all peers. Notifications that nobody takes make the peer's next ones wait. */
KVT_API enum kvt_err kvt_engine_get_event(struct kvt_engine *engine, struct kvt_event **event);
/* The next one of these kinds: an application that is full of one takes the others, and does not watch that one. The end of
 * a connection comes behind its notifications here, too. INVALID: no kind. */
KVT_API enum kvt_err kvt_engine_get_event_of(struct kvt_engine *engine, unsigned kinds,
					     struct kvt_event **event);
KVT_API void kvt_event_free(struct kvt_event *event); /* NULL is allowed */

/*
 * The kinds of events that make the descriptor readable and end a wait, from now on: all, as long as this says nothing
 * else. Those of other kinds stay until they are taken, or watched again. What is to be reaped is told of always.
 * INVALID, FORKED.
 */
KVT_API enum kvt_err kvt_engine_watch_events(struct kvt_engine *engine, unsigned kinds);

/* Wait until there is something to reap or an event: KVT_OK; KVT_E_AGAIN when timeout_ns (default: for
 * ever) passed or the interrupted hook said so; KVT_E_INVALID, KVT_E_CLOSED, KVT_E_FORKED. */
KVT_API enum kvt_err kvt_engine_wait(struct kvt_engine *engine, int64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif

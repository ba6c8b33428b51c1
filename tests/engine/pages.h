/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.h - what the tests of paged transfers stand on: two engines on the fabric in memory, a pool on
 * each side, of which the far one is exported and imported. Blocks lie in two extents: one without gaps,
 * one with.
 */
#ifndef ENGINE_PAGES_H
#define ENGINE_PAGES_H

#include "bed.h"

/* How the fabric is and what the engines make of it; or'ed together. */
enum {
	MANY_LANES = 1, /* three workers with two lanes each */
	PACKS = 2,	/* short blocks are packed */
	REGISTERED = 4, /* local memory too, and two rails with keys of their own */
	ONE_SPAN = 8,	/* an operation has one span only */
	WAYS = 16,
	SHORT_PACKETS = 16, /* as short as packets may be; of no WAY */
	CHECKED = 32,	    /* with checksums; of no WAY */
	UNORDERED = 64,	    /* sends overtake writes; of no WAY */
	COMMON = 1024,	    /* and packs are filled in memory that both sides see; of no WAY */
	MAIN_WAYS = 4,	    /* the first two */
};

enum {
	BLOCK_LEN = 4096,
	BLOCK_COUNT = 400,
	GAP_LEN = 64,
	EXTENT_COUNT = 2,
	EXTENT_LEN = BLOCK_COUNT * (BLOCK_LEN + GAP_LEN), /* the room for one */
	PAGES_LEN = EXTENT_COUNT * EXTENT_LEN,
	ALL_LEN = EXTENT_COUNT * BLOCK_COUNT * BLOCK_LEN,
	CANARY = 0xEE,
};

struct pages {
	struct bed bed;
	uint8_t *near_memory; /* of PAGES_LEN bytes */
	uint8_t *far_memory;
	struct kvt_pool *near;
	struct kvt_pool *far;
	struct kvt_export *exported; /* the far pool, read and write */
	struct kvt_remote *remote;
	int32_t local_idx[BLOCK_COUNT]; /* what start_blocks() moves */
	int32_t remote_idx[BLOCK_COUNT];
};

extern struct pages pages;

/* near has a pattern, far is filled with CANARY. */
void pages_open(unsigned way);
void pages_close(void);

struct kvt_pool *open_pool(struct kvt_engine *engine, uint8_t *memory);
/* Export on one side, import on the other. */
void share_pages(void);
/* The connection was severed: the handles that hung on it are closed, and a new one works. */
void expect_new_pages(void);
/* The far engine has had enough of this connection, in which nothing was written, and serves another; closes all. */
void expect_peer_refused(void);

/* Fill the memory of the destination with CANARY, and that of the source with the pattern of seed. */
void fill_pages(enum kvt_direction direction, uint32_t seed);

/* The numbers below count: runs of so many, in an order that depends on seed. */
void shuffle_runs(int32_t *indices, uint32_t count, uint32_t run, uint32_t seed);

/* All blocks, in an order that depends on seed, in runs of 1 to 8. notify may be NULL. */
struct kvt_transfer *start_blocks(enum kvt_direction direction, uint32_t seed, const char *notify,
				  int64_t timeout_ns);
/* The same with any bytes as notification. */
struct kvt_transfer *start_blocks_noting(enum kvt_direction direction, uint32_t seed,
					 const void *notify, size_t notify_len, int64_t timeout_ns);
/* Whether every block that start_blocks() was to move is there and nothing else was touched. */
bool are_moved(enum kvt_direction direction, uint32_t seed);

/* Threads: one lets everything that is held go after 20 ms; one stops the pool that it is given. */
void *let_go_soon(void *arg);
void *stop_pool(void *pool);

struct kvt_transfer *start_notify(struct kvt_conn *conn, const void *bytes, size_t len);

/* Waits for the next event of the engine, which must be of this kind. */
struct kvt_event *await_event(struct kvt_engine *engine, enum kvt_event_kind kind);

/* Waits for the next event of the engine, which must be a notification of this text with this error. */
void expect_notification(struct kvt_engine *engine, const char *text, enum kvt_err err);
/* The same for the end of the connection. */
void expect_conn_ended(struct kvt_engine *engine, const struct kvt_conn *conn, enum kvt_err err);
void expect_no_event(struct kvt_engine *engine);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvtrans_base.h - errors, times and transfers: what the rest of <kvtrans.h>, which includes it, is made of.
 */
#ifndef KVTRANS_BASE_H
#define KVTRANS_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVT_API __attribute__((visibility("default")))

/* The library's version as text, for example "0.1.0". */
KVT_API const char *kvt_get_version(void);

/* ---- errors ---- */

/* What an error costs: the call only, one transfer, its connection, or the engine. */
enum kvt_scope {
	KVT_SCOPE_NONE,
	KVT_SCOPE_CALL,
	KVT_SCOPE_TRANSFER,
	KVT_SCOPE_CONNECTION,
	KVT_SCOPE_ENGINE,
};

/* X(code, value, scope, text). The enum, the names, the scopes and Python's table all come from here. */
#define KVT_ERROR_MAP(X)                                                                           \
	X(KVT_E_INVALID, -1, CALL, "invalid argument")                                             \
	X(KVT_E_NO_MEMORY, -2, CALL, "out of memory")                                              \
	X(KVT_E_UNSUPPORTED, -3, CALL, "not supported")                                            \
	X(KVT_E_CLOSED, -4, CALL, "closed on this side")                                           \
	X(KVT_E_FORKED, -5, CALL, "an engine does not survive fork")                               \
	X(KVT_E_AGAIN, -6, CALL, "not yet")                                                        \
	X(KVT_E_LIMIT, -7, CALL, "a limit is reached")                                             \
	X(KVT_E_TIMEOUT, -20, TRANSFER, "timed out")                                               \
	X(KVT_E_CANCELLED, -21, TRANSFER, "cancelled")                                             \
	X(KVT_E_TOO_LARGE, -22, TRANSFER, "the message is larger than the receive allows")         \
	X(KVT_E_ACCESS, -23, TRANSFER, "the peer does not allow this access")                      \
	X(KVT_E_WITHDRAWN, -24, TRANSFER, "the peer has withdrawn this memory")                    \
	X(KVT_E_CORRUPT, -25, TRANSFER, "the data came wrong: its checksum does not fit")          \
	X(KVT_E_UNREACHABLE, -40, CONNECTION, "the peer cannot be reached")                        \
	X(KVT_E_PEER_LOST, -41, CONNECTION, "the peer is lost")                                    \
	X(KVT_E_PEER_CLOSED, -42, CONNECTION, "the peer closed")                                   \
	X(KVT_E_PROTOCOL, -43, CONNECTION, "the peer broke the protocol")                          \
	X(KVT_E_VERSION, -44, CONNECTION, "no protocol version in common")                         \
	X(KVT_E_AUTH, -45, CONNECTION, "the peer is not authenticated")                            \
	X(KVT_E_NO_PROVIDER, -60, ENGINE, "no libfabric provider fits")                            \
	X(KVT_E_FABRIC, -61, ENGINE, "libfabric failed")                                           \
	X(KVT_E_INTERNAL, -62, ENGINE, "internal error")

enum kvt_err {
	KVT_OK = 0,
#define KVT_ERROR_ENUM(code, value, scope, text) code = value,
	KVT_ERROR_MAP(KVT_ERROR_ENUM)
#undef KVT_ERROR_ENUM
};

enum { KVT_TEXT_LEN = 256 };

/* The cause of a failure: code, the provider's or system's errno (0: none), one sentence. */
struct kvt_error {
	enum kvt_err code;
	int provider_errno;
	char text[KVT_TEXT_LEN];
};

/* "KVT_E_TIMEOUT" and "timed out"; both never NULL, also for an unknown code. */
KVT_API const char *kvt_err_get_name(enum kvt_err err);
KVT_API const char *kvt_err_get_text(enum kvt_err err);
KVT_API enum kvt_scope kvt_err_get_scope(enum kvt_err err);

/* ---- structs ---- */

/*
 * Structs that a call reads or fills begin with their size, which the program sets to sizeof: with the
 * KVT_..._INIT of the struct, or with .size in an initialiser of its own. So they can grow: a program that
 * was compiled against an older header goes on to work, fields that it does not know being zero, their
 * default; and one that was compiled against a newer header works as long as it leaves zero what this
 * library does not know: else the call fails with KVT_E_INVALID and says so. What is filled is filled as
 * far as the struct goes. struct kvt_error has no size and does not grow; nor do structs that the library
 * allocates need one.
 */
#ifdef __cplusplus
#define KVT_INIT_WITH(type, member, value)                                                         \
	([] {                                                                                      \
		struct type fresh = {};                                                            \
		fresh.size = sizeof(fresh);                                                        \
		fresh.member = value;                                                              \
		return fresh;                                                                      \
	}())
#define KVT_INIT(type) KVT_INIT_WITH(type, size, sizeof(fresh))
#else
#define KVT_INIT_WITH(type, member, value)                                                         \
	{                                                                                          \
		.size = sizeof(struct type), .member = value                                       \
	}
#define KVT_INIT(type)                                                                             \
	{                                                                                          \
		.size = sizeof(struct type)                                                        \
	}
#endif

/* ---- time ---- */

/*
 * Every timeout_ns, of a call or in a request: 0 is the default, which the call's comment tells; KVT_NOWAIT
 * takes what is there and does not wait; KVT_FOREVER is no limit. Other negative numbers are INVALID.
 */
#define KVT_NOWAIT INT64_MIN
#define KVT_FOREVER INT64_MAX

/* ---- transfers ---- */

struct kvt_engine;
struct kvt_conn;
struct kvt_kv;
struct kvt_transfer;

/* How a transfer ended, whatever its outcome, and what it took. meta and text are valid until the transfer is
 * freed, and read by any thread. */
struct kvt_result {
	size_t size;
	enum kvt_err err;
	int provider_errno;
	size_t len; /* bytes moved, 0 for a failure; of a message also when it was too large */
	const void *meta;
	size_t meta_len;
	uint64_t segments;   /* RMA operations used; 0: eager */
	int64_t submit_ns;   /* spent in the start call */
	int64_t transfer_ns; /* start to completion */
	const char *text;    /* one sentence; "" for a success */
	uint64_t count;	    /* blocks in all extents, or spans, that were asked for; 1: a message */
	int64_t started_ns; /* when the start call began, by CLOCK_MONOTONIC */
};

#define KVT_RESULT_INIT KVT_INIT(kvt_result)

/* Wait until the transfer has completed: KVT_OK then, whatever its outcome; KVT_E_AGAIN when timeout_ns
 * (default: for ever) passed first or the wait was interrupted; KVT_E_INVALID, KVT_E_FORKED. The waiting
 * thread drives the worker's progress. */
KVT_API enum kvt_err kvt_transfer_wait(struct kvt_transfer *transfer, int64_t timeout_ns);
KVT_API bool kvt_transfer_is_done(const struct kvt_transfer *transfer);

/* Ask the transfer to end; it completes with KVT_E_CANCELLED soon, or as it would have. */
KVT_API void kvt_transfer_cancel(struct kvt_transfer *transfer);

/* The outcome. KVT_E_AGAIN while in flight. */
KVT_API enum kvt_err kvt_transfer_get_result(const struct kvt_transfer *transfer,
					     struct kvt_result *result);

/* The memory the engine allocated for a receive; the caller owns it and calls free(). Once; NULL else,
 * and for a message of 0 bytes. */
KVT_API void *kvt_transfer_take_data(struct kvt_transfer *transfer);

/* Free a transfer. One in flight is cancelled and waited for first. NULL is allowed. */
KVT_API void kvt_transfer_free(struct kvt_transfer *transfer);

/*
 * Give the handle back without waiting: the transfer goes on, and the engine frees it when it has ended.
 * Nobody learns how, and kvt_engine_reap() does not return it. One that shall not go on is cancelled first
 * (kvt_transfer_cancel()). NULL is allowed.
 * Until it has ended its memory is in use, as that of any transfer. The caller knows it to be free again: that
 * of a paged transfer when kvt_pool_stop() has returned (the pool stays registered so long), that of a
 * send or receive when kvt_kv_close() has, and both when kvt_engine_stop() has.
 */
KVT_API void kvt_transfer_detach(struct kvt_transfer *transfer);

#ifdef __cplusplus
}
#endif

#endif

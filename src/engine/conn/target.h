/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target.h - who is called: a host and a port, or an engine's address, the IP addresses that these stand for, and
 * how far each was tried. Of one call, on its caller's thread.
 */
#ifndef KVI_ENGINE_TARGET_H
#define KVI_ENGINE_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include <kvtrans.h>

#include "wire/wire.h"

struct kvt_engine;
struct kvi_attempt;

struct kvi_target {
	/* as who calls fills it in; the rest is zero */
	struct kvt_engine *engine;
	const char *host; /* as it was given; lent. NULL: engine_address says */
	uint16_t port;
	const struct kvi_address *engine_address; /* lent; NULL: host says */
	bool is_watched; /* epoll_fd watches its sockets, and names them what */
	int epoll_fd;
	void *what;

	int64_t deadline_ns;
	struct kvi_lookup *lookup; /* while a name is being resolved */
	struct addrinfo *addresses
		[KVI_RAILS_MAX]; /* lists: one of host's, or one of each host of the address */
	size_t list_count;
	struct kvi_attempt *attempts; /* one an address, in the order in which they are tried */
	struct pollfd *pollfds;
	size_t count;
	int64_t next_ns;	    /* when the next attempt begins */
	struct kvi_attempt *chosen; /* whose socket was handed out; NULL: none */
};

/* Check port and timeout, and set the deadline. INVALID. */
enum kvt_err kvi_target_check(struct kvi_target *target, int64_t timeout_ns,
			      struct kvt_error *error);

/* Read what a program gave as an engine's address. INVALID, VERSION. */
enum kvt_err kvi_target_read_address(const void *bytes, size_t len, struct kvi_address *address,
				     struct kvt_error *error);

/*
 * Check host and find its addresses. AGAIN: call it again, when it is due. INVALID (the text says what to pass),
 * UNREACHABLE (the name is not known, or was not resolved in time), NO_MEMORY. Close it in any case.
 */
enum kvt_err kvi_target_resolve(struct kvi_target *target, struct kvt_error *error);
void kvi_target_close(struct kvi_target *target);

/*
 * Connect to the first address that answers, as RFC 8305 says: the families take turns, the next
 * attempt begins when one has failed, or 250 ms after the last. The socket is the caller's. AGAIN: call it again
 * when a socket is ready, or when it is due. UNREACHABLE tells of each address what became of it; LIMIT (descriptors);
 * CLOSED (the engine's descriptors were lost).
 */
enum kvt_err kvi_target_connect(struct kvi_target *target, int *fd, struct kvt_error *error);

/* Close a socket of the target, one that was handed out, too; not where it may be another's by now. */
void kvi_target_close_socket(const struct kvi_target *target, int fd);

/* After AGAIN: when to call again at the latest; and wait for that, at most until a time. */
int64_t kvi_target_get_due(const struct kvi_target *target);
void kvi_target_await(struct kvi_target *target, int64_t until_ns);

/* The chosen address was no engine's, for this reason: connect again for the next. */
void kvi_target_set_aside(struct kvi_target *target, const struct kvt_error *cause);
/* Or it shall be connected once more. */
void kvi_target_allow_again(struct kvi_target *target);
/* There are addresses left besides the chosen one. */
bool kvi_target_has_more(const struct kvi_target *target);

/* The peer's host for the application: what it gave, or what was chosen of the address. */
void kvi_target_print_host(const struct kvi_target *target, char *text, size_t len);

/* Put the chosen host, address and port before the text of error. Returns its code. */
enum kvt_err kvi_target_blame(const struct kvi_target *target, struct kvt_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - a connected peer of the local fabric without an engine, which does what no engine would.
 */
#ifndef RAW_H
#define RAW_H

#include "bed.h"
#include "fabric/local/local.h"

enum { CANARY = 0xc5, LEN = 4096 };

/* A connected peer without an engine: a socket, and the ring that it has made. */
struct raw {
	int socket;
	struct kvi_ring ring;
	struct end far; /* the victim's end */
	struct area area;
	uint64_t probe; /* the word by which the victim knows our memory */
};

/* Connected to the listener; nothing was said. */
int call(struct bed *bed);
struct kvi_local_hello make_hello(void);
/* So many bytes, and count times the descriptor. */
void say(int socket, const void *bytes, size_t len, int fd, unsigned count);
int make_file(off_t len, int seals);
/* Whether the other end has taken all that was said. */
bool is_read(int socket);
bool has_hung_up(int socket);

/* area is the victim's, of LEN times CANARY. */
void raw_open(struct raw *raw, struct bed *bed, unsigned access);
void raw_close(struct raw *raw);
/* Put a record into the ring, whatever it says. */
void put(struct raw *raw, const struct kvi_record *record, const struct kvi_record_span *spans,
	 size_t span_count);

TCase *make_raw_tests(void);
TCase *make_shared_tests(void);

#endif

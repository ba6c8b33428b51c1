/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_request.h - reading many small blocks: the reader sends a read request to the owner, who
 * packs them and writes the pack into a staging buffer of the reader's (docs/protocol.md 7.3). A
 * read request is a segment of the reader's: a lane has no more of them out than it has segments.
 *
 * All functions are called under the lock of the link's worker.
 */
#ifndef KVI_ENGINE_READ_REQUEST_H
#define KVI_ENGINE_READ_REQUEST_H

#include "engine/lane/link.h"
#include "engine/paged/plan.h"

struct kvi_pair;

/* What a segment of kind KVI_SEGMENT_READ_REQUEST asks for, and where the answer goes. */
struct kvi_read_request {
	const struct kvi_pair *pair;
	struct kvi_cursor from; /* in its plan; as many pieces as there are spans */
	uint32_t span_count;
	uint8_t spans[]; /* as on the wire */
};

/* The next of its pieces, of which done are behind the cursor; at most KVI_PIECES. 0: there are no more. */
size_t kvi_read_request_take(const struct kvi_read_request *read_request, struct kvi_cursor *cursor,
			     size_t done, struct kvi_piece *pieces);

/* The cargo of such a segment: a struct kvi_read_request. */
extern const struct kvi_cargo_kind kvi_read_request_cargo;

/*
 * The owner's side, the pump of its poster: answer the peer's read requests on this lane, as far as
 * there is room. did: set when something was posted. False: a staging buffer is taken and could not
 * be written yet.
 */
bool kvi_read_requests_pump(struct kvi_link *link, bool *did);

struct kvi_staging;

/* Free the read requests that were never answered; the lane is closed. */
void kvi_read_requests_free(struct kvi_staging *staging);

/* READ, FILLED, DROPPED. */
enum kvt_err kvi_read_request_on_read(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_read_request_on_filled(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_read_request_on_dropped(struct kvi_link *link, const struct kvi_message *message);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_internal.h - what the files of the fake fabric share. All of it is under the one lock of the
 * world; so is every call of a function here, where nothing else is said.
 */
#ifndef FAKE_INTERNAL_H
#define FAKE_INTERNAL_H

#include <stdatomic.h>
#include <string.h>

#include "base/list.h"
#include "fabric/table.h"
#include "fake_fabric.h"

enum {
	FAKE_ADDRESS_LEN = 16,
	FAKE_OP_BUCKETS = 1024,
	/* Few enough that other threads come in between the chunks of a large write. */
	FAKE_STEPS_PER_POLL = 64,
};

struct fake_rail {
	struct kvi_rail base;
	struct kvi_list node;
	char interface[64];
	unsigned cq_count;
	unsigned listener_count;
};

struct fake_cq {
	struct kvi_cq base;
	struct kvi_list node;
	struct fake_rail *rail;
	struct kvi_list lanes;	/* the next to step first */
	struct kvi_list done;	/* posts to report */
	struct kvi_list events; /* lanes with something to tell */
	int fds[2];
	bool readable[2];
	unsigned memory_count;
	atomic_bool busy;
};

struct fake_memory {
	struct kvi_memory base;
	struct kvi_list node;
	struct fake_cq *cq;
	const void *domain;
	uint8_t *bytes;
	size_t len;
	unsigned access;
	unsigned uses; /* posts with a buffer in it */
};

struct fake_listener {
	struct kvi_listener base;
	struct kvi_list node;
	struct fake_rail *rail;
	struct kvi_list requests;
	bool readable;
};

struct fake_lane_request {
	struct kvi_lane_request base;
	struct kvi_list node;	/* in its listener until taken */
	struct fake_lane *lane; /* that asks; NULL when it was closed */
};

enum fake_lane_state {
	FAKE_LANE_NEW,
	FAKE_LANE_CONNECTING,
	FAKE_LANE_CONNECTED,
	FAKE_LANE_LOST,
};

/* Memory that both sides of a lane see. */
struct fake_common {
	unsigned users;
	uint8_t bytes[];
};

struct fake_lane {
	struct kvi_lane base;
	struct kvi_list node;
	struct fake_cq *cq;
	void *context;
	enum fake_lane_state state;
	bool is_passive;
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	size_t address_len;
	struct fake_lane_request *request; /* not yet answered */
	struct fake_lane *peer;
	struct kvi_list posted;
	struct kvi_list landed;
	struct kvi_list unsignalled;
	struct kvi_list receives;
	unsigned tx_count;
	unsigned rx_count;
	uint64_t id;
	uint64_t moved;		    /* bytes, either way */
	struct fake_common *common; /* with the peer; NULL: neither has asked for it */
	struct kvi_list event_node;
	bool tell_connected;
	bool tell_lost;
	bool told_lost;
	int lost_errno;
};

/* What the engine holds is the beginning of ours. */
static inline struct fake_rail *fake_rail(const struct kvi_rail *base)
{
	return kvi_container_of(base, struct fake_rail, base);
}

static inline struct fake_cq *fake_cq(const struct kvi_cq *base)
{
	return kvi_container_of(base, struct fake_cq, base);
}

static inline struct fake_memory *fake_memory(const struct kvi_memory *base)
{
	return base == NULL ? NULL : kvi_container_of(base, struct fake_memory, base);
}

static inline struct fake_listener *fake_listener(const struct kvi_listener *base)
{
	return kvi_container_of(base, struct fake_listener, base);
}

static inline struct fake_lane_request *fake_lane_request(const struct kvi_lane_request *base)
{
	return base == NULL ? NULL : kvi_container_of(base, struct fake_lane_request, base);
}

static inline struct fake_lane *fake_lane(const struct kvi_lane *base)
{
	return kvi_container_of(base, struct fake_lane, base);
}

/* An op from its post until it is reported. */
struct fake_post {
	struct kvi_list node;
	struct kvi_list bucket_node;
	struct kvi_op *op;
	struct fake_lane *lane; /* NULL once closed */
	enum fake_kind kind;
	uint8_t *buffer;
	uint8_t *copy; /* of it, which the post owns; NULL: none */
	size_t len;
	struct fake_memory *memory;
	struct kvi_rkey remote;
	uint8_t *target; /* in the peer's memory, once the write or read has begun */
	size_t moved_len;
	int64_t due_ns;
	bool has_waited; /* for a receive */
	bool is_unsignalled;
	enum kvt_err err;
	int provider_errno;
};

struct fake_fault {
	unsigned kinds;
	unsigned nth;
	enum kvt_err err;
};

struct fake_world {
	struct kvi_list rails;
	struct kvi_list cqs;
	struct kvi_list memories;
	struct kvi_list listeners;
	struct kvi_list ops[FAKE_OP_BUCKETS];
	uint64_t last_id;
	struct fake_counts counts;

	/* The script. */
	struct kvi_caps caps;
	size_t chunk_len;
	bool auto_progress;
	bool buffered;
	bool late;
	size_t flipped_bit; /* counted from 1; 0: none */
	bool repeat_request;
	unsigned hold;
	bool trickles;
	int64_t delay_ns;
	uint64_t seed;
	struct fake_fault post_fault;
	struct fake_fault completion_fault;
	struct fake_fault open_faults[FAKE_OBJECT_COUNT];
};

/* fake_script.c */

extern struct fake_world fake_world;

void fake_lock(void);
/* Makes every descriptor tell the truth again, and unlocks. */
void fake_unlock(void);
/* Zeroed memory, never NULL: failing allocations are the engine's business. */
void *fake_alloc(size_t len);
_Noreturn void fake_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* KVT_OK unless the fault is due. */
enum kvt_err fake_check_fault(struct fake_fault *fault, unsigned kind);
uint64_t fake_random(void);

/* fake_fabric.c */

/* What registrations made through this cq are good for. */
const void *fake_get_domain(const struct fake_cq *cq);

/* fake_post.c */

/* Calls on a cq exclude each other: a second thread in it aborts. The world is not locked. */
void fake_enter_cq(struct fake_cq *cq, const char *call);
void fake_leave_cq(struct fake_cq *cq);

/* fake_delivery.c */

/* Do at most max steps for the lanes of cq (NULL: of all); released: of held operations too. */
size_t fake_step(struct fake_cq *cq, size_t max, bool released);
/* What a poll of this cq would do, had delayed operations come due. */
bool fake_has_work(struct fake_cq *cq);
/* The lane and its peer are no longer connected; what was outstanding on either is lost. */
void fake_lose_lane(struct fake_lane *lane, int provider_errno);
/* Everything outstanding on the lane ends with err. */
void fake_flush_lane(struct fake_lane *lane, enum kvt_err err, int provider_errno);
/* The op has ended; a poll shall report it. */
void fake_finish_post(struct fake_post *post, enum kvt_err err, int provider_errno);
/* The post no longer uses its local memory. */
void fake_drop_memory(struct fake_post *post);

/* The operations of the table: fake_fabric.c and fake_post.c. */
enum kvt_err fake_rail_open(const char *interface, const char *provider, struct kvi_rail **rail_out,
			    struct kvt_error *error);
void fake_rail_close(struct kvi_rail *base);
size_t fake_rail_get_near_cpus(struct kvi_rail *rail, unsigned *cpus, size_t max);
void fake_rail_bind_near(struct kvi_rail *rail, void *base, size_t len);
enum kvt_err fake_cq_open(struct kvi_rail *base, struct kvi_cq **cq_out, struct kvt_error *error);
void fake_cq_close(struct kvi_cq *base);
void fake_cq_forget(struct kvi_cq *base);
size_t fake_cq_poll(struct kvi_cq *base, struct kvi_completion *completions, size_t max);
size_t fake_cq_poll_events(struct kvi_cq *base, struct kvi_lane_event *events, size_t max);
void fake_cq_get_fds(const struct kvi_cq *base, int fds[2]);
bool fake_cq_may_sleep(struct kvi_cq *base);
enum kvt_err fake_memory_open(struct kvi_cq *cq_base, void *base, size_t len, unsigned access,
			      uint64_t key, struct kvi_memory **memory_out,
			      struct kvt_error *error);
void fake_memory_close(struct kvi_memory *base);
enum kvt_err fake_listener_open(struct kvi_rail *base, struct kvi_ports ports,
				struct kvi_listener **listener_out, struct kvt_error *error);
void fake_listener_close(struct kvi_listener *base);
struct kvi_lane_request *fake_listener_take(struct kvi_listener *base);
void fake_lane_request_reject(struct kvi_lane_request *base);
enum kvt_err fake_lane_open(struct kvi_cq *cq_base, const uint8_t *address, size_t address_len,
			    struct kvi_lane_request *request_base, void *context,
			    struct kvi_lane **lane_out, struct kvt_error *error);
enum kvt_err fake_lane_connect(struct kvi_lane *base, const uint8_t *data, size_t len,
			       struct kvt_error *error);
void fake_lane_close(struct kvi_lane *base);
enum kvt_err fake_lane_get_common(struct kvi_lane *base, struct kvi_common *common);
void fake_lane_get_flow(struct kvi_lane *base, struct kvi_flow *flow);
uint64_t fake_flow_get_moved(const struct kvi_flow *flow);
enum kvt_err fake_lane_post_recv(struct kvi_lane *base, struct kvi_op *op, void *buffer, size_t len,
				 struct kvi_memory *memory);
enum kvt_err fake_lane_post_send(struct kvi_lane *base, struct kvi_op *op, const void *buffer,
				 size_t len, struct kvi_memory *memory, enum kvi_signal signal);
enum kvt_err fake_lane_inject(struct kvi_lane *base, const void *buffer, size_t len);
enum kvt_err fake_lane_post_write(struct kvi_lane *base, struct kvi_op *op,
				  const struct kvi_span *spans, size_t count,
				  enum kvi_delivery delivery);
enum kvt_err fake_lane_post_read(struct kvi_lane *base, struct kvi_op *op,
				 const struct kvi_span *spans, size_t count);

#endif
